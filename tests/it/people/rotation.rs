//! A provider that changes its keys (L15): its own word is not refused for want of a key, whatever strangers do meanwhile.

use super::{Person, Scene};
use crate::client::get;
use crate::oidc::http;
use crate::wait::until_so;
use crate::world::object;
use doorward::demo::{Endpoint, IssueOptions, SigningAlgorithm};
use serde_json::{Value, json};

/// Somebody whose every request refreshes.
async fn expired(scene: &Scene) -> Person {
    scene.provider_does(|faults| faults.access_token_lifetime = 0);
    scene.signed_in("alice").await
}

/// A stranger's token of a key that nobody has: the one fetch of the strangers' window.
async fn close_the_window(scene: &Scene) {
    let options = IssueOptions { header: object(json!({"kid": "nobody's"})), ..IssueOptions::default() };
    let token = scene.provider.issue_access_token("alice", &options);
    let before = scene.calls(Endpoint::Jwks);
    for _ in 0..2 {
        assert_eq!(scene.gateway.ask(&get("/x").bearer(&token)).await.outcome(), "401 invalid_token");
    }
    assert_eq!(scene.calls(Endpoint::Jwks), before + 1);
}

#[tokio::test]
async fn a_rotation_ends_no_session_and_fails_no_login() {
    let scene = Scene::start().await;
    let mut person = expired(&scene).await;
    close_the_window(&scene).await;
    scene.provider.rotate_keys();
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    // A second rotation within the window of the provider's own tokens: nobody can tell, and nobody is thrown out.
    scene.provider.rotate_keys();
    assert_eq!(person.fetch("/x").await.outcome(), "503 provider_unavailable");
    until_so("it heals", async || person.fetch("/x").await.status == 200).await;
    let mut another = scene.person();
    another.sign_in(&scene.provider, "bob").await;
    assert_eq!(another.fetch("/x").await.outcome(), "200");
}

/// The provider starts anew, with another key of the old name.
async fn replace_the_key(scene: &Scene) {
    let old = scene.provider.kid(SigningAlgorithm::Rs256);
    scene.provider.rotate_keys();
    let answer = http().get(format!("{}/jwks", scene.provider.issuer())).send().await.unwrap();
    let keys: Value = answer.json().await.unwrap();
    let new = scene.provider.kid(SigningAlgorithm::Rs256);
    let mut renamed = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == new).unwrap().clone();
    renamed["kid"] = json!(old);
    scene.provider.extra_jwks(vec![renamed]);
    scene.provider_does(|faults| {
        faults.access_token_lifetime = 0;
        faults.id_token_header = object(json!({ "kid": old }));
    });
}

#[tokio::test]
async fn another_key_of_the_same_name_is_fetched() {
    let scene = Scene::start().await;
    let mut person = expired(&scene).await;
    close_the_window(&scene).await;
    replace_the_key(&scene).await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    let mut another = scene.person();
    another.sign_in(&scene.provider, "bob").await;
}

#[tokio::test]
async fn an_operator_can_have_the_keys_read_anew() {
    let scene = Scene::start().await;
    let before = scene.calls(Endpoint::Jwks);
    scene.gateway.signal("HUP");
    until_so("the keys are read", async || scene.calls(Endpoint::Jwks) == before + 1).await;
}

/// A key that is not published yet: nobody can tell, and nobody is thrown out.
#[tokio::test]
async fn a_key_that_cannot_be_found_ends_no_session() {
    let scene = Scene::start().await;
    let mut person = expired(&scene).await;
    scene.provider_does(|faults| {
        faults.access_token_lifetime = 0;
        faults.id_token_header = object(json!({ "kid": "not-published-yet" }));
    });
    assert_eq!(person.fetch("/x").await.outcome(), "503 provider_unavailable");
    scene.provider_does(|faults| faults.access_token_lifetime = 0);
    until_so("it heals", async || person.fetch("/x").await.status == 200).await;
}
