//! A logout that begins at the provider or at an administrator counts on all replicas, once the answer is there.

use super::server::RedisServer;
use super::{Replicas, Setting};
use crate::client::{Connection, Reply, Request, ask, get};
use crate::gateway::Gateway;
use crate::people::{Person, slow_to_reply};
use crate::wait::until_so;
use doorward::demo::{Endpoint, IssueOptions};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use url::form_urlencoded;

const ADMIN_TOKEN: &str = "an-admin-token-of-these-tests";
const PATH: &str = "/oauth2/backchannel_logout";

/// A logout token as the provider posts it.
fn post(token: &str) -> Request {
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish();
    ask("POST", PATH).with("Content-Type", "application/x-www-form-urlencoded").body(form.as_bytes())
}

fn options() -> IssueOptions {
    IssueOptions { audience: "doorward".into(), ..IssueOptions::default() }
}

impl Replicas {
    pub(super) async fn told(&self, replica: usize, sub: Option<&str>, sid: Option<&str>) -> Reply {
        self.gateways[replica].ask(&post(&self.provider.logout_token(sub, sid, &options()))).await
    }

    /// Signed in with this id of the session at the provider.
    async fn signed_in_as(&self, replica: usize, user: &str, sid: Value) -> Person {
        self.provider_does(|faults| _ = faults.id_token_claims.insert("sid".into(), sid));
        let person = self.signed_in(replica, user).await;
        self.provider_does(|_| {});
        self.everywhere(&person, "200").await;
        person
    }

    async fn administers(&self, replica: usize, method: &str, target: &str) -> Reply {
        let request = ask(method, target).set("Host", "localhost").bearer(ADMIN_TOKEN);
        let gateway = &self.gateways[replica];
        Connection::open(&format!("127.0.0.1:{}", gateway.admin_port()), &gateway.secrets).await.ask(&request).await
    }
}

const OVER: &str = "401 login_required";

#[tokio::test]
async fn a_logout_counts_at_once_on_all_replicas() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let one = replicas.signed_in_as(0, "alice", json!("first-sid")).await;
    let two = replicas.signed_in_as(1, "alice", json!("second-sid")).await;
    let none = replicas.signed_in_as(2, "alice", Value::Null).await;
    let bob = replicas.signed_in_as(1, "bob", json!("third-sid")).await;

    let asked = Instant::now();
    let told = replicas.told(2, Some("alice"), Some("first-sid")).await;
    assert_eq!((told.status, told.header("cache-control")), (200, Some("no-store")), "{}", told.text());
    until_so("all replicas know", async || replicas.outcomes(&one).await == [OVER; 3]).await;
    println!("FIGURE refused on three replicas {:?} after a logout token was posted", asked.elapsed());
    replicas.everywhere(&two, "200").await;
    until_so("a session without an id ends by its subject", async || replicas.outcomes(&none).await == [OVER; 3]).await;

    assert_eq!(replicas.told(0, None, Some("first-sid")).await.status, 200, "nobody is left");
    assert_eq!(replicas.told(0, Some("alice"), None).await.status, 200);
    until_so("the subject alone ends all", async || replicas.outcomes(&two).await == [OVER; 3]).await;
    replicas.everywhere(&bob, "200").await;
    for name in ["alice", "bob", "first-sid", "third-sid"] {
        let keys = redis.keys("*").await;
        assert!(!keys.iter().any(|key| key.contains(name)), "{keys:?}");
        for key in keys.iter().filter(|key| key.contains("{index:")) {
            let members = redis.ask(&["SMEMBERS", key]).await;
            assert!(!format!("{members:?}").contains(name), "{members:?}");
        }
    }
}

#[tokio::test]
async fn a_logout_token_counts_once_on_all_replicas() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let token = replicas.provider.logout_token(Some("alice"), None, &options());
    assert_eq!(replicas.gateways[0].ask(&post(&token)).await.status, 200);
    let alice = replicas.signed_in(1, "alice").await;
    for gateway in &replicas.gateways {
        assert_eq!(gateway.ask(&post(&token)).await.outcome(), "400 bad_request");
    }
    replicas.everywhere(&alice, "200").await;
}

#[tokio::test]
async fn a_refresh_in_flight_revives_nobody() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let alice = replicas.expired(0, "alice").await;
    replicas.provider_does(slow_to_reply(Endpoint::Token, Duration::from_secs(1)));
    let before = replicas.provider.calls().count(Endpoint::Token);
    let refreshes = replicas.asks(0, &alice);
    let ends = async {
        until_so("a refresh", async || replicas.provider.calls().count(Endpoint::Token) > before).await;
        replicas.told(1, Some("alice"), None).await
    };
    let (_, told) = tokio::join!(refreshes, ends);
    assert_eq!(told.status, 200);
    replicas.provider_does(|_| {});
    until_so("the session is over", async || replicas.outcomes(&alice).await == [OVER; 3]).await;
    assert_eq!(redis.keys("doorward:{session:*").await, Vec::<String>::new());
}

/// The replica that was told refuses at once; the others once the store is available again.
#[tokio::test]
async fn a_logout_during_an_outage_is_kept() {
    let redis = RedisServer::start().await;
    let replicas = Setting::impatient(&redis).start().await;
    let alice = replicas.signed_in_as(0, "alice", json!("a-sid")).await;
    let bob = replicas.signed_in_as(0, "bob", json!("b-sid")).await;
    redis.freeze();
    replicas.all_see(false).await;
    assert_eq!(replicas.told(1, None, Some("a-sid")).await.status, 200);
    assert_eq!(replicas.asks(1, &alice).await.outcome(), OVER);
    assert_eq!(replicas.asks(1, &bob).await.outcome(), "200");
    let later = replicas.signed_in(1, "alice").await;
    assert_eq!(replicas.asks(1, &later).await.outcome(), "200", "a login after the logout");
    redis.thaw();
    replicas.all_see(true).await;
    until_so("all replicas know", async || replicas.outcomes(&alice).await == [OVER; 3]).await;
    replicas.everywhere(&bob, "200").await;
    until_so("the later login counts", async || replicas.outcomes(&later).await == ["200"; 3]).await;
}

/// Redis comes back empty: the replicas write their sessions back, and not those that were ended meanwhile.
#[tokio::test]
async fn a_logout_during_an_outage_outlives_the_store_s_data() {
    let mut redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let alice = replicas.signed_in_as(0, "alice", json!("a-sid")).await;
    let bob = replicas.signed_in_as(0, "bob", json!("b-sid")).await;
    redis.kill();
    replicas.all_see(false).await;
    assert_eq!(replicas.told(1, None, Some("a-sid")).await.status, 200);
    redis.begin_empty().await;
    replicas.all_see(true).await;
    until_so("all replicas know", async || replicas.outcomes(&alice).await == [OVER; 3]).await;
    until_so("the record is gone", async || redis.keys("doorward:{session:*").await.len() == 1).await;
    replicas.everywhere(&bob, "200").await;
    assert_eq!(replicas.told(2, Some("bob"), None).await.status, 200, "the index was written back, too");
    until_so("all replicas know", async || replicas.outcomes(&bob).await == [OVER; 3]).await;
}

/// Whoever invents ids of sessions during an outage takes no room from the provider.
#[tokio::test]
async fn a_flood_of_front_channel_logouts_leaves_room() {
    let redis = RedisServer::start().await;
    let replicas = Setting { replicas: 1, ..Setting::impatient(&redis) }.start().await;
    let alice = replicas.signed_in_as(0, "alice", json!("a-sid")).await;
    redis.freeze();
    replicas.all_see(false).await;
    let front = format!("/oauth2/frontchannel_logout?iss={}&sid=", replicas.provider.issuer());
    let mut connection = replicas.gateways[0].connect().await;
    let mut refused = 0;
    for n in 0..1_100 {
        refused += usize::from(connection.ask(&get(&format!("{front}{n}"))).await.status == 400);
    }
    assert_eq!(refused, 100);
    assert_eq!(replicas.told(0, Some("alice"), Some("a-sid")).await.status, 200);
    replicas.everywhere(&alice, OVER).await;
    redis.thaw();
    replicas.all_see(true).await;
    replicas.everywhere(&alice, OVER).await;
}

/// The index is written again by a refresh.
#[tokio::test]
async fn a_store_that_lost_the_index_has_it_again() {
    let mut redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let alice = replicas.expired(0, "alice").await;
    redis.kill();
    replicas.all_see(false).await;
    redis.begin_empty().await;
    replicas.all_see(true).await;
    until_so("a refresh", async || replicas.outcomes(&alice).await == ["200"; 3]).await;
    assert_eq!(replicas.told(1, Some("alice"), None).await.status, 200);
    until_so("all replicas know", async || replicas.outcomes(&alice).await == [OVER; 3]).await;
}

#[tokio::test]
async fn an_administrator_lists_and_ends_sessions() {
    let redis = RedisServer::start().await;
    let (provider, app, mut config) = Setting::on(&redis).parts().await;
    config.env.push(("DOORWARD__ADMIN__TOKEN".into(), ADMIN_TOKEN.into()));
    let mut gateways = Vec::new();
    for _ in 0..3 {
        gateways.push(Gateway::start(&config).await);
    }
    let replicas = Replicas { provider, app, gateways };
    let one = replicas.signed_in_as(0, "alice", json!("first-sid")).await;
    let two = replicas.signed_in_as(1, "alice", json!("second-sid")).await;
    let bob = replicas.signed_in_as(2, "bob", json!("third-sid")).await;

    let listed = replicas.administers(2, "GET", "/api/v1/sessions?user=alice").await;
    assert_eq!((listed.status, listed.header("content-type")), (200, Some("application/json")));
    let all = listed.json();
    let rows = all.as_array().unwrap();
    assert_eq!(rows.len(), 2, "{all}");
    for row in rows {
        let [user, provider] = ["user", "provider"].map(|name| row[name].as_str());
        assert_eq!((user, provider), (Some("alice"), Some("corp")));
        for time in ["created", "last_seen"] {
            assert!(humantime::parse_rfc3339(row[time].as_str().unwrap()).is_ok(), "{row}");
        }
    }
    for (target, count) in [("user=alice&provider=corp", 2), ("user=alice&provider=other", 0), ("user=nobody", 0)] {
        let listed = replicas.administers(0, "GET", &format!("/api/v1/sessions?{target}")).await;
        assert_eq!((listed.status, listed.json().as_array().unwrap().len()), (200, count), "{target}");
    }
    for (method, target, status) in [
        ("GET", "/api/v1/sessions", 400),
        ("GET", "/api/v1/sessions?user=", 400),
        ("GET", "/api/v1/sessions?all=true", 400),
        ("DELETE", "/api/v1/sessions", 400),
        ("DELETE", "/api/v1/sessions?all=yes", 400),
        ("DELETE", "/api/v1/sessions?users=alice", 400),
        ("DELETE", "/api/v1/sessions/nobody", 404),
        ("DELETE", &format!("/api/v1/sessions/{}", "0".repeat(64)), 404),
        ("POST", "/api/v1/sessions", 405),
        ("GET", "/api/v1/sessions/x", 405),
        ("GET", "/api/v1/sessionsx", 404),
    ] {
        assert_eq!(replicas.administers(0, method, target).await.status, status, "{method} {target}");
    }
    replicas.everywhere(&one, "200").await;

    let older = format!("/api/v1/sessions/{}", rows[1]["id"].as_str().unwrap());
    assert_eq!(replicas.administers(0, "DELETE", &older).await.status, 204);
    until_so("one session is over", async || replicas.outcomes(&one).await == [OVER; 3]).await;
    replicas.everywhere(&two, "200").await;
    assert_eq!(replicas.administers(1, "DELETE", &older).await.status, 404);
    assert_eq!(replicas.administers(1, "DELETE", "/api/v1/sessions?user=alice").await.status, 204);
    until_so("all of a user are over", async || replicas.outcomes(&two).await == [OVER; 3]).await;
    replicas.everywhere(&bob, "200").await;
    assert_eq!(replicas.administers(1, "DELETE", "/api/v1/sessions?all=true").await.status, 204);
    until_so("all are over", async || replicas.outcomes(&bob).await == [OVER; 3]).await;
    let metric = async |name: &str| replicas.gateways[1].metric(name).await;
    assert_eq!(metric("doorward_sessions_total{provider=\"corp\",event=\"ended\"}").await, 2.0, "alice's and bob's");
    assert_eq!(metric("doorward_logouts_total{provider=\"corp\",kind=\"admin\"}").await, 2.0);
    let of_one = replicas.gateways[0].metric("doorward_sessions_total{provider=\"corp\",event=\"ended\"}").await;
    assert_eq!(of_one, 1.0, "alice's older one");
    assert_eq!(redis.keys("doorward:{index:*").await, Vec::<String>::new(), "the index has nobody left");
}

#[tokio::test]
async fn what_is_no_logout_ends_nobody() {
    let redis = RedisServer::start().await;
    let replicas = Setting { replicas: 1, ..Setting::on(&redis) }.start().await;
    let alice = replicas.signed_in_as(0, "alice", json!("a-sid")).await;
    let gateway = &replicas.gateways[0];
    let token = || replicas.provider.logout_token(Some("alice"), Some("a-sid"), &options());
    let form =
        |text: &str| ask("POST", PATH).with("Content-Type", "application/x-www-form-urlencoded").body(text.as_bytes());
    let wrong = |changed: Value| {
        let claims = changed.as_object().unwrap().clone();
        post(&replicas.provider.logout_token(Some("alice"), None, &IssueOptions { claims, ..options() }))
    };
    for request in [
        form(""),
        form("logout_token="),
        form("logout_token=x"),
        form(&format!("logout_token={}&logout_token={}", token(), token())),
        form(&format!("logout_token[]={}", token())),
        form(&format!("token={}", token())),
        ask("POST", &format!("{PATH}?logout_token={}", token())),
        wrong(json!({"iss": "https://other.test"})),
        wrong(json!({"aud": "other"})),
        wrong(json!({"nonce": "n"})),
        wrong(json!({"events": {}})),
        wrong(json!({"exp": 1})),
        wrong(json!({"sub": null})),
        post(&replicas.provider.issue_id_token("alice", &options())),
        post(&replicas.provider.issue_access_token("alice", &options())),
        post(&(token() + "x")),
        get("/oauth2/frontchannel_logout"),
        get("/oauth2/frontchannel_logout?sid=a-sid"),
        get(&format!("/oauth2/frontchannel_logout?iss={}", replicas.provider.issuer())),
        get(&format!("/oauth2/frontchannel_logout?iss={}/&sid=a-sid", replicas.provider.issuer())),
        get(&format!("/oauth2/frontchannel_logout?iss={}&sid=a-sid&sid=a-sid", replicas.provider.issuer())),
    ] {
        assert_eq!(gateway.ask(&request).await.outcome(), "400 bad_request", "{request:?}");
    }
    assert_eq!(gateway.ask(&form(&"x".repeat(1 << 20))).await.status, 413);
    assert_eq!(gateway.ask(&get(PATH)).await.status, 405);
    replicas.everywhere(&alice, "200").await;

    let front = format!("/oauth2/frontchannel_logout?iss={}&sid=a-sid", replicas.provider.issuer());
    assert_eq!(gateway.ask(&ask("HEAD", &front)).await.status, 200);
    replicas.everywhere(&alice, "200").await;
    let told = gateway.ask(&get(&front)).await;
    assert_eq!((told.status, told.header("cache-control")), (200, Some("no-store")));
    replicas.everywhere(&alice, OVER).await;
}
