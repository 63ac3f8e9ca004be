//! Redis goes away under load and comes back. Those whom a replica knows do not notice; what was done meanwhile counts
//! afterwards.

use super::load::Load;
use super::server::RedisServer;
use super::{COMMAND_TIMEOUT, COOLDOWN, Replicas, Setting};
use crate::gateway::Gateway;
use crate::wait::until_so;
use serde_json::json;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    Killed,
    Frozen,
}

/// Beyond the command's time-out, on a machine that is busy with other tests.
const GENEROUS: Duration = Duration::from_millis(250);

const LOOKS: &str = "doorward_store_operation_seconds_count{operation=\"get\"}";

/// Every request reads the store: no copy stands between.
const NO_COPIES: &str = "sessions: {enabled: false}";

fn goes_away(redis: &mut RedisServer, trouble: Trouble) {
    match trouble {
        Trouble::Killed => redis.kill(),
        Trouble::Frozen => redis.freeze(),
    }
}

async fn comes_back(redis: &mut RedisServer, trouble: Trouble) {
    match trouble {
        Trouble::Killed => redis.begin().await,
        Trouble::Frozen => redis.thaw(),
    }
}

/// Lines above debug that speak of the store.
fn told_of_store(gateway: &Gateway) -> Vec<String> {
    let log = gateway.log();
    let above =
        |line: &&str| line.contains("\"the store ") && !line.contains("\"DEBUG\"") && !line.contains("\"TRACE\"");
    log.lines().filter(above).map(str::to_owned).collect()
}

/// By how much the slowest request was slower than normally.
async fn nobody_notices(trouble: Trouble) -> Duration {
    let mut redis = RedisServer::start().await;
    let replicas = Setting { copies: NO_COPIES, ..Setting::impatient(&redis) }.start().await;
    let alice = replicas.signed_in(0, "alice").await;
    let bob = replicas.signed_in(1, "bob").await;
    let leaves = replicas.signed_in(2, "bob").await;
    for person in [&alice, &bob, &leaves] {
        replicas.everywhere(person, "200").await;
    }
    let said: Vec<usize> = replicas.gateways.iter().map(|gateway| told_of_store(gateway).len()).collect();

    let normal = Load::begin(&replicas, &[&alice, &bob], 8).await;
    normal.goes_on_for(500).await;
    let normal = normal.stop().await;
    normal.are_all("200");

    let load = Load::begin(&replicas, &[&alice, &bob], 8).await;
    load.goes_on_for(100).await;
    goes_away(&mut redis, trouble);
    replicas.all_see(false).await;
    load.goes_on_for(500).await;
    let made = away(&replicas, &leaves).await;
    load.goes_on_for(100).await;
    let back = Instant::now();
    comes_back(&mut redis, trouble).await;
    let answered = Instant::now();
    replicas.all_see(true).await;
    let (recovery, since_start) = (answered.elapsed(), back.elapsed());
    load.goes_on_for(100).await;
    let met = load.stop().await;
    met.are_all("200");
    println!(
        "FIGURE {trouble:?}: normally {} requests, p99 {:?}, slowest {:?}; during it {} requests in {:?}, p99 {:?}, slowest {:?}; \
         recovery after {recovery:?} ({since_start:?} since the start)",
        normal.count(),
        normal.permille(990),
        normal.slowest,
        met.count(),
        met.lasted,
        met.permille(990),
        met.slowest
    );
    assert!(recovery <= COOLDOWN + Duration::from_secs(1), "{recovery:?}");

    replicas.everywhere(&made, "200").await;
    replicas.everywhere(&leaves, "401 login_required").await;
    for person in [&alice, &bob] {
        replicas.everywhere(person, "200").await;
    }
    for (gateway, before) in replicas.gateways.iter().zip(said) {
        let told = told_of_store(gateway);
        assert_eq!(told.len() - before, 2, "one line for each change: {told:#?}");
        assert!(
            told[before].contains("\"WARN\"") && told[before + 1].contains("the store is available again"),
            "{told:#?}"
        );
    }
    met.slowest.saturating_sub(normal.slowest)
}

/// All else holds each time; a machine that is busy with other things may spoil a measure of time.
async fn nobody_waits(trouble: Trouble) {
    let mut later = Duration::MAX;
    for _ in 0..3 {
        later = later.min(nobody_notices(trouble).await);
        if later <= COMMAND_TIMEOUT + GENEROUS {
            return;
        }
    }
    panic!("{trouble:?}: {later:?} slower than normally");
}

/// While it is away: what operators are told, a login, a sign-out. The session that was made.
async fn away(replicas: &Replicas, leaves: &crate::people::Person) -> crate::people::Person {
    for gateway in &replicas.gateways {
        let ready = gateway.admin("/readyz").await;
        assert_eq!((ready.status, &ready.json()["degraded"]), (200, &json!(["store"])));
        assert!(ready.json()["store_problem"].is_string(), "{}", ready.text());
    }
    let made = replicas.signed_in(0, "carol").await;
    assert_eq!(replicas.asks(0, &made).await.outcome(), "200");
    assert_eq!(replicas.asks(1, &made).await.outcome(), "503 store_unavailable", "nobody has told the others");
    let mut leaving = leaves.clone();
    assert_eq!(leaving.visit("/oauth2/sign_out").await.status, 302);
    assert_eq!(replicas.asks(2, leaves).await.outcome(), "401 login_required");
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load() {
    nobody_waits(Trouble::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_under_load() {
    nobody_waits(Trouble::Frozen).await;
}

/// Copies that the others hold do not outlast a sign-out that was made during an outage.
#[tokio::test]
async fn a_sign_out_during_an_outage_reaches_those_with_copies() {
    for trouble in [Trouble::Killed, Trouble::Frozen] {
        let mut redis = RedisServer::start().await;
        let replicas = Setting::impatient(&redis).start().await;
        let (leaves, stays) = (replicas.signed_in(0, "alice").await, replicas.signed_in(0, "bob").await);
        for person in [&leaves, &stays] {
            replicas.everywhere(person, "200").await;
        }
        goes_away(&mut redis, trouble);
        // A replica that did not make the session has never seen its tokens.
        let mut leaving = replicas.led_to(1, &leaves);
        assert_eq!(leaving.visit("/oauth2/sign_out").await.status, 302, "{trouble:?}");
        assert_eq!(replicas.asks(1, &leaves).await.outcome(), "401 login_required");
        comes_back(&mut redis, trouble).await;
        let begun = Instant::now();
        for replica in 0..3 {
            while replicas.asks(replica, &leaves).await.status == 200 {
                assert!(begun.elapsed() < COOLDOWN * 3, "{trouble:?}, replica {replica}: a copy outlasts the sign-out");
            }
        }
        println!("FIGURE {trouble:?}: a sign-out made during it counts everywhere after {:?}", begun.elapsed());
        replicas.everywhere(&leaves, "401 login_required").await;
        replicas.everywhere(&stays, "200").await;
    }
}

/// A session that ended elsewhere before an outage does not live on in a replica's memory of it.
#[tokio::test]
async fn who_left_before_an_outage_stays_out() {
    for copies in ["sessions: {ttl: 60s}", NO_COPIES] {
        let mut redis = RedisServer::start().await;
        let replicas = Setting { copies, ..Setting::on(&redis) }.start().await;
        let (leaves, stays) = (replicas.signed_in(0, "alice").await, replicas.signed_in(0, "bob").await);
        for person in [&leaves, &stays] {
            replicas.everywhere(person, "200").await;
        }
        let mut looks = Vec::new();
        for gateway in &replicas.gateways {
            looks.push(gateway.metric(LOOKS).await);
        }
        let mut leaving = leaves.clone();
        assert_eq!(leaving.visit("/oauth2/sign_out").await.status, 302);
        // The others have heard of it, and have not been asked since: once for the session, once for whether that is so.
        for (gateway, before) in replicas.gateways.iter().zip(looks).skip(1) {
            until_so("it has looked again", async || gateway.metric(LOOKS).await >= before + 2.0).await;
        }
        redis.kill();
        for replica in 0..3 {
            let outcome = replicas.asks(replica, &leaves).await.outcome();
            assert!(
                ["401 login_required", "503 store_unavailable"].contains(&outcome.as_str()),
                "{replica}: {outcome}"
            );
            assert_eq!(replicas.asks(replica, &stays).await.outcome(), "200");
        }
        replicas.all_see(false).await;
        redis.begin_empty().await;
        replicas.all_see(true).await;
        replicas.everywhere(&leaves, "401 login_required").await;
        replicas.everywhere(&stays, "200").await;
    }
}

/// Restarted without its data: those whom a replica knows stay signed in, and are known to all again.
#[tokio::test]
async fn restarted_empty() {
    let mut redis = RedisServer::start().await;
    let replicas = Setting { copies: NO_COPIES, ..Setting::on(&redis) }.start().await;
    let mut people = Vec::new();
    for (replica, user) in [(0, "alice"), (1, "bob"), (2, "carol")] {
        people.push(replicas.signed_in(replica, user).await);
    }
    let due = replicas.expired(0, "alice").await;
    redis.kill();
    for (replica, person) in people.iter().enumerate() {
        assert_eq!(replicas.asks(replica, person).await.outcome(), "200");
    }
    replicas.all_see(false).await;
    redis.begin_empty().await;
    replicas.all_see(true).await;
    for person in &people {
        replicas.everywhere(person, "200").await;
    }
    replicas.everywhere(&due, "200").await;
    assert_eq!(replicas.refreshes(), 1, "its tokens were written back, too");
}

/// The same, so quickly that nobody asked meanwhile.
#[tokio::test]
async fn restarted_empty_unnoticed() {
    for round in 0..5 {
        let mut redis = RedisServer::start().await;
        let replicas = Setting { copies: NO_COPIES, replicas: 2, ..Setting::on(&redis) }.start().await;
        let person = replicas.signed_in(0, "alice").await;
        replicas.everywhere(&person, "200").await;
        redis.kill();
        redis.begin_empty().await;
        let outcomes = replicas.outcomes(&person).await;
        assert_eq!(outcomes, ["200", "200"], "round {round}");
        replicas.all_see(true).await;
        replicas.everywhere(&person, "200").await;
    }
}

/// Emptied while it runs: no connection tells of it.
#[tokio::test]
async fn emptied_while_it_runs() {
    let redis = RedisServer::start().await;
    let replicas = Setting { copies: NO_COPIES, replicas: 2, ..Setting::on(&redis) }.start().await;
    let person = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&person, "200").await;
    redis.ask(&["FLUSHALL"]).await;
    replicas.everywhere(&person, "200").await;
    replicas.all_see(true).await;
    replicas.everywhere(&person, "200").await;
}

/// B10: it is noticed without anybody's request.
#[tokio::test]
async fn a_store_that_nobody_asks_is_known_to_be_away() {
    let mut redis = RedisServer::start().await;
    let replicas = Setting { replicas: 1, ..Setting::on(&redis) }.start().await;
    let degraded = async || replicas.gateways[0].admin("/readyz").await.json()["degraded"].clone();
    assert_eq!(degraded().await, serde_json::json!([]));
    redis.kill();
    replicas.all_see(false).await;
    assert_eq!(degraded().await, serde_json::json!(["store"]));
    redis.begin().await;
    replicas.all_see(true).await;
    assert_eq!(degraded().await, serde_json::json!([]));
}
