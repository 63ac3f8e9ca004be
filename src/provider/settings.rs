//! One provider, as the configuration has it, and whose tokens these settings accept.

use crate::kit::digest::Fingerprint;
use crate::kit::secret::Secret;
use crate::provider::assertion::SigningKey;
use crate::provider::claims::{ClaimPath, Claims};
use jsonwebtoken::Algorithm;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// One provider, as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub name: Arc<str>,
    /// Compared to the letter with what the provider says (OpenID Connect Discovery 1.0, 4.3); in what it signs `{tenantid}`
    /// stands for the token's own `tid`.
    pub issuer: String,
    /// The `tid`s that are accepted; empty = any.
    pub tenants: Vec<String>,
    /// The `iss` of its access tokens, where it is another.
    pub bearer_issuer: Option<String>,
    pub client_id: String,
    pub client_auth: ClientAuth,
    /// Sent as written.
    pub scopes: Vec<String>,
    /// Whether UserInfo is asked where the ID token lacks a mapped claim.
    pub userinfo: bool,
    pub audiences: Audiences,
    /// ID tokens count as bearer tokens, too.
    pub bearer_id_tokens: bool,
    /// Opaque bearer tokens are asked about.
    pub introspection: bool,
    pub algorithms: Vec<Algorithm>,
    pub clock_skew: Duration,
    pub timeout: Duration,
    pub ca_file: Option<PathBuf>,
    pub claims: Mapping,
    /// Claims that a rule or a template names; an identity keeps these and no others.
    pub kept: Vec<ClaimPath>,
    /// `aud` of the client's assertions; `None` = the metadata's own token endpoint.
    pub assertion_audience: Option<String>,
    /// Overrides of the metadata, by metadata name; `discovery` is where the metadata is read.
    pub endpoints: BTreeMap<String, Url>,
    /// False: the endpoints above are all that there is.
    pub discovery: bool,
    /// Added to the sign-out at the provider; RP-Initiated Logout 1.0, 2.
    pub end_session_params: Vec<(String, String)>,
}

/// How the gateway proves to the provider that it is the client (OpenID Connect Core 1.0, 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    Basic(Secret),
    Post(Secret),
    None,
    PrivateKeyJwt(Box<SigningKey>),
    /// A ready assertion, which somebody else keeps fresh (workload identity, SPIFFE).
    AssertionFile(PathBuf),
}

/// The accepted values of `aud`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audiences {
    Any,
    OneOf(Vec<String>),
    /// The client itself, which ID tokens name as well: a token must show that it is none.
    Client(String),
}

/// Which claim says what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub user: ClaimPath,
    pub email: ClaimPath,
    pub name: ClaimPath,
    pub username: ClaimPath,
    pub groups: ClaimPath,
}

/// What stands in `issuer` for a tenant's id.
const TENANT: &str = "{tenantid}";

impl Audiences {
    /// `None` = any.
    pub fn accepted(&self) -> Option<&[String]> {
        match self {
            Audiences::Any => None,
            Audiences::OneOf(list) => Some(list),
            Audiences::Client(id) => Some(std::slice::from_ref(id)),
        }
    }
}

impl Settings {
    /// Whether the issuer stands for many, one a tenant.
    pub fn has_tenants(&self) -> bool {
        self.issuer.contains(TENANT)
    }

    /// Whether an ID token with these claims names this provider.
    pub fn is_issuer_of(&self, claims: &Claims) -> bool {
        self.is_issued_by(&self.issuer, claims)
    }

    /// The same for an access token.
    pub fn is_bearer_issuer_of(&self, claims: &Claims) -> bool {
        match &self.bearer_issuer {
            Some(issuer) => self.is_issued_by(issuer, claims) || (self.bearer_id_tokens && self.is_issuer_of(claims)),
            None => self.is_issuer_of(claims),
        }
    }

    /// Whether the `iss` of an authorization response (RFC 9207) is this provider's. No tenant is known there yet.
    pub fn is_response_issuer(&self, issuer: &str) -> bool {
        match self.issuer.split_once(TENANT) {
            None => issuer == self.issuer,
            Some((before, after)) => {
                let tenant = issuer.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                tenant.is_some_and(|tenant| self.is_tenant(tenant))
            }
        }
    }

    fn is_issued_by(&self, issuer: &str, claims: &Claims) -> bool {
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
        let Some(claimed) = text("iss") else { return false };
        if !issuer.contains(TENANT) {
            return claimed == issuer;
        }
        text("tid").is_some_and(|tid| self.is_tenant(tid) && issuer.replacen(TENANT, tid, 1) == claimed)
    }

    fn is_tenant(&self, tid: &str) -> bool {
        let is_id = !tid.is_empty() && tid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        is_id && (self.tenants.is_empty() || self.tenants.iter().any(|known| known == tid))
    }

    /// Stands for everything that shapes an identity made from this provider's tokens.
    pub fn fingerprint(&self) -> Fingerprint {
        let audiences = self.audiences.accepted().unwrap_or_default();
        let m = &self.claims;
        Fingerprint::of()
            .part(self.name.as_bytes())
            .part(&self.issuer)
            .part(&self.client_id)
            .parts(&self.tenants)
            .parts(&self.bearer_issuer)
            .part(match self.audiences {
                Audiences::Any => "any",
                Audiences::OneOf(_) => "one of",
                Audiences::Client(_) => "client",
            })
            .parts(audiences)
            .part(self.bearer_id_tokens.to_string())
            .part(self.introspection.to_string())
            .parts(self.algorithms.iter().map(|a| format!("{a:?}")))
            .part(self.clock_skew.as_millis().to_string())
            .parts([&m.user, &m.email, &m.name, &m.username, &m.groups].map(ClaimPath::as_str))
            .parts(self.kept.iter().map(ClaimPath::as_str))
            .parts(self.endpoints.iter().map(|(name, url)| format!("{name}={url}")))
            .part(self.ca_file.iter().map(|f| f.display().to_string()).collect::<String>())
            .finish()
    }
}
