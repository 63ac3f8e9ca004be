//! A scripted provider for tests, with keys of its own and a log of what was asked of it.

use crate::kit::secret::Secret;
use crate::provider::claims::Claims;
use crate::provider::discovery::Metadata;
use crate::provider::keys::KeySet;
use crate::provider::settings::Settings;
use crate::provider::{CallFailed, Demand, Fetched, GrantError, Provider, Tokens, UserInfo};
use async_trait::async_trait;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

pub(crate) const RSA_JWK: &str = include_str!("testdata/rsa.jwk.json");
pub(crate) const ED_JWK: &str = include_str!("testdata/ed25519.jwk.json");
const P256_JWK: &str = include_str!("testdata/p256.jwk.json");
const RSA_PEM: &[u8] = include_bytes!("testdata/rsa.pem");
const ED_PEM: &[u8] = include_bytes!("testdata/ed25519.pem");
const P256_PEM: &[u8] = include_bytes!("testdata/p256.pem");

/// The current time in tests that set the clock.
pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) struct FakeProvider {
    settings: Settings,
    keys: Mutex<Option<Arc<KeySet>>>,
    on_fetch: Mutex<Fetched>,
    pub(crate) key_fetches: AtomicUsize,
    /// The results of the next grants, in order; afterwards grants are denied.
    pub(crate) grants: Mutex<VecDeque<Result<Tokens, GrantError>>>,
    /// The calls so far: `exchange code`, `refresh token`, `userinfo token`, `introspect token`, `revoke token`.
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) userinfo: Mutex<Result<UserInfo, GrantError>>,
    pub(crate) introspected: Mutex<Result<Claims, GrantError>>,
    /// Grants and introspections wait here while it is closed.
    pub(crate) gate: Semaphore,
}

pub(crate) fn settings(issuer: &str) -> Settings {
    let json = json!({
        "issuer": issuer, "client_id": "doorward", "client_auth": "none", "scopes": ["openid", "profile"],
        "audiences": ["doorward"], "algorithms": ["RS256", "PS256", "ES256", "EdDSA"],
    });
    Settings { name: "corp".into(), ..serde_json::from_value(json).unwrap() }
}

impl FakeProvider {
    /// With one key of each kind: `rs`, `es` and `ed`.
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(FakeProvider {
            settings,
            keys: Mutex::new(Some(Arc::new(key_set(&["rs", "es", "ed"], None)))),
            on_fetch: Mutex::new(Fetched::Closed),
            key_fetches: AtomicUsize::new(0),
            grants: Mutex::default(),
            asked: Mutex::default(),
            userinfo: Mutex::new(Err(GrantError::Refused)),
            introspected: Mutex::new(Err(GrantError::Unavailable)),
            gate: Semaphore::new(1000),
        })
    }

    async fn granted(&self, asked: String) -> Result<Tokens, CallFailed> {
        self.asked.lock().push(asked);
        let _open = self.gate.acquire().await.unwrap();
        self.grants.lock().pop_front().unwrap_or(Err(GrantError::Denied)).map_err(CallFailed::from)
    }

    pub(crate) fn forget_keys(&self, then: Fetched) {
        *self.keys.lock() = None;
        *self.on_fetch.lock() = then;
    }

    pub(crate) fn on_fetch(&self, then: Fetched) {
        *self.on_fetch.lock() = then;
    }

    /// Replaces the key set by these keys.
    pub(crate) fn rotate_to(&self, kids: &[&str]) {
        let mut keys = self.keys.lock();
        let new = Arc::new(key_set(kids, keys.as_deref()));
        if let Some(old) = keys.replace(new.clone()) {
            old.retire(&new);
        }
    }
}

#[async_trait]
impl Provider for FakeProvider {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.lock().clone()
    }

    fn metadata(&self) -> Option<Arc<Metadata>> {
        let at = |path: &str| format!("{}/{path}", self.settings.issuer.as_str());
        let json = json!({
            "issuer": self.settings.issuer.as_str(), "jwks_uri": at("jwks"), "authorization_endpoint": at("authorize"), "token_endpoint": at("token"),
            "userinfo_endpoint": at("userinfo"), "end_session_endpoint": at("end"), "scopes_supported": ["openid"],
        });
        Some(Arc::new(serde_json::from_value(json).unwrap()))
    }

    async fn exchange(&self, code: &str, _verifier: &str, _redirect_uri: &str) -> Result<Tokens, CallFailed> {
        self.granted(format!("exchange {code}")).await
    }

    async fn refresh(&self, token: &Secret) -> Result<Tokens, CallFailed> {
        self.granted(format!("refresh {}", token.expose())).await
    }

    async fn client_token(&self, scope: &str, audience: Option<&str>) -> Result<Tokens, CallFailed> {
        self.granted(format!("client {scope} {}", audience.unwrap_or_default())).await
    }

    async fn exchange_token(
        &self,
        subject: &Secret,
        scope: &str,
        audience: Option<&str>,
    ) -> Result<Tokens, CallFailed> {
        self.granted(format!("token {} {scope} {}", subject.expose(), audience.unwrap_or_default())).await
    }

    async fn userinfo(&self, token: &Secret) -> Result<UserInfo, CallFailed> {
        self.asked.lock().push(format!("userinfo {}", token.expose()));
        self.userinfo.lock().clone().map_err(CallFailed::from)
    }

    async fn introspect(&self, token: &Secret) -> Result<Claims, CallFailed> {
        self.asked.lock().push(format!("introspect {}", token.expose()));
        let _open = self.gate.acquire().await.unwrap();
        self.introspected.lock().clone().map_err(CallFailed::from)
    }

    async fn revoke(&self, token: &Secret) {
        self.asked.lock().push(format!("revoke {}", token.expose()));
    }

    async fn fetch_keys(&self, _demand: Demand) -> Fetched {
        self.key_fetches.fetch_add(1, Ordering::SeqCst);
        let fetched = self.on_fetch.lock().clone();
        if let Fetched::Keys(keys) = &fetched {
            *self.keys.lock() = Some(keys.clone());
        }
        fetched
    }
}

pub(crate) fn key_set(kids: &[&str], before: Option<&KeySet>) -> KeySet {
    let keys: Vec<Value> = kids
        .iter()
        .map(|kid| {
            let text = match kid.get(..2) {
                Some("rs") => RSA_JWK,
                Some("es") => P256_JWK,
                _ => ED_JWK,
            };
            let mut key: Value = serde_json::from_str(text).unwrap();
            key["kid"] = json!(kid);
            key
        })
        .collect();
    KeySet::parse(&serde_json::to_vec(&json!({ "keys": keys })).unwrap(), before).unwrap()
}

/// A valid access token of `https://id.test` at [`NOW`] with these changes to its claims; null removes a claim.
pub(crate) fn token(changes: Value) -> String {
    token_as(Algorithm::RS256, json!({"kid": "rs"}), changes)
}

/// The same with another algorithm, and changes to its header.
pub(crate) fn token_as(algorithm: Algorithm, header: Value, changes: Value) -> String {
    let mut claims = json!({
        "iss": "https://id.test", "aud": "doorward", "sub": "alice-1", "exp": NOW + 300, "iat": NOW,
        "email": "alice@corp.test", "name": "Alice", "preferred_username": "alice", "groups": ["dev", "ops"], "scope": "openid app.read"
    });
    change(claims.as_object_mut().unwrap(), &changes);
    let mut head = serde_json::to_value(Header::new(algorithm)).unwrap();
    change(head.as_object_mut().unwrap(), &header);
    let part = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(&serde_json::to_vec(value).unwrap());
    let message = format!("{}.{}", part(&head), part(&claims));
    let key = match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(P256_PEM),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(ED_PEM),
        Algorithm::HS256 => Ok(EncodingKey::from_secret(RSA_JWK.as_bytes())),
        _ => EncodingKey::from_rsa_pem(RSA_PEM),
    };
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.unwrap(), algorithm).unwrap();
    format!("{message}.{signature}")
}

fn change(object: &mut Claims, changes: &Value) {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => object.remove(name),
            value => object.insert(name.clone(), value.clone()),
        };
    }
}
