//! The gateway's own cookies: the app neither sees them nor sets them.

use crate::login::cookie::pieces;
use http::{HeaderMap, HeaderValue, header};

/// The names of every cookie of the gateway, of any route.
#[derive(Clone, Debug, Default)]
pub struct OwnCookies {
    names: Vec<String>,
    providers: Vec<String>,
}

/// What to forward of a request's `Cookie` fields.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    AsSent,
    Instead(HeaderValue),
    Nothing,
}

impl OwnCookies {
    /// `names`: each route's `session.cookie.name`; where providers share one, a provider's name follows it.
    pub fn new(mut names: Vec<String>, providers: Vec<String>) -> Self {
        names.sort();
        names.dedup();
        OwnCookies { names, providers }
    }

    pub fn is_own(&self, cookie: &str) -> bool {
        let bare = ["__Host-", "__Secure-"].iter().find_map(|p| cookie.strip_prefix(p)).unwrap_or(cookie);
        let of_login = |rest: &str| rest.is_empty() || rest == "_rounds" || rest.starts_with("_flow_");
        self.names.iter().filter_map(|name| bare.strip_prefix(name.as_str())).any(|rest| {
            let of_provider =
                |p: &String| rest.strip_prefix('_').and_then(|r| r.strip_prefix(p.as_str())).is_some_and(of_login);
            of_login(rest) || self.providers.iter().any(of_provider)
        })
    }

    /// The `Cookie` fields without the gateway's, as one field (RFC 9113, 8.2.3: HTTP/2 may send several).
    pub fn kept(&self, headers: &HeaderMap) -> Kept {
        let fields = || headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        let pairs = || fields().flat_map(pieces).map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty());
        let own = |pair: &&[u8]| {
            let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
            std::str::from_utf8(name).is_ok_and(|name| self.is_own(name))
        };
        if fields().nth(1).is_none() && !pairs().any(|pair| own(&pair)) {
            return Kept::AsSent;
        }
        let others: Vec<&[u8]> = pairs().filter(|pair| !own(pair)).collect();
        match HeaderValue::from_bytes(&others.join(&b"; "[..])) {
            Ok(value) if !value.is_empty() => Kept::Instead(value),
            _ => Kept::Nothing,
        }
    }

    /// Whether a `Set-Cookie` field of the app sets one of the gateway's cookies. A browser sends one without a name as its
    /// value alone (RFC 6265bis, 5.8.3), which reads as a name and a value.
    pub fn is_planted(&self, set_cookie: &HeaderValue) -> bool {
        let nameless = |b: &u8| matches!(b, b'=' | b' ' | b'\t');
        let start = set_cookie.as_bytes().iter().position(|b| !nameless(b)).unwrap_or(set_cookie.len());
        let field = set_cookie.as_bytes().get(start..).unwrap_or_default();
        let name = field.split(|b| matches!(b, b'=' | b';')).next().unwrap_or_default().trim_ascii();
        std::str::from_utf8(name).is_ok_and(|name| self.is_own(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> OwnCookies {
        OwnCookies::new(vec!["doorward".into(), "other".into()], vec!["corp".into()])
    }

    #[test]
    fn own_names_are_known_in_every_form() {
        for name in [
            "doorward",
            "__Host-doorward",
            "__Secure-other",
            "doorward_corp",
            "doorward_flow_ab",
            "__Host-doorward_corp_flow_1",
            "doorward_rounds",
            "__Secure-other_corp_rounds",
        ] {
            assert!(ours().is_own(name), "{name}");
        }
        for name in ["doorward2", "doorward_theme", "Doorward", "x-doorward", "__Host-", "", "doorward_corpx"] {
            assert!(!ours().is_own(name), "{name}");
        }
    }

    #[test]
    fn the_app_gets_its_own_cookies() {
        let check = |fields: &[&str], expected: Kept| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::COOKIE, HeaderValue::from_str(field).unwrap());
            }
            assert_eq!(ours().kept(&headers), expected, "{fields:?}");
        };
        let instead = |text| Kept::Instead(HeaderValue::from_static(text));
        check(&[], Kept::AsSent);
        check(&["a=1; b=\"2;\""], Kept::AsSent);
        check(&["a=1; doorward=x; b=2"], instead("a=1; b=2"));
        check(&["doorward=x"], Kept::Nothing);
        check(&[" doorward = x ;a=1"], instead("a=1"));
        check(&["a=1", "b=2"], instead("a=1; b=2"));
        check(&["a=1", "__Host-doorward=2"], instead("a=1"));
    }

    #[test]
    fn the_app_cannot_plant_ours() {
        let planted = |text| ours().is_planted(&HeaderValue::from_static(text));
        assert!(planted("=doorward=x") && planted(" = =__Host-doorward=x; Path=/") && !planted("=app=doorward"));
        assert!(planted("doorward=x; Path=/") && planted(" __Host-doorward=; Secure") && planted("doorward"));
        assert!(!planted("app=1; doorward=x"));
    }
}
