//! A session's life between login and sign-out: what is told of it, how long it lives, and whether the app gets its
//! access token.

use super::{AUTH, Scene, main_route};
use crate::client::get;
use crate::wait::until;
use crate::world::object;
use doorward::demo::Endpoint;
use serde_json::json;
use tokio::time::{Duration, Instant};

#[tokio::test]
async fn userinfo_tells_who_one_is_and_never_a_token() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    for page in [true, false] {
        let request = if page { get("/oauth2/userinfo").page() } else { get("/oauth2/userinfo") };
        assert_eq!(person.send(request).await.outcome(), "401 login_required");
    }
    let bearer = scene.provider.issue_access_token("alice", &doorward::demo::IssueOptions::default());
    assert_eq!(person.send(get("/oauth2/userinfo").bearer(&bearer)).await.outcome(), "401 login_required");
    person.sign_in(&scene.provider, "alice").await;
    let reply = person.fetch("/oauth2/userinfo").await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let mut told = object(reply.json());
    let ends = told.remove("expires_at").unwrap().as_i64().unwrap();
    let expected = json!({"user": "alice", "email": "alice@example.com", "name": "Alice Adams", "username": "alice",
        "groups": ["admins", "dev"]});
    assert_eq!(serde_json::Value::Object(told), expected);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
    assert!((now + 12 * 3600 - 60..=now + 12 * 3600).contains(&ends), "{ends}");
    assert_eq!(scene.app.count(), 0);
}

#[tokio::test]
async fn an_idle_session_ends_and_one_in_use_does_not() {
    let scene = Scene::with(|config, app| {
        main_route(config, app, "session: {idle_timeout: 2s}").more("caches: {sessions: {enabled: false}}")
    })
    .await;
    let (mut busy, mut idle) = (scene.signed_in("alice").await, scene.signed_in("bob").await);
    let begun = Instant::now();
    // Userinfo does not touch the session, so that it can be watched while it runs out.
    until("the end of the idle session", async || {
        assert_eq!(busy.fetch("/x").await.outcome(), "200");
        (idle.fetch("/oauth2/userinfo").await.status == 401).then_some(())
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
    assert_eq!(idle.fetch("/x").await.outcome(), "401 session_ended");
    let reply = idle.visit("/x").await;
    assert_eq!((reply.status, reply.header("x-doorward-reason")), (302, Some("session_ended")));
    let expired = scene.gateway.metric("doorward_sessions_total{provider=\"corp\",event=\"expired\"}").await;
    assert_eq!(expired, 1.0, "counted once, however often its cookie comes");
    until("a use beyond the idle time", async || {
        assert_eq!(busy.fetch("/x").await.outcome(), "200");
        (begun.elapsed() > Duration::from_secs(4)).then_some(())
    })
    .await;
    idle.sign_in(&scene.provider, "bob").await;
    assert_eq!(idle.fetch("/x").await.outcome(), "200");
}

#[tokio::test]
async fn a_session_ends_at_its_age_however_busy() {
    let routes = |config, app: &_| main_route(config, app, "session: {max_age: 2s}");
    let scene = Scene::with(routes).await;
    let begun = Instant::now();
    let mut person = scene.person();
    let reply = person.sign_in_for(&scene.provider, "alice", "/x").await;
    let set = reply.all("set-cookie").into_iter().find(|field| field.starts_with("doorward=")).unwrap().to_owned();
    assert!(set.contains("; Max-Age=2;") || set.contains("; Max-Age=1;"), "{set}");
    let last = until("the end of the session", async || {
        let reply = person.fetch("/x").await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(["401 login_required", "401 session_ended"].contains(&last.outcome().as_str()), "{}", last.outcome());
}

/// Each route judges by its own limits; the record lives for the most patient.
#[tokio::test]
async fn a_strict_route_beside_a_patient_one() {
    let scene = Scene::with(|config, app| {
        let strict = format!("{AUTH}, session: {{max_age: 1s}}");
        main_route(config.route("strict", "http://app.test/strict/", &app.origin, &strict), app, "")
    })
    .await;
    let mut person = scene.signed_in("alice").await;
    let last = until("the end on the strict route", async || {
        let reply = person.fetch("/strict/x").await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_eq!(last.outcome(), "401 session_ended");
    assert_eq!(person.fetch("/x").await.outcome(), "200");
}

#[tokio::test]
async fn the_access_token_goes_to_the_app_that_wants_it() {
    let scene = Scene::with(|config, app| {
        let wants = format!("{AUTH}, headers: {{access_token: true}}");
        let alone = "auth: {provider: corp, accept: [session]}, headers: {access_token: true}";
        let config = config.route("wants", "http://app.test/wants/", &app.origin, &wants);
        main_route(config.route("alone", "http://app.test/alone/", &app.origin, alone), app, "")
    })
    .await;
    let mut person = scene.signed_in("alice").await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.app.last().header("authorization"), None);
    assert_eq!(person.fetch("/wants/x").await.outcome(), "200");
    let passed = scene.app.last().header("authorization").unwrap().to_owned();
    let claims = claims_of(passed.strip_prefix("Bearer ").unwrap());
    assert_eq!((claims["sub"].as_str(), claims["client_id"].as_str()), (Some("alice"), Some("doorward")));
    assert_eq!(person.fetch("/wants/x").await.outcome(), "200", "from this replica's copy as well");
    assert_eq!(scene.app.last().header("authorization"), Some(passed.as_str()));
    let request = get("/alone/x").with("Authorization", "Basic c29tZXRoaW5nOmVsc2U=");
    assert_eq!(person.send(request).await.outcome(), "200");
    assert_eq!(scene.app.last().header("authorization"), Some(passed.as_str()), "ours, in the place of what was sent");
}

/// Without a refresh token a session lives to its own limits; its access token does not.
#[tokio::test]
async fn an_access_token_that_is_over_is_not_passed_on() {
    let keys = "headers: {access_token: true}";
    let scene = Scene::with(|config, app| main_route(config, app, keys)).await;
    scene.provider_does(|f| {
        f.issue_refresh_tokens = false;
        f.access_token_lifetime = 0;
    });
    let mut person = scene.signed_in("alice").await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.app.last().header("authorization"), None);
    assert_eq!((scene.refreshes(), scene.calls(Endpoint::Token)), (0, 1));
}

/// A session and a token beside it: the token is judged alone.
#[tokio::test]
async fn a_bearer_token_beside_a_session_is_judged_alone() {
    let scene = Scene::start().await;
    let person = scene.signed_in("alice").await;
    let bob = scene.provider.issue_access_token("bob", &doorward::demo::IssueOptions::default());
    let both = person.dressed(get("/x").bearer(&bob));
    assert_eq!(person.ask(&both).await.outcome(), "200");
    assert_eq!(scene.app.last().header("x-forwarded-user"), Some("bob"));
    let bad = person.dressed(get("/x").bearer("not-a-token"));
    assert_eq!(person.ask(&bad).await.outcome(), "401 unknown_token");
}

fn claims_of(token: &str) -> serde_json::Value {
    let payload = data_encoding::BASE64URL_NOPAD.decode(token.split('.').nth(1).unwrap().as_bytes()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// Grafana has credentials of its own: one that was not judged here reaches it, beside the person.
#[tokio::test]
async fn what_was_not_judged_reaches_grafana() {
    let scene = Scene::with(|config, app| main_route(config, app, "headers: {preset: grafana}")).await;
    let person = scene.signed_in("alice").await;
    for value in ["Basic dTpw", "ApiKey of-grafana"] {
        assert_eq!(person.ask(&person.dressed(get("/x")).with("Authorization", value)).await.outcome(), "200");
        let received = scene.app.last();
        assert_eq!((received.header("authorization"), received.header("x-webauth-user")), (Some(value), Some("alice")));
    }
    let bearer = scene.provider.issue_access_token("alice", &doorward::demo::IssueOptions::default());
    assert_eq!(person.ask(&person.dressed(get("/x")).bearer(&bearer)).await.outcome(), "200");
    assert_eq!(scene.app.last().header("authorization"), None);
}
