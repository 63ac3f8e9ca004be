//! A login that goes well: what the provider is asked, what the browser is to remember, what the app is told.

use super::person::consent;
use super::{Scene, main_route};
use crate::client::{ask, get};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use doorward::demo::{Endpoint, User};
use serde_json::json;
use std::collections::BTreeMap;
use url::Url;

fn parameters(url: &Url) -> BTreeMap<String, String> {
    url.query_pairs().into_owned().collect()
}

#[tokio::test]
async fn the_authorization_request_has_all_that_protects_a_login() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let reply = person.visit("/deep/page?x=1").await;
    assert_eq!(reply.outcome(), "302 login_required");
    assert_eq!((reply.header("cache-control"), reply.body.len()), (Some("no-store"), 0));
    assert!(reply.header("x-request-id").is_some());
    let url = Url::parse(reply.header("location").unwrap()).unwrap();
    let asked = parameters(&url);
    assert_eq!(url.as_str().split('?').next().unwrap(), format!("{}/authorize", scene.provider.issuer()));
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "doorward"),
        ("redirect_uri", "http://app.test/oauth2/callback"),
        ("scope", "openid profile email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
    }
    let drawn: Vec<&String> = ["state", "nonce", "code_challenge"].iter().map(|name| &asked[*name]).collect();
    assert!(drawn.iter().all(|value| value.len() >= 43), "{drawn:?}");
    assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2] && drawn[0] != drawn[2]);
    let other = parameters(&scene.person().begin("/deep/page?x=1").await);
    assert!(["state", "nonce", "code_challenge"].iter().all(|name| other[*name] != asked[*name]), "drawn anew");

    let flow = reply.header("set-cookie").unwrap();
    assert!(flow.starts_with("doorward_flow_"), "{flow}");
    assert_eq!(flow.split_once("; ").unwrap().1, "Path=/; Max-Age=900; HttpOnly; SameSite=Lax");
    assert!(!flow.contains(&asked["state"]) && !flow.contains(&asked["nonce"]));
    assert_eq!(scene.app.count(), 0);

    person.go_back(&consent(&scene.provider, &url, "alice").await).await;
    let calls = scene.provider.calls();
    let exchange = calls.records().find(|call| call.endpoint == Endpoint::Token).unwrap();
    let verifier = exchange.param("code_verifier").unwrap();
    assert_eq!(BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref()), asked["code_challenge"]);
}

#[tokio::test]
async fn somebody_signs_in_and_the_app_is_told_who() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let target = "/deep/page?x=1&y=%2F&z=%C3%BC+a";
    let reply = person.sign_in_for(&scene.provider, "alice", target).await;
    assert_eq!(reply.header("location"), Some(target));
    assert_eq!((reply.header("cache-control"), reply.body.len()), (Some("no-store"), 0));
    let set = reply.all("set-cookie");
    let session = set.iter().find(|field| field.starts_with("doorward=")).unwrap();
    // What is left of twelve hours, in whole seconds.
    let attributes = session.split_once("; ").unwrap().1.replace("43199", "43200");
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Lax");
    assert!(person.flows().is_empty(), "the flow's cookie is over: {set:?}");
    assert_eq!(person.session().len(), 64);

    person.put("theme", "dark");
    let page = person.visit(target).await;
    assert_eq!(page.outcome(), "200");
    let told = scene.app.last();
    assert_eq!(told.target, target);
    assert_eq!(told.header("cookie"), Some("theme=dark"), "our own cookie is not for the app");
    let identity = ["user", "email", "preferred-username", "groups"];
    let identity = identity.map(|name| told.header(&format!("x-forwarded-{name}")).map(str::to_owned));
    assert_eq!(identity.map(Option::unwrap), ["alice", "alice@example.com", "alice", "admins,dev"]);
    assert_eq!(told.header("authorization"), None);

    assert_eq!(person.fetch("/api").await.outcome(), "200", "a script of the page has the session, too");
    assert_eq!(scene.calls(Endpoint::Token), 1);
    assert_eq!(scene.calls(Endpoint::UserInfo), 0, "the ID token had every claim");
    let metric = "doorward_logins_total{provider=\"corp\",result=\"ok\"}";
    assert_eq!(scene.gateway.metric(metric).await, 1.0);
}

/// A navigation is redirected, whatever else gets a status that it understands.
#[tokio::test]
async fn only_a_navigation_is_sent_to_the_login() {
    let scene = Scene::start().await;
    let person = scene.person();
    let page = |method: &str| ask(method, "/x").page();
    for (request, expected) in [
        (page("GET"), "302 login_required"),
        (page("HEAD"), "302 login_required"),
        (page("GET").with("Sec-Fetch-Mode", "navigate"), "302 login_required"),
        (get("/x").without("Accept"), "302 login_required"),
        (get("/x").set("Accept", "*/*"), "302 login_required"),
        (page("POST").body(b"a=1"), "401 login_required"),
        (page("GET").with("Sec-Fetch-Mode", "cors"), "401 login_required"),
        (page("GET").with("X-Requested-With", "XMLHttpRequest"), "401 login_required"),
        (page("GET").set("Accept", "text/event-stream"), "401 login_required"),
        (page("GET").with("Content-Type", "application/json"), "401 login_required"),
        (get("/x"), "401 login_required"),
    ] {
        let reply = person.ask(&person.dressed(request.clone())).await;
        assert_eq!(reply.outcome(), expected, "{request:?}");
        assert_eq!(reply.header("set-cookie").is_some(), expected.starts_with("302"), "{request:?}");
    }
    assert_eq!(scene.app.count(), 0);
}

#[tokio::test]
async fn two_tabs_both_end_signed_in() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let tabs = [person.begin("/one").await, person.begin("/two").await];
    assert_eq!(person.flows().len(), 2);
    for (begun, target) in tabs.iter().zip(["/one", "/two"]).rev() {
        let answer = consent(&scene.provider, begun, "alice").await;
        let reply = person.go_back(&answer).await;
        assert_eq!((reply.outcome().as_str(), reply.header("location")), ("302", Some(target)));
        assert_eq!(person.fetch(target).await.outcome(), "200");
    }
    assert!(person.flows().is_empty());
}

#[tokio::test]
async fn a_login_can_be_begun_beside_a_session() {
    let scene = Scene::start().await;
    let mut person = scene.signed_in("alice").await;
    let before = person.session().to_owned();
    let reply = person.sign_in_for(&scene.provider, "bob", "/oauth2/start?rd=/after").await;
    assert_eq!(reply.header("location"), Some("/after"));
    assert_ne!(person.session(), before);
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.app.last().header("x-forwarded-user"), Some("bob"));
    let mut old = scene.person();
    old.put("doorward", &before);
    assert_eq!(old.fetch("/x").await.outcome(), "401 login_required", "the session that was followed is over");
}

/// What an ID token lacks is asked at UserInfo; a name in any script arrives as UTF-8, encoded.
#[tokio::test]
async fn claims_come_from_both_and_in_any_script() {
    let scene = Scene::start().await;
    let claims = json!({"name": "王小明", "preferred_username": "小明", "email": "ming@example.com"});
    let claims = crate::world::object(claims);
    scene.provider.set_user(User { name: "ming".to_owned(), password: String::new(), claims });
    scene.provider_does(|faults| {
        faults.id_token_claims = crate::world::object(json!({"email": null}));
    });
    let mut person = scene.signed_in("ming").await;
    assert_eq!(scene.calls(Endpoint::UserInfo), 1);
    person.fetch("/x").await;
    let told = scene.app.last();
    assert_eq!(told.header("x-forwarded-preferred-username"), Some("%E5%B0%8F%E6%98%8E"));
    assert_eq!(told.header("x-forwarded-email"), Some("ming@example.com"), "from UserInfo");
    assert_eq!(told.header("x-forwarded-groups"), None);
    let userinfo = person.fetch("/oauth2/userinfo").await.json();
    assert_eq!((userinfo["name"].as_str(), userinfo["username"].as_str()), (Some("王小明"), Some("小明")));
    assert_eq!(scene.calls(Endpoint::UserInfo), 1, "asked once for a login, not for a request");
}

#[tokio::test]
async fn three_hundred_groups_are_no_burden() {
    let rules = "require: {groups: [\"group-299\"]}";
    let scene = Scene::with(|config, app| main_route(config, app, rules)).await;
    let groups: Vec<String> = (0..300).map(|n| format!("group-{n}")).collect();
    let claims = crate::world::object(json!({"groups": groups, "email": "many@example.com"}));
    scene.provider.set_user(User { name: "many".to_owned(), password: String::new(), claims });
    let mut person = scene.signed_in("many").await;
    assert_eq!(person.session().len(), 64, "what is known of somebody does not stand in the cookie");
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.app.last().header("x-forwarded-groups"), Some(groups.join(",").as_str()));
    let mut alice = scene.signed_in("alice").await;
    assert_eq!(alice.visit("/x").await.outcome(), "403 forbidden", "who is not of the group");
}

/// A request that is not a GET loses its body in a login, so it is not begun there; a form comes back to its page.
#[tokio::test]
async fn a_route_may_send_every_reader_to_the_login_or_nobody() {
    let scene = Scene::with(|config, app| {
        let auth = |mode: &str| format!("auth: {{provider: corp, on_unauthenticated: {mode}}}");
        ["login", "reject", "pass"].into_iter().fold(config, |config, mode| {
            config.route(mode, &format!("http://app.test/{mode}/"), &app.origin, &auth(mode))
        })
    })
    .await;
    let mut person = scene.person();
    for (target, page, program) in [
        ("/login/", "302 login_required", "302 login_required"),
        ("/reject/", "401 login_required", "401 login_required"),
        ("/pass/", "200", "200"),
    ] {
        assert_eq!(person.visit(target).await.outcome(), page, "{target}");
        assert_eq!(person.fetch(target).await.outcome(), program, "{target}");
    }
    assert_eq!(scene.app.last().header("x-forwarded-user"), None);
    person.sign_in_for(&scene.provider, "alice", "/login/").await;
    for target in ["/login/", "/reject/", "/pass/"] {
        assert_eq!(person.fetch(target).await.outcome(), "200", "{target}");
        assert_eq!(scene.app.last().header("x-forwarded-user"), Some("alice"), "{target}");
    }
}
