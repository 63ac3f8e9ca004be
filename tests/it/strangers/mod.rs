//! Strangers and what holds them back: the limiter, the cache of refused tokens, introspection and API keys, through the
//! real binary. No count drains while a test runs, and nothing that is remembered runs out, unless the test is about that.

mod admin_api;
mod api_keys;
mod flags;
mod introspection;
mod limit;
mod proxies;
mod replicas;
mod rotation;
mod shown;

#[allow(dead_code, clippy::duplicate_mod, reason = "the browser of `people`, of which little is needed here")]
#[path = "../people/webdriver.rs"]
mod webdriver;

#[allow(dead_code, clippy::duplicate_mod, reason = "the servers of `replicas`, of which few are needed here")]
#[path = "../replicas/server.rs"]
mod server;

use crate::client::{Connection, Reply, Request, ask, get};
use crate::gateway::{Config, Gateway, leaks};
use crate::world::World;
use doorward::demo::IssueOptions;
use serde_json::{Value, json};

/// The refusals of one address that are within.
const FEW: usize = 3;
const ADMIN_TOKEN: &str = "the-admin-token-of-these-tests";
const STORE_SECRET: &str = "a-secret-of-the-store-of-32-bytes-or-more";
/// A cache as it is by default, but for its time.
const CACHES: &str = "caches: {unknown_tokens: {ttl: 1h}, introspection: {ttl: 1h}, api_keys: {ttl: 1h}}";

/// The limiter and all caches.
fn guarded(config: Config) -> Config {
    config.more(&format!("limits: {{unknown_tokens: {{requests: {FEW}, per: 12h}}}}")).more(CACHES)
}

/// Asks `corp` about opaque tokens.
fn introspecting(mut config: Config) -> Config {
    config.providers[0] = config.providers[0].replace("timeout: 1s,", "timeout: 1s, introspection: true,");
    config
}

fn with_admin_token(mut config: Config) -> Config {
    config.env.push(("DOORWARD__ADMIN__TOKEN".to_owned(), ADMIN_TOKEN.to_owned()));
    config
}

/// A token that nobody made; long enough for the search in the logs.
fn made_up(n: usize) -> String {
    format!("a-made-up-token-{n:06}")
}

fn bad(n: usize) -> Request {
    get("/x").bearer(&made_up(n))
}

impl World {
    async fn guarded() -> Self {
        Self::with(|config, _| guarded(config)).await
    }

    fn opaque(&self) -> String {
        self.provider.issue_opaque_token("alice", &IssueOptions::default())
    }

    async fn outcome(&self, request: &Request) -> String {
        self.ask(request).await.outcome()
    }

    /// So many refusals are within now, and no more. They are spent by it.
    async fn has_left(&self, left: usize, request: impl Fn(usize) -> Request) {
        for n in 0..left {
            assert_eq!(self.outcome(&request(n)).await, "401 unknown_token", "{n} of {left}");
        }
        assert_eq!(self.outcome(&request(left)).await, "429 rate_limited", "after {left}");
    }

    fn introspections(&self) -> u64 {
        self.provider.calls().count(doorward::demo::Endpoint::Introspect)
    }
}

/// The admin API of a gateway.
struct Api<'a>(&'a Gateway);

impl Api<'_> {
    async fn send(&self, request: &Request) -> Reply {
        let address = format!("127.0.0.1:{}", self.0.admin_port());
        Connection::open(&address, &self.0.secrets).await.ask(&request.clone().set("Host", &address)).await
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.send(&ask(method, path).bearer(ADMIN_TOKEN).body(body.to_string().as_bytes())).await
    }

    /// A key that is a secret from now on, and its id.
    async fn make(&self, body: Value) -> (String, String) {
        let made = self.ask("POST", "/api/v1/api-keys", &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
        let (key, id) = (text("key"), text("id"));
        is_secret(self.0, &key);
        (key, id)
    }

    async fn robot(&self) -> (String, String) {
        self.make(json!({"name": "robot", "user": "robot"})).await
    }

    async fn revoke(&self, id: &str) -> u16 {
        let request = ask("DELETE", &format!("/api/v1/api-keys/{id}")).bearer(ADMIN_TOKEN);
        self.send(&request).await.status
    }

    async fn list(&self) -> Reply {
        self.send(&get("/api/v1/api-keys").bearer(ADMIN_TOKEN)).await
    }
}

/// Neither the key nor its secret alone may be told by this gateway.
fn is_secret(gateway: &Gateway, key: &str) {
    let secret = key.splitn(3, '_').nth(2).unwrap();
    gateway.secrets.lock().unwrap().extend([key.to_owned(), secret.to_owned()]);
}

/// No sample tells a secret; the log is searched at the gateway's end.
async fn metrics_tell_no_secret(gateway: &Gateway) {
    let told = leaks(&gateway.admin("/metrics").await.text(), &gateway.secrets);
    assert!(told.is_empty(), "{told:?}");
    assert!(!gateway.secrets.lock().unwrap().is_empty(), "the search had something to look for");
}
