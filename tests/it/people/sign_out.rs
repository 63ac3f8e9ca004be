//! The end of a session by the person's own wish (L5, L10): here at once, then at the provider, and not by the wish of
//! another site.

use super::person::{Person, SESSION};
use super::{Scene, hangs, main_route};
use crate::client::{ask, get};
use crate::oidc::http;
use crate::wait::{in_time, until_so};
use doorward::demo::Endpoint;
use std::collections::BTreeMap;
use url::Url;

async fn is_signed_in(person: &Person) -> bool {
    let reply = person.ask(&person.dressed(get("/x"))).await;
    assert!(matches!(reply.outcome().as_str(), "200" | "401 login_required"), "{}", reply.outcome());
    reply.status == 200
}

#[tokio::test]
async fn a_sign_out_ends_the_session_everywhere() {
    let scene = Scene::start().await;
    let mut person = scene.signed_in("alice").await;
    let old = person.clone();
    assert!(is_signed_in(&old).await);
    let reply = person.visit("/oauth2/sign_out?rd=/public/bye").await;
    assert_eq!((reply.outcome().as_str(), reply.header("cache-control")), ("302", Some("no-store")));
    let cleared =
        ["doorward", "doorward_rounds"].map(|name| format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"));
    assert_eq!(reply.all("set-cookie"), cleared);
    assert!(!is_signed_in(&old).await, "the old cookie is refused at once");
    assert_eq!(old.clone().fetch("/oauth2/userinfo").await.outcome(), "401 login_required");

    let provider = Url::parse(reply.header("location").unwrap()).unwrap();
    let asked: BTreeMap<String, String> = provider.query_pairs().into_owned().collect();
    assert!(provider.as_str().starts_with(&format!("{}/end_session?", scene.provider.issuer())));
    assert_eq!(asked["post_logout_redirect_uri"], "http://app.test/oauth2/signed_out");
    assert_eq!(asked["id_token_hint"].split('.').count(), 3);
    assert_eq!(asked["client_id"], "doorward");
    assert!(!asked["state"].contains("bye"));

    let at_provider = http().get(provider).send().await.unwrap();
    let back = at_provider.headers()["location"].to_str().unwrap().to_owned();
    let reply = person.visit(back.strip_prefix("http://app.test").unwrap()).await;
    assert_eq!((reply.outcome().as_str(), reply.header("location")), ("302", Some("/public/bye")));
    until_so("the refresh token is revoked", async || {
        let calls = scene.provider.calls();
        calls
            .records()
            .any(|call| call.endpoint == Endpoint::Revoke && call.param("token").is_some_and(|t| t.starts_with("rt_")))
    })
    .await;
    assert_eq!(person.visit("/x").await.outcome(), "302 login_required");
}

#[tokio::test]
async fn without_a_target_one_is_told() {
    let scene = Scene::start().await;
    let mut person = scene.signed_in("alice").await;
    let reply = person.visit("/oauth2/sign_out").await;
    let at_provider = http().get(reply.header("location").unwrap()).send().await.unwrap();
    let back = at_provider.headers()["location"].to_str().unwrap().to_owned();
    let page = person.visit(back.strip_prefix("http://app.test").unwrap()).await;
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")));
    assert!(page.text().contains("<h1>Signed out</h1>") && page.header("content-security-policy").is_some());
    assert_eq!(scene.person().visit("/oauth2/signed_out").await.status, 200, "also for who never was");
    assert_eq!(scene.person().visit("/oauth2/sign_out").await.status, 302, "also for who never was");
}

#[tokio::test]
async fn another_site_cannot_end_a_session() {
    let scene = Scene::start().await;
    let person = scene.signed_in("alice").await;
    for (name, value) in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("Purpose", "prefetch"),
        ("X-Purpose", "prefetch"),
        ("X-Moz", "Prefetch"),
    ] {
        let request = person.dressed(get("/oauth2/sign_out?rd=/public/bye").page().with(name, value));
        let reply = person.ask(&request).await;
        assert_eq!((reply.status, reply.header("set-cookie")), (200, None), "{name}: {value}");
        let page = reply.text();
        assert!(page.contains("<form method=\"post\" action=\"/oauth2/sign_out\">"), "{page}");
        assert!(page.contains("name=\"rd\" value=\"/public/bye\""), "{page}");
        assert!(is_signed_in(&person).await, "{name}: {value}");
    }
    let foreign = [
        [("Origin", "http://evil.test"), ("X-Nothing", "1")],
        [("Origin", "https://app.test"), ("X-Nothing", "1")],
        [("Origin", "http://app.test:81"), ("X-Nothing", "1")],
        [("Origin", "http://app.test.evil.test"), ("X-Nothing", "1")],
        [("Origin", "null"), ("Sec-Fetch-Site", "cross-site")],
        [("Origin", "null"), ("X-Nothing", "1")],
        [("Sec-Fetch-Site", "cross-site"), ("X-Nothing", "1")],
    ];
    for fields in foreign {
        let reply = person.ask(&person.dressed(ask("POST", "/oauth2/sign_out").page().with_all(&fields))).await;
        assert_eq!(reply.outcome(), "403 bad_request", "{fields:?}");
        assert!(is_signed_in(&person).await, "{fields:?}");
    }
    let calls = scene.calls(Endpoint::Revoke);
    assert_eq!(calls, 0);
}

#[tokio::test]
async fn a_form_of_our_own_ends_the_session() {
    let scene = Scene::start().await;
    // As a page of the app sends it, and as browsers do that tell less.
    for fields in [
        &[("Origin", "http://app.test"), ("Sec-Fetch-Site", "same-origin")][..],
        &[("Origin", "http://app.test")],
        &[("Sec-Fetch-Site", "same-origin")],
        &[],
    ] {
        let mut person = scene.signed_in("alice").await;
        let old = person.clone();
        let form = ask("POST", "/oauth2/sign_out").page().with("Content-Type", "application/x-www-form-urlencoded");
        let reply = person.send(form.with_all(fields).body(b"rd=%2Fpublic%2Fbye")).await;
        assert_eq!(reply.outcome(), "302", "{fields:?}");
        assert!(!is_signed_in(&old).await && person.cookie(SESSION).is_none(), "{fields:?}");
    }
}

/// Our own page tells no referrer, and so its button sends `Origin: null` (Fetch standard, "append a request Origin header").
#[tokio::test]
async fn the_button_of_our_own_page_ends_the_session() {
    let scene = Scene::start().await;
    let mut person = scene.signed_in("alice").await;
    let old = person.clone();
    let form = ask("POST", "/oauth2/sign_out").page().with("Content-Type", "application/x-www-form-urlencoded");
    let form = form.with("Origin", "null").with("Sec-Fetch-Site", "same-origin").body(b"rd=%2F");
    assert_eq!(person.send(form).await.outcome(), "302");
    assert!(!is_signed_in(&old).await);
}

/// The person is let go whatever the provider does.
#[tokio::test]
async fn a_provider_in_trouble_keeps_nobody_signed_in() {
    let scene = Scene::start().await;
    let mut person = scene.signed_in("alice").await;
    let old = person.clone();
    scene.provider_does(hangs(Endpoint::Revoke));
    let reply = in_time("the sign-out", person.visit("/oauth2/sign_out")).await;
    assert_eq!(reply.outcome(), "302");
    assert!(!is_signed_in(&old).await);
    scene.provider_is_well();
    let mut person = scene.signed_in("alice").await;
    let old = person.clone();
    scene.provider.stop().await;
    assert_eq!(person.visit("/oauth2/sign_out").await.outcome(), "302");
    assert!(!is_signed_in(&old).await);
}

#[tokio::test]
async fn one_persons_sign_out_is_nobody_elses() {
    let scene = Scene::with(|config, app| main_route(config, app, "")).await;
    let (mut here, there, other) =
        (scene.signed_in("alice").await, scene.signed_in("alice").await, scene.signed_in("bob").await);
    here.visit("/oauth2/sign_out").await;
    assert!(is_signed_in(&there).await && is_signed_in(&other).await);
}

/// A provider without an end-session page: the person comes straight back to ours.
#[tokio::test]
async fn a_provider_that_knows_no_sign_out() {
    let (provider, app) = (crate::world::provider().await, crate::app::App::start().await);
    super::register(&provider, "http://app.test");
    provider.faults().discovery =
        crate::world::object(serde_json::json!({"end_session_endpoint": null, "revocation_endpoint": null}));
    let config = crate::gateway::Config::default().provider("corp", provider.issuer(), "");
    let gateway = crate::gateway::Gateway::start(&main_route(config, &app, "")).await;
    let scene = Scene { provider, app, gateway };
    let mut person = scene.signed_in("alice").await;
    let old = person.clone();
    let reply = person.visit("/oauth2/sign_out?rd=/bye").await;
    let location = reply.header("location").unwrap();
    let back = location.strip_prefix("http://app.test").unwrap_or(location).to_owned();
    assert!(back.starts_with("/oauth2/signed_out?"), "{back}");
    assert!(!is_signed_in(&old).await);
    assert_eq!(person.visit(&back).await.header("location"), Some("/bye"));
}

/// B7: people in many groups have ID tokens that no server takes in a URL; they are signed out at the provider all the same.
#[tokio::test]
async fn a_hint_that_is_too_long_is_left_out() {
    let scene = Scene::start().await;
    for (groups, hinted) in [(10, true), (100, false), (350, false)] {
        let ids: Vec<String> = (0..groups).map(|n| format!("0b5f8a2c-3e4d-4c6b-9f10-{n:012}")).collect();
        scene.provider_does(|faults| {
            faults.id_token_claims = crate::world::object(serde_json::json!({ "groups": ids }));
        });
        let mut person = scene.signed_in("alice").await;
        let reply = person.visit("/oauth2/sign_out").await;
        let location = reply.header("location").unwrap();
        assert!(location.len() < 3800, "{groups}: {}", location.len());
        assert_eq!(location.contains("id_token_hint="), hinted, "{groups}");
        assert!(location.contains("client_id=doorward") && location.contains("post_logout_redirect_uri="));
    }
}

/// Cognito's sign-out has parameters of its own.
#[tokio::test]
async fn a_provider_may_want_other_parameters() {
    let keys = "end_session_params: {logout_uri: \"{post_logout_redirect_uri}\", who: \"{client_id}!\", hint: \"{id_token_hint}\"}";
    let (provider, app) = (crate::world::provider().await, crate::app::App::start().await);
    super::register(&provider, "http://app.test");
    let config = crate::gateway::Config::default().provider("corp", provider.issuer(), keys);
    let gateway = crate::gateway::Gateway::start(&main_route(config, &app, "")).await;
    let mut person = Person::at(&gateway);
    person.sign_in(&provider, "alice").await;
    let reply = person.visit("/oauth2/sign_out").await;
    let asked: BTreeMap<String, String> =
        Url::parse(reply.header("location").unwrap()).unwrap().query_pairs().into_owned().collect();
    assert_eq!(asked["logout_uri"], "http://app.test/oauth2/signed_out");
    assert_eq!((asked["who"].as_str(), &asked["hint"]), ("doorward!", &asked["id_token_hint"]));
}

/// A19: a page beside ours, or a browser that does not say where it comes from but names the page.
#[tokio::test]
async fn a_sign_out_that_another_page_began_is_asked_about() {
    let scene = Scene::start().await;
    let mut person = scene.signed_in("alice").await;
    let foreign: [&[(&str, &str)]; 8] = [
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "odd")],
        &[("Referer", "https://evil.test/page")],
        &[("Referer", "http://app.test.evil.test/")],
        &[("Referer", "no URL")],
        &[("Origin", "https://evil.test")],
        &[("Sec-Purpose", "prefetch;prerender"), ("Sec-Fetch-Site", "none")],
    ];
    for fields in foreign {
        let reply = person.send(get("/oauth2/sign_out").page().with_all(fields)).await;
        assert_eq!(reply.outcome(), "200", "{fields:?}");
        assert!(reply.text().contains("<form") && reply.header("set-cookie").is_none(), "{fields:?}");
        assert!(is_signed_in(&person).await, "{fields:?}");
    }
    let own: [&[(&str, &str)]; 5] = [
        &[],
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Sec-Fetch-Site", "none")],
        &[("Referer", "http://app.test/page?x")],
        &[("Sec-Fetch-Site", "same-origin"), ("Referer", "https://odd.test/")],
    ];
    for fields in own {
        let mut person = scene.signed_in("alice").await;
        let reply = person.send(get("/oauth2/sign_out").page().with_all(fields)).await;
        assert_eq!(reply.outcome(), "302", "{fields:?}");
    }
}

/// A form is awaited where the client waits to be told to send it (RFC 9110, 10.1.1).
#[tokio::test]
async fn who_expects_to_be_told_to_send_a_form_is_told() {
    let scene = Scene::start().await;
    let person = scene.signed_in("alice").await;
    let form = b"rd=%2F";
    let head = person
        .dressed(ask("POST", "/oauth2/sign_out").page().with("Content-Type", "application/x-www-form-urlencoded"));
    let head = head.with("Origin", "http://app.test").with("Expect", "100-continue");
    let mut client = scene.gateway.connect().await;
    client.send(&head.with("Content-Length", &form.len().to_string())).await;
    assert_eq!(client.head().await.unwrap().status, 100);
    client.send_bytes(form).await;
    assert_eq!(client.reply().await.unwrap().outcome(), "302");
    assert!(!is_signed_in(&person).await);
}
