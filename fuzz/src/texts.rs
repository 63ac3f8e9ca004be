//! Texts that strangers choose and that go somewhere else: into a redirect, into a log.

use doorward::kit::clock::Timestamp;
use doorward::login::return_url::{HostPattern, Pattern, ReturnUrls};
use doorward::telemetry::escape::{Form, escape, is_plain};
use doorward::telemetry::record::{LONGEST_PATH, LONGEST_WORD, Record, cut};
use url::Url;

const ORIGIN: &str = "https://app.test";

/// A redirect after a login stays on the gateway's hosts, as a browser parses it, and leads to no page of the gateway's own.
pub fn return_url(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else { return };
    let urls = ReturnUrls {
        origins: vec![
            Pattern { https: true, host: HostPattern::One("other.test".into()), port: 443 },
            Pattern { https: true, host: HostPattern::Below(".apps.test".into()), port: 8443 },
        ],
        auth_path: "/oauth2".into(),
    };
    let checked = urls.checked(target, ORIGIN);
    let url = Url::parse(ORIGIN).unwrap().join(&checked).expect("what is redirected to is a URL");
    let host = url.host_str().unwrap();
    let is_known = match url.port_or_known_default() {
        Some(443) => ["app.test", "other.test"].contains(&host),
        Some(8443) => host.ends_with(".apps.test"),
        _ => false,
    };
    assert!(is_known && url.scheme() == "https" && url.username().is_empty(), "{target:?} leads to {url}");
    assert!(!checked.bytes().any(|b| b.is_ascii_control() || b == b'\\'), "{checked:?}");
    assert!(!url.path().starts_with("/oauth2/") && url.path() != "/oauth2", "{target:?} leads to {url}");
    assert!(!(checked.starts_with("//")), "{checked:?}");
    assert_eq!(urls.checked(&checked, ORIGIN), checked, "checked twice");
}

/// Whatever a request was made of, its record is one line that no terminal obeys; as JSON it reads back.
pub fn log_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(4, '\u{1}');
    let mut part = |most| cut(parts.next().unwrap_or_default(), most);
    let record = Record {
        time: Timestamp::from_seconds(1_800_000_000),
        request_id: "0123".into(),
        route: "main".into(),
        method: part(LONGEST_WORD),
        host: part(LONGEST_WORD),
        path: part(LONGEST_PATH),
        status: 403,
        outcome: "forbidden",
        reason: None,
        credential: "none",
        user: Some(part(LONGEST_WORD).into()),
        client: "192.0.2.1".into(),
        rule: None,
        why: Some(text.as_ref().into()),
        duration_ms: 0.5,
    };
    let line = serde_json::to_string(&record).unwrap() + "\n";
    let mut shown = String::new();
    escape(&line, Form::Json, &mut shown);
    assert!(shown.ends_with('\n') && !is_obeyed(shown.trim_end_matches('\n')), "{shown:?}");
    let back: serde_json::Value = serde_json::from_str(&shown).expect("a line is JSON");
    for (name, own) in [("method", &record.method), ("host", &record.host), ("path", &record.path)] {
        assert_eq!(back[name].as_str(), Some(own.as_str()));
    }
    let mut plain = String::new();
    escape(&text, Form::Text, &mut plain);
    assert!(!is_obeyed(plain.strip_suffix('\n').unwrap_or(&plain)), "{plain:?}");
    assert!(!is_plain(data) || plain == text, "a plain line is itself");
}

/// Controls, C1 among them, and what changes the direction of text.
fn is_obeyed(line: &str) -> bool {
    line.chars().any(|c| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}
