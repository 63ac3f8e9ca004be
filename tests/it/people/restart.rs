//! A gateway that ends and begins anew: what stands in its file lives on, what was in its memory is gone.

use super::{Scene, main_route, register};
use crate::app::App;
use crate::client::{HOST, get};
use crate::gateway::{Config, Gateway};
use crate::wait::until_so;
use std::os::unix::fs::PermissionsExt;

async fn scene(store: &str) -> (Scene, Config) {
    let (provider, app) = (crate::world::provider().await, App::start().await);
    register(&provider, &format!("http://{HOST}"));
    let config = Config::default().provider("corp", provider.issuer(), "").more(store);
    let config = main_route(config, &app, "");
    let gateway = Gateway::start(&config).await;
    (Scene { provider, app, gateway }, config)
}

#[tokio::test]
async fn sessions_in_a_file_outlive_the_process() {
    let (mut scene, config) = scene("store: {backend: file}").await;
    let (mut alice, mut bob) = (scene.signed_in("alice").await, scene.signed_in("bob").await);
    let mut gone = scene.signed_in("bob").await;
    let signed_out = gone.clone();
    gone.visit("/oauth2/sign_out").await;
    let answered = {
        let mut begun = scene.person();
        let url = begun.begin("/later").await;
        (begun, super::person::consent(&scene.provider, &url, "alice").await)
    };
    let (mut spent, used) = answered.clone();
    let jar = spent.jar.clone();
    assert_eq!(spent.go_back(&used).await.outcome(), "302");
    let mut open = scene.person();
    let under_way = open.begin("/under_way").await;

    scene.gateway.restart(&config).await;
    for (person, user) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        assert_eq!(person.fetch("/x").await.outcome(), "200", "{user}");
        assert_eq!(scene.app.last().header("x-forwarded-user"), Some(user));
    }
    assert_eq!(signed_out.ask(&signed_out.dressed(get("/x"))).await.outcome(), "401 login_required");
    spent.jar = jar;
    assert_eq!(spent.go_back(&used).await.outcome(), "400 state_mismatch", "a used state stays used");
    let answer = super::person::consent(&scene.provider, &under_way, "alice").await;
    assert_eq!(open.go_back(&answer).await.outcome(), "302", "a login that was under way goes on");

    // A refresh token lives on with its session, and so does what it is exchanged for.
    scene.provider_does(|faults| faults.access_token_lifetime = 0);
    let mut carol = scene.signed_in("alice").await;
    scene.gateway.restart(&config).await;
    scene.provider_is_well();
    assert_eq!(carol.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.refreshes(), 1);
    scene.gateway.restart(&config).await;
    assert_eq!(carol.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.refreshes(), 1);
}

/// Who reads the file learns nobody's session; others of this machine cannot even read it.
#[tokio::test]
async fn the_file_tells_nobody_anything() {
    let (mut scene, config) = scene("store: {backend: file}").await;
    let mut alice = scene.signed_in("alice").await;
    assert_eq!(alice.fetch("/x").await.outcome(), "200");
    let file = scene.gateway.folder.path("doorward.db");
    scene.gateway.restart(&config).await;
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    let ticket = alice.session().as_bytes();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    for secret in [ticket, &ticket[..21], &ticket[22..], b"alice@example.com", b"Alice Adams", b"rt_", b"eyJ"] {
        assert!(!holds(secret), "{:?}", String::from_utf8_lossy(secret));
    }
    assert!(holds(b"session:"), "the file was looked at");
}

#[tokio::test]
async fn sessions_in_memory_end_with_the_process() {
    let (mut scene, config) = scene("store: {backend: memory}").await;
    let mut alice = scene.signed_in("alice").await;
    assert_eq!(alice.fetch("/x").await.outcome(), "200");
    scene.gateway.restart(&config).await;
    assert_eq!(alice.visit("/x").await.outcome(), "302 login_required");
    alice.sign_in(&scene.provider, "alice").await;
    assert_eq!(alice.fetch("/x").await.outcome(), "200");
}

/// A reload changes rules and routes under the sessions, and ends none of them.
#[tokio::test]
async fn sessions_live_through_a_reload() {
    let (scene, config) = scene("store: {backend: memory}").await;
    let mut alice = scene.signed_in("alice").await;
    let mut open = scene.person();
    let under_way = open.begin("/under_way").await;
    let mut narrow = config.clone();
    narrow.routes.clear();
    let narrow = main_route(narrow, &scene.app, "require: {groups: [nobody]}");
    scene.gateway.reload(&narrow).await;
    assert_eq!(alice.fetch("/x").await.outcome(), "403 forbidden");
    scene.gateway.reload(&config).await;
    until_so("the rule is gone", async || alice.fetch("/x").await.status == 200).await;
    let answer = super::person::consent(&scene.provider, &under_way, "alice").await;
    assert_eq!(open.go_back(&answer).await.outcome(), "302");
}
