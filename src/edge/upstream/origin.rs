//! Where an app is: the values of `to`.

use crate::kit::setting::http_url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The address of an app.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Origin {
    pub protocol: Protocol,
    pub place: Location,
    /// Prepended to the request's path; has no trailing slash.
    pub base_path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Https,
    /// HTTP/2 without TLS.
    H2c,
    /// HTTP/2 over TLS.
    H2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Host { name: String, port: u16 },
    Unix(PathBuf),
}

impl TryFrom<String> for Origin {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        // The message does not repeat the value: it may contain a password.
        Origin::read(&text)
            .ok_or("is not the address of an app; write http://, https://, h2c:// or h2:// with a host, or unix:/path")
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        let scheme = match origin.protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::H2c => "h2c",
            Protocol::H2 => "h2",
        };
        match origin.place {
            Location::Unix(path) => format!("unix:{}", path.display()),
            Location::Host { name, port } => format!("{scheme}://{name}:{port}{}", origin.base_path),
        }
    }
}

impl Origin {
    fn read(text: &str) -> Option<Origin> {
        if let Some(socket) = text.strip_prefix("unix:") {
            let place = Location::Unix(socket.into());
            let origin = Origin { protocol: Protocol::Http, place, base_path: String::new() };
            return socket.starts_with('/').then_some(origin);
        }
        let (scheme, rest) = text.split_once("://")?;
        let (protocol, like) = match scheme {
            "http" => (Protocol::Http, "http"),
            "https" => (Protocol::Https, "https"),
            "h2c" => (Protocol::H2c, "http"),
            "h2" => (Protocol::H2, "https"),
            _ => return None,
        };
        let url = http_url(&format!("{like}://{rest}"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return None;
        }
        let place = Location::Host { name: url.host_str()?.to_string(), port: url.port_or_known_default()? };
        Some(Origin { protocol, place, base_path: url.path().trim_end_matches('/').to_string() })
    }

    /// As in `Host`.
    pub fn authority(&self) -> String {
        let default = if self.protocol.is_over_tls() { 443 } else { 80 };
        match &self.place {
            Location::Unix(_) => "localhost".to_owned(),
            Location::Host { name, port } if *port == default => name.clone(),
            Location::Host { name, port } => format!("{name}:{port}"),
        }
    }
}

impl Protocol {
    pub fn is_over_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::H2)
    }
}
