//! Sessions that outlive their access tokens (L9): a provider that rotates its refresh tokens and takes a second use of
//! one for theft sees exactly one, and nobody is logged out. An access token that lives no time at all stands for one
//! that has expired, so that nobody has to wait.

use super::{AUTH, Scene, fails_with, main_route, slow, slow_to_reply};
use crate::client::get;
use crate::wait::{free_port, until, until_so};
use doorward::demo::{Endpoint, ExpiresIn};
use std::time::Duration;

const EXCHANGED: &str = "doorward_refreshes_total{provider=\"corp\",result=\"exchanged\"}";

/// Somebody whose access token is over, at a provider that is well again.
async fn expired(scene: &Scene, user: &str) -> super::person::Person {
    scene.provider_does(|faults| faults.access_token_lifetime = 0);
    let person = scene.signed_in(user).await;
    scene.provider_is_well();
    person
}

#[tokio::test]
async fn an_expired_session_is_refreshed_before_the_app_is_asked() {
    let scene = Scene::with(|config, app| main_route(config, app, "headers: {access_token: true}")).await;
    let mut person = expired(&scene, "alice").await;
    let before = person.session().to_owned();
    let reply = person.visit("/x").await;
    assert_eq!((reply.outcome().as_str(), reply.header("set-cookie")), ("200", None));
    assert_eq!(scene.refreshes(), 1);
    assert!(scene.app.last().header("authorization").is_some_and(|token| token.starts_with("Bearer ey")));
    for _ in 0..3 {
        assert_eq!(person.fetch("/x").await.outcome(), "200");
    }
    assert_eq!((scene.refreshes(), person.session()), (1, before.as_str()));
    assert_eq!(scene.gateway.metric(EXCHANGED).await, 1.0);
}

/// Each request of a crowd asks on a connection of its own, with one session.
async fn crowd(scene: &Scene, size: usize) {
    let person = expired(scene, "alice").await;
    let before = scene.refreshes();
    // Long enough that all of them wait for the same answer.
    scene.provider_does(slow(Endpoint::Token, Duration::from_millis(300)));
    let request = person.dressed(get("/x"));
    let mut connections = Vec::new();
    for _ in 0..size {
        connections.push(person.connect().await);
    }
    let asked: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let request = request.clone();
            tokio::spawn(async move { connection.ask(&request).await.outcome() })
        })
        .collect();
    for asked in asked {
        assert_eq!(asked.await.unwrap(), "200");
    }
    assert_eq!(scene.refreshes() - before, 1, "{size} requests, one refresh token");
    scene.provider_is_well();
    assert_eq!(person.ask(&request).await.outcome(), "200");
    assert_eq!(scene.refreshes() - before, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_crowd_one_spends_the_refresh_token() {
    let scene = Scene::start().await;
    crowd(&scene, 20).await;
    crowd(&scene, 200).await;
}

#[tokio::test]
async fn a_chain_of_refreshes_uses_each_token_once() {
    let scene = Scene::start().await;
    scene.provider_does(|faults| faults.access_token_lifetime = 0);
    let mut person = scene.signed_in("alice").await;
    for n in 1..=10 {
        assert_eq!(person.fetch("/x").await.outcome(), "200", "{n}");
        assert_eq!(scene.refreshes(), n);
    }
    let calls = scene.provider.calls();
    let tokens: Vec<&str> = calls.records().filter_map(|call| call.param("refresh_token")).collect();
    let distinct: std::collections::BTreeSet<&&str> = tokens.iter().collect();
    assert_eq!(distinct.len(), 10);
}

#[tokio::test]
async fn the_first_client_hangs_up_and_nothing_is_lost() {
    let scene = Scene::start().await;
    let mut person = expired(&scene, "alice").await;
    scene.provider_does(slow_to_reply(Endpoint::Token, Duration::from_millis(500)));
    let mut connection = person.connect().await;
    connection.send(&person.dressed(get("/first"))).await;
    until_so("the refresh is under way", async || scene.refreshes() == 1).await;
    drop(connection);
    assert_eq!(person.fetch("/second").await.outcome(), "200");
    scene.provider_is_well();
    assert_eq!(person.fetch("/third").await.outcome(), "200");
    assert_eq!(scene.refreshes(), 1);
    assert_eq!(scene.gateway.metric(EXCHANGED).await, 1.0);
}

/// The same where nobody else waits: what the provider rotated is kept for the next request.
#[tokio::test]
async fn the_only_client_hangs_up_and_nothing_is_lost() {
    let scene = Scene::start().await;
    let mut person = expired(&scene, "alice").await;
    scene.provider_does(slow_to_reply(Endpoint::Token, Duration::from_millis(300)));
    let mut connection = person.connect().await;
    connection.send(&person.dressed(get("/first"))).await;
    until_so("the refresh is under way", async || scene.refreshes() == 1).await;
    drop(connection);
    until_so("the refresh ends", async || scene.gateway.metric(EXCHANGED).await == 1.0).await;
    scene.provider_is_well();
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.refreshes(), 1);
}

#[tokio::test]
async fn an_app_that_is_down_loses_no_rotated_token() {
    let scene = Scene::with(|config, app| {
        let nowhere = format!("http://127.0.0.1:{}", free_port());
        main_route(config.route("down", "http://app.test/down/", &nowhere, AUTH), app, "")
    })
    .await;
    let mut person = expired(&scene, "alice").await;
    assert_eq!(person.fetch("/down/x").await.outcome(), "502 upstream_unreachable");
    assert_eq!(scene.refreshes(), 1);
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.refreshes(), 1);
}

/// While the old token lives, nobody waits for the new one.
#[tokio::test]
async fn a_token_that_still_lives_is_renewed_beside_the_request() {
    let scene = Scene::with(|config, app| main_route(config, app, "session: {refresh: {before_expiry: 1h}}")).await;
    // It is due at the half of its life.
    scene.provider_does(|faults| faults.access_token_lifetime = 6);
    let mut person = scene.signed_in("alice").await;
    scene.provider_does(slow(Endpoint::Token, Duration::from_millis(900)));
    until("the refresh begins", async || {
        assert_eq!(person.fetch("/x").await.outcome(), "200");
        (scene.refreshes() == 1).then_some(())
    })
    .await;
    assert_eq!(scene.gateway.metric(EXCHANGED).await, 0.0, "the request did not wait for the provider");
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    until_so("the refresh ends", async || scene.gateway.metric(EXCHANGED).await == 1.0).await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.refreshes(), 1);
}

/// A provider in trouble is no trouble as long as the access token lives.
#[tokio::test]
async fn a_refresh_that_fails_early_is_not_noticed() {
    let scene = Scene::with(|config, app| main_route(config, app, "session: {refresh: {before_expiry: 1h}}")).await;
    scene.provider_does(|faults| faults.access_token_lifetime = 20);
    let mut person = scene.signed_in("alice").await;
    scene.provider_does(fails_with(Endpoint::Token, 500));
    let unavailable = "doorward_refreshes_total{provider=\"corp\",result=\"unavailable\"}";
    until("the refresh fails", async || {
        assert_eq!(person.fetch("/x").await.outcome(), "200");
        (scene.gateway.metric(unavailable).await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    scene.provider_is_well();
    until("the refresh that heals it", async || {
        assert_eq!(person.fetch("/x").await.outcome(), "200");
        (scene.gateway.metric(EXCHANGED).await >= 1.0).then_some(())
    })
    .await;
}

/// Lifetimes come as numbers, as text, or not at all.
#[tokio::test]
async fn every_way_of_telling_a_lifetime() {
    let scene = Scene::start().await;
    for (told, opaque) in [(ExpiresIn::Number, false), (ExpiresIn::Text, false), (ExpiresIn::Absent, false)] {
        scene.provider_does(|faults| {
            faults.access_token_lifetime = 0;
            faults.expires_in = told;
        });
        let mut person = scene.signed_in("alice").await;
        let before = scene.refreshes();
        scene.provider_does(|faults| {
            faults.expires_in = told;
            faults.opaque_access_tokens = opaque;
        });
        for _ in 0..3 {
            assert_eq!(person.fetch("/x").await.outcome(), "200", "{told:?}");
        }
        assert_eq!(scene.refreshes() - before, 1, "{told:?}: expired at first, then not");
    }
    // Neither the answer nor the token tells: five minutes.
    scene.provider_does(|faults| {
        faults.access_token_lifetime = 0;
        faults.expires_in = ExpiresIn::Absent;
        faults.opaque_access_tokens = true;
    });
    let before = scene.refreshes();
    let mut person = scene.signed_in("alice").await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.refreshes(), before);
}

#[tokio::test]
async fn an_answer_without_id_token_and_without_a_new_refresh_token() {
    let scene = Scene::start().await;
    let spare = |lifetime: i64| {
        move |faults: &mut doorward::demo::Faults| {
            faults.access_token_lifetime = lifetime;
            faults.refresh_without_id_token = true;
            faults.rotate_refresh_tokens = false;
        }
    };
    scene.provider_does(spare(0));
    let mut person = scene.signed_in("alice").await;
    for n in 1..=3 {
        assert_eq!(person.fetch("/x").await.outcome(), "200", "{n}");
        assert_eq!(scene.refreshes(), n, "the same refresh token serves again");
    }
    assert_eq!(scene.app.last().header("x-forwarded-groups"), Some("admins,dev"), "who it is stays known");
    scene.provider_does(spare(300));
    for _ in 0..3 {
        assert_eq!(person.fetch("/x").await.outcome(), "200");
    }
    assert_eq!(scene.refreshes(), 4);
}

/// The refreshed ID token brings what has changed.
#[tokio::test]
async fn a_refresh_brings_new_claims() {
    let scene = Scene::with(|config, app| main_route(config, app, "require: {groups: [admins]}")).await;
    let mut person = expired(&scene, "alice").await;
    scene.provider_does(|faults| {
        faults.id_token_claims = crate::world::object(serde_json::json!({"groups": ["dev"]}));
    });
    assert_eq!(person.fetch("/x").await.outcome(), "403 forbidden", "no longer of the group");
    assert_eq!(scene.refreshes(), 1);
    assert_eq!(scene.app.count(), 0);
}
