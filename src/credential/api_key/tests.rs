mod stored;

use crate::credential::api_key::keyring::{KeyVerdict, Keyring, NewKey, NotCreated, Outside, Settings};
use crate::credential::api_key::store::key as key_of;
use crate::credential::api_key::{ApiKey, KeyDigest, KeyId, Record};
use crate::kit::clock::test::SetClock;
use crate::kit::entropy::test::Counted;
use crate::kit::entropy::{Entropy, SystemEntropy};
use crate::kit::seal::Secrets;
use crate::kit::setting::Wait;
use crate::store::kv::{Entry, Key, Kv, Unavailable};
use crate::store::memory::Memory;
use crate::telemetry::metrics::{Cache, Metrics};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::RwLock;

const NOW: i64 = 1_800_000_000;
const CACHE: Settings = Settings { enabled: true, max_entries: 100, ttl: Wait::seconds(30) };
const OFF: Settings = Settings { enabled: false, ..CACHE };

/// A store that records its calls, can be unavailable, and can delay reads.
struct Watched {
    inner: Memory,
    asked: Mutex<Vec<String>>,
    away: AtomicBool,
    /// Reads are delayed while a test holds it for writing.
    gate: RwLock<()>,
}

struct World {
    clock: Arc<SetClock>,
    kv: Arc<Watched>,
    keys: Arc<Keyring>,
}

fn world() -> World {
    let clock = Arc::new(SetClock::at(NOW));
    let kv = Watched {
        inner: Memory::new(clock.clone()),
        asked: Mutex::default(),
        away: AtomicBool::new(false),
        gate: RwLock::default(),
    };
    World::on(Arc::new(kv), clock, Arc::new(SystemEntropy::default()))
}

fn secrets(text: &str) -> Secrets {
    Secrets::new([text.as_bytes().to_vec()])
}

fn alice() -> NewKey {
    NewKey { user: "alice".into(), ..NewKey::default() }
}

fn word(judged: &KeyVerdict) -> String {
    match judged {
        KeyVerdict::Valid(known) => known.record.user.clone(),
        KeyVerdict::Rejected(reason) => reason.word().into(),
        KeyVerdict::Unavailable => "unavailable".into(),
    }
}

impl World {
    fn on(kv: Arc<Watched>, clock: Arc<SetClock>, entropy: Arc<dyn Entropy>) -> Self {
        let metrics = Metrics::default().cache(Cache::sessions);
        let outside =
            Outside { kv: kv.clone(), secrets: secrets("the store's"), clock: clock.clone(), entropy, metrics };
        World { keys: Arc::new(Keyring::new(outside, Vec::new(), &CACHE)), clock, kv }
    }

    /// Another replica on the same store.
    fn beside(&self) -> Self {
        World::on(self.kv.clone(), self.clock.clone(), Arc::new(SystemEntropy::default()))
    }

    async fn create(&self, new: NewKey) -> (String, KeyId) {
        let created = self.keys.create(new).await.unwrap();
        (created.key.expose().into(), created.record.id)
    }

    async fn check(&self, key: &str, expected: &str) {
        assert_eq!(word(&self.keys.find(key).await), expected, "{key}");
    }

    /// The calls to the store since this was last called.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.kv.asked.lock())
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn listed(&self) -> Vec<KeyId> {
        self.keys.list().await.unwrap().into_iter().map(|record| record.id).collect()
    }
}

/// Lets spawned tasks run as far as they can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[async_trait]
impl Kv for Watched {
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Unavailable> {
        let found = self.heard("get", key, self.inner.get_with_ttl(key)).await;
        let _ = self.gate.read().await;
        found
    }

    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.heard("restore", key, self.inner.restore(key, entry, ttl)).await
    }

    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Unavailable> {
        self.heard("extend", key, self.inner.extend(key, value, ttl)).await
    }

    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Unavailable> {
        self.heard("put", key, self.inner.put(key, entry, ttl)).await
    }

    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.heard("put_new", key, self.inner.put_new(key, entry, ttl)).await
    }

    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.heard("replace", key, self.inner.replace(key, entry, ttl)).await
    }

    async fn delete(&self, key: &Key, remember: Duration) -> Result<bool, Unavailable> {
        self.heard("delete", key, self.inner.delete(key, remember)).await
    }

    async fn add(&self, key: &Key, member: &str, ttl: Duration) -> Result<bool, Unavailable> {
        self.heard("add", key, self.inner.add(key, member, ttl)).await
    }

    async fn members(&self, key: &Key) -> Result<Vec<String>, Unavailable> {
        self.heard("members", key, self.inner.members(key)).await
    }

    async fn remove(&self, key: &Key, member: &str) -> Result<(), Unavailable> {
        self.heard("remove", key, self.inner.remove(key, member)).await
    }
}

impl Watched {
    async fn heard<T>(
        &self,
        verb: &str,
        key: &Key,
        does: impl Future<Output = Result<T, Unavailable>> + Send,
    ) -> Result<T, Unavailable> {
        self.asked.lock().push(format!("{verb} {}", key.as_str()));
        if self.away.load(Ordering::SeqCst) { Err(Unavailable) } else { does.await }
    }
}

#[test]
fn a_key_has_its_form() {
    let key = ApiKey::generate(&Counted::default());
    assert_eq!(key.expose(), "dwk_010101010101_AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI");
    assert_eq!(format!("{key:?}"), "ApiKey(***)");
    let presented = ApiKey::parse(key.expose()).unwrap();
    assert_eq!(presented.id.as_str(), "010101010101");
    assert_eq!(KeyDigest::parse(&presented.digest.hex()), Some(presented.digest));
    assert_eq!(presented.digest, KeyDigest::of(key.expose()));
    assert_ne!(
        ApiKey::generate(&SystemEntropy::default()).expose(),
        ApiKey::generate(&SystemEntropy::default()).expose()
    );
    let secret = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC-_I";
    assert!(ApiKey::parse(&format!("dwk_0az9zzzzzzzz_{secret}")).is_some(), "the secret may hold a line itself");
    for bad in [
        "".into(),
        "dwk_".into(),
        key.expose().to_uppercase(),
        key.expose()[..59].into(),
        format!("{}A", key.expose()),
        format!(" {}", &key.expose()[..59]),
        format!("DWK_0az9zzzzzzzz_{secret}"),
        format!("dwk_0Az9zzzzzzzz_{secret}"),
        format!("dwk_0a-9zzzzzzzz_{secret}"),
        format!("dwk_0az9zzzzzzzz-{secret}"),
        format!("dwk_0az9zzzzzzzz_{}J", &secret[..42]), // non-zero padding bits
        format!("dwk_0az9zzzzzzzz_{}+", &secret[..42]),
        format!("dwk_0az9zzzzzzz\u{e9}{}", secret),
        format!("dwk_{}", "\u{e9}".repeat(28)),
    ] {
        assert!(ApiKey::parse(&bad).is_none(), "{bad}");
    }
    for bad in ["", "x", &presented.digest.hex()[1..], &presented.digest.hex().to_uppercase().replace('0', "A")] {
        assert!(KeyDigest::parse(bad).is_none(), "{bad}");
    }
}

#[tokio::test]
async fn a_key_is_judged_by_all_its_bytes() {
    let w = world();
    let new =
        NewKey { email: Some("a@x.test".into()), groups: vec!["ops".into()], scopes: vec!["read".into()], ..alice() };
    let (key, id) = w.create(NewKey { name: Some("ci".into()), routes: Some(vec!["api".into()]), ..new }).await;
    w.check(&key, "alice").await;
    let KeyVerdict::Valid(known) = w.keys.find(&key).await else { panic!("it is valid") };
    let person = known.record.person();
    assert_eq!((person.user, person.email), ("alice", Some("a@x.test")));
    assert_eq!((person.groups, person.scopes), (&["ops".to_string()][..], &["read".to_string()][..]));
    assert!(known.record.is_for("api") && !known.record.is_for("other"));
    assert_eq!((known.record.created, known.record.id), (Some(NOW), id));
    let (other, _) = w.create(alice()).await;
    w.check(&format!("{}{}", &key[..17], &other[17..]), "unknown_token").await;
    w.check(&other, "alice").await;
    w.check("junk", "unknown_token").await;
}

#[tokio::test]
async fn the_store_is_asked_as_long_as_nothing_is_known() {
    let w = world();
    let (key, id) = w.create(alice()).await;
    w.asked();
    let get = format!("get {}", key_of(id).as_str());
    w.check(&key, "alice").await;
    settle().await;
    assert_eq!(w.asked()[0], get);
    w.check(&key, "alice").await;
    w.check(&key.replace(&key[17..20], "xxx"), "unknown_token").await;
    settle().await;
    assert_eq!(w.asked(), [""; 0], "a wrong secret of a known id asks nobody");
    w.pass(29);
    w.check(&key, "alice").await;
    assert_eq!(w.asked(), [""; 0]);
    w.pass(1);
    w.check(&key, "alice").await;
    assert_eq!(w.asked(), std::slice::from_ref(&get));

    let absent = ApiKey::generate(&Counted::default());
    for _ in 0..5 {
        w.check(absent.expose(), "unknown_token").await;
    }
    assert_eq!(w.asked(), ["get api_key:010101010101"], "what is not there is remembered too");
    w.pass(30);
    w.check(absent.expose(), "unknown_token").await;
    assert_eq!(w.asked().len(), 1);

    w.keys.configure(Vec::new(), &OFF);
    for _ in 0..3 {
        w.check(absent.expose(), "unknown_token").await;
        assert!(w.keys.recall(&ApiKey::parse(&key).unwrap()).is_none());
    }
    assert_eq!(w.asked().len(), 3, "a cache that is off is not looked at");
    assert!(w.keys.is_empty());
}

#[tokio::test]
async fn many_ask_and_the_store_is_asked_once() {
    let w = world();
    let (key, id) = w.create(alice()).await;
    let held = w.kv.gate.write().await;
    w.asked();
    let ask = |key: String| {
        let keys = w.keys.clone();
        tokio::spawn(async move { word(&keys.find(&key).await) })
    };
    let asking: Vec<_> = (0..500).map(|_| ask(key.clone())).collect();
    let wrong: Vec<_> = (0..500).map(|_| ask(format!("{}{}", &key[..17], "A".repeat(43)))).collect();
    settle().await;
    assert_eq!(w.asked(), [format!("get {}", key_of(id).as_str())]);
    asking[0].abort(); // the first caller is cancelled; the read continues
    drop(held);
    for one in asking.into_iter().skip(1) {
        assert_eq!(one.await.unwrap(), "alice");
    }
    for one in wrong {
        assert_eq!(one.await.unwrap(), "unknown_token", "joining another's reading proves nothing");
    }
}

#[tokio::test]
async fn who_comes_as_a_reading_lands_does_not_read_again() {
    let w = world();
    let key = ApiKey::parse(ApiKey::generate(&Counted::default()).expose()).unwrap();
    for _ in 0..3 {
        assert_eq!(word(&w.keys.look_up(&key, || Ok(())).await.unwrap()), "unknown_token");
    }
    assert_eq!(w.asked().len(), 1);
}

#[tokio::test]
async fn a_store_that_is_away_decides_nothing() {
    let w = world();
    let (key, id) = w.create(alice()).await;
    w.kv.away.store(true, Ordering::SeqCst);
    w.check(&key, "unavailable").await;
    assert_eq!(w.keys.create(alice()).await.unwrap_err(), NotCreated::Unavailable);
    assert_eq!(w.keys.revoke(id).await, Err(Unavailable));
    assert_eq!(w.keys.list().await, Err(Unavailable));
    w.kv.away.store(false, Ordering::SeqCst);
    w.check(&key, "alice").await;
    w.kv.away.store(true, Ordering::SeqCst);
    w.check(&key, "alice").await; // from the cache
    w.pass(30);
    w.check(&key, "unavailable").await;
}

#[tokio::test]
async fn a_key_ends_with_its_time() {
    let w = world();
    let (key, id) = w.create(NewKey { expires_in: Some(Duration::from_secs(40)), ..alice() }).await;
    w.pass(20);
    w.check(&key, "alice").await;
    w.pass(19);
    w.check(&key, "alice").await;
    w.pass(1);
    w.check(&key, "token_expired").await; // from the cache
    w.pass(600);
    w.check(&key, "token_expired").await; // from the store
    w.check(&format!("{}{}", &key[..17], "A".repeat(43)), "unknown_token").await;
    assert_eq!(w.listed().await, [id]);
    w.pass(31 * 86_400);
    w.check(&key, "unknown_token").await;
    let (_, other) = w.create(alice()).await;
    assert_eq!(w.listed().await, [other]);
}

#[tokio::test]
async fn a_revoked_key_is_over_here_at_once_and_there_when_it_is_said() {
    let w = world();
    let (key, id) = w.create(alice()).await;
    let there = w.beside();
    w.check(&key, "alice").await;
    there.check(&key, "alice").await;
    settle().await;
    assert_eq!(w.keys.revoke(id).await, Ok(true));
    assert_eq!(w.keys.revoke(id).await, Ok(false));
    w.check(&key, "unknown_token").await;
    assert_eq!(w.listed().await, []);
    there.check(&key, "alice").await; // its cache entry
    there.keys.forget(id);
    there.check(&key, "unknown_token").await;
}

#[tokio::test]
async fn a_reading_from_before_the_end_is_not_copied() {
    let w = world();
    let (key, id) = w.create(alice()).await;
    w.check(&key, "alice").await;
    settle().await; // its use is recorded here, and not again below, which would find the revocation
    w.keys.forget_all();
    let held = w.kv.gate.write().await;
    let keys = w.keys.clone();
    let early = tokio::spawn({
        let key = key.clone();
        async move { word(&keys.find(&key).await) }
    });
    settle().await; // it has read the record, and is delayed
    assert_eq!(w.kv.inner.delete(&key_of(id), Duration::ZERO).await, Ok(true)); // another replica revokes it
    w.keys.forget(id); // and announces it
    let keys = w.keys.clone();
    let late = tokio::spawn({
        let key = key.clone();
        async move { word(&keys.find(&key).await) }
    });
    settle().await;
    drop(held);
    assert_eq!(early.await.unwrap(), "alice", "it began before the end");
    assert_eq!(late.await.unwrap(), "unknown_token", "it does not join the reading from before");
    settle().await;
    w.check(&key, "unknown_token").await;
}

#[tokio::test]
async fn configured_keys_ask_nobody() {
    let w = world();
    let key = ApiKey::generate(&SystemEntropy::default());
    let presented = ApiKey::parse(key.expose()).unwrap();
    let json = format!(r#"{{"id":"{}","digest":"{}","user":"bob"}}"#, presented.id, presented.digest.hex());
    let mut record: Record = serde_json::from_str(&json).unwrap();
    w.keys.configure(vec![record.clone()], &OFF);
    w.asked();
    w.check(key.expose(), "bob").await;
    w.check(&format!("{}{}", &key.expose()[..17], "A".repeat(43)), "unknown_token").await;
    assert_eq!(w.keys.configured(), [record.clone()]);
    w.keys.forget(record.id);
    w.check(key.expose(), "bob").await;
    record.expires_at = Some(NOW);
    w.keys.configure(vec![record.clone()], &CACHE);
    w.check(key.expose(), "token_expired").await;
    settle().await;
    assert_eq!(w.asked(), [""; 0]);
    assert_eq!(w.keys.revoke(record.id).await, Ok(false));
    w.keys.configure(Vec::new(), &CACHE);
    w.check(key.expose(), "unknown_token").await;
    for bad in ["x", "0123456789AB", "0123456789abc"] {
        let json = format!(r#"{{"id":"{bad}","digest":"{}","user":"bob"}}"#, presented.digest.hex());
        assert!(serde_json::from_str::<Record>(&json).is_err());
    }
}

#[tokio::test]
async fn a_flood_of_made_up_ids_evicts_no_key() {
    let w = world();
    let (key, id) = w.create(alice()).await;
    w.check(&key, "alice").await;
    for _ in 0..1000 {
        w.check(ApiKey::generate(&SystemEntropy::default()).expose(), "unknown_token").await;
    }
    assert!(w.keys.len() <= 101);
    settle().await;
    w.asked();
    w.check(&key, "alice").await;
    assert!(!w.asked().contains(&format!("get {}", key_of(id).as_str())));
}

impl Keyring {
    /// Looks up a key as the gate does.
    async fn find(self: &Arc<Self>, presented: &str) -> KeyVerdict {
        let Some(key) = ApiKey::parse(presented) else {
            return KeyVerdict::Rejected(crate::telemetry::reason::Reason::UnknownToken);
        };
        match self.recall(&key) {
            Some(judged) => judged,
            None => self.look_up(&key, || Ok(())).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn who_may_not_ask_the_store_waits_for_nobody() {
    let w = world();
    let (key, _) = w.create(alice()).await;
    w.asked();
    let key = ApiKey::parse(&key).unwrap();
    let wait = Duration::from_secs(7);
    assert!(matches!(w.keys.look_up(&key, || Err(wait)).await, Err(told) if told == wait));
    assert_eq!(w.asked().len(), 0);
}
