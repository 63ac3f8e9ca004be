//! What the gateway has to say that is no refusal, as pages of the same look.

use crate::gate::decision::Reply;
use crate::gate::refusal::{CSS, Pages, SIGN_IN, own_headers};
use askama::Template;
use http::{HeaderName, HeaderValue, StatusCode, header};

pub enum Message<'a> {
    SignedOut {
        sign_in: Option<&'a str>,
    },
    /// Another site, or a browser that reads ahead, opened the sign-out: the person decides.
    ReallySignOut {
        action: &'a str,
        target: &'a str,
    },
    /// A login has ended; the page goes on by itself.
    GoingOn {
        target: &'a str,
    },
}

#[derive(Template)]
#[template(path = "say.html")]
struct MessagePage<'a> {
    css: &'static str,
    title: &'a str,
    detail: &'a str,
    request_id: &'a str,
    goes_to: Option<&'a str>,
    /// A text and where it leads.
    link: Option<(&'a str, &'a str)>,
    form: Option<(&'a str, &'a str)>,
}

impl Pages {
    pub fn say(&self, what: &Message<'_>, request_id: &str) -> Reply {
        let (title, detail) = match what {
            Message::SignedOut { .. } => ("Signed out", "You are signed out of this service."),
            Message::ReallySignOut { .. } => ("Sign out?", "Another page has asked to sign you out of this service."),
            Message::GoingOn { .. } => ("Signed in", "You are signed in and on your way."),
        };
        let mut page = MessagePage { css: CSS, title, detail, request_id, goes_to: None, link: None, form: None };
        match *what {
            Message::SignedOut { sign_in } => page.link = sign_in.map(|target| (SIGN_IN, target)),
            Message::ReallySignOut { action, target } => page.form = Some((action, target)),
            Message::GoingOn { target } => (page.goes_to, page.link) = (Some(target), Some(("Go on", target))),
        }
        let mut headers = own_headers(request_id);
        self.dress(&mut headers);
        Reply { status: StatusCode::OK, headers, body: page.render().unwrap_or_default().into() }
    }

    /// The headers of every page. No `form-action`: a sign-out's form ends on the provider's page.
    pub(super) fn dress(&self, headers: &mut Vec<(HeaderName, HeaderValue)>) {
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")));
        headers.push((header::CONTENT_SECURITY_POLICY, self.policy.clone()));
        headers.push((header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")));
        headers.push((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    }
}
