//! Login loops: a browser that signs in again and again, and never has a session, is told why.

use crate::client::{HOST, get};
use crate::people::person::SESSION;
use crate::people::{Person, Scene, consent, main_route};
use crate::wait::until;
use serde_json::Value;

/// One login through `/start`, as a proxy with `auth_request` causes it.
async fn round_by_start(scene: &Scene, person: &mut Person) {
    let reply = person.visit("/oauth2/start?rd=/x").await;
    assert_eq!(reply.outcome(), "302 login_required");
    let begun = url::Url::parse(reply.header("location").unwrap()).unwrap();
    assert_eq!(person.go_back(&consent(&scene.provider, &begun, "alice").await).await.outcome(), "302");
}

async fn why(scene: &Scene, id: &str) -> String {
    let line = until("the event", async || {
        let log = scene.gateway.log();
        let line = log.lines().find(|line| line.contains(id) && line.contains("\"event\":\"login_failed\""));
        line.map(|line| serde_json::from_str::<Value>(line).unwrap())
    })
    .await;
    assert_eq!((&line["reason"], &line["provider"]), (&"state_mismatch".into(), &"corp".into()));
    line["why"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_browser_that_drops_the_session_is_told_so() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    for _ in 0..3 {
        person.sign_in_for(&scene.provider, "alice", "/x").await;
        person.put(SESSION, "");
    }
    for target in ["/x", "/oauth2/start?rd=/x", "/oauth2/sign_in"] {
        let reply = person.visit(target).await;
        assert_eq!(reply.outcome(), "400 state_mismatch", "{target}");
        assert!(reply.text().contains("did not send the cookie of your session back"), "{}", reply.text());
        let why = why(&scene, reply.header("x-request-id").unwrap()).await;
        assert!(why.contains("login loop") && why.contains("does not come back"), "{why}");
    }
    assert_eq!(person.fetch("/x").await.outcome(), "401 login_required", "a program is answered as ever");
    assert_eq!(person.visit("/public/").await.outcome(), "200");
    let metric = "doorward_logins_total{provider=\"corp\",result=\"state_mismatch\"}";
    assert_eq!(scene.gateway.metric(metric).await, 3.0);
    scene.signed_in("alice").await; // another browser
    assert_eq!(scene.app.last().header("cookie"), None, "the cookie that counts is not for the app");
}

#[tokio::test]
async fn sessions_that_end_at_once_are_told() {
    let scene = Scene::with(|config, app| main_route(config, app, "session: {idle_timeout: 1ms}")).await;
    let mut person = scene.person();
    for _ in 0..3 {
        round_by_start(&scene, &mut person).await;
    }
    let reply = person.visit("/x").await;
    assert_eq!(reply.outcome(), "400 state_mismatch");
    assert!(reply.text().contains("did not find your session again"));
    assert!(why(&scene, reply.header("x-request-id").unwrap()).await.contains("no session is found for it"));
}

/// Three tabs that are restored at once, and then a session that is ended elsewhere, are no loop.
#[tokio::test]
async fn tabs_that_sign_in_at_once_are_no_loop() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let tabs = [person.begin("/1").await, person.begin("/2").await, person.begin("/3").await];
    for begun in &tabs {
        assert_eq!(person.go_back(&consent(&scene.provider, begun, "alice").await).await.outcome(), "302");
    }
    person.put(SESSION, "");
    assert_eq!(person.visit("/x").await.outcome(), "302 login_required");
}

/// nginx shows what `/forward` answers where `/auth` says 401.
#[tokio::test]
async fn a_proxy_that_asks_learns_of_a_loop() {
    let trusted = "client_ip: {trusted_proxies: [127.0.0.1/32]}";
    let scene = Scene::with(|config, _| config.more(trusted)).await;
    let mut person = scene.person();
    for _ in 0..3 {
        person.sign_in_for(&scene.provider, "alice", "/x").await;
        person.put(SESSION, "");
    }
    for (endpoint, outcome) in [("auth", "401 state_mismatch"), ("forward", "400 state_mismatch")] {
        let about = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/x")];
        let asked = person.dressed(get(&format!("/oauth2/{endpoint}")).page().with_all(&about));
        assert_eq!(person.ask(&asked).await.outcome(), outcome);
    }
}

#[tokio::test]
async fn who_has_a_session_may_sign_in_again() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    for _ in 0..5 {
        round_by_start(&scene, &mut person).await;
    }
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    for _ in 0..4 {
        assert_eq!(person.visit("/oauth2/sign_out").await.outcome(), "302");
        person.sign_in_for(&scene.provider, "alice", "/x").await;
    }
}
