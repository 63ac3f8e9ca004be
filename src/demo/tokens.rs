//! The tokens that the provider issues: what stands in them, and their entry in the ledger. Access tokens follow RFC
//! 9068, logout tokens OpenID Connect Back-Channel Logout 1.0. It must not know who asked, or over what endpoint.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::faults::{ExpiresIn, Faults};
use super::keys::{SigningAlgorithm, override_members, random_hex};
use super::state::{AccessGrant, Grant, IdTokenRecord, RefreshGrant, State};

/// How long ID and logout tokens hold, in seconds.
const ID_TOKEN_LIFETIME: i64 = 300;
const LOGOUT_TOKEN_LIFETIME: i64 = 120;

/// What a token issued by the handle shall look like. The default is a good one.
#[derive(Clone, Debug)]
pub struct IssueOptions {
    pub algorithm: SigningAlgorithm,
    /// Seconds from now; a negative one has run out.
    pub lifetime_s: i64,
    /// The claim `aud`; null stands for the first client's id. A token without `aud` is had by a null in `claims`.
    pub audience: Value,
    /// Over all other claims; a null removes the claim.
    pub claims: Map<String, Value>,
    /// Over `alg`, `kid` and `typ`; a null removes the parameter.
    pub header: Map<String, Value>,
}

impl Default for IssueOptions {
    fn default() -> Self {
        Self {
            algorithm: SigningAlgorithm::Rs256,
            lifetime_s: 3600,
            audience: Value::Null,
            claims: Map::new(),
            header: Map::new(),
        }
    }
}

impl State {
    /// The successful response of the token endpoint (RFC 6749 5.1; OpenID Connect Core 3.1.3.3, 12.2).
    pub(super) fn token_response(&self, grant: &Grant, nonce: Option<&str>, refreshed: bool) -> Value {
        let faults = self.faults.lock().clone();
        let mut response = Map::new();
        response.insert("access_token".to_owned(), self.granted_access_token(grant, &faults).into());
        response.insert("token_type".to_owned(), "Bearer".into());
        response.insert("scope".to_owned(), grant.scope.clone().into());
        insert_expires_in(&mut response, &faults);
        if faults.issue_refresh_tokens && (!refreshed || faults.rotate_refresh_tokens) {
            let token = format!("rt_{}", random_hex::<24>());
            let refresh = RefreshGrant { grant: grant.clone(), rotated: false };
            self.ledger.lock().refresh_tokens.insert(token.clone(), refresh);
            response.insert("refresh_token".to_owned(), token.into());
        }
        if !(refreshed && faults.refresh_without_id_token) {
            response.insert("id_token".to_owned(), self.granted_id_token(grant, nonce, &faults).into());
        }
        Value::Object(response)
    }

    /// RFC 6749 4.4: the client is its own subject, and nothing can be refreshed.
    pub(super) fn client_credentials_response(&self, client_id: &str, scope: &str) -> Value {
        self.service_response(client_id, client_id, client_id, scope)
    }

    /// RFC 8693 2.2.1.
    pub(super) fn exchange_response(&self, user: &str, audience: &str, client_id: &str, scope: &str) -> Value {
        let mut response = self.service_response(user, audience, client_id, scope);
        if let Some(members) = response.as_object_mut() {
            members.insert("issued_token_type".to_owned(), "urn:ietf:params:oauth:token-type:access_token".into());
        }
        response
    }

    fn service_response(&self, user: &str, audience: &str, client_id: &str, scope: &str) -> Value {
        let faults = self.faults.lock().clone();
        let mut claims = self.claims(user, &audience.into(), faults.access_token_lifetime);
        claims.insert("client_id".to_owned(), client_id.into());
        claims.insert("scope".to_owned(), scope.into());
        override_members(&mut claims, &faults.access_token_claims);
        let mut response = Map::new();
        let access = AccessGrant { user: user.to_owned(), claims, family: None };
        let token = self.record_access_token(access, &IssueOptions::default(), faults.opaque_access_tokens);
        response.insert("access_token".to_owned(), token.into());
        response.insert("token_type".to_owned(), "Bearer".into());
        response.insert("scope".to_owned(), scope.into());
        insert_expires_in(&mut response, &faults);
        Value::Object(response)
    }

    pub(super) fn issued_access_token(&self, user: &str, options: &IssueOptions, opaque: bool) -> String {
        let mut claims = self.claims(user, &self.audience(options), options.lifetime_s);
        claims.insert("client_id".to_owned(), self.first_client_id().into());
        claims.insert("scope".to_owned(), "openid profile email".into());
        override_members(&mut claims, &options.claims);
        self.record_access_token(AccessGrant { user: user.to_owned(), claims, family: None }, options, opaque)
    }

    pub(super) fn issued_id_token(&self, user: &str, options: &IssueOptions) -> String {
        let mut claims = self.claims(user, &self.audience(options), options.lifetime_s);
        claims.insert("nonce".to_owned(), random_hex::<16>().into());
        override_members(&mut claims, &options.claims);
        self.sign(options.algorithm, "JWT", &options.header, &claims)
    }

    pub(super) fn logout_token(&self, sub: Option<&str>, sid: Option<&str>, options: &IssueOptions) -> String {
        let mut claims = self.base_claims(&self.audience(options), options.lifetime_s.min(LOGOUT_TOKEN_LIFETIME));
        claims.insert("jti".to_owned(), random_hex::<16>().into());
        claims.insert("events".to_owned(), json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
        for (name, value) in [("sub", sub), ("sid", sid)] {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value.into());
            }
        }
        override_members(&mut claims, &options.claims);
        self.sign(options.algorithm, "logout+jwt", &options.header, &claims)
    }

    fn granted_access_token(&self, grant: &Grant, faults: &Faults) -> String {
        let mut claims = self.claims(&grant.user, &grant.client_id.clone().into(), faults.access_token_lifetime);
        claims.insert("client_id".to_owned(), grant.client_id.clone().into());
        claims.insert("scope".to_owned(), grant.scope.clone().into());
        override_members(&mut claims, &faults.access_token_claims);
        let access = AccessGrant { user: grant.user.clone(), claims, family: Some(grant.family.clone()) };
        self.record_access_token(access, &IssueOptions::default(), faults.opaque_access_tokens)
    }

    fn granted_id_token(&self, grant: &Grant, nonce: Option<&str>, faults: &Faults) -> String {
        let mut claims = self.claims(&grant.user, &grant.client_id.clone().into(), ID_TOKEN_LIFETIME);
        claims.remove("jti");
        claims.insert("sid".to_owned(), grant.sid.clone().into());
        claims.insert("auth_time".to_owned(), grant.auth_time.into());
        if let Some(nonce) = nonce {
            claims.insert("nonce".to_owned(), nonce.into());
        }
        override_members(&mut claims, &faults.id_token_claims);
        let token = self.sign(faults.id_token_algorithm, "JWT", &faults.id_token_header, &claims);
        let record = IdTokenRecord { client_id: grant.client_id.clone(), sid: grant.sid.clone() };
        self.ledger.lock().id_tokens.insert(token.clone(), record);
        token
    }

    fn record_access_token(&self, access: AccessGrant, options: &IssueOptions, opaque: bool) -> String {
        let token = if opaque {
            format!("at_{}", random_hex::<24>())
        } else {
            self.sign(options.algorithm, "at+jwt", &options.header, &access.claims)
        };
        self.ledger.lock().access_tokens.insert(token.clone(), access);
        token
    }

    fn sign(
        &self,
        algorithm: SigningAlgorithm,
        typ: &str,
        header: &Map<String, Value>,
        claims: &Map<String, Value>,
    ) -> String {
        let keys = self.keys.read().clone();
        keys.sign(algorithm, typ, header, claims)
    }

    /// What stands in every token about a user.
    fn claims(&self, user: &str, audience: &Value, lifetime_s: i64) -> Map<String, Value> {
        let mut claims = self.user_claims(user);
        claims.extend(self.base_claims(audience, lifetime_s));
        claims.insert("jti".to_owned(), random_hex::<16>().into());
        claims
    }

    fn base_claims(&self, audience: &Value, lifetime_s: i64) -> Map<String, Value> {
        let now = unix_now();
        Map::from_iter([
            ("iss".to_owned(), self.issuer.clone().into()),
            ("aud".to_owned(), audience.clone()),
            ("iat".to_owned(), now.into()),
            ("exp".to_owned(), now.saturating_add(lifetime_s).into()),
        ])
    }

    fn audience(&self, options: &IssueOptions) -> Value {
        if options.audience.is_null() { self.first_client_id().into() } else { options.audience.clone() }
    }

    fn first_client_id(&self) -> String {
        self.clients.lock().first().map(|client| client.client_id.clone()).unwrap_or_default()
    }
}

/// Unix seconds.
#[allow(clippy::disallowed_methods, reason = "this room stands apart from the gateway, with a clock of its own")]
pub(super) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn insert_expires_in(response: &mut Map<String, Value>, faults: &Faults) {
    let value = match faults.expires_in {
        ExpiresIn::Number => faults.access_token_lifetime.into(),
        ExpiresIn::Text => faults.access_token_lifetime.to_string().into(),
        ExpiresIn::Absent => return,
    };
    response.insert("expires_in".to_owned(), value);
}
