//! Keys on replicas that share a Redis: what one of them made or ended counts on the others, though they remember
//! otherwise; and where the store cannot be asked, nobody is refused.

use super::server::RedisServer;
use super::{Api, FEW, STORE_SECRET, guarded, is_secret, metrics_tell_no_secret, with_admin_token};
use crate::app::App;
use crate::client::{Request, get};
use crate::gateway::{Config, Folder, Gateway, run};
use crate::wait::{in_time, until_so};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

const STORE_UP: &str = "doorward_store_up";

fn sharing(app: &App, url: &str) -> Config {
    let times = "command_timeout: 5s, breaker: {failures: 5, cooldown: 1s}";
    let store = format!("{{backend: redis, secret: \"{STORE_SECRET}\", redis: {{urls: [\"{url}\"], {times}}}}}");
    let config = Config::default().route("keys", "http://app.test/", &app.origin, "auth: {accept: [api_key]}");
    let config = with_admin_token(guarded(config)).more(&format!("store: {store}"));
    config.provider("corp", "http://127.0.0.1:9", "")
}

fn with_key(key: &str) -> Request {
    get("/x").with("X-API-Key", key)
}

async fn outcome(gateway: &Gateway, key: &str) -> String {
    gateway.ask(&with_key(key)).await.outcome()
}

/// Stands before a Redis and holds back the write of a key's record until the test says so.
struct Turnstile {
    url: String,
    /// The id of the key, as soon as its record is about to be written.
    id: oneshot::Receiver<String>,
    open: watch::Sender<bool>,
}

impl Turnstile {
    async fn before(redis: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/0", listener.local_addr().unwrap());
        let ((tell, id), (open, is_open)) = (oneshot::channel(), watch::channel(false));
        let (tell, port) = (Arc::new(Mutex::new(Some(tell))), redis.port);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((from_client, mut to_client), (mut from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let (tell, mut is_open) = (tell.clone(), is_open.clone());
                tokio::spawn(async move {
                    let (mut from_client, mut to_server, mut bytes) = (from_client, to_server, vec![0; 65_536]);
                    while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                        if let Some(id) = id_in(&bytes[..read]) {
                            let tell = tell.lock().unwrap().take();
                            tell.map(|tell| tell.send(id));
                            let _ = is_open.wait_for(|open| *open).await;
                        }
                        if to_server.write_all(&bytes[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Turnstile { url, id, open }
    }
}

fn id_in(command: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(command);
    Some(text.split_once("{api_key:")?.1.get(..12)?.to_owned())
}

/// The second replica refuses the very id, and remembers that, while the first is about to write it.
#[tokio::test]
async fn a_key_made_elsewhere_works_though_its_id_was_refused_a_moment_before() {
    let (redis, app) = (RedisServer::start().await, App::start().await);
    let turnstile = Turnstile::before(&redis).await;
    let unlimited = |url: &str| sharing(&app, url).more("limits: {unknown_tokens: {enabled: false}}");
    let a = Gateway::start_unready(&unlimited(&turnstile.url)).await;
    let b = Gateway::start_unready(&unlimited(redis.url())).await;
    for gateway in [&a, &b] {
        until_so("the store", async || gateway.metric(STORE_UP).await == 1.0).await;
    }
    let (api, open) = (Api(&a), turnstile.open);
    let making = api.robot();
    let refusing = async {
        let id = in_time("a record to be written", turnstile.id).await.unwrap();
        let guessed = format!("dwk_{id}_{}", "A".repeat(43));
        is_secret(&b, &guessed);
        for _ in ["asked", "remembered"] {
            assert_eq!(outcome(&b, &guessed).await, "401 unknown_token");
        }
        let hits = b.metric("doorward_cache_requests_total{cache=\"api_keys\",result=\"hit\"}").await;
        assert_eq!(hits, 1.0, "it is remembered that there is none");
        open.send(true).unwrap();
        id
    };
    let ((key, id), refused) = tokio::join!(making, refusing);
    is_secret(&b, &key);
    assert_eq!(id, refused);
    assert_eq!(outcome(&a, &key).await, "200");
    until_so("it works on the other", async || outcome(&b, &key).await == "200").await;
    for gateway in [&a, &b] {
        metrics_tell_no_secret(gateway).await;
    }
}

/// Somebody has written over the list of keys: those that were made go on, and others can be made.
#[tokio::test]
async fn a_list_that_is_none_is_begun_anew() {
    let (redis, app) = (RedisServer::start().await, App::start().await);
    let gateway = Gateway::start_unready(&sharing(&app, redis.url())).await;
    until_so("the store", async || gateway.metric(STORE_UP).await == 1.0).await;
    let (before, _) = Api(&gateway).robot().await;
    is_secret(&gateway, &before);
    let places = redis.keys("doorward:*api_keys*").await;
    assert_eq!(places.len(), 1, "{places:?}");
    redis.set(&places[0], b"garbage").await;
    let (after, id) = Api(&gateway).robot().await;
    is_secret(&gateway, &after);
    for key in [&before, &after] {
        assert_eq!(outcome(&gateway, key).await, "200");
    }
    let listed = Api(&gateway).list().await.json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &id.into()));
}

#[tokio::test]
async fn a_key_ended_elsewhere_is_refused() {
    let (redis, app) = (RedisServer::start().await, App::start().await);
    let a = Gateway::start_unready(&sharing(&app, redis.url())).await;
    let b = Gateway::start_unready(&sharing(&app, redis.url())).await;
    for gateway in [&a, &b] {
        until_so("the store", async || gateway.metric(STORE_UP).await == 1.0).await;
    }
    for (here, there) in [(&a, &b), (&b, &a)] {
        let (key, id) = Api(here).robot().await;
        is_secret(there, &key);
        for gateway in [here, there, there] {
            assert_eq!(outcome(gateway, &key).await, "200");
        }
        assert_eq!(Api(there).list().await.json()[0]["id"], id);
        assert_eq!(Api(here).revoke(&id).await, 204);
        assert_eq!(outcome(here, &key).await, "401 unknown_token");
        until_so("it is refused on the other", async || outcome(there, &key).await == "401 unknown_token").await;
        assert_eq!(outcome(there, &key).await, "401 unknown_token");
        assert_eq!(Api(there).list().await.text(), "[]");
    }
}

/// An unread key is neither good nor bad then, and nobody is charged; what stands in the file goes on.
#[tokio::test]
async fn a_store_that_is_away_refuses_nobody() {
    let (mut redis, app, folder) = (RedisServer::start().await, App::start().await, Folder::new());
    let (_, printed, _) = run(&folder, &["api-key"], &[]).await;
    let word_after = |name: &str| printed.split_whitespace().skip_while(|word| *word != name).nth(1).unwrap();
    let configured = printed.split_whitespace().find(|word| word.starts_with("dwk_")).unwrap();
    let own = format!("api_keys: [{{id: {}, digest: {}, user: conf}}]", word_after("id:"), word_after("digest:"));
    let gateway = Gateway::start_unready(&sharing(&app, redis.url()).more(&own)).await;
    until_so("the store", async || gateway.metric(STORE_UP).await == 1.0).await;
    is_secret(&gateway, configured);
    let ((known, _), (unread, id)) = (Api(&gateway).robot().await, Api(&gateway).robot().await);
    let made_up = format!("dwk_000000000000_{}", &unread[17..]);
    assert_eq!(outcome(&gateway, &known).await, "200");

    redis.kill();
    for _ in 0..2 * FEW {
        for key in [&unread, &made_up] {
            let reply = gateway.ask(&with_key(key)).await;
            assert_eq!(reply.outcome(), "503 store_unavailable");
            assert!(reply.header("retry-after").is_some());
        }
        let of_known = outcome(&gateway, &known).await;
        assert!(matches!(of_known.as_str(), "200" | "503 store_unavailable"), "{of_known}");
        assert_eq!(outcome(&gateway, configured).await, "200");
    }
    let api = Api(&gateway);
    let body = serde_json::json!({"name": "x", "user": "x"});
    assert_eq!(api.ask("POST", "/api/v1/api-keys", &body).await.status, 503);
    assert_eq!((api.list().await.status, api.revoke(&id).await), (503, 503));

    redis.begin().await;
    until_so("the store is available again", async || outcome(&gateway, &unread).await == "200").await;
    for _ in 0..FEW {
        assert_eq!(outcome(&gateway, &made_up).await, "401 unknown_token");
    }
    assert_eq!(outcome(&gateway, &made_up).await, "429 rate_limited");
}

/// Redis lost its data: made keys are gone with it, the file's stay.
#[tokio::test]
async fn an_emptied_store_ends_no_configured_key() {
    let (mut redis, app, folder) = (RedisServer::start().await, App::start().await, Folder::new());
    let (_, printed, _) = run(&folder, &["api-key"], &[]).await;
    let word_after = |name: &str| printed.split_whitespace().skip_while(|word| *word != name).nth(1).unwrap();
    let configured = printed.split_whitespace().find(|word| word.starts_with("dwk_")).unwrap();
    let own = format!("api_keys: [{{id: {}, digest: {}, user: conf}}]", word_after("id:"), word_after("digest:"));
    let config = sharing(&app, redis.url()).more(&own).more("caches: {api_keys: {enabled: false}}");
    let gateway = Gateway::start_unready(&config).await;
    until_so("the store", async || gateway.metric(STORE_UP).await == 1.0).await;
    is_secret(&gateway, configured);
    let (made, _) = Api(&gateway).robot().await;
    assert_eq!(outcome(&gateway, &made).await, "200");
    redis.kill();
    redis.begin_empty().await;
    until_so("the store is available again", async || outcome(&gateway, &made).await == "401 unknown_token").await;
    assert_eq!(outcome(&gateway, configured).await, "200");
}

/// Who reads Redis learns no key, and whose they are.
#[tokio::test]
async fn a_dump_tells_no_key() {
    let (redis, app) = (RedisServer::start().await, App::start().await);
    let gateway = Gateway::start_unready(&sharing(&app, redis.url())).await;
    until_so("the store", async || gateway.metric(STORE_UP).await == 1.0).await;
    let (key, id) = Api(&gateway).robot().await;
    assert_eq!(outcome(&gateway, &key).await, "200");
    let keys = redis.keys("*").await;
    assert!(keys.iter().any(|key| key.contains(&id)), "{keys:?}");
    for place in keys {
        let kept = redis.bytes(&place).await;
        let holds = |text: &str| kept.windows(text.len()).any(|window| window == text.as_bytes());
        for secret in [key.as_str(), &key[17..], "dwk_", "robot", "digest"] {
            assert!(!holds(secret) && !place.contains(secret), "{place}: {secret}");
        }
    }
}
