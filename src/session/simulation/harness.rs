//! The environment of the replicas in one run: dice, clock, the store behind an unreliable link, and the provider.

mod store_link;

pub(super) use store_link::StoreLink;

use super::invariants::Invariants;
use super::scenario::{Dice, Scenario};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::secret::Secret;
use crate::provider::claims::Claims;
use crate::provider::discovery::Metadata;
use crate::provider::fake::{NOW, key_set, token_as};
use crate::provider::keys::KeySet;
use crate::provider::settings::Settings;
use crate::provider::{CallFailed, Demand, Fetched, GrantError, Provider, Tokens, UserInfo};
use crate::store::kv::{Invalidation, Key};
use crate::store::memory::Memory;
use async_trait::async_trait;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub(super) const PROVIDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Wall clock that follows the runtime's paused time.
pub(super) struct Paused(pub(super) Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(NOW).plus(self.0.elapsed())
    }
}

pub(super) struct Harness {
    pub(super) began: Instant,
    pub(super) scenario: Scenario,
    pub(super) dice: Arc<Dice>,
    pub(super) memory: Arc<Memory>,
    pub(super) invariants: Mutex<Invariants>,
    /// Once set, nothing fails any more.
    pub(super) healed: AtomicBool,
    news: broadcast::Sender<Invalidation>,
    crashed: Vec<watch::Sender<bool>>,
    frozen: Mutex<Vec<Instant>>,
    /// The replica that last made each lease.
    owners: Mutex<HashMap<String, usize>>,
    /// What was deleted: it cannot be restored.
    deleted: Mutex<HashSet<Key>>,
    /// Which key the provider signs with.
    key: AtomicU64,
    family: Mutex<Family>,
}

/// The session's refresh tokens: each grant rotates, and reuse of a spent token may revoke all of them.
#[derive(Default)]
struct Family {
    current: u64,
    revoked: bool,
}

impl Harness {
    pub(super) fn new(scenario: Scenario, dice: Arc<Dice>, invariants: Invariants) -> Arc<Self> {
        let began = Instant::now();
        Arc::new(Harness {
            began,
            dice,
            memory: Arc::new(Memory::new(Arc::new(Paused(began)))),
            invariants: Mutex::new(invariants),
            healed: false.into(),
            news: broadcast::channel(64).0,
            crashed: (0..scenario.replicas).map(|_| watch::channel(false).0).collect(),
            frozen: Mutex::new(vec![began; scenario.replicas]),
            owners: Mutex::default(),
            deleted: Mutex::default(),
            key: 0.into(),
            family: Mutex::default(),
            scenario,
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Stops the replica's tasks: each hangs at its next call to the store or the provider.
    pub(super) fn crash(&self, replica: usize) {
        if !self.healed.load(SeqCst) && !self.crashed[replica].send_replace(true) {
            self.invariants.lock().crashed(replica, self.now());
        }
    }

    pub(super) fn is_crashed(&self, replica: usize) -> bool {
        *self.crashed[replica].borrow()
    }

    pub(super) async fn until_crash(&self, replica: usize) {
        let _ = self.crashed[replica].subscribe().wait_for(|crashed| *crashed).await;
    }

    fn freeze(&self, replica: usize, lasts: Duration) {
        if !self.healed.load(SeqCst) {
            self.frozen.lock()[replica] = Instant::now() + lasts;
            self.invariants.lock().froze(replica, self.now()..self.now() + lasts);
        }
    }

    /// Waits while the replica is frozen, and for ever once it has crashed.
    async fn going(&self, replica: usize) {
        loop {
            if self.is_crashed(replica) {
                pending::<()>().await;
            }
            let until = self.frozen.lock()[replica];
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// Invariant 6, what replicas share: a record is written over an older one alone, so that nothing that was deleted
    /// comes back and no newer tokens are lost.
    fn is_put(&self, replica: usize, key: &Key, known: Option<u64>, generation: u64) {
        let is_record = ["session:", "tokens:"].iter().any(|space| key.as_str().starts_with(space));
        if is_record && known.is_none_or(|known| known >= generation) {
            let what = format!("(6) {replica} puts {} of {generation} over {known:?}", key.as_str());
            self.invariants.lock().broke(self.now(), what);
        }
    }

    /// The same of a lease: nobody lets go of another's.
    fn is_deleted(&self, replica: usize, key: &Key, is_there: bool) {
        let owner = self.owners.lock().get(key.as_str()).copied();
        if is_there && key.as_str().starts_with("lease:") && owner != Some(replica) {
            self.invariants.lock().broke(self.now(), format!("(6) {replica} lets go of the lease of {owner:?}"));
        }
    }

    fn is_unavailable(&self, replica: usize) -> bool {
        let now = self.now();
        let hits = |(whose, when): &(Option<usize>, Range<Duration>)| {
            whose.is_none_or(|whose| whose == replica) && when.contains(&now)
        };
        !self.healed.load(SeqCst) && self.scenario.outages.iter().any(hits)
    }

    /// The number of the current refresh token, and whether the provider has revoked all of them.
    pub(super) fn family(&self) -> (u64, bool) {
        let family = self.family.lock();
        (family.current, family.revoked)
    }

    fn revoke(&self) {
        self.family.lock().revoked = true;
        self.invariants.lock().revoked(self.now());
    }

    pub(super) fn rotate_keys(&self) {
        if !self.healed.load(SeqCst) {
            let key = self.key.fetch_add(1, SeqCst) + 1;
            self.invariants.lock().tell(self.now(), || format!("the provider signs with key {key}"));
        }
    }

    fn kid(&self) -> String {
        format!("ed{}", self.key.load(SeqCst))
    }

    /// The provider's published keys: the one it signs with, and earlier ones for tokens that are not verified yet.
    fn published(&self) -> KeySet {
        let newest = self.key.load(SeqCst);
        let kids: Vec<String> = (newest.saturating_sub(12)..=newest).map(|key| format!("ed{key}")).collect();
        key_set(&kids.iter().map(String::as_str).collect::<Vec<_>>(), None)
    }

    /// The ID token of a grant, if it has one.
    fn id_token(&self) -> Option<Secret> {
        if !self.scenario.rotates && !self.healed.load(SeqCst) && self.dice.chance(self.scenario.untold) {
            return Some("a.b.c".to_string().into());
        }
        let signed = || token_as(Algorithm::EdDSA, json!({"kid": self.kid()}), json!({"exp": NOW + 3600})).into();
        self.scenario.rotates.then(signed)
    }

    fn spend(&self, number: u64) -> Result<Tokens, GrantError> {
        let mut family = self.family.lock();
        if family.revoked || number != family.current {
            drop(family);
            if !self.scenario.lenient {
                self.revoke();
            }
            return Err(GrantError::Denied);
        }
        family.current += 1;
        self.invariants.lock().granted(family.current);
        Ok(Tokens {
            access: "access".to_string().into(),
            id: self.id_token(),
            refresh: Some(family.current.to_string().into()),
            lives: Some(self.scenario.life),
        })
    }
}

/// One replica's link to the provider. Only `refresh`, `revoke` and `fetch_keys` do anything.
pub(super) struct ProviderLink {
    pub(super) harness: Arc<Harness>,
    pub(super) replica: usize,
    pub(super) settings: Settings,
    keys: Mutex<Option<Arc<KeySet>>>,
    fetched: Mutex<Option<Instant>>,
}

/// The provider's own tokens cause at most one key fetch per replica in this time.
const OWN_WINDOW: Duration = Duration::from_secs(5);

impl ProviderLink {
    pub(super) fn new(harness: &Arc<Harness>, replica: usize, settings: Settings) -> Self {
        let keys = harness.scenario.rotates.then(|| Arc::new(key_set(&["ed0"], None)));
        ProviderLink { harness: harness.clone(), replica, settings, keys: Mutex::new(keys), fetched: Mutex::default() }
    }
}

#[async_trait]
impl Provider for ProviderLink {
    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.lock().clone()
    }
    fn metadata(&self) -> Option<Arc<Metadata>> {
        None
    }
    async fn exchange(&self, _code: &str, _verifier: &str, _redirect_uri: &str) -> Result<Tokens, CallFailed> {
        Err(GrantError::Unavailable.into())
    }

    async fn refresh(&self, token: &Secret) -> Result<Tokens, CallFailed> {
        let (harness, dice, scenario, replica) =
            (&self.harness, &self.harness.dice, &self.harness.scenario, self.replica);
        harness.going(replica).await;
        let number: u64 = token.expose().parse().unwrap();
        let ask = harness.invariants.lock().asked(replica, number, harness.now());
        if scenario.provider_hangs && !harness.healed.load(SeqCst) {
            sleep(PROVIDER_TIMEOUT).await;
            harness.going(replica).await;
            let answer = Err(GrantError::Unavailable);
            harness.invariants.lock().answered(ask, &answer, harness.now());
            return answer.map_err(CallFailed::from);
        }
        let soon = dice.millis(0..1500);
        if scenario.crashes && dice.chance(25) {
            let harness = harness.clone();
            tokio::spawn(async move {
                sleep(soon).await;
                harness.crash(replica);
            });
        } else if scenario.freezes && dice.chance(30) {
            let (harness, lasts) = (harness.clone(), scenario.lease.mul_f64(0.3) + dice.millis(0..15_000));
            tokio::spawn(async move {
                sleep(soon).await;
                harness.freeze(replica, lasts);
            });
        }
        let fails = scenario.provider_fails && !harness.healed.load(SeqCst);
        let there = dice.millis(if fails && dice.chance(15) { 0..9000 } else { 1..dice.pick(&[100, 400, 2400]) });
        let back = dice.millis(if fails && dice.chance(15) { 0..9000 } else { 1..dice.pick(&[100, 400, 2400]) });
        let (refused, lost) = (fails && dice.chance(15), fails && dice.chance(10));
        // A task of its own: the provider processes the request even if the caller has given up.
        let work = tokio::spawn({
            let harness = harness.clone();
            async move {
                sleep(there).await;
                if refused {
                    return Err(GrantError::Unavailable);
                }
                let answer = harness.spend(number);
                sleep(back).await;
                if lost { Err(GrantError::Unavailable) } else { answer }
            }
        });
        let answer = timeout(PROVIDER_TIMEOUT, work).await.map_or(Err(GrantError::Unavailable), Result::unwrap);
        harness.going(replica).await;
        harness.invariants.lock().answered(ask, &answer, harness.now());
        answer.map_err(CallFailed::from)
    }

    async fn client_token(&self, _scope: &str, _audience: Option<&str>) -> Result<Tokens, CallFailed> {
        Err(GrantError::Refused.into())
    }
    async fn exchange_token(&self, _: &Secret, _scope: &str, _audience: Option<&str>) -> Result<Tokens, CallFailed> {
        Err(GrantError::Refused.into())
    }
    async fn userinfo(&self, _token: &Secret) -> Result<UserInfo, CallFailed> {
        Err(GrantError::Unavailable.into())
    }
    async fn introspect(&self, _token: &Secret) -> Result<Claims, CallFailed> {
        Err(GrantError::Unavailable.into())
    }
    async fn revoke(&self, _token: &Secret) {
        self.harness.revoke();
    }
    async fn fetch_keys(&self, _demand: Demand) -> Fetched {
        let (harness, now) = (&self.harness, Instant::now());
        if !harness.scenario.rotates {
            return Fetched::Unavailable;
        }
        if self.fetched.lock().is_some_and(|last| now.duration_since(last) < OWN_WINDOW) {
            return Fetched::Closed;
        }
        *self.fetched.lock() = Some(now);
        sleep(harness.dice.millis(0..300)).await;
        let keys = Arc::new(harness.published());
        *self.keys.lock() = Some(keys.clone());
        Fetched::Keys(keys)
    }
}
