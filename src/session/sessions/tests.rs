//! Sessions and their refresh, with a scripted provider, a store that can fail and a clock that is set.

use super::*;
use crate::kit::clock::test::SetClock;
use crate::kit::entropy::SystemEntropy;
use crate::kit::seal::Secrets;
use crate::kit::setting::{Span, Wait};
use crate::provider::fake::{FakeProvider, NOW, settings, token};
use crate::provider::{GrantError, Tokens, UserInfo};
use crate::session::outcome::{Dependency, Outcome};
use crate::session::realm::Realm;
use crate::session::session::{Limits, RefreshLimits, Session};
use crate::store::faulty::Faulty;
use crate::telemetry::metrics::{Cache as CacheName, Metrics};
use crate::telemetry::requester::nobody;
use serde_json::{Value, json};

struct World {
    clock: Arc<SetClock>,
    provider: Arc<FakeProvider>,
    store: Arc<Faulty>,
    sessions: Arc<Sessions>,
    realm: Arc<Realm>,
}

const DEDUP: Dedup =
    Dedup { enabled: true, result_ttl: Wait::seconds(5), lease: Span::seconds(10), grace: Span::seconds(300) };
const REFRESH: RefreshLimits = RefreshLimits { before_expiry: Duration::from_secs(60), max_token_age: None };
const LIMITS: Limits = Limits { max_age: Duration::from_secs(3600), idle_timeout: Some(Duration::from_secs(600)) };

fn realm(provider: Arc<FakeProvider>, cookie: &str, secret: &[u8]) -> Arc<Realm> {
    let secrets = Secrets::new([secret.to_vec()]);
    let metrics = Metrics::default().provider("corp");
    Arc::new(Realm::new(provider, metrics, cookie.into(), secrets, LIMITS.max_age))
}

fn world() -> World {
    let clock = Arc::new(SetClock::at(NOW));
    let provider = FakeProvider::new(settings("https://id.test"));
    let store = Faulty::new(&clock);
    let copies = SessionCache::new(&Default::default(), Metrics::default().cache(CacheName::sessions));
    let sessions = Sessions::new(store.clone(), clock.clone(), Arc::new(SystemEntropy::default()), DEDUP, Some(copies));
    World { realm: realm(provider.clone(), "doorward", &[7; 32]), sessions: Arc::new(sessions), clock, provider, store }
}

fn identity() -> crate::provider::identity::Identity {
    let (settings, keys) = (settings("https://id.test"), crate::provider::fake::key_set(&["rs"], None));
    let token = token(json!({}));
    let read = crate::provider::jwt::Unverified::read(&token).unwrap();
    let verified = read.verify_bearer(&keys, &settings, &[], Timestamp::from_seconds(NOW)).unwrap();
    crate::provider::identity::Identity::of_token(&verified, &settings).unwrap()
}

/// A grant's tokens: an access token of 300 s, and an ID token with these changes.
fn tokens(refresh: Option<&str>, id: Option<Value>) -> Result<Tokens, GrantError> {
    let secret = |text: &str| Secret::from(text.to_string());
    Ok(Tokens {
        access: secret("access"),
        id: id.map(|changes| Secret::from(token(changes))),
        refresh: refresh.map(secret),
        lives: Some(Duration::from_secs(300)),
    })
}

impl World {
    /// Signs Alice in; returns her cookie.
    async fn sign_in(&self) -> String {
        let identity = identity();
        let now = self.clock.now();
        let hot = Hot {
            identity: Arc::new(identity),
            subject: "alice-1".into(),
            created: now.millis(),
            seen: now.millis(),
            access_expires: now.plus(Duration::from_secs(300)).millis(),
            access_life: 300_000,
            has_refresh: true,
            stale: None,
        };
        let cold = Cold {
            access: "access".into(),
            id: None,
            refresh: Some("first".into()),
            refreshed: now.millis(),
            session_id: None,
        };
        self.sessions.create(&self.realm, Login { hot, cold }).await.unwrap().expose().clone()
    }

    async fn live(&self, cookie: &str) -> Arc<Session> {
        match self.sessions.find(&self.realm, cookie).await {
            Found::Live(session) => session,
            Found::Absent => panic!("absent"),
            Found::Unavailable => panic!("away"),
        }
    }

    async fn is_absent(&self, realm: &Realm, cookie: &str) -> bool {
        matches!(self.sessions.find(realm, cookie).await, Found::Absent)
    }

    async fn refresh(&self, cookie: &str) -> &'static str {
        let session = self.live(cookie).await;
        match self.sessions.refresh(&self.realm, &session, REFRESH, nobody()).await {
            Outcome::Live(_) => "live",
            Outcome::Ended => "ended",
            Outcome::Unavailable(Dependency::Provider) => "provider away",
            Outcome::Unavailable(Dependency::Store) => "store away",
        }
    }

    fn asked(&self) -> Vec<String> {
        self.provider.asked.lock().clone()
    }
}

#[tokio::test]
async fn a_session_is_found_by_its_ticket_alone() {
    let w = world();
    let cookie = w.sign_in().await;
    assert_eq!(&*w.live(&cookie).await.hot.identity.user, "alice-1");
    assert_eq!(&*w.live(&cookie).await.hot.identity.user, "alice-1", "known by its bytes");
    assert!(w.is_absent(&realm(w.provider.clone(), "other", &[7; 32]), &cookie).await, "to another realm it is not");
    assert_eq!(&*w.live(&cookie).await.hot.identity.user, "alice-1");
    w.clock.advance(Duration::from_secs(6)); // the cache entry has expired: from the store
    assert_eq!(&*w.live(&cookie).await.hot.identity.user, "alice-1");
    let other = w.sign_in().await;
    let mixed = format!("{}{}", &cookie[..22], &other[22..]);
    for wrong in [&mixed, "", "x", &"A".repeat(64)] {
        assert!(w.is_absent(&w.realm, wrong).await, "{wrong}");
    }
    assert!(w.is_absent(&realm(w.provider.clone(), "other", &[7; 32]), &cookie).await, "another realm");
    w.clock.advance(Duration::from_secs(6)); // from the store, where the record is sealed
    assert!(w.is_absent(&realm(w.provider.clone(), "doorward", &[8; 32]), &cookie).await, "without the secret");
}

#[tokio::test]
async fn a_record_copied_elsewhere_opens_nowhere() {
    let w = world();
    let (one, two) = (w.sign_in().await, w.sign_in().await);
    let (one, two) = (Ticket::parse(&one).unwrap(), Ticket::parse(&two).unwrap());
    let stolen = w.store.get(&hot_key(&one)).await.unwrap().unwrap();
    w.store.put(&hot_key(&two), stolen.clone(), LIMITS.max_age).await.unwrap();
    assert!(w.sessions.load(&w.realm, &two).await.unwrap().is_none());
    w.store.put(&cold_key(&one), stolen.clone(), LIMITS.max_age).await.unwrap();
    assert!(w.sessions.load_cold(&w.realm, &one).await.unwrap().is_none(), "the hot part is no cold part");
    for broken in [vec![], vec![0], stolen.value[..40].to_vec(), [&stolen.value[..], &[0]].concat()] {
        w.store.put(&hot_key(&one), Entry { generation: 9, value: broken }, LIMITS.max_age).await.unwrap();
        assert!(w.sessions.load(&w.realm, &one).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn copies_spare_the_store_and_an_end_is_at_once() {
    let w = world();
    let cookie = w.sign_in().await;
    let written = w.store.asked.load(Ordering::SeqCst);
    for _ in 0..5 {
        w.live(&cookie).await;
    }
    assert_eq!(w.store.asked.load(Ordering::SeqCst), written);
    w.store.away.store(true, Ordering::SeqCst);
    w.live(&cookie).await;
    w.clock.advance(Duration::from_secs(6));
    assert!(matches!(w.sessions.find(&w.realm, &cookie).await, Found::Unavailable), "away is not absent");
    w.store.away.store(false, Ordering::SeqCst);
    let reading = w.sessions.begin_reading();
    let read_before = w.live(&cookie).await;
    let cold = w.sessions.end(&w.realm, &cookie).await.unwrap().unwrap();
    assert_eq!(cold.refresh.as_deref(), Some("first"));
    assert!(w.is_absent(&w.realm, &cookie).await);
    w.sessions.keep_cached(&w.realm, read_before, &reading); // by a request that read it before the end
    assert!(w.is_absent(&w.realm, &cookie).await);
}

/// Otherwise a session that ended elsewhere during an outage would be cached after it, and stay valid for the TTL.
#[tokio::test]
async fn what_stands_in_for_the_store_is_not_copied() {
    let w = world();
    let cookie = w.sign_in().await;
    w.clock.advance(Duration::from_secs(6));
    w.store.stands_in.store(true, Ordering::SeqCst);
    w.live(&cookie).await;
    let found = w.store.asked.load(Ordering::SeqCst);
    w.store.stands_in.store(false, Ordering::SeqCst);
    w.live(&cookie).await;
    assert_eq!(w.store.asked.load(Ordering::SeqCst), found + 1, "the store is asked again");
}

/// Another replica ended the session while a request here was reading it.
#[tokio::test]
async fn what_was_announced_since_it_was_read_is_not_copied() {
    let w = world();
    let cookie = w.sign_in().await;
    let session = w.live(&cookie).await;
    let place = TokenDigest::of(session.ticket.place().as_bytes());
    let copies = SessionCache::new(&Default::default(), Metrics::default().cache(CacheName::sessions));
    let keep = |begun| {
        let proof = TokenDigest::of(b"proof");
        copies.keep(place, proof, session.clone(), begun, w.clock.now());
        copies.find(place, proof, w.clock.now()).is_some()
    };
    let before = copies.begin();
    assert!(keep(before));
    copies.forget(TokenDigest::of(b"another"));
    assert!(keep(before), "that was of another");
    copies.forget(place);
    assert!(!keep(before));
    assert!(keep(copies.begin()));
    copies.forget_all();
    assert!(!keep(before));
    assert!(keep(copies.begin()));
}

#[tokio::test]
async fn limits_are_judged_against_the_record() {
    let w = world();
    let cookie = w.sign_in().await;
    let within = |session: &Session, limits| session.is_within(limits, w.clock.now());
    w.clock.advance(Duration::from_secs(599));
    let session = w.live(&cookie).await;
    assert!(within(&session, LIMITS));
    w.clock.advance(Duration::from_secs(1));
    assert!(!within(&session, LIMITS), "idle");
    assert!(within(&session, Limits { idle_timeout: None, ..LIMITS }));
    w.clock.advance(Duration::from_secs(3000));
    assert!(!within(&session, Limits { idle_timeout: None, ..LIMITS }), "absolute");
}

#[tokio::test]
async fn a_touch_is_written_now_and_then() {
    let w = world();
    let cookie = w.sign_in().await;
    let session = w.live(&cookie).await;
    w.sessions.touch(&w.realm, &session, LIMITS);
    w.clock.advance(Duration::from_secs(61));
    w.sessions.touch(&w.realm, &session, LIMITS);
    w.sessions.touch(&w.realm, &session, LIMITS);
    let place = hot_key(&session.ticket);
    while w.store.get(&place).await.unwrap().unwrap().generation < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(w.sessions.load(&w.realm, &session.ticket).await.unwrap().unwrap().hot.seen, w.clock.now().millis());
    assert_eq!(w.store.get(&place).await.unwrap().unwrap().generation, 2, "one touch of three");
}

#[tokio::test]
async fn many_requests_spend_one_refresh_token() {
    let w = world();
    let cookie = w.sign_in().await;
    w.clock.advance(Duration::from_secs(301));
    w.provider.grants.lock().push_back(tokens(Some("second"), Some(json!({"exp": NOW + 900, "name": "Alice B"}))));
    let held = w.provider.gate.acquire_many(1000).await.unwrap();
    let session = w.live(&cookie).await;
    let mut asking = Vec::new();
    for _ in 0..50 {
        let (sessions, realm, session) = (w.sessions.clone(), w.realm.clone(), session.clone());
        asking.push(tokio::spawn(async move {
            matches!(sessions.refresh(&realm, &session, REFRESH, nobody()).await, Outcome::Live(_))
        }));
    }
    while w.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    asking.remove(0).abort(); // the first client hangs up
    drop(held);
    for asked in asking {
        assert!(asked.await.unwrap());
    }
    assert_eq!(w.asked(), ["refresh first"]);
    let session = w.live(&cookie).await;
    assert_eq!(session.hot.identity.name.as_deref(), Some("Alice B"));
    assert!(!session.hot.has_expired(w.clock.now()));
    assert_eq!(
        w.sessions.cold(&w.realm, &session).await.unwrap().unwrap().refresh.as_deref(),
        Some("second"),
        "stored before anybody went on"
    );
    assert_eq!(w.refresh(&cookie).await, "live");
    assert_eq!(w.asked().len(), 1, "a refreshed session is not refreshed again");
}

#[tokio::test]
async fn no_is_told_from_could_not_tell() {
    for (answer, early, late) in [
        (Err(GrantError::Unavailable), "live", "provider away"),
        (Err(GrantError::Refused), "live", "provider away"),
        (Err(GrantError::Unnamed), "live", "provider away"),
        (Err(GrantError::Denied), "ended", "ended"),
        (Err(GrantError::InvalidRequest), "ended", "ended"),
        (Err(GrantError::NeedsPerson), "ended", "ended"),
    ] {
        for (seconds, expected) in [(290, early), (301, late)] {
            let w = world();
            let cookie = w.sign_in().await;
            w.clock.advance(Duration::from_secs(seconds));
            w.provider.grants.lock().push_back(answer.clone());
            assert_eq!(w.refresh(&cookie).await, expected, "{answer:?} after {seconds} s");
            assert_eq!(w.is_absent(&w.realm, &cookie).await, expected == "ended");
        }
    }
}

#[tokio::test]
async fn a_refreshed_id_token_is_judged_whole() {
    for (id, expected) in [
        (Some(json!({"sub": "mallory"})), "ended"),
        (Some(json!({"iss": "https://evil.test"})), "ended"),
        (Some(json!({"aud": "other"})), "ended"),
        (Some(json!({"exp": 1})), "ended"),
        (Some(json!({})), "live"),
        (None, "live"),
    ] {
        let w = world();
        let cookie = w.sign_in().await;
        w.clock.advance(Duration::from_secs(301));
        let id = id.map(|mut changes| {
            changes.as_object_mut().unwrap().entry("exp").or_insert(json!(NOW + 900));
            changes
        });
        w.provider.grants.lock().push_back(tokens(None, id.clone()));
        assert_eq!(w.refresh(&cookie).await, expected, "{id:?}");
    }
}

#[tokio::test]
async fn a_session_that_was_ended_meanwhile_stays_ended() {
    let w = world();
    let cookie = w.sign_in().await;
    w.clock.advance(Duration::from_secs(301));
    w.provider.grants.lock().push_back(tokens(Some("second"), None));
    let held = w.provider.gate.acquire_many(1000).await.unwrap();
    let (sessions, realm, session) = (w.sessions.clone(), w.realm.clone(), w.live(&cookie).await);
    let refreshing =
        tokio::spawn(
            async move { matches!(sessions.refresh(&realm, &session, REFRESH, nobody()).await, Outcome::Ended) },
        );
    while w.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    w.sessions.end(&w.realm, &cookie).await.unwrap();
    drop(held);
    assert!(refreshing.await.unwrap());
    assert!(w.is_absent(&w.realm, &cookie).await);
    assert_eq!(w.asked(), ["refresh first", "revoke second"], "nobody holds the new token");
}

#[tokio::test]
async fn an_old_refresh_token_is_not_tried() {
    let w = world();
    let cookie = w.sign_in().await;
    let strict = RefreshLimits { max_token_age: Some(Duration::from_secs(200)), ..REFRESH };
    w.clock.advance(Duration::from_secs(301));
    let session = w.live(&cookie).await;
    assert!(matches!(w.sessions.refresh(&w.realm, &session, strict, nobody()).await, Outcome::Ended));
    assert!(w.asked().is_empty());
    w.provider.grants.lock().push_back(tokens(Some("second"), None));
    assert_eq!(w.refresh(&cookie).await, "live", "another route may be more patient");
}

#[tokio::test]
async fn a_store_that_is_away_spends_nothing() {
    let w = world();
    let cookie = w.sign_in().await;
    w.clock.advance(Duration::from_secs(301));
    let session = w.live(&cookie).await;
    w.store.away.store(true, Ordering::SeqCst);
    let refreshed = w.sessions.refresh(&w.realm, &session, REFRESH, nobody()).await;
    assert!(matches!(refreshed, Outcome::Unavailable(Dependency::Store)));
    assert!(w.asked().is_empty());
}

/// A request reads only the hot part, which stays small whatever tokens a provider makes.
#[tokio::test]
async fn large_tokens_make_the_cold_part_large_and_no_other() {
    let w = world();
    let cookie = w.sign_in().await;
    let session = w.live(&cookie).await;
    let sizes = async || {
        let size = async |key: Key| w.store.get(&key).await.unwrap().unwrap().value.len();
        (size(hot_key(&session.ticket)).await, size(cold_key(&session.ticket)).await)
    };
    let (hot, _) = sizes().await;
    let large = || "t".repeat(6 * 1024);
    let cold = Cold { access: large(), id: Some(large()), refresh: Some(large()), refreshed: 0, session_id: None };
    assert_eq!(w.sessions.replace_cold(&w.realm, &session.ticket, &session.label, &cold, 2).await, Ok(true));
    let (hot_after, cold_after) = sizes().await;
    assert_eq!(hot_after, hot);
    assert!(hot < 2048 && cold_after < 3 * 6 * 1024 + 2048, "hot {hot}, cold {cold_after}");
}

/// A failing provider is asked once in five seconds, however many requests come.
#[tokio::test(start_paused = true)]
async fn after_a_try_that_failed_there_is_a_pause() {
    for answer in [GrantError::Unavailable, GrantError::Refused, GrantError::Unnamed] {
        let w = world();
        let cookie = w.sign_in().await;
        w.clock.advance(Duration::from_secs(301));
        w.provider.grants.lock().push_back(Err(answer));
        for _ in 0..3 {
            assert_eq!(w.refresh(&cookie).await, "provider away");
        }
        assert_eq!(w.asked().len(), 1, "{answer:?}");
        tokio::time::advance(Duration::from_secs(5)).await;
        w.provider.grants.lock().push_back(tokens(Some("second"), None));
        assert_eq!(w.refresh(&cookie).await, "live", "{answer:?}");
    }
}

/// A refusal without an error code ends the session the second time, and not before.
#[tokio::test(start_paused = true)]
async fn a_refusal_without_a_word_ends_the_session_the_second_time() {
    let w = world();
    let cookie = w.sign_in().await;
    w.clock.advance(Duration::from_secs(301));
    w.provider.grants.lock().extend([Err(GrantError::Unnamed), Err(GrantError::Unavailable), Err(GrantError::Unnamed)]);
    for expected in ["provider away", "provider away", "ended"] {
        assert_eq!(w.refresh(&cookie).await, expected);
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    assert!(w.is_absent(&w.realm, &cookie).await);
}

/// A request is answered in time, and the refresh that it started still completes.
#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_its_time() {
    let w = world();
    let cookie = w.sign_in().await;
    w.clock.advance(Duration::from_secs(301));
    w.provider.grants.lock().push_back(tokens(Some("second"), None));
    let held = w.provider.gate.acquire_many(1000).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(w.refresh(&cookie).await, "provider away");
    assert_eq!(begun.elapsed().as_secs(), 6, "the provider's time-out and a second");
    drop(held);
    while w.live(&cookie).await.hot.has_expired(w.clock.now()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(w.asked().first().map(String::as_str), Some("refresh first"));
    assert_eq!(w.asked().iter().filter(|asked| asked.starts_with("refresh")).count(), 1);
}

fn userinfo(changes: Value) -> Result<UserInfo, GrantError> {
    let mut claims = json!({"sub": "alice-1", "groups": ["new"]});
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    Ok(UserInfo::Plain(claims.as_object().unwrap().clone()))
}

/// Without an ID token the identity comes from UserInfo: a user removed from a group loses it.
#[tokio::test]
async fn a_refresh_without_an_id_token_is_told_by_userinfo() {
    let jwt = |changes: Value| Ok(UserInfo::Signed(Secret::from(token(changes))));
    for (told, expected, groups) in [
        (userinfo(json!({})), "live", Some("new")),
        (userinfo(json!({"groups": []})), "live", None),
        (userinfo(json!({"sub": "mallory"})), "ended", None),
        (userinfo(json!({"sub": null})), "ended", None),
        (jwt(json!({"groups": ["signed"]})), "live", Some("signed")),
        (jwt(json!({"sub": "mallory"})), "ended", None),
        (jwt(json!({"iss": "https://evil.test"})), "ended", None),
        (jwt(json!({"aud": "other"})), "ended", None),
        (Ok(UserInfo::Signed(Secret::from("a.b.c".to_string()))), "ended", None),
        (Err(GrantError::Refused), "live", Some("dev")),
        (Err(GrantError::Unavailable), "live", Some("dev")),
    ] {
        let w = world();
        let cookie = w.sign_in().await;
        w.clock.advance(Duration::from_secs(301));
        *w.provider.userinfo.lock() = told.clone();
        w.provider.grants.lock().push_back(tokens(Some("second"), None));
        assert_eq!(w.refresh(&cookie).await, expected, "{told:?}");
        if expected == "live" {
            let session = w.live(&cookie).await;
            assert_eq!(session.hot.identity.groups.first().map(|group| &**group), groups, "{told:?}");
            assert_eq!(session.hot.stale.is_some(), matches!(told, Err(GrantError::Unavailable)), "{told:?}");
        }
    }
}

/// UserInfo that is unavailable during a refresh is requested again after five seconds, not earlier.
#[tokio::test]
async fn what_userinfo_could_not_say_is_asked_again() {
    let w = world();
    let cookie = w.sign_in().await;
    w.clock.advance(Duration::from_secs(301));
    *w.provider.userinfo.lock() = Err(GrantError::Unavailable);
    w.provider.grants.lock().push_back(tokens(Some("second"), None));
    assert_eq!(w.refresh(&cookie).await, "live");
    let asked = || w.asked().iter().filter(|asked| asked.starts_with("userinfo")).count();
    let again = async |expected: usize| {
        w.sessions.renew_identity_beside(&w.realm, &w.live(&cookie).await, nobody);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked(), expected);
    };
    again(1).await;
    w.clock.advance(Duration::from_secs(5));
    again(2).await;
    again(2).await;
    *w.provider.userinfo.lock() = userinfo(json!({}));
    w.clock.advance(Duration::from_secs(5));
    again(3).await;
    assert_eq!(&*w.live(&cookie).await.hot.identity.groups[0], "new");
    w.clock.advance(Duration::from_secs(5));
    again(3).await;
}
