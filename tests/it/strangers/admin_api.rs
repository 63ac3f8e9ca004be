//! The admin API of keys: who may use it, what it takes, and what it tells.

use super::{ADMIN_TOKEN, Api, STORE_SECRET, guarded, is_secret, metrics_tell_no_secret, with_admin_token};
use crate::client::{Request, ask, get};
use crate::world::World;
use serde_json::{Value, json};

const PATH: &str = "/api/v1/api-keys";

async fn world() -> World {
    World::with(|config, app| {
        with_admin_token(guarded(config))
            .more(&format!("store: {{backend: memory, secret: \"{STORE_SECRET}\"}}"))
            .route("keys", "http://app.test/keys/", &app.origin, "auth: {accept: [api_key]}")
    })
    .await
}

fn post(body: &Value) -> Request {
    ask("POST", PATH).body(body.to_string().as_bytes())
}

#[tokio::test]
async fn only_the_admin_token_opens_it() {
    let world = world().await;
    let api = Api(&world.gateway);
    let (key, id) = api.robot().await;
    let body = json!({"name": "x", "user": "x"});
    let one = format!("{PATH}/{id}");
    for request in [post(&body), get(PATH), ask("DELETE", &one), get("/api/v1/elsewhere")] {
        let good = world.token();
        for wrong in ["", "x", &ADMIN_TOKEN[1..], &format!("{ADMIN_TOKEN}x"), &ADMIN_TOKEN.to_uppercase(), &key, &good]
        {
            assert_eq!(api.send(&request.clone().bearer(wrong)).await.status, 401, "{request:?} {wrong}");
        }
        let told = api.send(&request).await;
        assert_eq!(
            (told.status, told.header("www-authenticate")),
            (401, Some("Bearer realm=\"admin\"")),
            "{request:?}"
        );
        assert_eq!(api.send(&request.clone().bearer(ADMIN_TOKEN).bearer(ADMIN_TOKEN)).await.status, 401);
        let basic = request.clone().with("Authorization", &format!("Basic {ADMIN_TOKEN}"));
        assert_eq!(api.send(&basic).await.status, 401);
        assert_eq!(api.send(&request.with("X-API-Key", &key)).await.status, 401);
    }
    assert_eq!(api.list().await.json().as_array().unwrap().len(), 1, "nothing was made");
    assert_eq!(world.outcome(&get("/keys/").with("X-API-Key", &key)).await, "200", "nothing was ended");
    let public = world.ask(&get(PATH).bearer(ADMIN_TOKEN)).await;
    assert_eq!(public.outcome(), "401 unknown_token", "the public listener knows no admin");
    metrics_tell_no_secret(&world.gateway).await;
}

#[tokio::test]
async fn without_a_token_there_is_no_api() {
    let world = World::start().await;
    for request in [get(PATH), get(PATH).bearer(""), get(PATH).bearer("x"), post(&json!({"name": "x", "user": "x"}))] {
        assert_eq!(Api(&world.gateway).send(&request).await.status, 404, "{request:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_by_its_field() {
    let world = world().await;
    let api = Api(&world.gateway);
    for (body, field) in [
        (json!({"user": "x"}), "name"),
        (json!({"name": "", "user": "x"}), "name"),
        (json!({"name": "x"}), "user"),
        (json!({"name": "x", "user": 17}), "user"),
        (json!({"name": "x", "user": "x", "email": ["a@b"]}), "email"),
        (json!({"name": "x", "user": "x", "groups": "ops"}), "groups"),
        (json!({"name": "x", "user": "x", "groups": [1]}), "groups"),
        (json!({"name": "x", "user": "x", "scopes": {}}), "scopes"),
        (json!({"name": "x", "user": "x", "routes": ["nowhere"]}), "routes"),
        (json!({"name": "x", "user": "x", "expires_in": "soon"}), "expires_in"),
        (json!({"name": "x", "user": "x", "expires_in": 60}), "expires_in"),
        (json!({"name": "x", "user": "x", "expires_in": "0s"}), "expires_in"),
        (json!({"name": "x", "user": "x", "admin": true}), "admin"),
    ] {
        let told = api.ask("POST", PATH, &body).await;
        assert_eq!((told.status, told.json()["field"].as_str()), (400, Some(field)), "{body}: {}", told.text());
    }
    for body in [&b""[..], b"{", b"[]", b"null", b"\xff", b"{\"name\": \"x\", \"user\": \"x\"} {}"] {
        let told = api.send(&ask("POST", PATH).bearer(ADMIN_TOKEN).body(body)).await;
        assert_eq!(told.status, 400, "{}", told.text());
    }
    let long = api.send(&ask("POST", PATH).bearer(ADMIN_TOKEN).body(&[b' '; 70_000])).await;
    assert_eq!(long.status, 413);
    assert_eq!(api.list().await.json(), json!([]));
}

#[tokio::test]
async fn a_list_tells_whose_keys_there_are_and_no_secret() {
    let world = world().await;
    let api = Api(&world.gateway);
    let body = json!({
        "name": "ci", "user": "robot", "email": "r@corp.test", "groups": ["g"], "scopes": ["s"], "routes": ["keys"],
        "expires_in": "90d",
    });
    let made = api.ask("POST", PATH, &body).await;
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")));
    let key = made.json()["key"].as_str().unwrap().to_owned();
    is_secret(&world.gateway, &key);
    api.robot().await;
    let listed = api.list().await;
    assert_eq!((listed.status, listed.header("cache-control")), (200, Some("no-store")));
    let first = listed.json()[0].clone();
    for name in ["name", "user", "email", "groups", "scopes", "routes"] {
        assert_eq!(first[name], body[name], "{name}");
        assert_eq!(made.json()[name], body[name], "{name}");
    }
    assert_eq!(first["id"], made.json()["id"]);
    assert!(first["created"].is_string() && first["expires_at"].is_string(), "{first}");
    let digest =
        data_encoding::HEXLOWER.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes()).as_ref());
    let text = listed.text();
    for secret in [key.as_str(), &key[17..], "dwk_", "\"key\"", "digest", &digest] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let users: Vec<_> = listed.json().as_array().unwrap().iter().map(|key| key["user"].clone()).collect();
    assert_eq!(users, ["robot", "robot"]);
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let world = world().await;
    let api = Api(&world.gateway);
    for id in ["000000000000", "x", "", "..", "a/b", "%2e"] {
        assert_eq!(api.revoke(id).await, 404, "{id:?}");
    }
    let put = ask("PUT", PATH).bearer(ADMIN_TOKEN).body(b"{}");
    let read = get(&format!("{PATH}/000000000000")).bearer(ADMIN_TOKEN);
    for (ask, allow) in [(put, "GET, POST"), (read, "DELETE")] {
        let answer = api.send(&ask).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)));
    }
    assert_eq!(api.send(&get("/api/v1/api-keysx").bearer(ADMIN_TOKEN)).await.status, 404);
}
