//! The environment of the replicas in one run: dice, clock, the store behind an unreliable link, and the provider.

use super::invariants::{COMMAND_TIMEOUT, Law};
use super::scenario::{Dice, Plan};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::secret::Secret;
use crate::provider::claims::Claims;
use crate::provider::discovery::Metadata;
use crate::provider::fake::{NOW, key_set, token_as};
use crate::provider::keys::KeySet;
use crate::provider::settings::Settings;
use crate::provider::{Demand, Fetched, GrantError, Provider, Tokens, UserInfo};
use crate::store::kv::Change;
use crate::store::kv::Key;
use crate::store::kv::{Away, Entry, Invalidation, Kv};
use crate::store::memory::Memory;
use async_trait::async_trait;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use serde_json::json;
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

pub(super) struct World {
    pub(super) began: Instant,
    pub(super) plan: Plan,
    pub(super) dice: Arc<Dice>,
    pub(super) memory: Arc<Memory>,
    pub(super) law: Mutex<Law>,
    /// Once set, nothing fails any more.
    pub(super) healed: AtomicBool,
    news: broadcast::Sender<Invalidation>,
    crashed: Vec<watch::Sender<bool>>,
    frozen: Mutex<Vec<Instant>>,
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

impl World {
    pub(super) fn new(plan: Plan, dice: Arc<Dice>, law: Law) -> Arc<Self> {
        let began = Instant::now();
        Arc::new(World {
            began,
            dice,
            memory: Arc::new(Memory::new(Arc::new(Paused(began)))),
            law: Mutex::new(law),
            healed: false.into(),
            news: broadcast::channel(64).0,
            crashed: (0..plan.replicas).map(|_| watch::channel(false).0).collect(),
            frozen: Mutex::new(vec![began; plan.replicas]),
            key: 0.into(),
            family: Mutex::default(),
            plan,
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Stops the replica's tasks: each hangs at its next call to the store or the provider.
    pub(super) fn crash(&self, replica: usize) {
        if !self.healed.load(SeqCst) && !self.crashed[replica].send_replace(true) {
            self.law.lock().crashed(replica, self.now());
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
            self.law.lock().froze(replica, self.now()..self.now() + lasts);
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

    fn is_away(&self, replica: usize) -> bool {
        let now = self.now();
        let hits = |(whose, when): &(Option<usize>, Range<Duration>)| {
            whose.is_none_or(|whose| whose == replica) && when.contains(&now)
        };
        !self.healed.load(SeqCst) && self.plan.outages.iter().any(hits)
    }

    /// The number of the current refresh token, and whether the provider has revoked all of them.
    pub(super) fn family(&self) -> (u64, bool) {
        let family = self.family.lock();
        (family.current, family.revoked)
    }

    fn revoke(&self) {
        self.family.lock().revoked = true;
        self.law.lock().revoked(self.now());
    }

    pub(super) fn rotate_keys(&self) {
        if !self.healed.load(SeqCst) {
            let key = self.key.fetch_add(1, SeqCst) + 1;
            self.law.lock().tell(self.now(), || format!("the provider signs with key {key}"));
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
        if !self.plan.rotates && !self.healed.load(SeqCst) && self.dice.chance(self.plan.untold) {
            return Some("a.b.c".to_string().into());
        }
        let signed = || token_as(Algorithm::EdDSA, json!({"kid": self.kid()}), json!({"exp": NOW + 3600})).into();
        self.plan.rotates.then(signed)
    }

    fn spend(&self, number: u64) -> Result<Tokens, GrantError> {
        let mut family = self.family.lock();
        if family.revoked || number != family.current {
            drop(family);
            if !self.plan.lenient {
                self.revoke();
            }
            return Err(GrantError::Denied);
        }
        family.current += 1;
        self.law.lock().granted(family.current);
        Ok(Tokens {
            access: "access".to_string().into(),
            id: self.id_token(),
            refresh: Some(family.current.to_string().into()),
            lives: Some(self.plan.life),
        })
    }
}

/// One replica's link to the store.
pub(super) struct Line {
    pub(super) world: Arc<World>,
    pub(super) replica: usize,
    /// The last call had no answer.
    pub(super) failed: AtomicBool,
}

impl Line {
    async fn call<T, F>(&self, key: &Key, act: impl FnOnce(Arc<Memory>, Key) -> F + Send + 'static) -> Result<T, Away>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Away>> + Send + 'static,
    {
        let (world, dice, plan) = (&self.world, &self.world.dice, &self.world.plan);
        if plan.freezes && dice.chance(2) {
            world.freeze(self.replica, dice.millis(0..15_000));
        }
        world.going(self.replica).await;
        let healed = world.healed.load(SeqCst);
        let slowest = if plan.slow_store && !healed { dice.pick(&[2, 20, 120]) } else { 3 };
        let (there, back) = (dice.millis(0..slowest), dice.millis(0..slowest));
        let act = act(world.memory.clone(), key.clone());
        let fails = if world.is_away(self.replica) {
            sleep(dice.pick(&[Duration::ZERO, COMMAND_TIMEOUT])).await;
            true
        } else if !healed && dice.chance(plan.losses) {
            // The request or its answer is lost; or the request arrives after the caller has given up.
            if dice.chance(60) {
                let (world, key, late) = (world.clone(), key.clone(), dice.pick(&[there, dice.millis(0..4000)]));
                tokio::spawn(async move {
                    sleep(late).await;
                    let _ = act.await;
                    world.law.lock().saw_write(key.as_str(), world.now());
                });
            }
            sleep(COMMAND_TIMEOUT).await;
            true
        } else {
            sleep(there).await;
            let answer = act.await;
            world.law.lock().saw_write(key.as_str(), world.now());
            sleep(back).await;
            world.going(self.replica).await;
            self.failed.store(false, SeqCst);
            return answer;
        };
        world.going(self.replica).await;
        self.failed.store(fails, SeqCst);
        world.law.lock().store_failed(self.replica, key.as_str(), world.now());
        Err(Away)
    }
}

#[async_trait]
impl Kv for Line {
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Away> {
        self.call(key, |memory, key| async move { memory.get_with_ttl(&key).await }).await
    }
    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Away> {
        self.call(key, move |memory, key| async move { memory.put(&key, entry, ttl).await }).await
    }
    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        self.call(key, move |memory, key| async move { memory.put_new(&key, entry, ttl).await }).await
    }
    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        self.call(key, move |memory, key| async move { memory.replace(&key, entry, ttl).await }).await
    }
    async fn delete(&self, key: &Key, remember: Duration) -> Result<bool, Away> {
        self.call(key, move |memory, key| async move { memory.delete(&key, remember).await }).await
    }
    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        self.call(key, move |memory, key| async move { memory.restore(&key, entry, ttl).await }).await
    }
    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Away> {
        let value = value.to_vec();
        self.call(key, move |memory, key| async move { memory.extend(&key, &value, ttl).await }).await
    }
    async fn announce(&self, change: &Change) {
        self.world.going(self.replica).await;
        if !self.world.is_away(self.replica) && !self.world.dice.chance(self.world.plan.losses) {
            let _ = self.world.news.send(Invalidation::Key(change.clone()));
        }
    }
    fn announcements(&self) -> Option<broadcast::Receiver<Invalidation>> {
        Some(self.world.news.subscribe())
    }
    fn is_shared(&self) -> bool {
        true
    }
    fn is_away(&self) -> bool {
        self.failed.load(SeqCst)
    }
}

/// One replica's link to the provider. Only `refresh`, `revoke` and `fetch_keys` do anything.
pub(super) struct Way {
    pub(super) world: Arc<World>,
    pub(super) replica: usize,
    pub(super) settings: Settings,
    keys: Mutex<Option<Arc<KeySet>>>,
    fetched: Mutex<Option<Instant>>,
}

/// The provider's own tokens cause at most one key fetch per replica in this time.
const OWN_WINDOW: Duration = Duration::from_secs(5);

impl Way {
    pub(super) fn new(world: &Arc<World>, replica: usize, settings: Settings) -> Self {
        let keys = world.plan.rotates.then(|| Arc::new(key_set(&["ed0"], None)));
        Way { world: world.clone(), replica, settings, keys: Mutex::new(keys), fetched: Mutex::default() }
    }
}

#[async_trait]
impl Provider for Way {
    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.lock().clone()
    }
    fn metadata(&self) -> Option<Arc<Metadata>> {
        None
    }
    async fn exchange(&self, _code: &str, _verifier: &str, _redirect_uri: &str) -> Result<Tokens, GrantError> {
        Err(GrantError::Unavailable)
    }

    async fn refresh(&self, token: &Secret) -> Result<Tokens, GrantError> {
        let (world, dice, plan, replica) = (&self.world, &self.world.dice, &self.world.plan, self.replica);
        world.going(replica).await;
        let number: u64 = token.expose().parse().unwrap();
        let ask = world.law.lock().asked(replica, number, world.now());
        if plan.provider_hangs && !world.healed.load(SeqCst) {
            sleep(PROVIDER_TIMEOUT).await;
            world.going(replica).await;
            let answer = Err(GrantError::Unavailable);
            world.law.lock().answered(ask, &answer, world.now());
            return answer;
        }
        let soon = dice.millis(0..1500);
        if plan.crashes && dice.chance(25) {
            let world = world.clone();
            tokio::spawn(async move {
                sleep(soon).await;
                world.crash(replica);
            });
        } else if plan.freezes && dice.chance(30) {
            let (world, lasts) = (world.clone(), plan.lease.mul_f64(0.3) + dice.millis(0..15_000));
            tokio::spawn(async move {
                sleep(soon).await;
                world.freeze(replica, lasts);
            });
        }
        let fails = plan.provider_fails && !world.healed.load(SeqCst);
        let there = dice.millis(if fails && dice.chance(15) { 0..9000 } else { 1..dice.pick(&[100, 400, 2400]) });
        let back = dice.millis(if fails && dice.chance(15) { 0..9000 } else { 1..dice.pick(&[100, 400, 2400]) });
        let (refused, lost) = (fails && dice.chance(15), fails && dice.chance(10));
        // A task of its own: the provider processes the request even if the caller has given up.
        let work = tokio::spawn({
            let world = world.clone();
            async move {
                sleep(there).await;
                if refused {
                    return Err(GrantError::Unavailable);
                }
                let answer = world.spend(number);
                sleep(back).await;
                if lost { Err(GrantError::Unavailable) } else { answer }
            }
        });
        let answer = timeout(PROVIDER_TIMEOUT, work).await.map_or(Err(GrantError::Unavailable), Result::unwrap);
        world.going(replica).await;
        world.law.lock().answered(ask, &answer, world.now());
        answer
    }

    async fn userinfo(&self, _token: &Secret) -> Result<UserInfo, GrantError> {
        Err(GrantError::Unavailable)
    }
    async fn introspect(&self, _token: &Secret) -> Result<Claims, GrantError> {
        Err(GrantError::Unavailable)
    }
    async fn revoke(&self, _token: &Secret) {
        self.world.revoke();
    }
    async fn fetch_keys(&self, _demand: Demand) -> Fetched {
        let (world, now) = (&self.world, Instant::now());
        if !world.plan.rotates {
            return Fetched::Unavailable;
        }
        if self.fetched.lock().is_some_and(|last| now.duration_since(last) < OWN_WINDOW) {
            return Fetched::Closed;
        }
        *self.fetched.lock() = Some(now);
        sleep(world.dice.millis(0..300)).await;
        let keys = Arc::new(world.published());
        *self.keys.lock() = Some(keys.clone());
        Fetched::Keys(keys)
    }
}
