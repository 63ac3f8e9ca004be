//! What goes over the wire to Redis, and a wire that goes dead without a word.

use super::relay::Relay;
use super::server::RedisServer;
use super::{Replicas, STORE_UP, Setting};
use crate::gateway::Gateway;
use crate::people::Person;
use crate::wait::until_so;
use serde_json::{Value, json};
use std::collections::HashSet;

const REQUESTS: usize = 200;

fn one(setting: Setting) -> Setting {
    Setting { replicas: 1, ..setting }
}

/// How often each command was called so far, by Redis's own count.
async fn commands(redis: &RedisServer) -> Vec<(String, usize)> {
    let told: String = redis::from_redis_value(redis.ask(&["INFO", "commandstats"]).await).unwrap();
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    told.lines().filter_map(line).collect()
}

/// Calls of each command, and bytes there and back, of so many requests in a row.
async fn cost(replicas: &Replicas, person: &Person, redis: &RedisServer, relay: &Relay) -> (Value, f64, f64) {
    let (calls, bytes) = (commands(redis).await, relay.bytes());
    for _ in 0..REQUESTS {
        assert_eq!(replicas.asks(0, person).await.outcome(), "200");
    }
    let (there, back) = relay.bytes();
    let mut more = serde_json::Map::new();
    for (name, now) in commands(redis).await {
        let before = calls.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count);
        // The test's own way to Redis.
        if now > before && !["info", "client|setinfo", "hello", "ping"].contains(&name.as_str()) {
            more.insert(name, json!((now - before) as f64 / REQUESTS as f64));
        }
    }
    let each = |bytes: usize| bytes as f64 / REQUESTS as f64;
    (Value::Object(more), each(there - bytes.0), each(back - bytes.1))
}

/// With tokens of six kilobytes a request on a live session reads the hot part, in one command, and no token travels. With
/// copies it reads nothing.
#[tokio::test]
async fn a_request_reads_the_hot_part_and_no_more() {
    for (copies, reads) in [("sessions: {enabled: false}", 1), ("sessions: {ttl: 60s}", 0)] {
        let redis = RedisServer::start().await;
        let relay = Relay::before(&redis).await;
        let replicas = one(Setting { copies, ..Setting::at(&[&relay.url()], "") }).start().await;
        let padding = json!({"padding": "x".repeat(4300)}).as_object().unwrap().clone();
        replicas.provider_does(|faults| {
            faults.access_token_claims.clone_from(&padding);
            faults.id_token_claims.clone_from(&padding);
        });
        let alice = replicas.signed_in(0, "alice").await;
        assert_eq!(replicas.asks(0, &alice).await.outcome(), "200");
        let size = async |part: &str| redis.bytes(&redis.keys(&format!("doorward:{{{part}:*}}")).await[0]).await.len();
        let (hot, cold) = (size("session").await, size("tokens").await);
        assert!(cold > 2 * 6_000, "{cold}: two tokens of six kilobytes");
        let (calls, there, back) = cost(&replicas, &alice, &redis, &relay).await;
        println!(
            "FIGURE {copies}: for each request {calls}, {there} bytes to Redis and {back} back; hot part {hot}, cold part {cold}"
        );
        if reads == 0 {
            assert_eq!((calls, there, back), (json!({}), 0.0, 0.0));
        } else {
            // One command of ours; what its script calls is counted beside it. A busy machine may have one asked again.
            let each = calls.as_object().unwrap();
            assert_eq!(each.keys().map(String::as_str).collect::<HashSet<_>>(), HashSet::from(["eval", "get", "pttl"]));
            assert!(each.values().all(|calls| (1.0..1.02).contains(&calls.as_f64().unwrap())), "{calls}");
            assert!(there < 400.0 && back < hot as f64 + 64.0, "{there} {back}");
        }
    }
}

/// A replica that hears nothing any more, and is not told so, finds out.
#[tokio::test]
async fn a_connection_that_dies_without_a_word_is_noticed() {
    let redis = RedisServer::start().await;
    let relay = Relay::before(&redis).await;
    let (provider, app, mut config) = Setting { copies: "sessions: {ttl: 1h}", ..Setting::on(&redis) }.parts().await;
    let near = Gateway::start(&config).await;
    config.env.push(("DOORWARD__STORE__REDIS__URLS__0".into(), relay.url()));
    let replicas = Replicas { provider, app, gateways: vec![near, Gateway::start(&config).await] };
    let alice = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&alice, "200").await;
    relay.fall_silent();
    let mut leaving = replicas.led_to(0, &alice);
    assert_eq!(leaving.visit("/oauth2/sign_out").await.status, 302);
    until_so("the sign-out counts", async || replicas.asks(1, &alice).await.outcome() == "401 login_required").await;
}

/// Somebody signs in at a replica that is cut off from Redis, and out at another one, whose store has no such session.
#[tokio::test]
async fn a_sign_out_counts_for_a_session_that_the_store_does_not_have_yet() {
    let redis = RedisServer::start().await;
    let relay = Relay::before(&redis).await;
    let (provider, app, mut config) = Setting::impatient(&redis).parts().await;
    let near = Gateway::start(&config).await;
    config.env.push(("DOORWARD__STORE__REDIS__URLS__0".into(), relay.url()));
    let replicas = Replicas { provider, app, gateways: vec![near, Gateway::start(&config).await] };
    relay.cut();
    let far = &replicas.gateways[1];
    until_so("the outage", async || far.metric(STORE_UP).await == 0.0).await;
    let alice = replicas.signed_in(1, "alice").await;
    assert_eq!(replicas.outcomes(&alice).await, ["401 login_required", "200"]);
    assert_eq!(replicas.led_to(0, &alice).visit("/oauth2/sign_out").await.status, 302);
    relay.mend();
    until_so("the store", async || far.metric(STORE_UP).await == 1.0).await;
    until_so("the end", async || replicas.outcomes(&alice).await == ["401 login_required"; 2]).await;
    // It has been written, and is gone.
    until_so("nothing left", async || redis.keys("doorward:{session:*}").await.is_empty()).await;
    assert_eq!(replicas.outcomes(&alice).await, ["401 login_required"; 2]);
}
