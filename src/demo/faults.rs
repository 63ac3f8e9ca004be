//! What a test may turn on the provider to be slow, wrong or odd, as real providers are. Plain settings, read at each
//! call; it must not know how they are carried out.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Map, Value};

use super::keys::SigningAlgorithm;

/// The provider's endpoints, to which faults apply and by which calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Discovery,
    Jwks,
    Authorize,
    Login,
    Token,
    Introspect,
    Revoke,
    UserInfo,
    EndSession,
}

/// How `expires_in` stands in a token response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiresIn {
    #[default]
    Number,
    /// As a string, against RFC 6749 5.1; some providers do.
    Text,
    Absent,
}

/// In each map of overrides a null removes the member.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A wait before the work: a caller that gives up meanwhile has changed nothing.
    pub delay: HashMap<Endpoint, Duration>,
    /// A wait after the work: a caller that gives up meanwhile loses what it brought (a rotated refresh token).
    pub reply_delay: HashMap<Endpoint, Duration>,
    /// Answers this status with an empty body, and does nothing.
    pub status: HashMap<Endpoint, u16>,
    /// Answers this status with a body of that type, and does nothing.
    pub reply: HashMap<Endpoint, (u16, &'static str, String)>,
    /// Never answers.
    pub hang: HashSet<Endpoint>,
    /// Answers 200 and streams 100 MB.
    pub huge: HashSet<Endpoint>,
    /// Answers 200 with a body that calls itself JSON and is none.
    pub malformed: HashSet<Endpoint>,

    /// Members of the discovery document.
    pub discovery: Map<String, Value>,
    /// Parameters of the authorization response; `iss`, for example.
    pub authorization_response: Map<String, Value>,

    /// Seconds.
    pub access_token_lifetime: i64,
    pub expires_in: ExpiresIn,
    /// Access tokens that say nothing to whoever holds them (no JWT).
    pub opaque_access_tokens: bool,
    pub access_token_claims: Map<String, Value>,

    /// False: no refresh token comes with a login.
    pub issue_refresh_tokens: bool,
    /// False: a refresh token stays good, and the response has no new one.
    pub rotate_refresh_tokens: bool,
    /// A rotated refresh token that comes back ends all that descends from the same login.
    pub reuse_revokes_family: bool,
    /// The OAuth error that every refresh is answered with, status 400.
    pub refresh_error: Option<String>,
    pub refresh_without_id_token: bool,
    /// A sign-out at the provider revokes the session's tokens.
    pub logout_revokes_tokens: bool,

    pub id_token_algorithm: SigningAlgorithm,
    pub id_token_header: Map<String, Value>,
    pub id_token_claims: Map<String, Value>,
    pub userinfo_claims: Map<String, Value>,
}

impl Default for Faults {
    /// No fault at all.
    fn default() -> Self {
        Self {
            delay: HashMap::new(),
            reply_delay: HashMap::new(),
            status: HashMap::new(),
            reply: HashMap::new(),
            hang: HashSet::new(),
            huge: HashSet::new(),
            malformed: HashSet::new(),
            discovery: Map::new(),
            authorization_response: Map::new(),
            access_token_lifetime: 300,
            expires_in: ExpiresIn::Number,
            opaque_access_tokens: false,
            access_token_claims: Map::new(),
            issue_refresh_tokens: true,
            rotate_refresh_tokens: true,
            reuse_revokes_family: true,
            refresh_error: None,
            refresh_without_id_token: false,
            logout_revokes_tokens: true,
            id_token_algorithm: SigningAlgorithm::Rs256,
            id_token_header: Map::new(),
            id_token_claims: Map::new(),
            userinfo_claims: Map::new(),
        }
    }
}
