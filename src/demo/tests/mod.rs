//! The provider and the sample app over real sockets, as a relying party meets them.

mod app;
mod flow;
mod handle;

use http::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Response, StatusCode};
use serde_json::{Map, Value};

use super::*;

const REDIRECT_URI: &str = "http://localhost:1/oauth2/callback";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const CLIENT: (&str, &str) = ("doorward", "doorward-secret");

type Fields<'a> = &'a [(&'a str, &'a str)];

/// A relying party in front of a provider of its own.
struct Party {
    provider: Provider,
    http: reqwest::Client,
}

impl Party {
    async fn start() -> Self {
        let party = Self { provider: Provider::start(ProviderOptions::default()).await.unwrap(), http: http_client() };
        party.provider.set_client(a_client());
        party
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.provider.issuer())
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    async fn post(&self, path: &str, fields: Fields<'_>) -> Response {
        self.form(path, fields).send().await.unwrap()
    }

    /// With the client's Basic credentials.
    async fn call(&self, path: &str, fields: Fields<'_>) -> (StatusCode, Value) {
        answer(self.form(path, fields).basic_auth(CLIENT.0, Some(CLIENT.1)).send().await.unwrap()).await
    }

    /// The code of a login as alice, without the form.
    async fn code(&self) -> String {
        let response = self.authorize(&a_request(&[]), &self.provider.sign_in("alice")).await;
        param(&location(&response), "code").unwrap()
    }

    async fn authorize(&self, query: &str, cookie: &str) -> Response {
        let request = self.http.get(self.url(&format!("/authorize?{query}"))).header(COOKIE, cookie);
        request.send().await.unwrap()
    }

    async fn exchange(&self, code: &str) -> (StatusCode, Value) {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
        ];
        self.call("/token", &fields).await
    }

    async fn tokens(&self) -> Value {
        let (status, tokens) = self.exchange(&self.code().await).await;
        assert_eq!(status, 200, "{tokens}");
        tokens
    }

    async fn refresh(&self, token: &Value) -> (StatusCode, Value) {
        self.call("/token", &[("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap())]).await
    }

    async fn is_active(&self, token: &str) -> bool {
        self.call("/introspect", &[("token", token)]).await.1["active"].as_bool().unwrap()
    }

    fn form(&self, path: &str, fields: Fields<'_>) -> reqwest::RequestBuilder {
        self.http
            .post(self.url(path))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish())
    }
}

fn http_client() -> reqwest::Client {
    // Another test may have installed it before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn a_client() -> Client {
    Client {
        client_id: CLIENT.0.to_owned(),
        client_secret: Some(CLIENT.1.to_owned()),
        redirect_uris: vec![REDIRECT_URI.to_owned()],
        post_logout_redirect_uris: vec!["http://localhost:1/oauth2/signed_out".to_owned()],
        backchannel_logout_uri: None,
    }
}

/// The query of a good authorization request; `changes` are set over it, an empty value leaves the parameter out.
fn a_request(changes: Fields<'_>) -> String {
    let good = [
        ("client_id", CLIENT.0),
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("scope", "openid profile email"),
        ("state", "the-state"),
        ("nonce", "the-nonce"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let kept = good.into_iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    let changed = changes.iter().copied().filter(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.chain(changed)).finish()
}

async fn answer(response: Response) -> (StatusCode, Value) {
    (response.status(), response.json().await.unwrap_or(Value::Null))
}

fn location(response: &Response) -> url::Url {
    let location = response.headers().get(LOCATION).unwrap_or_else(|| panic!("no location: {response:?}"));
    url::Url::parse(location.to_str().unwrap()).unwrap()
}

fn param(url: &url::Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn cookie_set(response: &Response) -> String {
    let field = response.headers().get(SET_COOKIE).unwrap().to_str().unwrap();
    assert!(field.contains("HttpOnly") && field.contains("SameSite=Lax"), "{field}");
    field.split(';').next().unwrap().to_owned()
}

/// The claims, unverified.
fn claims_of(token: &str) -> Map<String, Value> {
    decoded(token, 1)
}

fn header_of(token: &str) -> Map<String, Value> {
    decoded(token, 0)
}

fn decoded(token: &str, part: usize) -> Map<String, Value> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(token.split('.').nth(part).unwrap().as_bytes()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}
