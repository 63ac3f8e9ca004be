//! The settings of one provider, and the tokens that they accept.

use crate::kit::digest::Fingerprint;
use crate::kit::secret::Secret;
use crate::kit::setting::{FilePath, HttpUrl, OneOrMany, Rule, Span, Text, Wait, http_url, rule};
use crate::provider::assertion::SigningKey;
use crate::provider::claims::{ClaimPath, Claims};
use jsonwebtoken::Algorithm;
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

/// An issuer's URL: without query, fragment or user.
pub type Issuer = Text<IssuerRule>;

/// A tenant's id, as it stands in the claim `tid`.
pub type TenantId = Text<TenantIdRule>;

/// A client's id; not empty.
pub type ClientId = Text<ClientIdRule>;

/// The URL of a callback.
pub type RedirectUri = Text<RedirectUriRule>;

/// One scope (RFC 6749, 3.3).
pub type Scope = Text<ScopeRule>;

/// A parameter of a sign-out, with its placeholders.
pub type EndSessionParam = Text<EndSessionParamRule>;

/// The name of an endpoint in the metadata.
pub type EndpointName = Text<EndpointNameRule>;

/// Parameters of an authorization request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct AuthorizationParams(pub BTreeMap<AuthorizationParam, OneOrMany<String>>);

/// The name of a parameter that the gateway does not set itself.
pub type AuthorizationParam = Text<AuthorizationParamRule>;

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

/// The accepted values of `aud`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Vec<String>")]
#[schemars(with = "Vec<String>")]
pub enum Audiences {
    Any,
    OneOf(Vec<String>),
    /// The client itself, which is also the audience of ID tokens: a token must show that it is not one.
    #[default]
    Client,
}

/// Signature algorithms: never HMAC, never none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Vec<SignatureAlgorithm>")]
pub struct Algorithms(Vec<SignatureAlgorithm>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SignatureAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
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

impl Default for Algorithms {
    fn default() -> Self {
        use SignatureAlgorithm::*;
        Algorithms(vec![RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA])
    }
}

impl Default for Mapping {
    fn default() -> Self {
        let [user, email, name, username, groups] =
            ["sub", "email", "name", "preferred_username", "groups"].map(ClaimPath::new);
        Mapping { user, email, name, username, groups }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRule;

impl Rule for IssuerRule {
    fn check(text: &str) -> Result<(), String> {
        let plain = http_url(text).is_some_and(|url| url.query().is_none() && url.fragment().is_none());
        rule(plain, || {
            "is not an issuer; write the URL by which the provider names itself, such as https://id.example.com/realms/corp".into()
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantIdRule;

impl Rule for TenantIdRule {
    fn check(text: &str) -> Result<(), String> {
        let is_id = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        rule(is_id, || "is not the id of a tenant; write it as it stands in the claim `tid`".into())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdRule;

impl Rule for ClientIdRule {
    fn check(text: &str) -> Result<(), String> {
        rule(!text.is_empty(), || "is empty; write the id under which the provider knows the gateway".into())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUriRule;

impl Rule for RedirectUriRule {
    fn check(text: &str) -> Result<(), String> {
        let plain = http_url(text).is_some_and(|url| url.query().is_none() && url.fragment().is_none());
        rule(plain, || {
            "is not the URL of a callback; write one such as https://login.example.com/oauth2/callback".into()
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeRule;

impl Rule for ScopeRule {
    fn check(text: &str) -> Result<(), String> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        rule(plain, || format!("`{text}` is not a scope; write one word for each"))
    }
}

/// The placeholders in the value of a sign-out parameter.
const PLACEHOLDERS: [&str; 3] = ["{client_id}", "{post_logout_redirect_uri}", "{id_token_hint}"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndSessionParamRule;

impl Rule for EndSessionParamRule {
    fn check(text: &str) -> Result<(), String> {
        let rest = PLACEHOLDERS.iter().fold(text.to_string(), |rest, placeholder| rest.replace(placeholder, ""));
        let known = || PLACEHOLDERS.join(", ");
        rule(!rest.contains(['{', '}']), || format!("`{text}` has an unknown placeholder; known are {}", known()))
    }
}

/// The endpoints that may be overridden, by their names in the metadata; `discovery` is where the metadata is read.
const ENDPOINT_NAMES: [&str; 8] = [
    "discovery",
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "introspection_endpoint",
    "revocation_endpoint",
    "end_session_endpoint",
];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointNameRule;

impl Rule for EndpointNameRule {
    fn check(text: &str) -> Result<(), String> {
        let told = || format!("is not an endpoint that is used; known are {}", ENDPOINT_NAMES.join(", "));
        rule(ENDPOINT_NAMES.contains(&text), told)
    }
}

/// The gateway decides on these itself.
const OWN: [&str; 10] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuthorizationParamRule;

impl Rule for AuthorizationParamRule {
    fn check(text: &str) -> Result<(), String> {
        rule(!OWN.contains(&text), || "is set by the gateway itself; remove it".into())
    }
}

impl AuthorizationParams {
    pub fn get(&self, name: &str) -> Option<&OneOrMany<String>> {
        self.0.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value)
    }

    /// Each value with its name; parameters in `over` replace those of the same name.
    pub fn with(&self, over: &AuthorizationParams) -> Vec<(String, String)> {
        let all: BTreeMap<_, _> = self.0.iter().chain(&over.0).collect();
        let each = |(name, values): (&AuthorizationParam, &OneOrMany<String>)| {
            values.as_slice().iter().map(|value| (name.as_str().to_string(), value.clone())).collect::<Vec<_>>()
        };
        all.into_iter().flat_map(each).collect()
    }
}

impl TryFrom<Vec<String>> for Audiences {
    type Error = &'static str;
    fn try_from(list: Vec<String>) -> Result<Self, Self::Error> {
        match list.as_slice() {
            [] => Ok(Audiences::Client),
            [star] if star == "*" => Ok(Audiences::Any),
            _ if list.iter().any(|audience| audience == "*" || audience.is_empty()) => {
                Err("`*` stands alone or not at all, and an audience is not empty")
            }
            _ => Ok(Audiences::OneOf(list)),
        }
    }
}

impl TryFrom<Vec<SignatureAlgorithm>> for Algorithms {
    type Error = &'static str;
    fn try_from(list: Vec<SignatureAlgorithm>) -> Result<Self, Self::Error> {
        let told = "without an algorithm no token verifies; name one, or leave the key out";
        if list.is_empty() { Err(told) } else { Ok(Algorithms(list)) }
    }
}

impl Algorithms {
    pub fn contains(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|known| known.of_jwt() == algorithm)
    }
}

impl SignatureAlgorithm {
    fn of_jwt(self) -> Algorithm {
        match self {
            SignatureAlgorithm::RS256 => Algorithm::RS256,
            SignatureAlgorithm::RS384 => Algorithm::RS384,
            SignatureAlgorithm::RS512 => Algorithm::RS512,
            SignatureAlgorithm::PS256 => Algorithm::PS256,
            SignatureAlgorithm::PS384 => Algorithm::PS384,
            SignatureAlgorithm::PS512 => Algorithm::PS512,
            SignatureAlgorithm::ES256 => Algorithm::ES256,
            SignatureAlgorithm::ES384 => Algorithm::ES384,
            SignatureAlgorithm::EdDSA => Algorithm::EdDSA,
        }
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
