//! A provider that is away, slow, broken or changes its keys (D3): public routes serve all the while, good tokens pass
//! as long as the keys at hand can tell, and everything heals by itself.

use crate::app::App;
use crate::client::get;
use crate::gateway::{Config, Gateway};
use crate::wait::{in_time, until_so};
use crate::world::{World, provider, usual};
use doorward::demo::{Endpoint, Faults, IssueOptions, Provider};
use serde_json::json;

/// What clients see while the provider cannot be asked.
async fn check_away(gateway: &Gateway, provider: &Provider, what: &str) {
    let token = provider.issue_access_token("alice", &IssueOptions::default());
    let (open, protected) = (get("/public/x"), get("/x").bearer(&token));
    let (public, refused) = in_time(what, async { tokio::join!(gateway.ask(&open), gateway.ask(&protected)) }).await;
    assert_eq!(public.status, 200, "{what}");
    assert_eq!(refused.outcome(), "503 provider_unavailable", "{what}");
    assert!(refused.header("retry-after").is_some_and(|s| s.parse::<u32>().unwrap() > 0), "{what}");
    let without = gateway.ask(&get("/x")).await;
    assert_eq!(without.outcome(), "401 login_required", "{what}: without a credential nobody need be asked");
    let ready = gateway.admin("/readyz").await;
    assert_eq!((ready.status, &ready.json()["waiting_for"]), (503, &json!(["provider:corp"])), "{what}");
    assert_eq!(gateway.metric("doorward_provider_up{provider=\"corp\"}").await, 0.0, "{what}");
}

async fn check_heals(gateway: &Gateway, provider: &Provider, what: &str) {
    let token = provider.issue_access_token("alice", &IssueOptions::default());
    until_so(what, async || gateway.ask(&get("/x").bearer(&token)).await.status == 200).await;
    until_so(what, async || gateway.admin("/readyz").await.status == 200).await;
    assert_eq!(gateway.metric("doorward_provider_up{provider=\"corp\"}").await, 1.0, "{what}");
}

/// Begins with the fault, and takes it away.
async fn check(what: &str, fault: impl FnOnce(&mut Faults)) {
    let (provider, app) = (provider().await, App::start().await);
    fault(&mut provider.faults());
    let gateway = Gateway::start_unready(&usual(&provider, &app)).await;
    check_away(&gateway, &provider, what).await;
    *provider.faults() = Faults::default();
    check_heals(&gateway, &provider, what).await;
}

#[tokio::test]
async fn a_provider_that_is_down_at_the_start() {
    let (provider, app) = (provider().await, App::start().await);
    provider.stop().await;
    let gateway = Gateway::start_unready(&usual(&provider, &app)).await;
    check_away(&gateway, &provider, "down").await;
    provider.start_again().await.unwrap();
    check_heals(&gateway, &provider, "up again").await;
}

/// Who comes before the provider has answered for the first time waits for it.
#[tokio::test]
async fn the_first_request_waits_for_the_first_look() {
    let (provider, app) = (provider().await, App::start().await);
    provider.faults().reply_delay.insert(Endpoint::Discovery, std::time::Duration::from_millis(500));
    let gateway = Gateway::start_unready(&usual(&provider, &app)).await;
    let token = provider.issue_access_token("alice", &IssueOptions::default());
    assert_eq!(gateway.ask(&get("/x").bearer(&token)).await.outcome(), "200");
}

#[tokio::test]
async fn a_provider_that_hangs() {
    check("discovery hangs", |faults| {
        let _ = faults.hang.insert(Endpoint::Discovery);
    })
    .await;
    check("the keys hang", |faults| {
        let _ = faults.hang.insert(Endpoint::Jwks);
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_fails() {
    check("discovery is 500", |faults| {
        let _ = faults.status.insert(Endpoint::Discovery, 500);
    })
    .await;
    check("the keys are 500", |faults| {
        let _ = faults.status.insert(Endpoint::Jwks, 500);
    })
    .await;
    check("the keys are no JSON", |faults| {
        let _ = faults.malformed.insert(Endpoint::Jwks);
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_sends_100_megabytes() {
    check("the keys are huge", |faults| {
        let _ = faults.huge.insert(Endpoint::Jwks);
    })
    .await;
    check("discovery is huge", |faults| {
        let _ = faults.huge.insert(Endpoint::Discovery);
    })
    .await;
}

/// Metadata of another issuer is no metadata (OpenID Connect Discovery, 4.3).
#[tokio::test]
async fn a_provider_that_names_another_issuer() {
    check("another issuer", |faults| {
        let _ = faults.discovery.insert("issuer".into(), "https://evil.test".into());
    })
    .await;
}

#[tokio::test]
async fn new_keys_are_fetched_once_and_vanished_ones_drop_what_they_verified() {
    let world = World::start().await;
    let old = world.token();
    assert_eq!(world.ask(&get("/x").bearer(&old)).await.status, 200);
    world.provider.rotate_keys();
    assert_eq!(world.ask(&get("/x").bearer(&old)).await.status, 200, "nobody has looked yet: the cache knows it");
    let fetched = world.provider.calls().count(Endpoint::Jwks);

    let new: Vec<String> = (0..20).map(|_| world.token()).collect();
    let mut asking = tokio::task::JoinSet::new();
    for token in &new {
        let mut connection = world.gateway.connect().await;
        let request = get("/x").bearer(token);
        asking.spawn(async move { connection.ask(&request).await.outcome() });
    }
    assert!(asking.join_all().await.iter().all(|outcome| outcome == "200"), "all who wait share one fetch");
    assert_eq!(world.provider.calls().count(Endpoint::Jwks), fetched + 1);

    let refused = world.ask(&get("/x").bearer(&old)).await;
    assert_eq!(refused.outcome(), "401 invalid_token", "its key is in the set no more");
    world.provider.rotate_keys();
    let newest = world.ask(&get("/x").bearer(&world.token())).await;
    assert_eq!(newest.outcome(), "401 invalid_token", "one fetch in 30 seconds");
    assert_eq!(world.provider.calls().count(Endpoint::Jwks), fetched + 1);
    assert_eq!(world.ask(&get("/x").bearer(&new[0])).await.status, 200);
    assert_eq!(world.gateway.metric("doorward_jwks_fetches_total{provider=\"corp\",result=\"ok\"}").await, 2.0);
}

/// Keys that nobody here can use spoil no other.
#[tokio::test]
async fn odd_keys_in_the_set_are_passed_over() {
    let (provider, app) = (provider().await, App::start().await);
    provider.extra_jwks(vec![
        json!({"kty": "EC", "crv": "secp256k1", "kid": "k", "x": "AA", "y": "AA"}),
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": provider.kid(doorward::demo::SigningAlgorithm::Rs256), "alg": "HS256"}),
        json!({"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "??"}),
        json!(17),
    ]);
    let gateway = Gateway::start(&usual(&provider, &app)).await;
    check_heals(&gateway, &provider, "with odd keys").await;
}

/// Once the keys are known, tokens are judged without the provider.
#[tokio::test]
async fn a_provider_that_goes_away_takes_nobody_along() {
    let world = World::start().await;
    let (known, fresh) = (world.token(), world.token());
    assert_eq!(world.ask(&get("/x").bearer(&known)).await.status, 200);
    world.provider.stop().await;
    for token in [&known, &fresh] {
        assert_eq!(world.ask(&get("/x").bearer(token)).await.status, 200);
    }
    world.provider.rotate_keys();
    let unknown = world.ask(&get("/x").bearer(&world.token())).await;
    assert_eq!(unknown.outcome(), "503 provider_unavailable", "whether the key is good cannot be told");
    let ready = world.gateway.admin("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"degraded": ["provider:corp"]})));
    assert_eq!(world.ask(&get("/x").bearer(&known)).await.status, 200);
}

/// A provider that takes its time holds up those alone who need it.
#[tokio::test]
async fn a_slow_provider_delays_nobody_else() {
    let world = World::start().await;
    let known = world.token();
    assert_eq!(world.ask(&get("/x").bearer(&known)).await.status, 200);
    world.provider.rotate_keys();
    world.provider.faults().hang.insert(Endpoint::Jwks);
    let unknown = get("/x").bearer(&world.token());
    let waiting = world.ask(&unknown);
    tokio::pin!(waiting);
    let others = async {
        let mut connection = world.gateway.connect().await;
        for _ in 0..20 {
            assert_eq!(connection.ask(&get("/x").bearer(&known)).await.status, 200);
        }
    };
    tokio::select! {
        biased;
        () = others => {}
        early = &mut waiting => panic!("the one who waits was answered before the others: {}", early.outcome()),
    }
    assert_eq!(in_time("the provider's time-out", waiting).await.outcome(), "503 provider_unavailable");
}

/// Two providers: what one does is no concern of the other's.
#[tokio::test]
async fn providers_fail_each_for_itself() {
    let (good, bad, app) = (provider().await, provider().await, App::start().await);
    bad.faults().status.insert(Endpoint::Discovery, 503);
    let config = Config::default().provider("good", good.issuer(), "").provider("bad", bad.issuer(), "").route(
        "both",
        "http://app.test/",
        &app.origin,
        "auth: {accept: [bearer], provider: good, bearer: [good, bad]}",
    );
    let gateway = Gateway::start_unready(&config).await;
    until_so("the good one", async || gateway.metric("doorward_provider_up{provider=\"good\"}").await == 1.0).await;
    let ask = async |provider: &Provider| {
        let token = provider.issue_access_token("alice", &IssueOptions::default());
        gateway.ask(&get("/x").bearer(&token)).await.outcome()
    };
    assert_eq!(ask(&good).await, "200");
    assert_eq!(ask(&bad).await, "503 provider_unavailable");
    assert_eq!(gateway.admin("/readyz").await.json()["waiting_for"], json!(["provider:bad"]));
    bad.faults().status.clear();
    until_so("the bad one heals", async || ask(&bad).await == "200").await;
    assert_eq!(app.last().header("x-forwarded-user"), Some("alice"));
}
