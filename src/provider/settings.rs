//! The settings of one provider, and the tokens that they accept.

use crate::kit::digest::Fingerprint;
use crate::kit::secret::Secret;
use crate::kit::setting::{FilePath, HttpUrl, OneOrMany, Span, Wait};
use crate::provider::assertion::SigningKey;
use crate::provider::claims::{ClaimPath, Claims};
pub use crate::provider::setting_values::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// An OpenID provider.
// A required key that cannot be read has a stand-in, so that the rest is judged, too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["issuer", "client_id"]))]
#[schemars(rename = "Provider")]
pub struct Settings {
    /// The name of its key under `providers`.
    #[serde(skip)]
    pub name: Arc<str>,
    /// The provider's issuer URL, compared exactly (OpenID Connect Discovery 1.0, 4.3); in its tokens `{tenantid}`
    /// stands for the token's own `tid`.
    #[serde(default)]
    pub issuer: Issuer,
    /// The accepted `tid`s if the issuer has `{tenantid}`; empty = any.
    #[serde(default)]
    pub tenants: Vec<TenantId>,
    /// The gateway's client id at the provider.
    #[serde(default)]
    pub client_id: ClientId,
    /// For client_secret_basic and client_secret_post.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// How the gateway authenticates as the client (OpenID Connect Core 1.0, 9).
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// For private_key_jwt: PEM text, or {key, kid, certificate}, or a list of these, of which the first signs.
    #[serde(default)]
    pub private_key: Option<OneOrMany<SigningKey>>,
    /// `aud` of the client's assertions; absent: the token endpoint in the provider's metadata.
    #[serde(default)]
    pub assertion_audience: Option<String>,
    /// For private_key_jwt without `private_key`: a file with an assertion (workload identity, SPIFFE), read at each
    /// use.
    #[serde(default)]
    pub client_assertion_file: Option<FilePath>,
    /// One callback for many hosts; `session.cookie.domain` must cover it.
    #[serde(default)]
    pub redirect_uri: Option<RedirectUri>,
    /// Sent as written; only offline_access is left out if the provider's list of scopes lacks it.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<Scope>,
    /// The accepted `aud` of bearer tokens; empty = the client_id, and then the token must show that it is an access
    /// token; `*` alone = not checked.
    #[serde(default)]
    pub audiences: Audiences,
    /// The `iss` of its access tokens, if it differs from `issuer`.
    #[serde(default)]
    pub bearer_issuer: Option<Issuer>,
    /// ID tokens of the provider are accepted as bearer tokens.
    #[serde(default)]
    pub bearer_id_tokens: bool,
    /// The accepted signature algorithms.
    #[serde(default)]
    pub algorithms: Algorithms,
    /// How far the provider's clock may be off.
    #[serde(default = "default_clock_skew")]
    pub clock_skew: Span,
    /// Time-out for each call to the provider.
    #[serde(default = "default_timeout")]
    pub timeout: Wait,
    /// An extra certificate authority (PEM file).
    #[serde(default)]
    pub ca_file: Option<FilePath>,
    /// Added to the authorization request; a list repeats the parameter.
    #[serde(default)]
    pub authorization_params: AuthorizationParams,
    /// Added to the sign-out at the provider (RP-Initiated Logout 1.0, 2); `{client_id}`, `{post_logout_redirect_uri}`
    /// and `{id_token_hint}` are replaced by their values.
    #[serde(default)]
    pub end_session_params: BTreeMap<String, EndSessionParam>,
    /// Whether UserInfo is requested if the ID token lacks a mapped claim.
    #[serde(default)]
    pub userinfo: Automatic,
    /// Opaque bearer tokens are introspected (RFC 7662).
    #[serde(default)]
    pub introspection: bool,
    #[serde(default)]
    pub claims: Mapping,
    /// Its name for users, on the page where they choose a provider; absent: the name of its key.
    #[serde(default)]
    pub label: Option<String>,
    /// Claims that a rule or a template names; an identity keeps these and no others.
    #[serde(skip)]
    pub kept: Vec<ClaimPath>,
    /// Overrides of the metadata, by metadata name; `discovery` is where the metadata is read.
    #[serde(default)]
    pub endpoints: BTreeMap<EndpointName, HttpUrl>,
    /// `never`: only `endpoints` are used.
    #[serde(default)]
    pub discovery: Automatic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Automatic {
    #[default]
    Auto,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
    None,
    PrivateKeyJwt,
}

/// The client's credentials at the provider.
pub enum ClientProof<'a> {
    Basic(&'a Secret),
    Post(&'a Secret),
    None,
    PrivateKey(&'a SigningKey),
    /// A file with an assertion, which another program keeps fresh.
    AssertionFile(&'a Path),
}

/// The claim for each field of an identity; dots reach into objects.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    pub user: ClaimPath,
    pub email: ClaimPath,
    pub name: ClaimPath,
    pub username: ClaimPath,
    pub groups: ClaimPath,
}

fn default_scopes() -> Vec<Scope> {
    ["openid", "profile", "email"].map(Scope::of).to_vec()
}

/// Covers the drift of clocks without NTP over weeks.
fn default_clock_skew() -> Span {
    Span::seconds(60)
}

/// Short, because a user waits for it in a login.
fn default_timeout() -> Wait {
    Wait::seconds(5)
}

/// The placeholder for a tenant's id in `issuer`.
const TENANT: &str = "{tenantid}";

impl Default for Mapping {
    fn default() -> Self {
        let [user, email, name, username, groups] =
            ["sub", "email", "name", "preferred_username", "groups"].map(ClaimPath::new);
        Mapping { user, email, name, username, groups }
    }
}

impl Settings {
    /// The client's credentials; `None` if the settings lack them.
    pub fn client_proof(&self) -> Option<ClientProof<'_>> {
        let secret = || self.client_secret.as_ref().filter(|secret| !secret.expose().is_empty());
        match self.client_auth {
            ClientAuth::None => Some(ClientProof::None),
            ClientAuth::ClientSecretBasic => secret().map(ClientProof::Basic),
            ClientAuth::ClientSecretPost => secret().map(ClientProof::Post),
            ClientAuth::PrivateKeyJwt => match (&self.private_key, &self.client_assertion_file) {
                (Some(keys), None) => keys.as_slice().first().map(ClientProof::PrivateKey),
                (None, Some(file)) => Some(ClientProof::AssertionFile(file)),
                _ => None,
            },
        }
    }

    /// The `aud` of tokens for the client alone, such as ID tokens.
    pub fn own_audience(&self) -> &[String] {
        std::slice::from_ref(self.client_id.text())
    }

    pub fn endpoint(&self, name: &str) -> Option<&Url> {
        self.endpoints.iter().find(|(known, _)| known.as_str() == name).map(|(_, url)| &**url)
    }

    /// The accepted `aud` of bearer tokens; `None` = any.
    pub fn accepted_audiences(&self) -> Option<&[String]> {
        match &self.audiences {
            Audiences::Any => None,
            Audiences::OneOf(list) => Some(list),
            Audiences::Client => Some(self.own_audience()),
        }
    }

    /// Whether the issuer is a template for one issuer per tenant.
    pub fn has_tenants(&self) -> bool {
        self.issuer.as_str().contains(TENANT)
    }

    /// Whether an ID token with these claims names this provider.
    pub fn is_issuer_of(&self, claims: &Claims) -> bool {
        self.is_issued_by(self.issuer.as_str(), claims)
    }

    /// Whether an access token with these claims names this provider.
    pub fn is_bearer_issuer_of(&self, claims: &Claims) -> bool {
        match &self.bearer_issuer {
            Some(issuer) => {
                self.is_issued_by(issuer.as_str(), claims) || (self.bearer_id_tokens && self.is_issuer_of(claims))
            }
            None => self.is_issuer_of(claims),
        }
    }

    /// Whether the `iss` of an authorization response (RFC 9207) is this provider's. The tenant is not known there yet.
    pub fn is_response_issuer(&self, issuer: &str) -> bool {
        match self.issuer.as_str().split_once(TENANT) {
            None => issuer == self.issuer.as_str(),
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
        is_id && (self.tenants.is_empty() || self.tenants.iter().any(|known| known.as_str() == tid))
    }

    /// A fingerprint of everything that shapes an identity made from this provider's tokens.
    pub fn fingerprint(&self) -> Fingerprint {
        let audiences = self.accepted_audiences().unwrap_or_default();
        let m = &self.claims;
        Fingerprint::of()
            .part(self.name.as_bytes())
            .part(self.issuer.as_str())
            .part(self.client_id.as_str())
            .parts(self.tenants.iter().map(|tenant| tenant.as_str()))
            .parts(self.bearer_issuer.iter().map(|issuer| issuer.as_str()))
            .part(match self.audiences {
                Audiences::Any => "any",
                Audiences::OneOf(_) => "one of",
                Audiences::Client => "client",
            })
            .parts(audiences)
            .part(self.bearer_id_tokens.to_string())
            .part(self.introspection.to_string())
            .parts(self.algorithms.0.iter().map(|a| format!("{a:?}")))
            .part(self.clock_skew.as_millis().to_string())
            .parts([&m.user, &m.email, &m.name, &m.username, &m.groups].map(ClaimPath::as_str))
            .parts(self.kept.iter().map(ClaimPath::as_str))
            .parts(self.endpoints.iter().map(|(name, url)| format!("{}={}", name.as_str(), **url)))
            .part(self.ca_file.iter().map(|f| f.display().to_string()).collect::<String>())
            .finish()
    }
}
