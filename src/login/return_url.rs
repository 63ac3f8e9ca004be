//! Where a browser may be redirected to: the gateway's own origins, except the gateway's own endpoints on them. A
//! target is parsed as browsers parse URLs, and the redirect uses the parser's output.

use url::{Host, Url};

/// The origins that a target may lead to.
#[derive(Clone, Debug, Default)]
pub struct ReturnUrls {
    pub origins: Vec<Pattern>,
    pub auth_path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub https: bool,
    pub host: HostPattern,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    One(String),
    /// With its leading dot.
    Below(String),
}

/// In bytes; a target must fit into the flow cookies.
const LONGEST: usize = 6 * 1024;
const HOME: &str = "/";

impl ReturnUrls {
    /// The safe target: a path on the request's own origin, an absolute URL on another allowed one, else `/`.
    pub fn checked(&self, target: &str, origin: &str) -> String {
        // Checked again: percent-encoding makes three bytes of one.
        self.allowed(target, origin).filter(|written| written.len() <= LONGEST).unwrap_or_else(|| HOME.to_string())
    }

    fn allowed(&self, target: &str, origin: &str) -> Option<String> {
        if target.is_empty() || target.len() > LONGEST || target.chars().any(|c| c.is_control() || c == '\\') {
            return None;
        }
        let base = Url::parse(origin).ok()?;
        let url = base.join(target).ok()?;
        if !matches!(url.scheme(), "http" | "https")
            || !url.username().is_empty()
            || url.password().is_some()
            || self.is_own_page(&url)
        {
            return None;
        }
        if url.origin() == base.origin() {
            // A path with two slashes would be read as a host: `//evil`.
            let path = &url[url::Position::BeforePath..];
            return (!path.starts_with("//")).then(|| path.to_string());
        }
        self.origins.iter().any(|pattern| pattern.covers(&url)).then(|| url.to_string())
    }

    /// A login must not redirect to the sign-out or the callback, however their path is written.
    fn is_own_page(&self, url: &Url) -> bool {
        let decoded = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy().replace('\\', "/");
        let twice = percent_encoding::percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
        let inside = |path: &str| {
            let plain: String = path
                .split('/')
                .map(|s| s.split(';').next().unwrap_or_default())
                .filter(|s| !s.is_empty() && *s != ".")
                .flat_map(|s| ["/", s])
                .collect();
            plain.split('/').any(|segment| segment == "..")
                || plain.strip_prefix(&self.auth_path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        [url.path(), &decoded, &twice].into_iter().any(inside)
    }
}

impl Pattern {
    fn covers(&self, url: &Url) -> bool {
        let Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) = url.host() else { return false };
        let host = url.host_str().unwrap_or_default();
        let named = match &self.host {
            HostPattern::One(own) => own == host,
            HostPattern::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        };
        named && self.https == (url.scheme() == "https") && url.port_or_known_default() == Some(self.port)
    }
}

#[cfg(test)]
mod tests;
