//! The app behind the gateway in the demo and in tests: it shows what it received. It believes the identity headers,
//! as an app behind a gateway does, and must not know who set them.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::json;

use super::pages::{Width, escaped, page};
use super::server::Server;

const USER: &str = "x-forwarded-user";
const USERNAME: &str = "x-forwarded-preferred-username";
const EMAIL: &str = "x-forwarded-email";
const GROUPS: &str = "x-forwarded-groups";
const IDENTITY: [&str; 4] = [USER, USERNAME, EMAIL, GROUPS];
/// How much of a credential is shown on the page, in characters.
const SHOWN: usize = 12;

/// Dropping it stops it.
pub struct SampleApp {
    server: Server,
}

impl SampleApp {
    /// Listens on 127.0.0.1, on the current tokio runtime; port 0 is any free one.
    pub async fn start(port: u16) -> io::Result<Self> {
        Ok(Self { server: Server::start(port, |_| Router::new().fallback(show)).await? })
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Closes the listener and every connection.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// A page for browsers; JSON with the full values for programs.
async fn show(request: Request) -> Response {
    let headers = request.headers();
    if !text(headers, ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/html")) {
        return report(&request);
    }
    let body = format!(
        "{greeting}\n<h2>What this app received</h2>\n<p class=\"soft\"><code>{method} {path}</code></p>\n\
         <table>\n{rows}</table>",
        greeting = greeting(headers),
        method = escaped(request.method().as_str()),
        path = escaped(&request.uri().to_string()),
        rows = rows(headers),
    );
    page(StatusCode::OK, "Sample app", Width::Wide, &body)
}

fn report(request: &Request) -> Response {
    let headers: Vec<(&str, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = json!({
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map_or("/", |path| path.as_str()),
        "headers": headers,
        "user": text(request.headers(), USER),
    });
    let fields = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (fields, format!("{body}\n")).into_response()
}

fn greeting(headers: &HeaderMap) -> String {
    let shown = |name| text(headers, name).map(|value| escaped(&percent_decoded(&value)));
    let Some(name) = shown(USERNAME).or_else(|| shown(USER)).or_else(|| shown(EMAIL)) else {
        return "<p class=\"mark\">Sample app</p>\n<h1>Hello, whoever you are</h1>\n\
                <p class=\"soft\">No identity: nothing in this request says who is calling.</p>\n\
                <p class=\"actions\"><a class=\"button\" href=\"/\">Go to the protected page</a></p>"
            .to_owned();
    };
    let email = shown(EMAIL).map(|email| format!("<p class=\"soft\">{email}</p>\n")).unwrap_or_default();
    let groups: String = text(headers, GROUPS)
        .unwrap_or_default()
        .split(',')
        .filter(|group| !group.is_empty())
        .map(|group| format!("<li>{}</li>", escaped(&percent_decoded(group))))
        .collect();
    let groups = if groups.is_empty() { groups } else { format!("<ul class=\"chips\">{groups}</ul>\n") };
    format!(
        "<p class=\"mark\">Sample app</p>\n<h1>Hello, {name}</h1>\n{email}{groups}\
         <p class=\"actions\"><a class=\"button\" href=\"/oauth2/sign_out\">Sign out</a>\
         <a class=\"button quiet\" href=\"/public/\">The public page</a></p>"
    )
}

fn rows(headers: &HeaderMap) -> String {
    headers
        .iter()
        .map(|(name, value)| {
            let class = if IDENTITY.contains(&name.as_str()) { " class=\"identity\"" } else { "" };
            let value = shortened(name, &String::from_utf8_lossy(value.as_bytes()));
            format!("<tr{class}><th scope=\"row\">{}</th><td>{}</td></tr>\n", escaped(name.as_str()), escaped(&value))
        })
        .collect()
}

/// A page is photographed and pasted: credentials are not shown whole.
fn shortened(name: &HeaderName, value: &str) -> String {
    let secret = *name == AUTHORIZATION || *name == COOKIE;
    if !secret || value.chars().count() <= SHOWN {
        return value.to_owned();
    }
    value.chars().take(SHOWN).chain(['…']).collect()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|value| !value.is_empty())
}

/// The gateway percent-encodes what may not stand in a header. The form decoder does that and more, so what is more
/// is encoded first.
fn percent_decoded(value: &str) -> String {
    let pair = format!("v={}", value.replace('+', "%2B").replace('&', "%26"));
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}
