//! The pages of the provider, and the frame and style sheet that the sample app shares: small, without scripts (but
//! for the one that sends a form_post on), for phones and dark rooms too. It must not know any state.

use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

const STYLE: &str = include_str!("style.css");
const SUBMIT: &str = "document.forms[0].submit()";
const MARK: &str = r#"<p class="mark">Development provider</p>"#;

/// A page's width: one column for a form, or room for a table.
#[derive(Clone, Copy)]
pub(super) enum Width {
    Narrow,
    Wide,
}

/// A whole page around `body`, which must be escaped already.
pub(super) fn page(status: StatusCode, title: &str, width: Width, body: &str) -> Response {
    let class = match width {
        Width::Narrow => "narrow",
        Width::Wide => "wide",
    };
    let title = escaped(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main class=\"{class}\">\n{body}\n</main>\n</body>\n</html>\n"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CACHE_CONTROL, "no-store".to_owned()),
        (CONTENT_SECURITY_POLICY, content_security_policy()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        // Not `no-referrer`: the login form's own POST, and a form_post, would then come with `Origin: null`.
        (REFERRER_POLICY, "strict-origin".to_owned()),
    ];
    (status, headers, html).into_response()
}

/// `request` is carried through the form as it came; `names` are the users to sign in as.
pub(super) fn login(
    status: StatusCode,
    request: &str,
    username: &str,
    names: &[String],
    error: Option<&str>,
) -> Response {
    let error = error.map(|error| format!(r#"<p class="error" role="alert">{}</p>"#, escaped(error)));
    let (name_focus, password_focus) = if username.is_empty() { (" autofocus", "") } else { ("", " autofocus") };
    let body = format!(
        r#"{MARK}
<h1>Sign in</h1>
<p class="soft">Made for trying things on this machine; it keeps nothing.</p>
{error}
<form method="post" action="/login">
<input type="hidden" name="request" value="{request}">
<label>User name
<input name="username" value="{username}" autocomplete="username" autocapitalize="none" spellcheck="false" required{name_focus}></label>
<label>Password
<input type="password" name="password" autocomplete="current-password" required{password_focus}></label>
<button type="submit">Sign in</button>
</form>
{hint}"#,
        error = error.unwrap_or_default(),
        request = escaped(request),
        username = escaped(username),
        hint = user_hint(names),
    );
    page(status, "Sign in", Width::Narrow, &body)
}

/// The answer of response_mode=form_post (OAuth 2.0 Form Post Response Mode).
pub(super) fn form_post<'a>(action: &str, params: impl Iterator<Item = (&'a str, &'a str)>) -> Response {
    let fields: String = params
        .map(|(name, value)| {
            format!(r#"<input type="hidden" name="{}" value="{}">"#, escaped(name), escaped(value)) + "\n"
        })
        .collect();
    let action = escaped(action);
    let body = format!(
        r#"{MARK}
<h1>Going back</h1>
<form method="post" action="{action}">
{fields}<noscript><button type="submit">Go on</button></noscript>
</form>
<script>{SUBMIT}</script>"#
    );
    page(StatusCode::OK, "Going back", Width::Narrow, &body)
}

pub(super) fn refusal(status: StatusCode, reason: &str) -> Response {
    let reason = escaped(reason);
    let body = format!(
        r#"{MARK}
<h1>This request cannot be granted</h1>
<p class="error" role="alert">{reason}</p>
<p class="hint">The browser is not sent back, because where it would go is not known to be safe.</p>"#
    );
    page(status, "Request refused", Width::Narrow, &body)
}

pub(super) fn signed_out() -> Response {
    let body = format!(
        r#"{MARK}
<h1>Signed out</h1>
<p class="soft">The session at the provider has ended. You may close this page.</p>"#
    );
    page(StatusCode::OK, "Signed out", Width::Narrow, &body)
}

/// Text that may stand in an element or in a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Only the style sheet and the one script, by their digests. `form-action` names schemes, not hosts: browsers hold
/// the redirects after a login to it as well, and these lead wherever the client sends the person.
fn content_security_policy() -> String {
    let digest = |text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        BASE64.encode(digest.as_ref())
    };
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; \
         form-action 'self' http: https:; base-uri 'none'; frame-ancestors 'none'",
        digest(STYLE),
        digest(SUBMIT),
    )
}

fn user_hint(names: &[String]) -> String {
    /// More would push the form's end out of sight.
    const SHOWN: usize = 5;
    if names.is_empty() {
        return String::new();
    }
    let names: Vec<String> = names.iter().take(SHOWN).map(|name| format!("<code>{}</code>", escaped(name))).collect();
    format!(
        r#"<p class="hint">Sign in as {}. The passwords were printed where the demo was started.</p>"#,
        names.join(" or ")
    )
}
