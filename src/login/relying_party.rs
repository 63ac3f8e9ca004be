//! The settings of a provider's logins for some routes.

use crate::caller::rate_limit;
use crate::login::cookie::CookieSpec;
use crate::session::realm::Realm;
use crate::session::session::{Limits, RefreshLimits};
use std::sync::Arc;

/// A provider's logins for one or more routes.
pub struct RelyingParty {
    pub realm: Arc<Realm>,
    pub cookie: CookieSpec,
    pub limits: Limits,
    pub refresh: RefreshLimits,
    pub origin: Origin,
    /// One callback for many hosts.
    pub redirect_uri: Option<String>,
    /// Other providers use the same cookie name here: its callback has the provider's name (RFC 9700, 2.1).
    pub shares_jar: bool,
    /// How often a client may be refused at the callback.
    pub limit: rate_limit::Settings,
    pub auth_path: String,
    /// The provider's and the route's extra parameters for the authorization request.
    pub params: Vec<(String, String)>,
}

/// The public origin of a relying party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `public_url`, whatever the request's host.
    Fixed(String),
    /// The request's host, under the scheme and port of `from`.
    OfHost { https: bool, port: Option<u16> },
}

impl Origin {
    /// `https://app.example.com`, without a path.
    pub fn for_host(&self, host: &str) -> String {
        match self {
            Origin::Fixed(origin) => origin.clone(),
            Origin::OfHost { https, port } => {
                let (scheme, default) = if *https { ("https", 443) } else { ("http", 80) };
                match port.filter(|port| *port != default) {
                    Some(port) => format!("{scheme}://{host}:{port}"),
                    None => format!("{scheme}://{host}"),
                }
            }
        }
    }
}

impl RelyingParty {
    pub fn provider(&self) -> &str {
        &self.realm.provider.settings().name
    }

    /// Where the provider sends the browser back to.
    pub fn callback(&self, origin: &str) -> String {
        let own = if self.shares_jar { format!("/{}", self.provider()) } else { String::new() };
        self.redirect_uri.clone().unwrap_or_else(|| format!("{origin}{}/callback{own}", self.auth_path))
    }

    /// Whether the provider responds with a form that the browser posts.
    pub fn answers_by_form(&self) -> bool {
        self.params.iter().any(|(name, value)| name == "response_mode" && value == "form_post")
    }
}
