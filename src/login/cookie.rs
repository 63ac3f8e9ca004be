//! Cookies as the gateway sets and reads them (RFC 6265bis).

use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

/// The cookies of one provider under one origin: the session's, and those of logins under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSpec {
    /// The whole name, with the prefix that browsers enforce.
    pub name: String,
    pub domain: Option<String>,
    pub same_site: SameSite,
    pub secure: bool,
}

impl CookieSpec {
    /// `__Host-` is put before the name where it is https and without a domain, `__Secure-` where there is one.
    pub fn new(base: &str, domain: Option<String>, same_site: SameSite, secure: bool) -> Self {
        let prefix = match (secure, &domain) {
            (true, None) => "__Host-",
            (true, Some(_)) => "__Secure-",
            (false, _) => "",
        };
        CookieSpec { name: format!("{prefix}{base}"), domain, same_site, secure }
    }

    pub fn set(&self, value: &str, lives: Duration) -> Option<HeaderValue> {
        self.render(&self.name, value, lives, self.same_site)
    }

    pub fn clear(&self) -> Option<HeaderValue> {
        self.set("", Duration::ZERO)
    }

    /// A login's own cookie: it must come back from the provider's page, which is another site.
    pub fn set_flow(&self, id: &str, value: &str, lives: Duration, by_form: bool) -> Option<HeaderValue> {
        self.render(&self.flow_name(id), value, lives, if by_form { SameSite::None } else { SameSite::Lax })
    }

    pub fn clear_flow(&self, id: &str) -> Option<HeaderValue> {
        self.set_flow(id, "", Duration::ZERO, false)
    }

    pub fn flow_name(&self, id: &str) -> String {
        format!("{}_flow_{id}", self.name)
    }

    fn render(&self, name: &str, value: &str, lives: Duration, same_site: SameSite) -> Option<HeaderValue> {
        let same_site = match same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        };
        let domain = self.domain.as_ref().map(|domain| format!("; Domain={domain}")).unwrap_or_default();
        let secure = if self.secure { "; Secure" } else { "" };
        let cookie = format!(
            "{name}={value}; Path=/{domain}; Max-Age={}; HttpOnly{secure}; SameSite={same_site}",
            lives.as_millis().div_ceil(1000)
        );
        HeaderValue::from_str(&cookie).ok()
    }
}

/// Cookies of one name that are looked at: browsers send at most a few, of parent domains.
const MOST: usize = 4;

/// The values of the cookies of this name.
pub fn named<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    cookies(headers).filter(move |(known, _)| *known == name).map(|(_, value)| value).take(MOST)
}

/// Every cookie of a request, name and value, in the order in which they came.
/// What is no text is none of ours, and hides no other.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let fields = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    fields.flat_map(|field| field.split(|b| *b == b';')).filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        Some((name.trim(), value.trim().trim_matches('"')))
    })
}
