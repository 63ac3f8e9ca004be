//! `providers` as it is written.

use crate::config::scalar::{OneOrMany, Span, text_or_map};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// An OpenID provider.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The URL that it names itself by, to the letter; `{tenantid}` in it stands for a token's own `tid`.
    pub issuer: String,
    /// The `tid`s that are accepted where the issuer has `{tenantid}`; empty = any.
    #[serde(default)]
    pub tenants: Vec<String>,
    pub client_id: String,
    #[serde(default)]
    pub client_secret: Option<String>,
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// For private_key_jwt: PEM text, or {key, kid, certificate}, or a list of these, of which the first signs.
    #[serde(default)]
    pub private_key: Option<OneOrMany<PrivateKey>>,
    /// `aud` of the client's assertions; absent: the token endpoint that the provider's metadata name.
    #[serde(default)]
    pub assertion_audience: Option<String>,
    /// For private_key_jwt without a key of ours: a file with a ready assertion, read anew at each use.
    #[serde(default)]
    pub client_assertion_file: Option<String>,
    /// One callback for many hosts; `session.cookie.domain` must cover it.
    #[serde(default)]
    pub redirect_uri: Option<String>,
    /// Sent as written; only offline_access is left out where the provider lists its scopes without it.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// The accepted `aud` of bearer tokens; empty = the client_id, and then the token must show that it is an access token; `*`
    /// alone = not checked.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The `iss` of its access tokens, where it is another than `issuer`.
    #[serde(default)]
    pub bearer_issuer: Option<String>,
    /// ID tokens of the provider count as bearer tokens.
    #[serde(default)]
    pub bearer_id_tokens: bool,
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    #[serde(default = "default_clock_skew")]
    pub clock_skew: Span,
    /// Each call to the provider.
    #[serde(default = "default_provider_timeout")]
    pub timeout: Span,
    /// An extra certificate authority (PEM).
    #[serde(default)]
    pub ca_file: Option<String>,
    /// Added to the authorization request; a list: the parameter several times.
    #[serde(default)]
    pub authorization_params: BTreeMap<String, OneOrMany<String>>,
    /// Added to the sign-out at the provider; `{client_id}`, `{post_logout_redirect_uri}` and `{id_token_hint}` stand for theirs.
    #[serde(default)]
    pub end_session_params: BTreeMap<String, String>,
    /// Whether UserInfo is asked where the ID token lacks a mapped claim.
    #[serde(default)]
    pub userinfo: Userinfo,
    /// Opaque bearer tokens are asked about (RFC 7662).
    #[serde(default)]
    pub introspection: bool,
    #[serde(default)]
    pub claims: Claims,
    /// Overrides of the metadata, by metadata name; `discovery` says where it is read.
    #[serde(default)]
    pub endpoints: BTreeMap<String, String>,
    /// `never`: `endpoints` says it all.
    #[serde(default)]
    pub discovery: Discovery,
}

/// A key that proves who the client is; a plain text is the key alone.
#[derive(Clone, JsonSchema)]
#[schemars(untagged)]
pub enum PrivateKey {
    Pem(String),
    Full(Box<FullKey>),
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FullKey {
    /// PEM text.
    pub key: String,
    /// Under which the provider knows it; absent: its thumbprint (RFC 7638).
    #[serde(default)]
    pub kid: Option<String>,
    /// PEM text; adds `x5t#S256`.
    #[serde(default)]
    pub certificate: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    #[default]
    Auto,
    Never,
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(deserializer, |text| Ok(PrivateKey::Pem(text.into())), |full| PrivateKey::Full(Box::new(full)))
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
    None,
    PrivateKeyJwt,
}

/// Signature algorithms: never HMAC, never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Algorithm {
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Userinfo {
    #[default]
    Auto,
    Never,
}

/// Which claim says what; dots reach into objects.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    pub user: String,
    pub email: String,
    pub name: String,
    pub username: String,
    pub groups: String,
}

fn default_scopes() -> Vec<String> {
    ["openid", "profile", "email"].map(String::from).to_vec()
}

fn default_algorithms() -> Vec<Algorithm> {
    use Algorithm::*;
    vec![RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]
}

/// What clocks without NTP drift apart in weeks.
fn default_clock_skew() -> Span {
    Span::seconds(60)
}

/// A person waits for it in a login.
fn default_provider_timeout() -> Span {
    Span::seconds(5)
}

impl Default for Claims {
    fn default() -> Self {
        let [user, email, name, username, groups] =
            ["sub", "email", "name", "preferred_username", "groups"].map(String::from);
        Claims { user, email, name, username, groups }
    }
}
