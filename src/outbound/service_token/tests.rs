use super::*;
use crate::kit::clock::test::SetClock;
use crate::kit::entropy::test::Counted;
use crate::provider::fake::{FakeProvider, NOW, settings, token};
use crate::provider::settings::ClientAuth;
use crate::store::memory::Memory;
use crate::telemetry::metrics::Metrics;
use serde_json::json;

struct Scene {
    clock: Arc<SetClock>,
    kv: Arc<dyn Kv>,
    provider: Arc<FakeProvider>,
    tokens: Arc<ServiceTokens>,
}

impl Scene {
    fn new() -> Self {
        let clock = Arc::new(SetClock::at(NOW));
        let kv: Arc<dyn Kv> = Arc::new(Memory::new(clock.clone()));
        let provider = FakeProvider::new(settings("https://id.test"));
        let tokens = replica(&kv, &clock);
        Scene { clock, kv, provider, tokens }
    }

    fn wanted(&self, grant: Grant, scope: &str, audience: Option<&str>) -> Arc<Wanted> {
        let secrets = Secrets::new([b"secret of the store".to_vec()]);
        let (provider, metrics) = (self.provider.clone(), Metrics::default().provider("corp"));
        Arc::new(Wanted::new(provider, metrics, secrets, grant, scope.into(), audience.map(str::to_owned)))
    }

    /// The provider will answer with this token, which lives for so long.
    fn grants(&self, token: &str, lives: Option<u64>) {
        let access = token.to_string().into();
        let lives = lives.map(Duration::from_secs);
        self.provider.grants.lock().push_back(Ok(Tokens { access, id: None, refresh: None, lives }));
    }

    fn asked(&self) -> usize {
        self.provider.asked.lock().len()
    }

    /// As a request gets it; a token that is nearly over is renewed before the next one.
    async fn own(&self, wanted: &Arc<Wanted>) -> Result<String, NoToken> {
        let place = wanted.place(None);
        let held = match self.tokens.recall(place).or_else(|| self.tokens.good(place)) {
            Some(held) => {
                if self.tokens.recall(place).is_none() && self.tokens.may_renew(place) {
                    let _ = self.tokens.renew(wanted, place, None).await;
                }
                held
            }
            None => self.tokens.renew(wanted, place, None).await?,
        };
        Ok(held.token.expose().clone())
    }
}

fn replica(kv: &Arc<dyn Kv>, clock: &Arc<SetClock>) -> Arc<ServiceTokens> {
    ServiceTokens::new(kv.clone(), clock.clone(), Arc::new(Counted::default()), Some(Duration::from_secs(10)))
}

fn subject(token: &str, name: &str) -> Option<Subject> {
    Some(Subject { token: token.to_string().into(), name: Some(name.into()) })
}

#[tokio::test]
async fn one_token_serves_until_it_is_nearly_over() {
    let mut scene = Scene::new();
    let wanted = scene.wanted(Grant::ClientCredentials, "a b", Some("app"));
    scene.grants("first", Some(3600));
    for _ in 0..3 {
        assert_eq!(scene.own(&wanted).await.as_deref(), Ok("first"));
    }
    assert_eq!(*scene.provider.asked.lock(), ["client a b app"]);
    scene.clock.advance(Duration::from_secs(3600 - 301));
    assert_eq!((scene.own(&wanted).await.as_deref(), scene.asked()), (Ok("first"), 1));
    // Another replica, or this one after a restart, finds it in the store.
    scene.tokens = replica(&scene.kv, &scene.clock);
    assert_eq!((scene.own(&wanted).await.as_deref(), scene.asked()), (Ok("first"), 1));
    scene.clock.advance(Duration::from_secs(1));
    scene.grants("second", Some(3600));
    assert_eq!(scene.own(&wanted).await.as_deref(), Ok("first"), "still good, while another is fetched");
    assert_eq!((scene.own(&wanted).await.as_deref(), scene.asked()), (Ok("second"), 2));
}

#[tokio::test]
async fn who_asks_at_once_waits_for_one_fetch() {
    let scene = Scene::new();
    let wanted = scene.wanted(Grant::ClientCredentials, "", None);
    scene.grants("only", Some(60));
    let all = futures_util::future::join_all((0..100).map(|_| scene.own(&wanted))).await;
    assert!(all.iter().all(|one| one.as_deref() == Ok("only")) && scene.asked() == 1);
}

/// Half a short life; a life that is not told is the token's own, or five minutes.
#[tokio::test]
async fn lives_of_every_kind() {
    let own = token(json!({"exp": NOW + 100}));
    for (access, lives, renewed_after) in
        [("a", Some(10), 5), ("a", Some(0), 150), ("a", None, 150), (own.as_str(), None, 50), ("a", Some(900), 600)]
    {
        let scene = Scene::new();
        let wanted = scene.wanted(Grant::ClientCredentials, "", None);
        scene.grants(access, lives);
        scene.own(&wanted).await.unwrap();
        scene.clock.advance(Duration::from_secs(renewed_after - 1));
        assert!(scene.tokens.recall(wanted.place(None)).is_some(), "{lives:?}");
        scene.clock.advance(Duration::from_secs(1));
        assert!(scene.tokens.recall(wanted.place(None)).is_none(), "{lives:?}");
    }
}

#[tokio::test]
async fn a_failure_is_kept_for_a_moment_and_a_good_token_serves_on() {
    let scene = Scene::new();
    let wanted = scene.wanted(Grant::ClientCredentials, "", None);
    for (error, expected) in [(GrantError::Unavailable, NoToken::Unavailable), (GrantError::Refused, NoToken::Refused)]
    {
        scene.provider.grants.lock().push_back(Err(error));
        let before = scene.asked();
        for _ in 0..3 {
            assert_eq!(scene.own(&wanted).await, Err(expected));
        }
        assert_eq!(scene.asked(), before + 1);
        scene.clock.advance(Duration::from_secs(5));
    }
    scene.grants("good", Some(100));
    assert_eq!(scene.own(&wanted).await.as_deref(), Ok("good"));
    scene.clock.advance(Duration::from_secs(99));
    scene.provider.grants.lock().push_back(Err(GrantError::Refused));
    assert_eq!(scene.own(&wanted).await.as_deref(), Ok("good"), "refused, and the old one is good");
    scene.clock.advance(Duration::from_secs(6));
    scene.provider.grants.lock().push_back(Err(GrantError::Refused));
    assert_eq!(scene.own(&wanted).await, Err(NoToken::Refused), "and now it is over");
}

#[tokio::test]
async fn what_differs_in_anything_is_another_token() {
    let with_secret = |secret: &str| {
        let own = settings("https://id.test");
        let client_secret = Some(secret.to_string().into());
        let own =
            crate::provider::settings::Settings { client_auth: ClientAuth::ClientSecretBasic, client_secret, ..own };
        Scene { provider: FakeProvider::new(own), ..Scene::new() }
    };
    let (scene, two) = (with_secret("one"), with_secret("two"));
    let wants = [
        scene.wanted(Grant::ClientCredentials, "", None),
        scene.wanted(Grant::ClientCredentials, "a", None),
        scene.wanted(Grant::ClientCredentials, "", Some("a")),
        scene.wanted(Grant::TokenExchange, "", None),
        two.wanted(Grant::ClientCredentials, "", None),
    ];
    for (i, one) in wants.iter().enumerate() {
        for other in &wants[..i] {
            assert_ne!(one.place(None), other.place(None));
            assert_ne!(one.shared_place(None), other.shared_place(None));
        }
        let (alice, bob) = (subject("of alice", "alice"), subject("of bob", "bob"));
        assert_ne!(one.shared_place(alice.as_ref()), one.shared_place(bob.as_ref()));
    }
}

#[tokio::test]
async fn an_exchange_is_for_its_caller_alone() {
    let scene = Scene::new();
    let wanted = scene.wanted(Grant::TokenExchange, "a", Some("app"));
    let place = |who: &str| wanted.place(Some(TokenDigest::of(who.as_bytes())));
    let (of_alice, of_bob) = (token(json!({"sub": "alice"})), token(json!({"sub": "bob"})));
    scene.grants(&of_alice, Some(60));
    let held = scene.tokens.renew(&wanted, place("alice"), subject("t1", "alice")).await.unwrap();
    assert_eq!(*held.token.expose(), of_alice);
    scene.grants(&of_alice, Some(60));
    let swapped = scene.tokens.renew(&wanted, place("bob"), subject("t2", "bob")).await;
    assert_eq!(swapped.err(), Some(NoToken::Refused), "another subject's token");
    scene.clock.advance(Duration::from_secs(5));
    scene.grants(&of_bob, Some(60));
    let held = scene.tokens.renew(&wanted, place("bob"), subject("t2", "bob")).await.unwrap();
    assert_eq!(*held.token.expose(), of_bob);
    scene.grants("opaque", Some(60));
    let held = scene.tokens.renew(&wanted, place("carol"), subject("t3", "carol")).await.unwrap();
    assert_eq!(*held.token.expose(), "opaque", "it names nobody");
    assert_eq!(*scene.provider.asked.lock(), ["t1", "t2", "t2", "t3"].map(|t| format!("token {t} a app")));
    // What the store holds opens with the caller's token alone.
    let name = HEXLOWER.encode(&wanted.shared_place(subject("t1", "alice").as_ref()));
    let found =
        async |token: &str| scene.tokens.stored(&wanted, &name, subject(token, "alice").as_ref()).await.unwrap();
    assert!(found("t1").await.is_some() && found("t2").await.is_none());
}

/// A replica that has it from the store alone uses it as long as one that fetched it.
#[tokio::test]
async fn a_token_in_the_store_outlives_the_provider() {
    let mut scene = Scene::new();
    let wanted = scene.wanted(Grant::ClientCredentials, "", None);
    scene.grants("good", Some(3600));
    assert_eq!(scene.own(&wanted).await.as_deref(), Ok("good"));
    scene.clock.advance(Duration::from_secs(3400));
    scene.tokens = replica(&scene.kv, &scene.clock);
    scene.provider.grants.lock().push_back(Err(GrantError::Unavailable));
    for _ in 0..3 {
        assert_eq!(scene.own(&wanted).await.as_deref(), Ok("good"));
    }
    assert_eq!(scene.asked(), 2, "one try in a few seconds");
    scene.clock.advance(Duration::from_secs(201));
    scene.provider.grants.lock().push_back(Err(GrantError::Unavailable));
    assert_eq!(scene.own(&wanted).await, Err(NoToken::Unavailable));
}

#[tokio::test]
async fn what_cannot_be_used_is_no_token() {
    for access in [String::new(), "a\nb".into(), token(json!({"exp": NOW - 1}))] {
        let scene = Scene::new();
        let wanted = scene.wanted(Grant::ClientCredentials, "", None);
        scene.grants(&access, None);
        assert_eq!(scene.own(&wanted).await, Err(NoToken::Refused), "{access}");
    }
}
