//! A crowd with one expired session, spread over the replicas: one refresh token is spent, and all get their answer.

use super::load::crowd;
use super::server::RedisServer;
use super::{EXCHANGED, Setting, slow_token};
use doorward::demo::Endpoint;
use serde_json::json;
use std::time::{Duration, Instant};

async fn one_grant_for(size: usize, connections: usize) {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    for round in 1..=2 {
        let person = replicas.expired(round % 3, "alice").await;
        let before = replicas.refreshes();
        // Long enough that all connections wait for the same answer.
        replicas.provider_does(|faults| slow_token(faults, Duration::from_millis(500)));
        let begun = Instant::now();
        let met = crowd(&replicas, &person, size, connections).await;
        let took = begun.elapsed();
        println!(
            "FIGURE {size} requests, {} connections, round {round}: {took:?} in all, median {:?}, p99 {:?}, slowest {:?}",
            3 * connections,
            met.permille(500),
            met.permille(990),
            met.slowest
        );
        assert_eq!(met.count(), size);
        met.are_all("200");
        assert_eq!(replicas.refreshes() - before, 1, "{size} requests, one refresh token");
        assert_eq!(replicas.metric(EXCHANGED).await, round as f64);
        replicas.everywhere(&person, "200").await;
        assert_eq!(replicas.refreshes() - before, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_over_three_replicas_are_one_grant() {
    one_grant_for(1_000, 64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes the machine for itself; by hand"]
async fn ten_thousand_requests_over_three_replicas_are_one_grant() {
    one_grant_for(10_000, 256).await;
}

/// Between the grant and its being in force stands a call of UserInfo that takes its time: who asks meanwhile, on whatever
/// replica, does not spend the new token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_token_is_not_spent_before_it_is_in_force() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let person = replicas.expired(0, "alice").await;
    replicas.provider_does(|faults| {
        faults.id_token_claims = crate::world::object(json!({"groups": null}));
        faults.delay.insert(Endpoint::UserInfo, Duration::from_millis(800));
    });
    let met = crowd(&replicas, &person, 60, 6).await;
    met.are_all("200");
    let late = crowd(&replicas, &person, 60, 6).await;
    late.are_all("200");
    assert_eq!(replicas.refreshes(), 1);
    println!("FIGURE {} requests beside a slow UserInfo: the slowest took {:?}", met.count(), met.slowest);
}

/// A token endpoint that hangs is asked by one replica: who has waited for a try that failed makes no further one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_hangs_is_waited_for_once() {
    let redis = RedisServer::start().await;
    let replicas = Setting { replicas: 4, ..Setting::on(&redis) }.start().await;
    let person = replicas.expired(0, "alice").await;
    replicas.provider_does(|faults| _ = faults.hang.insert(Endpoint::Token));
    let begun = Instant::now();
    let asking = (0..12).map(|n| replicas.asks(n % 4, &person));
    let replies = futures_util::future::join_all(asking).await;
    println!("FIGURE 12 requests, 4 replicas, a provider that hangs for 3 s: {:?}", begun.elapsed());
    for reply in replies {
        assert_eq!(reply.outcome(), "503 provider_unavailable");
    }
    assert_eq!(replicas.refreshes(), 1);
    replicas.everywhere(&person, "503 provider_unavailable").await;
    assert_eq!(replicas.refreshes(), 1, "nor by who comes a moment later");
    replicas.provider_does(|_| {});
    crate::wait::until_so("it heals", async || replicas.asks(1, &person).await.status == 200).await;
    replicas.everywhere(&person, "200").await;
    assert_eq!(replicas.refreshes(), 2);
}
