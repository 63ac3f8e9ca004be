//! Refreshes that bring nothing: "no" ends the session, "could not tell" does not, and an answer that cannot be believed
//! ends it as well (L7).

use super::person::{Person, consent};
use super::{Scene, fails_with, garbles, hangs, main_route, sends_100_mb, slow_to_reply};
use crate::client::get;
use crate::oidc::http;
use crate::wait::{in_time, until_so};
use crate::world::object;
use doorward::demo::{Endpoint, Faults, SigningAlgorithm};
use serde_json::json;
use std::time::Duration;

type Fault = Box<dyn Fn(&mut Faults)>;

/// Somebody whose access token is over, at a provider with this fault.
async fn expired(scene: &Scene, fault: impl FnOnce(&mut Faults)) -> Person {
    scene.provider_does(|faults| faults.access_token_lifetime = 0);
    let person = scene.signed_in("alice").await;
    scene.provider_does(fault);
    person
}

/// The session is over, for good, and a login makes a new one.
async fn check_ended(scene: &Scene, person: &mut Person, what: &str) {
    let count = scene.app.count();
    let reply = person.fetch("/x").await;
    assert_eq!(reply.outcome(), "401 session_ended", "{what}");
    assert!(reply.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer realm=")), "{what}");
    scene.provider_is_well();
    assert_eq!(person.fetch("/x").await.outcome(), "401 login_required", "{what}: it stays so");
    assert_eq!(scene.app.count(), count, "{what}");
    person.sign_in(&scene.provider, "alice").await;
    assert_eq!(person.fetch("/x").await.outcome(), "200", "{what}");
}

#[tokio::test]
async fn a_refresh_token_that_is_refused_ends_the_session() {
    let scene = Scene::start().await;
    const ERRORS: [&str; 6] = [
        "invalid_grant",
        "invalid_request",
        "interaction_required",
        "login_required",
        "consent_required",
        "account_selection_required",
    ];
    for error in ERRORS {
        let mut person = expired(&scene, |faults| faults.refresh_error = Some(error.to_owned())).await;
        check_ended(&scene, &mut person, error).await;
    }
    let denied = "doorward_refreshes_total{provider=\"corp\",result=\"denied\"}";
    assert_eq!(scene.gateway.metric(denied).await, 6.0);
    let mut person = expired(&scene, |faults| faults.refresh_error = Some("invalid_grant".to_owned())).await;
    let reply = person.visit("/wanted").await;
    assert_eq!(reply.status, 302, "a navigation goes to the login");
    scene.provider_is_well();
    let url = url::Url::parse(reply.header("location").unwrap()).unwrap();
    let reply = person.go_back(&consent(&scene.provider, &url, "alice").await).await;
    assert_eq!(reply.header("location"), Some("/wanted"));
}

/// A thief brings a refresh token that was spent: the provider ends all that came of it, and so the session.
#[tokio::test]
async fn a_refresh_token_that_was_stolen_ends_the_session() {
    let scene = Scene::start().await;
    let mut person = expired(&scene, |faults| faults.access_token_lifetime = 0).await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    let spent = {
        let calls = scene.provider.calls();
        calls.records().find_map(|call| call.param("refresh_token").map(str::to_owned)).unwrap()
    };
    let thief = http().post(format!("{}/token", scene.provider.issuer()));
    let thief = thief.basic_auth("doorward", Some("doorward-secret"));
    let thief = thief.header("content-type", "application/x-www-form-urlencoded");
    let refused = thief.body(format!("grant_type=refresh_token&refresh_token={spent}")).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    check_ended(&scene, &mut person, "reuse").await;
}

/// Neither an error of the client's nor one of the provider's says that the session is over.
#[tokio::test]
async fn what_does_not_say_no_keeps_the_session() {
    let scene = Scene::start().await;
    let error = |error: &'static str| move |faults: &mut Faults| faults.refresh_error = Some(error.to_owned());
    let faults: Vec<(&str, Fault)> = vec![
        ("500", Box::new(fails_with(Endpoint::Token, 500))),
        ("502", Box::new(fails_with(Endpoint::Token, 502))),
        ("429", Box::new(fails_with(Endpoint::Token, 429))),
        ("401 without a word", Box::new(fails_with(Endpoint::Token, 401))),
        ("400 without a word", Box::new(fails_with(Endpoint::Token, 400))),
        ("invalid_client", Box::new(error("invalid_client"))),
        ("server_error", Box::new(error("server_error"))),
        ("temporarily_unavailable", Box::new(error("temporarily_unavailable"))),
        ("no JSON", Box::new(garbles(Endpoint::Token))),
        ("100 MB", Box::new(sends_100_mb(Endpoint::Token))),
        ("it hangs", Box::new(hangs(Endpoint::Token))),
    ];
    let mut people = Vec::new();
    for (what, fault) in faults {
        let mut person = expired(&scene, fault).await;
        let asked = scene.refreshes();
        let cookie = person.session().to_owned();
        for page in [false, true] {
            let request = if page { get("/x").page() } else { get("/x") };
            let reply = in_time(what, person.send(request)).await;
            assert_eq!(reply.outcome(), "503 provider_unavailable", "{what}");
            assert!(reply.header("retry-after").is_some_and(|s| s.parse::<u32>().unwrap() > 0), "{what}");
            assert_eq!(reply.header("set-cookie"), None, "{what}");
            let way_on = "/oauth2/start?rd=%2Fx";
            assert_eq!(reply.text().contains(way_on), page, "{what}: a person can sign in anew: {}", reply.text());
        }
        assert_eq!(scene.refreshes(), asked + 1, "{what}: not asked anew by every request");
        scene.provider_is_well();
        people.push((what, cookie, person));
    }
    for (what, cookie, mut person) in people {
        until_so(&format!("{what}: it heals"), async || person.fetch("/x").await.status == 200).await;
        assert_eq!(person.session(), cookie, "{what}");
    }
    let mut person = expired(&scene, |_| {}).await;
    scene.provider.stop().await;
    assert_eq!(person.fetch("/x").await.outcome(), "503 provider_unavailable", "down");
    scene.provider.start_again().await.unwrap();
    until_so("it heals", async || person.fetch("/x").await.status == 200).await;
}

#[tokio::test]
async fn a_crowd_at_a_provider_that_hangs_waits_once_and_together() {
    let scene = Scene::start().await;
    let mut person = expired(&scene, hangs(Endpoint::Token)).await;
    let request = person.dressed(get("/x"));
    let asking = (0..20).map(|_| person.ask(&request));
    let replies = in_time("all of them", futures_util::future::join_all(asking)).await;
    assert!(replies.iter().all(|reply| reply.outcome() == "503 provider_unavailable"));
    assert_eq!(scene.refreshes(), 1);
    scene.provider_is_well();
    until_so("it heals", async || person.fetch("/x").await.status == 200).await;
}

#[tokio::test]
async fn a_refreshed_id_token_that_cannot_be_believed_ends_the_session() {
    let scene = Scene::start().await;
    let other_key = scene.provider.kid(SigningAlgorithm::Es256);
    let rsa_key = scene.provider.kid(SigningAlgorithm::Rs256);
    for claims in [
        json!({"sub": "mallory"}),
        json!({"sub": null}),
        json!({"aud": "another"}),
        json!({"iss": "https://evil.test"}),
        json!({"exp": 1}),
        json!({"exp": null}),
    ] {
        let what = claims.to_string();
        let mut person = expired(&scene, |faults| faults.id_token_claims = object(claims)).await;
        check_ended(&scene, &mut person, &what).await;
    }
    for header in [json!({"alg": "none"}), json!({"alg": "HS256"}), json!({"kid": other_key}), json!({"alg": "PS256"})]
    {
        let what = header.to_string();
        let mut person = expired(&scene, |faults| faults.id_token_header = object(header)).await;
        check_ended(&scene, &mut person, &what).await;
    }
    let signed_by_another = |faults: &mut Faults| {
        faults.id_token_algorithm = SigningAlgorithm::Ps256;
        faults.id_token_header = object(json!({"alg": "RS256", "kid": rsa_key}));
    };
    let mut person = expired(&scene, signed_by_another).await;
    check_ended(&scene, &mut person, "a signature of another kind").await;
    let userinfo_of_another = |faults: &mut Faults| {
        faults.id_token_claims = object(json!({"email": null}));
        faults.userinfo_claims = object(json!({"sub": "mallory"}));
    };
    let mut person = expired(&scene, userinfo_of_another).await;
    check_ended(&scene, &mut person, "UserInfo of another").await;
}

/// A sign-out during a refresh is the last word (L5).
#[tokio::test]
async fn a_refresh_in_flight_does_not_revive_a_session() {
    let scene = Scene::start().await;
    let slow = slow_to_reply(Endpoint::Token, Duration::from_millis(600));
    let mut person = expired(&scene, slow).await;
    let old = person.clone();
    let mut waiting = person.connect().await;
    waiting.send(&person.dressed(get("/x"))).await;
    until_so("the refresh is under way", async || scene.refreshes() == 1).await;
    assert_eq!(person.visit("/oauth2/sign_out").await.outcome(), "302");
    let waited = waiting.reply().await.unwrap();
    assert_eq!(waited.status, 401, "{}", waited.outcome());
    assert_eq!(old.ask(&old.dressed(get("/x"))).await.outcome(), "401 login_required");
    assert_eq!(scene.app.count(), 0);
    let revoked = || scene.calls(Endpoint::Revoke);
    until_so("the refresh token that came too late is revoked, too", async || revoked() == 2).await;
}

#[tokio::test]
async fn a_refresh_token_beyond_its_age_is_not_tried() {
    let keys = "session: {refresh: {max_token_age: 1s}}";
    let scene = Scene::with(|config, app| main_route(config, app, keys)).await;
    scene.provider_does(|faults| {
        faults.access_token_lifetime = 0;
        faults.rotate_refresh_tokens = false;
    });
    let mut person = scene.signed_in("alice").await;
    let last = crate::wait::until("the end of the session", async || {
        let reply = person.fetch("/x").await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_eq!(last.outcome(), "401 session_ended");
    let tried = scene.refreshes();
    assert!(tried >= 1, "a young one is tried");
    assert_eq!(person.visit("/x").await.outcome(), "302 session_ended");
    assert_eq!(scene.refreshes(), tried);
}

/// glewlwyd says no more of a dead refresh token than 400: once it may be anything, the second time it is the end.
#[tokio::test]
async fn a_refusal_without_a_word_ends_the_session_the_second_time() {
    let scene = Scene::start().await;
    let mut person = expired(&scene, fails_with(Endpoint::Token, 400)).await;
    assert_eq!(person.fetch("/x").await.outcome(), "503 provider_unavailable");
    let mut last = String::new();
    until_so("the end", async || {
        last = person.fetch("/x").await.outcome();
        last != "503 provider_unavailable"
    })
    .await;
    assert_eq!((last.as_str(), scene.refreshes()), ("401 session_ended", 2));
}

/// The user was taken out of a group; the provider sends no ID token with a refresh.
#[tokio::test]
async fn groups_are_renewed_by_userinfo() {
    let scene = Scene::start().await;
    scene.provider_does(|faults| {
        faults.access_token_lifetime = 1;
        faults.refresh_without_id_token = true;
    });
    let mut person = scene.signed_in("alice").await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.app.last().header("x-forwarded-groups"), Some("admins,dev"));
    scene.provider.faults().userinfo_claims = object(json!({"groups": ["dev"]}));
    until_so("the refresh that tells it", async || {
        assert_eq!(person.fetch("/x").await.outcome(), "200");
        scene.app.last().header("x-forwarded-groups") == Some("dev")
    })
    .await;
    // What cannot be had now is told once, stays, and is asked again.
    scene.provider.faults().status.insert(Endpoint::UserInfo, 500);
    let told = "the provider does not answer UserInfo as it should";
    until_so("the warning", async || {
        assert_eq!(person.fetch("/x").await.outcome(), "200");
        assert_eq!(scene.app.last().header("x-forwarded-groups"), Some("dev"));
        scene.gateway.log().matches(told).count() == 1
    })
    .await;
    scene.provider.faults().status.clear();
    scene.provider.faults().userinfo_claims = object(json!({"sub": "mallory"}));
    until_so("the end", async || person.fetch("/x").await.status == 401).await;
}

/// B27: whichever call finds the provider away, readiness and metrics say so; one that finds it says so, too.
#[tokio::test]
async fn whatever_call_finds_the_provider_away_is_noticed() {
    let scene = Scene::start().await;
    const UP: &str = "doorward_provider_up{provider=\"corp\"}";
    let degraded = async || scene.gateway.admin("/readyz").await.json()["degraded"].clone();
    assert_eq!((degraded().await, scene.gateway.metric(UP).await), (json!([]), 1.0));
    let mut person = expired(&scene, |_| {}).await;
    scene.provider.stop().await;
    assert_eq!(person.fetch("/x").await.outcome(), "503 provider_unavailable");
    assert_eq!((degraded().await, scene.gateway.metric(UP).await), (json!(["provider:corp"]), 0.0), "a refresh");
    scene.provider.start_again().await.unwrap();
    until_so("it is looked for", async || scene.gateway.metric(UP).await == 1.0).await;
    assert_eq!(degraded().await, json!([]));
    // A login, at a provider whose token endpoint alone is in trouble.
    let mut another = scene.person();
    let begun = another.begin("/").await;
    let answer = consent(&scene.provider, &begun, "bob").await;
    let before = scene.calls(Endpoint::Discovery);
    scene.provider_does(fails_with(Endpoint::Token, 500));
    assert_eq!(another.go_back(&answer).await.outcome(), "503 provider_unavailable");
    let told = "\"WARN\",\"message\":\"the provider does not answer\"";
    until_so("it is told once more", async || scene.gateway.log().matches(told).count() == 2).await; // the log is written beside
    until_so("it is looked for", async || scene.calls(Endpoint::Discovery) > before).await;
}
