//! Where a route stands: `from`, `match` and `methods`.

use crate::gate::path::CanonicalPath;
use crate::kit::setting::http_url;
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `from`, `match` and `methods`: which requests a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub hosts: Hosts,
    /// The port of `from`, or its scheme's default. `None` for bare paths.
    pub port: Option<u16>,
    /// As written; at least `/`.
    pub path: String,
    pub exact: bool,
    /// Empty: any.
    pub methods: Vec<Method>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hosts {
    One(String),
    /// What follows the `*`, with its dot: `.example.com`.
    Below(String),
    Any,
}

/// `from`: a public origin and a path prefix, or a path alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct From {
    /// As written.
    pub text: String,
    pub path: String,
    /// `None` for a bare path.
    pub origin: Option<PublicOrigin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicOrigin {
    pub https: bool,
    pub hosts: Hosts,
    /// As written, or the scheme's own.
    pub port: u16,
}

/// A method in capitals.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct RouteMethod(Method);

const MEND: &str = "write an origin and a path, such as https://app.example.com/ or https://*.example.com/app/, or a bare path such as /api/";

impl Hosts {
    /// Whether there is a host that both mean.
    pub fn overlap(&self, other: &Hosts) -> bool {
        match (self, other) {
            (Hosts::Any, _) | (_, Hosts::Any) => true,
            (Hosts::One(a), Hosts::One(b)) => a == b,
            (Hosts::One(name), Hosts::Below(suffix)) | (Hosts::Below(suffix), Hosts::One(name)) => {
                name.ends_with(suffix)
            }
            (Hosts::Below(a), Hosts::Below(b)) => a.ends_with(b) || b.ends_with(a),
        }
    }
}

impl From {
    /// In place of one that could not be read.
    pub fn stand_in() -> Self {
        From { text: String::new(), path: "/".into(), origin: None }
    }
}

impl PublicOrigin {
    pub fn has_default_port(&self) -> bool {
        self.port == if self.https { 443 } else { 80 }
    }
}

/// A path that every app reads in one way, without a query.
pub fn is_plain_path(path: &str) -> bool {
    let read = CanonicalPath::of(path.as_bytes());
    read.is_ok_and(|p| p.is_plain() && p.query().is_empty() && p.authority().is_none()) && !path.contains('*')
}

impl TryFrom<String> for From {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') {
            if !is_plain_path(&text) {
                return Err(format!("`{text}` is not a plain path; {MEND}"));
            }
            return Ok(From { path: text.clone(), text, origin: None });
        }
        let read = || {
            let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let path = if path.is_empty() { "/" } else { path };
            // The star is no character of a host: what follows it is read as one.
            let name = authority.strip_prefix("*.");
            let url =
                http_url(&format!("{scheme}://{}/", name.unwrap_or(authority))).filter(|url| url.path() == "/")?;
            let host = url.host_str()?.trim_end_matches('.').to_string();
            if host.is_empty() || host.contains('*') || !is_plain_path(path) {
                return None;
            }
            let hosts = if name.is_some() { Hosts::Below(format!(".{host}")) } else { Hosts::One(host) };
            Some((
                path.to_string(),
                PublicOrigin { https: scheme == "https", hosts, port: url.port_or_known_default()? },
            ))
        };
        match read() {
            Some((path, origin)) => Ok(From { text, path, origin: Some(origin) }),
            None => Err(format!("is not the place of a route; {MEND}")),
        }
    }
}

impl TryFrom<String> for RouteMethod {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<Method>() {
            Ok(method) if !text.bytes().any(|b| b.is_ascii_lowercase()) => Ok(RouteMethod(method)),
            _ => Err(format!("`{text}` is not a method; write it in capitals, such as GET")),
        }
    }
}

impl std::convert::From<From> for String {
    fn from(from: From) -> Self {
        from.text
    }
}

impl std::convert::From<RouteMethod> for String {
    fn from(method: RouteMethod) -> Self {
        method.0.to_string()
    }
}

impl RouteMethod {
    pub fn method(&self) -> &Method {
        &self.0
    }
}
