//! `session` of the configuration, globally or of one route.

use crate::kit::setting::{Rule, Span, Text, Wait, rule};
use crate::login::cookie::SameSite;
use crate::session::session::{Limits, RefreshLimits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sessions of browsers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Session")]
pub struct Settings {
    pub cookie: Cookie,
    /// From the login on, whatever happens.
    pub max_age: Wait,
    /// Without a request; 0s = none.
    pub idle_timeout: Span,
    pub refresh: Refresh,
}

/// The session's cookie.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cookie {
    /// `__Host-` is put before it over https without a domain, `__Secure-` with one.
    pub name: CookieName,
    /// Hosts below it share the cookie; absent: the host of the login alone.
    pub domain: Option<String>,
    /// What browsers do with it in requests that begin on other sites; `none` needs https.
    pub same_site: SameSite,
}

/// Letters, digits, `-`, `.` and `_`.
pub type CookieName = Text<CookieNameRule>;

/// When a session's tokens are refreshed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Refresh {
    /// So long before the access token expires.
    pub before_expiry: Span,
    /// A refresh token that is older is not tried; 0s = no limit.
    pub max_token_age: Span,
}

impl Settings {
    pub fn limits(&self) -> Limits {
        Limits { max_age: *self.max_age, idle_timeout: self.idle_timeout.some() }
    }

    pub fn refresh_limits(&self) -> RefreshLimits {
        let Refresh { before_expiry, max_token_age } = self.refresh;
        RefreshLimits { before_expiry: *before_expiry, max_token_age: max_token_age.some() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            cookie: Cookie::default(),
            max_age: Wait::seconds(12 * 3600), // a working day
            idle_timeout: Span::seconds(3600),
            refresh: Refresh::default(),
        }
    }
}

impl Default for Cookie {
    fn default() -> Self {
        Cookie { name: CookieName::of("doorward"), domain: None, same_site: SameSite::Lax }
    }
}

impl Default for Refresh {
    fn default() -> Self {
        Refresh { before_expiry: Span::seconds(60), max_token_age: Span::NONE }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieNameRule;

impl Rule for CookieNameRule {
    fn check(text: &str) -> Result<(), String> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        rule(plain && !text.starts_with("__"), || {
            format!(
                "`{text}` cannot name a cookie; write letters, digits, `-`, `.` and `_`; `__Host-` is added by itself"
            )
        })
    }
}
