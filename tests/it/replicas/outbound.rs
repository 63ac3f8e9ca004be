//! What the gateway presents to apps by itself: one token for all replicas, one for each caller where it is exchanged,
//! one set of signing keys; and nothing of it can be read in Redis.

use super::server::RedisServer;
use super::{Replicas, Setting};
use crate::client::{Request, get};
use crate::gateway::Gateway;
use crate::people::{Person, fails_with, hangs};
use crate::wait::until_so;
use data_encoding::BASE64URL_NOPAD;
use doorward::demo::{Endpoint, IssueOptions};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const OWN: &str = "auth: {accept: [session, bearer], on_unauthenticated: pass}, \
    upstream: {token: {provider: corp, scopes: [app.read, app.write], audience: the-app}}";
const EXCHANGED: &str = "auth: {accept: [session, bearer], on_unauthenticated: pass}, \
    headers: {assertion: {header: X-JWT-Assertion}}, \
    upstream: {token: {provider: corp, grant: token_exchange, audience: the-app, header: X-App-Token}}";

async fn started(redis: &RedisServer) -> Replicas {
    let (provider, app, config) = Setting::on(redis).parts().await;
    let config = config.route("own", "http://app.test/own/", &app.origin, OWN).route(
        "exchanged",
        "http://app.test/exchanged/",
        &app.origin,
        EXCHANGED,
    );
    let mut gateways = Vec::new();
    for _ in 0..3 {
        gateways.push(Gateway::start(&config).await);
    }
    Replicas { provider, app, gateways }
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap_or_else(|| panic!("no JWT: {token}"));
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

impl Replicas {
    fn grants(&self, kind: &str) -> usize {
        let calls = self.provider.calls();
        calls.records().filter(|call| call.param("grant_type").is_some_and(|grant| grant.ends_with(kind))).count()
    }

    /// What the app was given in this header.
    async fn given(&self, replica: usize, request: &Request, header: &str) -> Option<String> {
        let reply = self.gateways[replica].ask(request).await;
        assert_eq!(reply.outcome(), "200");
        let fields = reply.json()["fields"].clone();
        let mut all =
            fields.as_array().unwrap().iter().filter(|field| field[0].as_str().unwrap().eq_ignore_ascii_case(header));
        let found = all.next().map(|field| field[1].as_str().unwrap().to_owned());
        assert!(all.next().is_none(), "{fields}");
        for gateway in &self.gateways {
            gateway
                .secrets
                .lock()
                .unwrap()
                .extend(found.iter().map(|value| value.trim_start_matches("Bearer ").to_owned()));
        }
        found
    }
}

/// All bytes of a value.
fn plain(value: &redis::Value) -> Vec<u8> {
    match value {
        redis::Value::BulkString(bytes) => bytes.clone(),
        redis::Value::SimpleString(text) => text.clone().into_bytes(),
        redis::Value::Array(values) | redis::Value::Set(values) => values.iter().flat_map(plain).collect(),
        redis::Value::Map(pairs) => {
            pairs.iter().flat_map(|(name, value)| [plain(name), plain(value)].concat()).collect()
        }
        _ => Vec::new(),
    }
}

fn exchanged(person: &Person) -> Request {
    person.dressed(get("/exchanged/x"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_make_one_call() {
    let redis = RedisServer::start().await;
    let replicas = started(&redis).await;
    let forged = get("/own/x").bearer("forged").without("Authorization").with("Authorization", "Basic Zm9yZ2Vk");
    let asked = join_all((0..1000).map(|n| replicas.gateways[n % 3].ask(&forged))).await;
    let mut tokens: Vec<String> = asked
        .iter()
        .map(|reply| {
            assert_eq!(reply.outcome(), "200");
            let fields = reply.json()["fields"].clone();
            let own = fields.as_array().unwrap().iter().filter(|field| field[0] == "authorization");
            own.map(|field| field[1].as_str().unwrap().to_owned()).collect::<Vec<_>>().concat()
        })
        .collect();
    tokens.dedup();
    println!(
        "FIGURE calls of the provider for 1,000 requests at once on 3 replicas: {}",
        replicas.grants("client_credentials")
    );
    assert_eq!((tokens.len(), replicas.grants("client_credentials")), (1, 1));
    let token = claims(tokens[0].strip_prefix("Bearer ").unwrap());
    assert_eq!((token["sub"].as_str(), token["scope"].as_str()), (Some("doorward"), Some("app.read app.write")));
    assert_eq!(replicas.provider.calls().records().filter_map(|call| call.param("audience")).next(), Some("the-app"));
    let fetched = replicas.metric("doorward_upstream_tokens_total{provider=\"corp\",result=\"ok\"}").await;
    assert_eq!(fetched, 1.0);
}

#[tokio::test]
async fn each_caller_has_a_token_of_their_own() {
    let redis = RedisServer::start().await;
    let replicas = started(&redis).await;
    let (alice, bob) = (replicas.signed_in(0, "alice").await, replicas.signed_in(1, "bob").await);
    for _ in 0..2 {
        for (person, name) in [(&alice, "alice"), (&bob, "bob")] {
            let request = exchanged(person);
            let tokens = [0, 1, 2].map(|replica| replicas.given(replica, &request, "x-app-token"));
            let tokens = join_all(tokens).await;
            let token = claims(tokens[0].as_ref().unwrap());
            assert_eq!((token["sub"].as_str(), token["aud"].as_str()), (Some(name), Some("the-app")));
            assert!(tokens.iter().all(|one| *one == tokens[0]), "one for all replicas");
        }
    }
    assert_eq!(replicas.grants("token-exchange"), 2);
    let bearer = replicas.provider.issue_access_token("carol", &IssueOptions::default());
    let token = replicas.given(0, &get("/exchanged/x").bearer(&bearer), "x-app-token").await;
    assert_eq!(claims(&token.unwrap())["sub"], "carol");
    let nobody = get("/exchanged/x").with("X-App-Token", "forged").with("x_app_token", "forged");
    assert_eq!(replicas.given(0, &nobody, "x-app-token").await, None, "who has no access token");

    let assertion = replicas.given(0, &exchanged(&alice), "x-jwt-assertion").await.unwrap();
    let key = |assertion: &str| assertion.split('.').next().unwrap().to_owned();
    let other = replicas.given(2, &exchanged(&alice), "x-jwt-assertion").await.unwrap();
    assert_eq!(key(&assertion), key(&other), "one key signs on all replicas");

    replicas.given(0, &get("/own/x"), "authorization").await;
    let mut secrets =
        vec!["alice".to_owned(), "bob".into(), "carol".into(), "the-app".into(), "BEGIN".into(), "eyJ".into()];
    secrets.extend(replicas.gateways[0].secrets.lock().unwrap().iter().cloned());
    let keys = redis.keys("*").await;
    for space in ["service_token", "signing_keys", "session", "index"] {
        assert!(keys.iter().any(|key| key.contains(space)), "{space}: {keys:?}");
    }
    for key in &keys {
        let mut held = vec![redis::Value::SimpleString(key.clone())];
        for verb in ["GET", "HGETALL", "SMEMBERS"] {
            held.extend(redis.try_ask(&[verb, key]).await); // of another type it is an error
        }
        assert!(held.len() > 1, "{key} was read");
        let held = String::from_utf8_lossy(&held.iter().flat_map(plain).collect::<Vec<u8>>()).into_owned();
        assert!(!secrets.iter().any(|secret| held.contains(secret)), "{held}");
    }
}

#[tokio::test]
async fn a_provider_that_fails_is_told_from_one_that_refuses() {
    let redis = RedisServer::start().await;
    let replicas = started(&redis).await;
    let alice = replicas.signed_in(0, "alice").await;
    let html = |faults: &mut doorward::demo::Faults| {
        faults.reply.insert(Endpoint::Token, (200, "text/html", "<html>It works!</html>".into()));
    };
    let other = |faults: &mut doorward::demo::Faults| _ = faults.access_token_claims.insert("sub".into(), json!("bob"));
    for (path, fault, expected) in [
        ("/own/a", &fails_with(Endpoint::Token, 500) as &dyn Fn(&mut _), "503 provider_unavailable"),
        ("/own/b", &fails_with(Endpoint::Token, 401), "502 upstream_unreachable"),
        ("/own/c", &html, "502 upstream_unreachable"),
        ("/exchanged/d", &fails_with(Endpoint::Token, 400), "502 upstream_unreachable"),
    ] {
        replicas.provider_does(|faults| fault(faults));
        let request = alice.dressed(get(path));
        until_so(&format!("{path}: {expected}"), async || {
            replicas.gateways[0].ask(&request).await.outcome() == expected
        })
        .await;
    }
    replicas.provider_does(other);
    let request = exchanged(&alice);
    until_so("a token of another subject is refused", async || {
        assert_eq!(replicas.gateways[0].ask(&request).await.outcome(), "502 upstream_unreachable");
        replicas.gateways[0].log().contains("the token is another subject's")
    })
    .await;
    replicas.provider_does(hangs(Endpoint::Token));
    let begun = Instant::now();
    assert_eq!(replicas.gateways[1].ask(&get("/own/f")).await.outcome(), "503 provider_unavailable");
    assert!(begun.elapsed() < Duration::from_secs(10), "3 s for the provider, and some to spare");
    replicas.provider_does(|_| {});
    until_so("it heals by itself", async || replicas.gateways[1].ask(&get("/own/f")).await.status == 200).await;
    // Redis is away: the token at hand serves on.
    redis.freeze();
    replicas.all_see(false).await;
    assert_eq!(replicas.gateways[1].ask(&get("/own/f")).await.status, 200);
    redis.thaw();
}
