//! API keys as programs use them: whom the app is told, what is judged, and that no app ever sees one.

use super::{Api, FEW, STORE_SECRET, guarded, is_secret, made_up, metrics_tell_no_secret, with_admin_token};
use crate::app::App;
use crate::client::{Request, get};
use crate::gateway::{Config, Folder, Gateway, run};
use crate::websocket::{echoed, handshake};
use crate::world::World;
use serde_json::json;

const KEYS_ALONE: &str = "auth: {accept: [api_key]}";

fn with_keys(config: Config, app: &App) -> Config {
    let robots = "auth: {accept: [bearer, api_key]}, require: {groups: [robots]}";
    let writers = "auth: {accept: [bearer, api_key]}, require: {scopes: [write]}";
    let mails = "auth: {accept: [bearer, api_key]}, require: {email_domains: [corp.test]}";
    with_admin_token(guarded(config))
        .more(&format!("store: {{backend: memory, secret: \"{STORE_SECRET}\"}}"))
        .route("keys", "http://app.test/keys/", &app.origin, KEYS_ALONE)
        .route("both", "http://app.test/both/", &app.origin, "auth: {accept: [bearer, api_key]}")
        .route("robots", "http://app.test/robots/", &app.origin, robots)
        .route("writers", "http://app.test/writers/", &app.origin, writers)
        .route("mails", "http://app.test/mails/", &app.origin, mails)
}

async fn world() -> World {
    World::with(with_keys).await
}

fn in_its_field(path: &str, key: &str) -> Request {
    get(path).with("X-API-Key", key)
}

#[tokio::test]
async fn a_key_is_made_used_and_ended() {
    let world = world().await;
    let api = Api(&world.gateway);
    let (key, id) = api.robot().await;
    assert!(key.starts_with(&format!("dwk_{id}_")), "its form");
    let ways = [in_its_field("/keys/", &key), get("/keys/").bearer(&key), in_its_field("/both/", &key)];
    for request in &ways {
        assert_eq!(world.outcome(request).await, "200", "{request:?}");
        let told = world.app.last();
        assert_eq!(told.header("x-forwarded-user"), Some("robot"));
        assert_eq!((told.header("x-api-key"), told.header("authorization")), (None, None), "it never reaches the app");
    }
    assert_eq!(api.revoke(&id).await, 204);
    for request in &ways {
        assert_eq!(world.outcome(request).await, "401 unknown_token", "{request:?}");
    }
    assert_eq!(api.revoke(&id).await, 404);
    metrics_tell_no_secret(&world.gateway).await;
}

#[tokio::test]
async fn rules_and_routes_are_judged() {
    let world = world().await;
    let api = Api(&world.gateway);
    let (plain, _) = api.robot().await;
    let person =
        json!({"name": "ci", "user": "ci", "email": "ci@corp.test", "groups": ["robots", "a,b"], "scopes": ["write"]});
    let (full, _) = api.make(person).await;
    let (narrow, _) = api.make(json!({"name": "n", "user": "n", "groups": ["robots"], "routes": ["robots"]})).await;
    for (path, key, expected) in [
        ("/keys/", &plain, "200"),
        ("/robots/", &plain, "403 forbidden"),
        ("/writers/", &plain, "403 insufficient_scope"),
        ("/mails/", &plain, "403 forbidden"),
        ("/robots/", &full, "200"),
        ("/writers/", &full, "200"),
        ("/mails/", &full, "200"),
        ("/robots/", &narrow, "200"),
        ("/keys/", &narrow, "403 forbidden"),
        ("/both/", &narrow, "403 forbidden"),
    ] {
        for _ in ["read", "remembered"] {
            assert_eq!(world.outcome(&in_its_field(path, key)).await, expected, "{path}");
        }
    }
    world.ask(&in_its_field("/keys/", &full)).await;
    let told = world.app.last();
    assert_eq!(told.header("x-forwarded-email"), Some("ci@corp.test"));
    assert_eq!(told.header("x-forwarded-groups"), Some("robots,a%2Cb"));
    world.has_left(FEW, |n| in_its_field("/keys/", &made_up(n))).await; // no 403 was counted
}

#[tokio::test]
async fn a_key_ends_with_its_time() {
    let world = world().await;
    let (key, _) = Api(&world.gateway).make(json!({"name": "short", "user": "robot", "expires_in": "5s"})).await;
    assert_eq!(world.outcome(&in_its_field("/keys/", &key)).await, "200");
    crate::wait::until_so("its end", async || {
        world.outcome(&in_its_field("/keys/", &key)).await == "401 token_expired"
    })
    .await;
    assert_eq!(world.app.last().header("x-api-key"), None);
}

#[tokio::test]
async fn what_is_no_key_opens_nothing() {
    let world =
        World::with(|config, app| with_keys(config, app).more("limits: {unknown_tokens: {enabled: false}}")).await;
    let api = Api(&world.gateway);
    let ((key, id), (other, _)) = (api.robot().await, api.robot().await);
    let secret = other.splitn(3, '_').nth(2).unwrap();
    for wrong in [
        format!("dwk_{id}_{secret}"),
        format!("{key}x"),
        key[..key.len() - 1].to_owned(),
        key.to_uppercase(),
        format!("dwk_{id}_"),
        format!("dwk_{id}"),
        "dwk_".to_owned(),
        id.clone(),
        "x".repeat(5000),
    ] {
        assert_eq!(world.outcome(&in_its_field("/keys/", &wrong)).await, "401 unknown_token", "{wrong}");
        if wrong.starts_with("dwk_") {
            assert_eq!(world.outcome(&get("/keys/").bearer(&wrong)).await, "401 unknown_token", "{wrong}");
        }
    }
    // Two fields are no grant, whichever of them is good, and an empty one is none.
    for second in [&key, &other, "x"] {
        for (one, two) in [(key.as_str(), second), (second, key.as_str())] {
            let twice = in_its_field("/keys/", one).with("X-API-Key", two);
            assert_eq!(world.ask(&twice).await.status, 401, "{second}");
        }
    }
    assert_eq!(world.ask(&in_its_field("/keys/", "")).await.status, 401);
    assert_eq!(world.ask(&get("/keys/").bearer(&key).bearer(&key)).await.status, 401);
    assert_eq!(world.app.count(), 0);
}

/// A presented key is judged alone.
#[tokio::test]
async fn a_key_stands_for_itself_whatever_stands_beside() {
    let world = world().await;
    let (key, _) = Api(&world.gateway).robot().await;
    let token = world.token();
    let both = in_its_field("/both/", &key).bearer(&token);
    assert_eq!(world.outcome(&both).await, "200");
    let told = world.app.last();
    assert_eq!((told.header("x-forwarded-user"), told.header("authorization")), (Some("robot"), None));
    let wrong = in_its_field("/both/", &made_up(0)).bearer(&token);
    assert_eq!(world.outcome(&wrong).await, "401 unknown_token", "no second chance");
    assert_eq!(world.outcome(&get("/both/").bearer(&token)).await, "200");
    assert_eq!(world.app.last().header("x-forwarded-user"), Some("alice"));

    // Where no key is accepted the field is the app's own, and a key in place of a token is no token.
    assert_eq!(world.outcome(&in_its_field("/public/x", "of-the-app-itself")).await, "200");
    assert_eq!(world.app.last().header("x-api-key"), Some("of-the-app-itself"));
    assert_eq!(world.outcome(&in_its_field("/x", "of-the-app-itself").bearer(&token)).await, "200");
    assert_eq!(world.app.last().header("x-api-key"), Some("of-the-app-itself"));
    assert_eq!(world.outcome(&get("/x").bearer(&key)).await, "401 unknown_token");
    assert_eq!(world.outcome(&in_its_field("/x", &key)).await, "401 login_required");
}

/// Unknown keys count as unknown tokens do; a good one never meets the limit once it is known, and the store is not asked
/// above it.
#[tokio::test]
async fn unknown_keys_are_counted() {
    let world = world().await;
    let api = Api(&world.gateway);
    let ((key, id), (unseen, _)) = (api.robot().await, api.robot().await);
    assert_eq!(world.outcome(&in_its_field("/keys/", &key)).await, "200");
    let secret = unseen.splitn(3, '_').nth(2).unwrap().to_owned();
    world.has_left(FEW, |n| in_its_field("/keys/", &format!("dwk_{:012}_{secret}", n))).await;
    for (presented, expected) in
        [(&key, "200"), (&unseen, "429 rate_limited"), (&format!("dwk_{id}_{secret}"), "429 rate_limited")]
    {
        let reply = world.ask(&in_its_field("/keys/", presented)).await;
        assert_eq!(reply.outcome(), expected);
        assert_eq!(reply.header("retry-after").is_some(), reply.status == 429);
    }
}

/// A flood of made-up ids puts out no key.
#[tokio::test]
async fn made_up_ids_put_out_no_key() {
    let world = World::with(|config, app| {
        with_keys(config, app)
            .more("limits: {unknown_tokens: {enabled: false}}")
            .more("caches: {api_keys: {ttl: 1h, max_entries: 10}}")
    })
    .await;
    let (key, _) = Api(&world.gateway).robot().await;
    let hits = async || world.gateway.metric("doorward_cache_requests_total{cache=\"api_keys\",result=\"hit\"}").await;
    assert_eq!(world.outcome(&in_its_field("/keys/", &key)).await, "200");
    let secret = key.splitn(3, '_').nth(2).unwrap();
    let mut connection = world.gateway.connect().await;
    for n in 0..300 {
        let reply = connection.ask(&in_its_field("/keys/", &format!("dwk_{n:012}_{secret}"))).await;
        assert_eq!(reply.outcome(), "401 unknown_token");
    }
    let before = hits().await;
    assert_eq!(world.outcome(&in_its_field("/keys/", &key)).await, "200");
    assert_eq!(hits().await, before + 1.0);
}

/// A cache that is off is not looked at: a key counts and ends all the same.
#[tokio::test]
async fn keys_need_no_cache() {
    let world = World::with(|config, app| {
        let mut config = with_keys(config, app);
        config.env.push(("DOORWARD__CACHES__API_KEYS__ENABLED".to_owned(), "false".to_owned()));
        config
    })
    .await;
    let api = Api(&world.gateway);
    let (key, id) = api.robot().await;
    for _ in 0..3 {
        assert_eq!(world.outcome(&in_its_field("/keys/", &key)).await, "200");
    }
    for result in ["hit", "miss"] {
        let name = format!("doorward_cache_requests_total{{cache=\"api_keys\",result=\"{result}\"}}");
        assert_eq!(world.gateway.metric(&name).await, 0.0);
    }
    assert_eq!(api.revoke(&id).await, 204);
    assert_eq!(world.outcome(&in_its_field("/keys/", &key)).await, "401 unknown_token");
}

/// What `doorward api-key` prints is a configuration.
#[tokio::test]
async fn a_configured_key_needs_no_store() {
    let folder = Folder::new();
    let (code, printed, complaints) = run(&folder, &["api-key"], &[]).await;
    assert_eq!((code, complaints.as_str()), (0, ""));
    let key = printed.split_whitespace().find(|word| word.starts_with("dwk_")).unwrap().to_owned();
    let value = |name: &str| {
        let line = printed.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {printed}")).trim().to_owned()
    };
    let own = format!("id: {}, digest: {}", value("id:"), value("digest:"));
    let world = World::with(|config, app| {
        let keys = format!("api_keys: [{{{own}, user: conf, groups: [robots], routes: [keys, robots]}}]");
        with_keys(config, app).more(&keys)
    })
    .await;
    is_secret(&world.gateway, &key);
    for (path, expected) in [("/keys/", "200"), ("/robots/", "200"), ("/both/", "403 forbidden")] {
        assert_eq!(world.outcome(&in_its_field(path, &key)).await, expected, "{path}");
    }
    assert_eq!(world.app.last().header("x-forwarded-user"), Some("conf"));
    let api = Api(&world.gateway);
    let listed = api.list().await;
    assert_eq!(listed.json()[0]["id"], value("id:"));
    assert!(!listed.text().contains(&value("digest:")));
    assert_eq!(api.revoke(&value("id:")).await, 404, "the file alone ends it");
    assert_eq!(world.outcome(&in_its_field("/keys/", &key)).await, "200");
}

/// In the file that the gateway keeps.
#[tokio::test]
async fn a_made_key_survives_a_restart() {
    let (provider, app) = (crate::world::provider().await, App::start().await);
    let config = with_keys(crate::world::usual(&provider, &app), &app).more("store: {backend: file}");
    let mut gateway = Gateway::start(&config).await;
    let (kept, _) = Api(&gateway).robot().await;
    let (ended, id) = Api(&gateway).robot().await;
    assert_eq!(Api(&gateway).revoke(&id).await, 204);
    gateway.restart(&config).await;
    assert_eq!(gateway.ask(&in_its_field("/keys/", &kept)).await.outcome(), "200");
    assert_eq!(gateway.ask(&in_its_field("/keys/", &ended)).await.outcome(), "401 unknown_token");
}

/// `pass`: nobody is somebody without a credential, but a refused one is refused.
#[tokio::test]
async fn a_refused_key_is_not_nobody() {
    let world = World::with(|config, app| {
        let open = "auth: {accept: [bearer, api_key], on_unauthenticated: pass}";
        with_keys(config, app).route("open", "http://app.test/open/", &app.origin, open)
    })
    .await;
    let (key, _) = Api(&world.gateway).robot().await;
    for (request, expected, user) in [
        (get("/open/"), "200", None),
        (in_its_field("/open/", &key), "200", Some("robot")),
        (in_its_field("/open/", &key).with("X-API-Key", &key), "200", None),
    ] {
        assert_eq!(world.outcome(&request).await, expected);
        let told = world.app.last();
        assert_eq!((told.header("x-forwarded-user"), told.all("x-api-key").len()), (user, 0));
    }
    assert_eq!(world.outcome(&in_its_field("/open/", &made_up(0))).await, "401 unknown_token");
    assert_eq!(world.outcome(&get("/open/").bearer(&made_up(0))).await, "401 unknown_token");
}

/// A key that is ended, and an opaque token that the provider no longer vouches for, end what they opened.
#[tokio::test]
async fn streams_end_with_their_key_and_their_token() {
    let world = World::with(|config, app| {
        let config = super::introspecting(with_keys(config, app));
        config.more("caches: {unknown_tokens: {enabled: false}, introspection: {ttl: 1s}}")
    })
    .await;
    let api = Api(&world.gateway);
    let ((key, id), (other, _), token) = (api.robot().await, api.robot().await, world.opaque());
    let open = async |request: Request| {
        let mut connection = world.gateway.connect().await;
        connection.send(&request).await;
        assert_eq!(connection.head().await.unwrap().status, 101);
        assert_eq!(echoed(&mut connection, b"hello").await, b"hello");
        connection
    };
    let mut of_key = open(handshake("/keys/socket").with("X-API-Key", &key)).await;
    let mut of_other = open(handshake("/keys/socket").with("X-API-Key", &other)).await;
    let mut of_token = open(handshake("/socket").bearer(&token)).await;
    assert_eq!(api.revoke(&id).await, 204);
    assert_eq!(of_key.rest().await[..4], [0x88, 21, 3, 0xf0]);
    assert_eq!(echoed(&mut of_token, b"still here").await, b"still here");
    world.provider.revoke_token(&token);
    assert_eq!(of_token.rest().await[..4], [0x88, 21, 3, 0xf0]);
    assert_eq!(echoed(&mut of_other, b"still here").await, b"still here");
}
