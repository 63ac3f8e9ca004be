//! Redis that is there and does badly: full, slow, busy.

use super::load::Load;
use super::server::RedisServer;
use super::{COMMAND_TIMEOUT, Setting};
use std::time::Duration;

const NO_COPIES: &str = "sessions: {enabled: false}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_is_a_redis_that_is_away() {
    let redis = RedisServer::start().await;
    let replicas = Setting { copies: NO_COPIES, ..Setting::impatient(&redis) }.start().await;
    let known = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&known, "200").await;
    let load = Load::begin(&replicas, &[&known], 4).await;
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    load.goes_on_for(200).await;
    let made = replicas.signed_in(0, "bob").await;
    assert_eq!(replicas.asks(0, &made).await.outcome(), "200");
    load.goes_on_for(200).await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    replicas.all_see(true).await;
    load.goes_on_for(200).await;
    load.stop().await.are_all("200");
    crate::wait::until_so("the login is shared", async || replicas.asks(1, &made).await.status == 200).await;
    replicas.everywhere(&known, "200").await;
}

/// Each answer comes just too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_pauses() {
    let redis = RedisServer::start().await;
    let replicas = Setting { copies: NO_COPIES, ..Setting::impatient(&redis) }.start().await;
    let known = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&known, "200").await;
    let normal = Load::begin(&replicas, &[&known], 4).await;
    normal.goes_on_for(300).await;
    let normal = normal.stop().await;
    let load = Load::begin(&replicas, &[&known], 4).await;
    for _ in 0..3 {
        redis.ask(&["CLIENT", "PAUSE", "400", "ALL"]).await;
        load.goes_on_for(200).await;
        redis.ask(&["PING"]).await; // answered when the pause is over
    }
    let met = load.stop().await;
    met.are_all("200");
    println!(
        "FIGURE Redis pauses: normally the slowest of {} {:?}, now of {} {:?}",
        normal.count(),
        normal.slowest,
        met.count(),
        met.slowest
    );
    assert!(met.slowest <= normal.slowest + COMMAND_TIMEOUT + Duration::from_millis(250), "{:?}", met.slowest);
    replicas.all_see(true).await;
    let made = replicas.signed_in(0, "bob").await;
    replicas.everywhere(&made, "200").await;
}

/// Connections that are closed while nobody uses them say nothing of the store: who is known to another replica alone is
/// served at once.
#[tokio::test]
async fn connections_that_were_closed_are_made_anew() {
    let redis = RedisServer::start().await;
    let replicas = Setting { copies: NO_COPIES, ..Setting::on(&redis) }.start().await;
    let warm = replicas.signed_in(0, "alice").await;
    for _ in 0..4 {
        replicas.everywhere(&warm, "200").await; // each thread has a connection
    }
    for _ in 0..5 {
        let person = replicas.signed_in(0, "bob").await;
        redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        for _ in 0..4 {
            replicas.everywhere(&person, "200").await;
        }
    }
    assert_eq!(replicas.metric(super::STORE_UP).await, 3.0);
}

/// Who could not hear for a moment trusts no copy from before.
#[tokio::test]
async fn a_sign_out_while_nobody_listens() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    for _ in 0..3 {
        let person = replicas.signed_in(0, "alice").await;
        replicas.everywhere(&person, "200").await;
        redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        let mut leaving = person.clone();
        assert_eq!(leaving.visit("/oauth2/sign_out").await.status, 302);
        let begun = std::time::Instant::now();
        for replica in 0..3 {
            while replicas.asks(replica, &person).await.status == 200 {
                assert!(begun.elapsed() < Duration::from_secs(2), "replica {replica}: a copy outlasts the sign-out");
            }
        }
        println!("FIGURE a sign-out while nobody listens counts everywhere after {:?}", begun.elapsed());
        replicas.everywhere(&person, "401 login_required").await;
    }
}
