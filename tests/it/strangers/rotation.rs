//! What a moment ago was refused may be good now: a provider that changes its keys, a token whose time comes.

use super::CACHES;
use crate::client::get;
use crate::world::{World, object};
use doorward::demo::{Endpoint, IssueOptions, SigningAlgorithm};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A provider's keys are fetched for an unknown key id at most once in so long a time.
const WINDOW: Duration = Duration::from_secs(30);

fn with_kid(world: &World, algorithm: SigningAlgorithm, kid: &str) -> String {
    let options = IssueOptions { algorithm, header: object(json!({ "kid": kid })), ..IssueOptions::default() };
    world.provider.issue_access_token("alice", &options)
}

async fn published(world: &World, kid: &str) -> Value {
    let answer = crate::oidc::http().get(format!("{}/jwks", world.provider.issuer())).send().await.unwrap();
    let keys: Value = answer.json().await.unwrap();
    keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid).unwrap().clone()
}

async fn hits(world: &World) -> f64 {
    world.gateway.metric("doorward_cache_requests_total{cache=\"unknown_tokens\",result=\"hit\"}").await
}

/// This takes as long as the window, which nothing but time opens.
#[tokio::test]
async fn what_the_old_keys_refused_the_new_ones_accept() {
    let world = World::with(|config, _| config.more(CACHES)).await;
    let outcome = async |token: &str| world.ask(&get("/x").bearer(token)).await.outcome();
    let before = world.token();
    assert_eq!(outcome(&before).await, "200");
    let fetched = || world.provider.calls().count(Endpoint::Jwks);
    let at_first = fetched();
    assert_eq!(outcome(&with_kid(&world, SigningAlgorithm::Rs256, "nobody's")).await, "401 invalid_token");
    assert_eq!(fetched(), at_first + 1, "the one fetch of this window");
    let closed = Instant::now();

    let old_id = world.provider.kid(SigningAlgorithm::Es256);
    world.provider.rotate_keys();
    let mut renamed = published(&world, &world.provider.kid(SigningAlgorithm::Es256)).await;
    renamed["kid"] = json!(old_id);
    world.provider.extra_jwks(vec![renamed]);
    let fetched_by_us = fetched() - at_first - 1;
    // One of a key that is not known yet, and one that bears the id of a known key and is signed by another.
    let (unknown, wrong) = (world.token(), with_kid(&world, SigningAlgorithm::Es256, &old_id));
    assert_eq!(outcome(&unknown).await, "401 invalid_token");
    assert_eq!((outcome(&unknown).await, hits(&world).await), ("401 invalid_token".into(), 0.0), "not remembered");
    assert_eq!(outcome(&wrong).await, "401 invalid_token");
    assert_eq!((outcome(&wrong).await, hits(&world).await), ("401 invalid_token".into(), 0.0), "nor is this");
    assert_eq!(fetched(), at_first + 1 + fetched_by_us);
    assert_eq!(outcome(&before).await, "200", "until the keys are read anew");

    while outcome(&unknown).await != "200" {
        assert!(closed.elapsed() < 2 * WINDOW, "never accepted");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(fetched(), at_first + 2 + fetched_by_us);
    assert_eq!(outcome(&wrong).await, "200");
    assert_eq!(outcome(&before).await, "401 invalid_token", "what a vanished key had verified is dropped");
}

/// Where the window is open, a token of new keys is accepted at once.
#[tokio::test]
async fn new_keys_are_fetched_at_once() {
    let world = World::guarded().await;
    assert_eq!(world.outcome(&get("/x").bearer(&world.token())).await, "200");
    world.provider.rotate_keys();
    assert_eq!(world.outcome(&get("/x").bearer(&world.token())).await, "200");
}

/// Above the limit no keys are fetched on a client's behalf; another client is served.
#[tokio::test]
async fn above_the_limit_no_keys_are_fetched() {
    let world =
        World::with(|config, _| super::guarded(config).more("client_ip: {trusted_proxies: [127.0.0.1/32]}")).await;
    world.has_left(super::FEW, super::bad).await;
    world.provider.rotate_keys();
    let fetched = world.provider.calls().count(Endpoint::Jwks);
    let request = get("/x").bearer(&world.token());
    assert_eq!(world.outcome(&request).await, "429 rate_limited");
    assert_eq!(world.provider.calls().count(Endpoint::Jwks), fetched);
    assert_eq!(world.outcome(&request.clone().with("X-Forwarded-For", "192.0.2.1")).await, "200");
    assert_eq!(world.outcome(&request).await, "200", "known by now");
}

/// Four seconds before the skew lets it in; the cache would keep it for an hour.
#[tokio::test]
async fn what_comes_of_age_is_accepted() {
    let world = World::with(|config, _| config.more(CACHES)).await;
    for claim in ["nbf", "iat"] {
        let soon = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 64;
        let request = get("/x").bearer(&world.token_with(json!({ claim: soon })));
        assert_eq!(world.outcome(&request).await, "401 invalid_token");
        crate::wait::until_so("its time", async || world.outcome(&request).await == "200").await;
    }
}
