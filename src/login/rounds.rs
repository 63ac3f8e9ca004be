//! Stops login loops: where a browser has just signed in several times and still has no session, another login would
//! end the same way. A short-lived cookie holds the times of its completed logins.

use crate::kit::clock::Timestamp;
use crate::kit::seal::Secrets;
use crate::login::cookie::{CookieSpec, named, named_like};
use crate::login::no_state::NoState;
use crate::session::ticket::Ticket;
use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use std::time::Duration;

/// So many completed logins within `WITHIN` stop the next one.
const MOST: usize = 3;
pub const WITHIN: Duration = Duration::from_secs(30);
/// The most cookies of the name to try; a sibling site may set others.
const TRIED: usize = 2;

/// The cookie's value after a login that completes now. Where the browser had a session, the last login was not in vain.
pub fn counted(
    secrets: &Secrets,
    cookie: &CookieSpec,
    headers: &HeaderMap,
    had_session: bool,
    now: Timestamp,
) -> Option<String> {
    let mut times = if had_session { Vec::new() } else { recent(secrets, cookie, headers, now) };
    times.push(now.millis());
    let last: Vec<String> = times.iter().rev().take(MOST).rev().map(i64::to_string).collect();
    let sealed = secrets.seal(b"", &[b"rounds"], cookie.name.as_bytes(), last.join(",").as_bytes());
    Some(BASE64URL_NOPAD.encode(&sealed.ok()?))
}

/// Why another login would be in vain; `None` if it may start.
pub fn in_vain(secrets: &Secrets, cookie: &CookieSpec, headers: &HeaderMap, now: Timestamp) -> Option<NoState> {
    let has_cookie = || named_like(headers, &cookie.name, Ticket::is_like).next().is_some();
    let stops = recent(secrets, cookie, headers, now).len() >= MOST;
    stops.then(|| if has_cookie() { NoState::SessionUnknown } else { NoState::SessionNotKept })
}

/// The times of the latest logins, in ms since the Unix epoch.
fn recent(secrets: &Secrets, cookie: &CookieSpec, headers: &HeaderMap, now: Timestamp) -> Vec<i64> {
    let times = |value: &str| {
        let sealed = BASE64URL_NOPAD.decode(value.as_bytes()).ok()?;
        let plain = secrets.open(b"", &[b"rounds"], cookie.name.as_bytes(), &sealed).ok()?;
        let text = std::str::from_utf8(&plain).ok()?;
        let is_recent = |time: &i64| now < Timestamp::from_millis(*time).plus(WITHIN);
        Some(text.split(',').filter_map(|time| time.parse().ok()).filter(is_recent).collect())
    };
    named(headers, &cookie.rounds_name()).take(TRIED).find_map(times).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::cookie::SameSite;
    use http::HeaderValue;

    #[test]
    fn the_fourth_login_within_30_seconds_is_in_vain() {
        let (secrets, cookie) =
            (Secrets::new([b"x".repeat(32)]), CookieSpec::new("doorward", None, SameSite::Lax, true));
        let at = |seconds| Timestamp::from_seconds(1_000_000 + seconds);
        let browser = |value: &str, more: &str| {
            let pair = format!("__Host-doorward_rounds={value}");
            HeaderMap::from_iter([(http::header::COOKIE, HeaderValue::from_str(&format!("{more}{pair}")).unwrap())])
        };
        let mut headers = HeaderMap::new();
        for seconds in [0i64, 10, 20] {
            assert_eq!(in_vain(&secrets, &cookie, &headers, at(seconds)), None, "{seconds}");
            headers = browser(&counted(&secrets, &cookie, &headers, false, at(seconds)).unwrap(), "");
        }
        assert_eq!(in_vain(&secrets, &cookie, &headers, at(29)), Some(NoState::SessionNotKept));
        assert_eq!(in_vain(&secrets, &cookie, &headers, at(30)), None, "the first is forgotten");
        headers =
            browser(&counted(&secrets, &cookie, &headers, false, at(21)).unwrap(), "__Host-doorward_rounds=junk; ");
        assert_eq!(in_vain(&secrets, &cookie, &headers, at(39)), Some(NoState::SessionNotKept), "the last three count");
        let anew = browser(&counted(&secrets, &cookie, &headers, true, at(22)).unwrap(), "");
        assert_eq!(in_vain(&secrets, &cookie, &anew, at(23)), None, "a session came back in between");
        let other = Secrets::new([b"y".repeat(32)]);
        assert_eq!(in_vain(&other, &cookie, &headers, at(29)), None, "nobody else can set it");
        let ticket = "A".repeat(64);
        let cookies = format!("__Host-doorward={ticket}; {}", headers[http::header::COOKIE].to_str().unwrap());
        headers.insert(http::header::COOKIE, HeaderValue::from_str(&cookies).unwrap());
        assert_eq!(in_vain(&secrets, &cookie, &headers, at(29)), Some(NoState::SessionUnknown));
    }
}
