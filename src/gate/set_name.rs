//! The names of headers that the configuration may set.

use crate::kit::setting::{Rule, Text, rule};
use http::HeaderName;

/// The name of a header that may be set.
pub type SetName = Text<SetNameRule>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetNameRule;

impl Rule for SetNameRule {
    fn check(text: &str) -> Result<(), String> {
        match text.parse::<HeaderName>() {
            Ok(name) => rule(!RESERVED.contains(&name.as_str()), || {
                "is set by the proxy itself and cannot be set here; remove it".into()
            }),
            Err(_) => Err(format!("`{text}` is not the name of a header")),
        }
    }
}

/// Host, Cookie, hop-by-hop and framing names.
const RESERVED: [&str; 13] = [
    "host",
    "cookie",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
];
