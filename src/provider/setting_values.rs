//! The value types of a provider's settings.

use crate::kit::setting::{OneOrMany, Rule, Text, http_url, rule};
use jsonwebtoken::Algorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// The accepted values of `aud`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
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
pub struct Algorithms(pub(super) Vec<SignatureAlgorithm>);

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

impl Default for Algorithms {
    fn default() -> Self {
        use SignatureAlgorithm::*;
        Algorithms(vec![RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA])
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

impl From<Audiences> for Vec<String> {
    fn from(audiences: Audiences) -> Self {
        match audiences {
            Audiences::Any => vec!["*".into()],
            Audiences::OneOf(list) => list,
            Audiences::Client => Vec::new(),
        }
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
