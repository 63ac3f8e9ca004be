//! The gateway's HTML pages other than refusals, in the same layout.

use crate::gate::branding::Branding;
use crate::gate::decision::Reply;
use crate::gate::refusal::{Html, SIGN_IN, own_headers};
use askama::Template;
use http::{HeaderName, HeaderValue, StatusCode, header};

pub enum Message<'a> {
    SignedOut {
        sign_in: Option<&'a str>,
    },
    /// Another site, or a browser's prefetch, requested the sign-out: the user must confirm.
    ReallySignOut {
        action: &'a str,
        target: &'a str,
    },
    /// Several providers serve the target.
    Choose {
        /// The name of each, and where its login begins.
        ways: &'a [(String, String)],
    },
    /// A login has succeeded; the page redirects by itself.
    GoingOn {
        target: &'a str,
    },
}

#[derive(Template)]
#[template(path = "say.html")]
struct MessagePage<'a> {
    branding: &'a Branding,
    title: &'a str,
    detail: &'a str,
    request_id: &'a str,
    goes_to: Option<&'a str>,
    /// A text and its URL.
    link: Option<(&'a str, &'a str)>,
    ways: &'a [(String, String)],
    form: Option<(&'a str, &'a str)>,
}

impl Html {
    pub fn say(&self, what: &Message<'_>, request_id: &str) -> Reply {
        let (title, detail) = match what {
            Message::SignedOut { .. } => ("Signed out", "You are signed out of this service."),
            Message::ReallySignOut { .. } => ("Sign out?", "Another page has asked to sign you out of this service."),
            Message::Choose { .. } => ("Sign in", "Choose where you have an account."),
            Message::GoingOn { .. } => ("Signed in", "You are signed in and on your way."),
        };
        let branding = &self.branding;
        let mut page =
            MessagePage { branding, title, detail, request_id, goes_to: None, link: None, ways: &[], form: None };
        match *what {
            Message::SignedOut { sign_in } => page.link = sign_in.map(|target| (SIGN_IN, target)),
            Message::Choose { ways } => page.ways = ways,
            Message::ReallySignOut { action, target } => page.form = Some((action, target)),
            Message::GoingOn { target } => (page.goes_to, page.link) = (Some(target), Some(("Go on", target))),
        }
        let mut headers = own_headers(request_id);
        self.dress(&mut headers);
        Reply { status: StatusCode::OK, headers, body: page.render().unwrap_or_default().into() }
    }

    /// The headers of every page. No `form-action`: the sign-out form redirects to the provider.
    pub(super) fn dress(&self, headers: &mut Vec<(HeaderName, HeaderValue)>) {
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")));
        headers.push((header::CONTENT_SECURITY_POLICY, self.policy.clone()));
        headers.push((header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")));
        headers.push((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    }
}
