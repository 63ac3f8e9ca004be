//! Cookies as the gateway sets and reads them (RFC 6265bis).

use http::{HeaderMap, HeaderValue, header};
use memchr::{memchr, memmem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
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
    /// Over https the name gets the prefix `__Host-` without a domain, `__Secure-` with one.
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

    /// A login's flow cookies, as many as its value needs: browsers drop any longer than 4,096 bytes. They must be sent
    /// on the way back from the provider, which is another site.
    pub fn set_flow(&self, id: &str, value: &str, lives: Duration, by_form: bool) -> Vec<HeaderValue> {
        let same_site = on_the_way_back(by_form);
        let name = self.flow_name(id);
        let parts = value.as_bytes().chunks(LONGEST_PART).filter_map(|part| std::str::from_utf8(part).ok());
        parts.enumerate().filter_map(|(n, part)| self.render(&part_name(&name, n), part, lives, same_site)).collect()
    }

    /// The possible values of a flow, reassembled from its cookies.
    pub fn flow(&self, id: &str, headers: &HeaderMap) -> Vec<String> {
        let name = self.flow_name(id);
        let rest: String = (1..MOST_PARTS).map_while(|n| named(headers, &part_name(&name, n)).next()).collect();
        named(headers, &name).map(|first| format!("{first}{rest}")).collect()
    }

    /// Clears every flow cookie of a login that the browser sent.
    pub fn clear_flow(&self, id: &str, headers: &HeaderMap) -> Vec<HeaderValue> {
        let first = self.flow_name(id);
        let own = |name: &&str| *name == first || name.strip_prefix(first.as_str()).is_some_and(|n| n.starts_with('_'));
        let mut names: Vec<&str> = cookies(headers).map(|(name, _)| name).filter(own).take(MOST).collect();
        names.push(&first);
        names.sort_unstable();
        names.dedup();
        names.iter().filter_map(|name| self.clear_named(name)).collect()
    }

    /// Clears one cookie of a login.
    pub fn clear_named(&self, name: &str) -> Option<HeaderValue> {
        self.render(name, "", Duration::ZERO, SameSite::Lax)
    }

    /// The times of completed logins. The browser must send it on the way back from the provider, as the flow's.
    pub fn set_rounds(&self, value: &str, lives: Duration, by_form: bool) -> Option<HeaderValue> {
        self.render(&self.rounds_name(), value, lives, on_the_way_back(by_form))
    }

    pub fn rounds_name(&self) -> String {
        format!("{}_rounds", self.name)
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

/// The most cookies of one name to try: browsers send those of parent domains, too, and a sibling site may set many.
const MOST: usize = 16;
/// A `Cookie` field, in bytes, that is searched as a whole before its cookies are looked at.
const LONG: usize = 1024;
/// A cookie with a value of this length stays below 4,096 bytes with its name and attributes.
const LONGEST_PART: usize = 3600;
/// The most parts of a flow's value; the longest target, sealed, needs three.
const MOST_PARTS: usize = 4;

/// Another site's redirect sends a `Lax` cookie, its form none but a `None` one.
fn on_the_way_back(by_form: bool) -> SameSite {
    if by_form { SameSite::None } else { SameSite::Lax }
}

fn part_name(name: &str, n: usize) -> String {
    if n == 0 { name.to_string() } else { format!("{name}_{n}") }
}

/// The values of the cookies of this name, each once.
pub fn named<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    named_like(headers, name, |_| true)
}

/// As `named`, but only values that are `like`; others must not use up the limit.
pub fn named_like<'h>(
    headers: &'h HeaderMap,
    name: &str,
    like: impl Fn(&str) -> bool,
) -> impl Iterator<Item = &'h str> {
    let mut values: Vec<&str> = Vec::new();
    // Most long fields hold no cookie of this name, but up to thousands of others.
    let may_hold = |field: &&[u8]| field.len() < LONG || memmem::find(field, name.as_bytes()).is_some();
    let fields = fields(headers).filter(may_hold);
    for (_, value) in fields.flat_map(pairs).filter(|(known, value)| *known == name && like(value)) {
        if values.len() < MOST && !values.contains(&value) {
            values.push(value);
        }
    }
    values.into_iter()
}

/// Every cookie of a request, name and value, in the order sent. Cookies that are not UTF-8 are skipped: they cannot be
/// the gateway's and must not hide later ones.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    fields(headers).flat_map(pairs)
}

fn fields(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes)
}

fn pairs(field: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    pieces(field).filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        // Not Unicode's blanks: to a browser they are part of a name, and a name that begins with one has no prefix.
        Some((name.trim_ascii(), value.trim_ascii().trim_matches('"')))
    })
}

/// A `Cookie` field between its semicolons.
pub fn pieces(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(field);
    std::iter::from_fn(move || {
        let field = rest?;
        match memchr(b';', field) {
            Some(at) => {
                rest = field.get(at + 1..);
                field.get(..at)
            }
            None => rest.take(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_as_browsers_trim_it() {
        let values = |field: &str| {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_bytes(field.as_bytes()).unwrap())]);
            named(&headers, "__Host-own").map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(values("a=1; __Host-own=2;\t__Host-own =3"), ["2", "3"]);
        for blank in ["\u{a0}", "\u{85}", "\u{2003}", "\u{3000}", "\u{2028}"] {
            assert!(values(&format!("{blank}__Host-own=1; __Host-own{blank}=2")).is_empty(), "{blank:?}");
        }
    }
}
