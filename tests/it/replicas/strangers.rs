//! Who can read Redis learns nothing of anybody; who can write to it signs nobody in, and breaks nothing that it did not
//! write.

use super::server::RedisServer;
use super::{Replicas, STORE_UP, Setting, slow_token};
use crate::client::get;
use crate::people::Person;
use crate::wait::until_so;
use std::time::Duration;

const UNREADABLE: &str = "doorward_store_unreadable_total";
const NO_COPIES: &str = "sessions: {enabled: false}";

/// All keys and values.
async fn dump(redis: &RedisServer) -> Vec<u8> {
    let mut dump = Vec::new();
    for key in redis.keys("*").await {
        dump.extend([key.as_bytes(), b"\n", &redis.bytes(&key).await, b"\n"].concat());
    }
    dump
}

fn hot_keys(keys: &[String]) -> Vec<String> {
    let hot = |key: &&String| key.contains("{session:") && !key.contains("deleted");
    keys.iter().filter(hot).cloned().collect()
}

fn part(key: &str, name: &str) -> String {
    key.replace("{session:", &format!("{{{name}:"))
}

#[tokio::test]
async fn a_dump_tells_nobody_anything() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let alice = replicas.expired(0, "alice").await;
    let bob = replicas.signed_in(1, "bob").await;
    replicas.everywhere(&alice, "200").await;
    replicas.everywhere(&bob, "200").await;
    let mut left = replicas.signed_in(2, "alice").await;
    let gone = left.session().to_owned();
    left.visit("/oauth2/sign_out").await;
    let dump = dump(&redis).await;
    let lower = dump.to_ascii_lowercase();
    let holds = |text: &str| lower.windows(text.len()).any(|window| window == text.to_ascii_lowercase().as_bytes());
    let calls = replicas.provider.calls();
    let sent: Vec<String> = calls.records().flat_map(|call| &call.params).map(|(_, value)| value.clone()).collect();
    drop(calls);
    let tickets = [alice.session(), bob.session(), &gone].map(str::to_owned);
    let halves = tickets.iter().flat_map(|ticket| [ticket.clone(), ticket[..21].to_owned(), ticket[22..].to_owned()]);
    let words = ["alice", "example.com", "Alice Adams", "Bob Brown", "admins", "eyJ", "doorward-secret", "\"sub\""];
    let secrets = halves.chain(words.map(str::to_owned)).chain(sent.into_iter().filter(|value| value.len() >= 16));
    for secret in secrets.filter(|text| !text.contains("callback") && !text.contains("openid")) {
        assert!(!holds(&secret), "{secret}");
    }
    for known in ["{session:", "{tokens:", "{refresh:", "deleted:{session:", "{index:corp:sub:", "{epoch}"] {
        assert!(holds(known), "{known}: the dump was looked at");
    }
    println!("FIGURE a dump of {} bytes", dump.len());
}

struct Stranger<'a> {
    redis: &'a RedisServer,
    replicas: &'a Replicas,
}

impl Stranger<'_> {
    /// With this in the place of what stands there, nobody is signed in; with the old, they are again.
    async fn writes(&self, key: &str, value: &[u8], person: &Person, what: &str) {
        let (old, counted) = (self.redis.bytes(key).await, self.replicas.metric(UNREADABLE).await);
        self.redis.set(key, value).await;
        for outcome in self.replicas.outcomes(person).await {
            assert!(outcome.starts_with("401 "), "{what}: {outcome}");
        }
        assert_eq!(self.replicas.metric(UNREADABLE).await - counted, 3.0, "{what}: each replica counts it");
        self.redis.set(key, &old).await;
    }

    async fn broke_nothing(&self) {
        assert_eq!(self.replicas.metric(STORE_UP).await, 3.0);
        for gateway in &self.replicas.gateways {
            assert!(!gateway.log().contains("the store is unavailable"));
            assert_eq!(gateway.metric("doorward_requests_total{route=\"main\",outcome=\"unavailable\"}").await, 0.0);
        }
    }
}

/// What a stranger may write; `other` is somebody else's record.
fn forgeries(own: &[u8], other: &[u8], result: &[u8]) -> Vec<(String, Vec<u8>)> {
    let noise: Vec<u8> = (0..600_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut flipped = own.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let colon = own.iter().position(|byte| *byte == b':').unwrap();
    let (generation, body) = own.split_at(colon + 1);
    let mut label = body.to_vec();
    label[20] ^= 1;
    let mut made = vec![
        ("noise".to_owned(), noise.clone()),
        ("noise with a generation".to_owned(), [b"9:", &noise[..]].concat()),
        ("nothing".to_owned(), Vec::new()),
        ("a generation alone".to_owned(), generation.to_vec()),
        ("a number beyond all".to_owned(), [b"99999999999999999999999:", body].concat()),
        ("no number".to_owned(), [b"x:", body].concat()),
        ("a negative number".to_owned(), [b"-1:", body].concat()),
        ("one bit".to_owned(), flipped),
        ("one bit of the label".to_owned(), [generation, &label].concat()),
        ("somebody else's".to_owned(), other.to_vec()),
        ("a refresh result".to_owned(), result.to_vec()),
        ("a label's length beyond the end".to_owned(), [generation, &[0xff, 0xff], body].concat()),
    ];
    made.extend((1..own.len()).step_by(own.len() / 12).map(|n| (format!("{n} bytes"), own[..n].to_vec())));
    made
}

#[tokio::test]
async fn records_by_a_stranger_sign_nobody_in() {
    let redis = RedisServer::start().await;
    let replicas = Setting { copies: NO_COPIES, ..Setting::on(&redis) }.start().await;
    let refreshed = replicas.expired(0, "bob").await;
    replicas.everywhere(&refreshed, "200").await;
    let keys = redis.keys("*").await;
    let result = redis.bytes(keys.iter().find(|key| key.contains("{refresh:")).unwrap()).await;
    let other = hot_keys(&keys).remove(0);
    let alice = replicas.signed_in(0, "alice").await;
    let own = hot_keys(&redis.keys("*").await).into_iter().find(|key| *key != other).unwrap();
    replicas.everywhere(&alice, "200").await;

    let stranger = Stranger { redis: &redis, replicas: &replicas };
    let (hot, cold) = (redis.bytes(&own).await, redis.bytes(&part(&own, "tokens")).await);
    for (what, value) in forgeries(&hot, &redis.bytes(&other).await, &result) {
        stranger.writes(&own, &value, &alice, &what).await;
    }
    stranger.writes(&own, &cold, &alice, "the other part").await;
    replicas.everywhere(&alice, "200").await;

    // A record of another kind.
    redis.ask(&["RENAME", &own, "aside"]).await;
    redis.ask(&["LPUSH", &own, "x"]).await;
    let counted = replicas.metric(UNREADABLE).await;
    for outcome in replicas.outcomes(&alice).await {
        assert!(outcome.starts_with("401 "), "a list: {outcome}");
    }
    assert_eq!(replicas.metric(UNREADABLE).await - counted, 3.0);
    redis.ask(&["DEL", &own]).await;
    redis.ask(&["RENAME", "aside", &own]).await;
    replicas.everywhere(&alice, "200").await;
    replicas.everywhere(&refreshed, "200").await;
    stranger.broke_nothing().await;
}

/// Tokens by a stranger are none: the session ends with its access token, and no token of the stranger's is spent.
#[tokio::test]
async fn tokens_by_a_stranger_are_spent_nowhere() {
    let redis = RedisServer::start().await;
    let replicas = Setting { copies: NO_COPIES, ..Setting::on(&redis) }.start().await;
    replicas.signed_in(0, "bob").await;
    let other = hot_keys(&redis.keys("*").await).remove(0);
    let alice = replicas.expired(0, "alice").await;
    let own = hot_keys(&redis.keys("*").await).into_iter().find(|key| *key != other).unwrap();
    let cold = part(&own, "tokens");
    let stranger = Stranger { redis: &redis, replicas: &replicas };
    let foreign = redis.bytes(&part(&other, "tokens")).await;
    let hot = redis.bytes(&own).await;
    for (what, value) in forgeries(&redis.bytes(&cold).await, &foreign, &hot) {
        stranger.writes(&cold, &value, &alice, &what).await;
    }
    assert_eq!(replicas.refreshes(), 0);
    replicas.everywhere(&alice, "200").await;
    assert_eq!(replicas.refreshes(), 1);
    stranger.broke_nothing().await;
}

/// A result made up by a stranger, under the very key that others wait for: the provider's tokens serve again, so that it
/// is known before.
#[tokio::test]
async fn a_made_up_result_is_not_taken() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let bob = replicas.expired(0, "bob").await;
    replicas.everywhere(&bob, "200").await;
    let of_bob = redis.keys("*{refresh:*").await.remove(0);
    let (result, hot) = (redis.bytes(&of_bob).await, redis.bytes(&hot_keys(&redis.keys("*").await)[0]).await);
    for (n, made_up) in [result, hot, b"0:{\"access\":\"x\",\"id\":null}".to_vec(), vec![0; 40]].into_iter().enumerate()
    {
        let person = replicas.expired(0, "alice").await;
        let known = redis.keys("*{refresh:*").await;
        replicas.provider_does(|faults| {
            faults.rotate_refresh_tokens = false;
            faults.access_token_lifetime = 0;
        });
        assert_eq!(replicas.asks(0, &person).await.outcome(), "200");
        let awaited = redis.keys("*{refresh:*").await.into_iter().find(|key| !known.contains(key)).unwrap();
        redis.ask(&["DEL", &awaited]).await;
        let before = replicas.refreshes();
        replicas.provider_does(|faults| slow_token(faults, Duration::from_millis(700)));
        let mut connections = Vec::new();
        for gateway in &replicas.gateways {
            let mut connection = gateway.connect().await;
            connection.send(&person.dressed(get("/x"))).await;
            connections.push(connection);
        }
        until_so("the provider is asked", async || replicas.refreshes() > before).await;
        redis.ask(&["SET", &awaited, "x", "PX", "5000"]).await;
        redis.set(&awaited, &made_up).await;
        for mut connection in connections {
            assert_eq!(connection.reply().await.unwrap().outcome(), "200", "{n}");
        }
        assert_eq!(replicas.refreshes() - before, 1, "{n}");
        let seen = replicas.app.received();
        let users: Vec<_> = seen.iter().rev().take(3).map(|seen| seen.header("x-forwarded-user")).collect();
        assert_eq!(users, [Some("alice"); 3], "{n}");
    }
}

/// Messages can only make a replica look again.
#[tokio::test]
async fn messages_by_a_stranger_end_nothing() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let alice = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&alice, "200").await;
    let place = hot_keys(&redis.keys("*").await).remove(0);
    let place = place.split_once("session:").unwrap().1.trim_end_matches('}').to_owned();
    for message in [place.as_str(), "", "*", "session:x", "\u{0}", &"x".repeat(100_000)] {
        for _ in 0..50 {
            redis.ask(&["PUBLISH", "doorward:changed", message]).await;
        }
        replicas.everywhere(&alice, "200").await;
    }
    Stranger { redis: &redis, replicas: &replicas }.broke_nothing().await;
}

/// Who makes up tickets fills no store.
#[tokio::test]
async fn made_up_tickets_leave_no_mark() {
    let mut redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let alice = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&alice, "200").await;
    let before = redis.keys("*").await;
    let sign_outs = async |status: u16| {
        for n in 0..20 {
            let mut stranger = Person::at(&replicas.gateways[0]);
            stranger.put("doorward", &format!("{n:064}"));
            assert_eq!(stranger.fetch("/x").await.status, if status == 302 { 401 } else { status });
            assert_eq!(stranger.visit("/oauth2/sign_out").await.status, status);
        }
    };
    sign_outs(302).await;
    assert_eq!(redis.keys("*").await, before);
    redis.kill();
    sign_outs(503).await;
    redis.begin().await;
    replicas.all_see(true).await;
    assert_eq!(redis.keys("*").await, before);
    replicas.everywhere(&alice, "200").await;
}
