//! What the provider remembers while it runs: clients, users, browsers' sessions, codes and tokens, and the calls made
//! to it. Everything is in memory and bounded. It must not know HTTP.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::faults::{Endpoint, Faults};
use super::keys::KeySet;

/// The most entries of each map and of the call log; beyond it the oldest goes.
const CAPACITY: usize = 10_000;

/// A registered relying party (OpenID Connect Dynamic Registration 1.0, section 2, names).
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub client_id: String,
    /// None: a public client, without authentication.
    pub client_secret: Option<String>,
    /// Compared as text.
    pub redirect_uris: Vec<String>,
    pub post_logout_redirect_uris: Vec<String>,
    pub backchannel_logout_uri: Option<String>,
}

/// Someone who can sign in. `sub` is the name unless the claims hold one.
#[derive(Clone, Debug, Default)]
pub struct User {
    pub name: String,
    pub password: String,
    /// Stand in ID tokens, access tokens and UserInfo alike.
    pub claims: Map<String, Value>,
}

/// One call as it arrived, before any fault or check. `params` are those of the query and of the form.
#[derive(Clone, Debug)]
pub struct CallRecord {
    pub endpoint: Endpoint,
    pub params: Vec<(String, String)>,
    pub at: Instant,
}

/// The last calls, and how many there were.
#[derive(Default)]
pub struct CallLog {
    counts: HashMap<Endpoint, u64>,
    records: VecDeque<CallRecord>,
}

pub(super) struct State {
    pub(super) issuer: String,
    pub(super) port: u16,
    pub(super) clients: Mutex<Vec<Client>>,
    pub(super) users: Mutex<Vec<User>>,
    /// Behind an Arc, so that signing, which takes a millisecond, holds no lock.
    pub(super) keys: RwLock<Arc<KeySet>>,
    pub(super) extra_jwks: Mutex<Vec<Value>>,
    pub(super) faults: Mutex<Faults>,
    pub(super) calls: Mutex<CallLog>,
    pub(super) ledger: Mutex<Ledger>,
}

/// What was granted, by the secret that stands for it.
#[derive(Default)]
pub(super) struct Ledger {
    /// By the value of the browser's cookie.
    pub(super) sessions: Bounded<BrowserSession>,
    pub(super) codes: Bounded<CodeGrant>,
    pub(super) refresh_tokens: Bounded<RefreshGrant>,
    pub(super) access_tokens: Bounded<AccessGrant>,
    pub(super) id_tokens: Bounded<IdTokenRecord>,
}

#[derive(Clone)]
pub(super) struct BrowserSession {
    pub(super) user: String,
    pub(super) sid: String,
    /// Unix seconds.
    pub(super) auth_time: i64,
    /// The clients that were signed in by this session and hear of its end.
    pub(super) client_ids: Vec<String>,
}

/// Who may do what, for which client; handed on from code to refresh token to refresh token.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) client_id: String,
    pub(super) user: String,
    pub(super) scope: String,
    pub(super) sid: String,
    pub(super) auth_time: i64,
    /// All tokens that descend from one code share it.
    pub(super) family: String,
}

#[derive(Clone)]
pub(super) struct CodeGrant {
    pub(super) grant: Grant,
    pub(super) redirect_uri: String,
    pub(super) code_challenge: String,
    pub(super) nonce: String,
    pub(super) expires: Instant,
    pub(super) spent: bool,
}

#[derive(Clone)]
pub(super) struct RefreshGrant {
    pub(super) grant: Grant,
    pub(super) rotated: bool,
}

#[derive(Clone)]
pub(super) struct AccessGrant {
    pub(super) user: String,
    pub(super) claims: Map<String, Value>,
    /// None: issued by the handle, not by a login.
    pub(super) family: Option<String>,
}

#[derive(Clone)]
pub(super) struct IdTokenRecord {
    pub(super) client_id: String,
    pub(super) sid: String,
}

/// A map that forgets its oldest entry when it is full.
pub(super) struct Bounded<V> {
    entries: HashMap<String, V>,
    order: VecDeque<String>,
}

impl CallLog {
    /// All calls of an endpoint since the start or the last `clear`.
    pub fn count(&self, endpoint: Endpoint) -> u64 {
        self.counts.get(&endpoint).copied().unwrap_or_default()
    }

    /// The calls in the order of their arrival; at most the last 10,000.
    pub fn records(&self) -> impl Iterator<Item = &CallRecord> {
        self.records.iter()
    }

    pub fn clear(&mut self) {
        self.counts.clear();
        self.records.clear();
    }

    pub(super) fn add(&mut self, endpoint: Endpoint, params: Vec<(String, String)>) {
        *self.counts.entry(endpoint).or_default() += 1;
        if self.records.len() >= CAPACITY {
            self.records.pop_front();
        }
        self.records.push_back(CallRecord { endpoint, params, at: Instant::now() });
    }
}

impl CallRecord {
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl State {
    pub(super) fn client(&self, client_id: &str) -> Option<Client> {
        self.clients.lock().iter().find(|client| client.client_id == client_id).cloned()
    }

    /// The user's claims, `sub` among them. A name that nobody has is somebody without further claims: tests want
    /// many users.
    pub(super) fn user_claims(&self, name: &str) -> Map<String, Value> {
        let mut claims =
            self.users.lock().iter().find(|user| user.name == name).map(|user| user.claims.clone()).unwrap_or_default();
        claims.entry("sub").or_insert_with(|| name.into());
        claims
    }

    pub(super) fn password_is_right(&self, name: &str, password: &str) -> bool {
        self.users.lock().iter().any(|user| user.name == name && user.password == password)
    }
}

impl Ledger {
    /// Ends everything that descends from one login.
    pub(super) fn revoke_family(&mut self, family: &str) {
        self.refresh_tokens.retain(|refresh| refresh.grant.family != family);
        self.access_tokens.retain(|access| access.family.as_deref() != Some(family));
    }

    /// Takes the browser sessions that `ends` names, and with `tokens` revokes what they had granted.
    pub(super) fn end_sessions(&mut self, ends: impl Fn(&BrowserSession) -> bool, tokens: bool) -> Vec<BrowserSession> {
        let ended = self.sessions.extract(&ends);
        if tokens {
            // Every family began with a code.
            let families: Vec<String> = self
                .codes
                .values()
                .filter(|code| ended.iter().any(|session| session.sid == code.grant.sid))
                .map(|code| code.grant.family.clone())
                .collect();
            for family in families {
                self.revoke_family(&family);
            }
        }
        ended
    }
}

impl<V> Default for Bounded<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<V> Bounded<V> {
    pub(super) fn insert(&mut self, key: String, value: V) {
        if self.entries.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > CAPACITY {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<V> {
        let removed = self.entries.remove(key)?;
        self.order.retain(|other| other != key);
        Some(removed)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.entries.retain(|_, value| keep(value));
        self.order.retain(|key| self.entries.contains_key(key));
    }

    fn extract(&mut self, goes: impl Fn(&V) -> bool) -> Vec<V> {
        let taken = self.entries.extract_if(|_, value| goes(value)).map(|(_, value)| value).collect();
        self.order.retain(|key| self.entries.contains_key(key));
        taken
    }
}
