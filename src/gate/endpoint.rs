//! The gateway's own endpoints: their names under `auth_path` and the methods that each accepts.

use crate::gate::resource::WELL_KNOWN;
use crate::outbound::signing_keys::LEAD;
use http::Method;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Start,
    /// The same, but users choose where there are several providers.
    SignIn,
    /// With the provider's name, where several providers share a cookie name.
    Callback(Option<Box<str>>),
    SignOut,
    SignedOut,
    Userinfo,
    Auth,
    Forward,
    BackchannelLogout,
    FrontchannelLogout,
    /// With the path of the resource (RFC 9728, 3.1).
    ResourceMetadata(Box<str>),
    /// The keys that sign assertions.
    Jwks,
}

/// Where the keys that sign assertions are published.
pub const JWKS: &str = "/.well-known/doorward/jwks.json";
/// The `Cache-Control` of that place: a key is published for so long before it signs.
pub const JWKS_KEPT: &str = "public, max-age=300";
const _: () = assert!(LEAD.as_secs() == 300);

impl Endpoint {
    /// The endpoint at exactly this path.
    pub fn at(path: &[u8], auth_path: &str) -> Option<Endpoint> {
        if path == JWKS.as_bytes() {
            return Some(Endpoint::Jwks);
        }
        if let Some(rest) = path.strip_prefix(WELL_KNOWN.as_bytes()) {
            let is_own = rest.is_empty() || rest.starts_with(b"/");
            return std::str::from_utf8(rest)
                .ok()
                .filter(|_| is_own)
                .map(|rest| Endpoint::ResourceMetadata(rest.into()));
        }
        let name = path.strip_prefix(auth_path.as_bytes())?.strip_prefix(b"/")?;
        Some(match name {
            b"start" => Endpoint::Start,
            b"sign_in" => Endpoint::SignIn,
            b"callback" => Endpoint::Callback(None),
            b"sign_out" => Endpoint::SignOut,
            b"signed_out" => Endpoint::SignedOut,
            b"userinfo" => Endpoint::Userinfo,
            b"auth" => Endpoint::Auth,
            b"forward" => Endpoint::Forward,
            b"backchannel_logout" => Endpoint::BackchannelLogout,
            b"frontchannel_logout" => Endpoint::FrontchannelLogout,
            _ => Endpoint::Callback(Some(provider_of(name.strip_prefix(b"callback/")?)?)),
        })
    }

    /// The methods for `Allow`; `None` if all are accepted.
    pub fn allow(&self) -> Option<&'static str> {
        match self {
            Endpoint::Auth | Endpoint::Forward => None,
            Endpoint::Callback(_) | Endpoint::SignOut => Some("GET, HEAD, POST"),
            Endpoint::BackchannelLogout => Some("POST"),
            _ => Some("GET, HEAD"),
        }
    }

    /// A document that scripts of every origin may read.
    pub fn is_public(&self) -> bool {
        matches!(self, Endpoint::ResourceMetadata(_) | Endpoint::Jwks)
    }

    pub fn knows(&self, method: &Method) -> bool {
        self.allow().is_none_or(|allow| allow.split(", ").any(|one| one == method.as_str()))
    }
}

/// A provider's name, if the configuration would accept it.
fn provider_of(name: &[u8]) -> Option<Box<str>> {
    let good = |b: &u8| b.is_ascii_alphanumeric() || b"_-.".contains(b);
    (!name.is_empty() && name.iter().all(good)).then(|| std::str::from_utf8(name).ok().map(Box::from))?
}

/// The longest body that an endpoint reads, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
