//! What one replica did counts on all of them, at once.

use super::{EXCHANGED, Replicas, Setting, slow_token};
use crate::client::get;
use crate::people::Person;
use crate::wait::LONG;
use std::time::{Duration, Instant};

use super::server::RedisServer;

/// How long until this replica refuses; and then it does so for good.
async fn refused_after(replicas: &Replicas, replica: usize, person: &Person) -> Duration {
    let begun = Instant::now();
    while replicas.asks(replica, person).await.status == 200 {
        assert!(begun.elapsed() < LONG, "never refused");
    }
    let took = begun.elapsed();
    for _ in 0..10 {
        assert_eq!(replicas.asks(replica, person).await.outcome(), "401 login_required");
    }
    took
}

#[tokio::test]
async fn a_login_counts_everywhere_and_so_does_a_sign_out() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let mut slowest = Duration::ZERO;
    for (made, ended) in [(0, 0), (1, 0), (2, 1), (0, 2)] {
        let person = replicas.signed_in(made, "alice").await;
        replicas.everywhere(&person, "200").await; // now all have copies
        replicas.everywhere(&person, "200").await;
        let mut there = replicas.led_to(ended, &person);
        assert_eq!(there.visit("/oauth2/sign_out").await.status, 302);
        for replica in 0..3 {
            slowest = slowest.max(refused_after(&replicas, replica, &person).await);
        }
    }
    println!("FIGURE sign-out seen with copies in hand: at most {slowest:?}");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");

    let mut alone = replicas.signed_in(0, "bob").await;
    let before = alone.clone();
    alone.visit("/oauth2/sign_out").await;
    replicas.everywhere(&before, "401 login_required").await;
}

/// A replica that reads the session while it is ended elsewhere keeps no copy of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_out_and_a_first_request_at_once() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    for round in 0..60 {
        let person = replicas.signed_in(0, "alice").await;
        let asked: Vec<_> = (0..8)
            .map(|n| {
                let there = replicas.led_to(1 + n % 2, &person);
                tokio::spawn(async move { there.ask(&there.dressed(get("/x"))).await.outcome() })
            })
            .collect();
        let mut leaving = person.clone();
        assert_eq!(leaving.visit("/oauth2/sign_out").await.status, 302);
        for asked in asked {
            let outcome = asked.await.unwrap();
            assert!(["200", "401 login_required"].contains(&outcome.as_str()), "{outcome}");
        }
        for replica in 0..3 {
            let took = refused_after(&replicas, replica, &person).await;
            assert!(took < Duration::from_millis(500), "round {round}, replica {replica}: {took:?}");
        }
    }
}

/// A refresh that is under way on one replica does not revive what ends on another.
#[tokio::test]
async fn a_sign_out_elsewhere_while_a_refresh_is_under_way() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let person = replicas.expired(0, "alice").await;
    replicas.provider_does(|faults| slow_token(faults, Duration::from_secs(1)));
    let mut connection = replicas.gateways[0].connect().await;
    connection.send(&person.dressed(get("/x"))).await;
    crate::wait::until_so("the refresh is under way", async || replicas.refreshes() == 1).await;
    let mut leaving = replicas.led_to(1, &person);
    assert_eq!(leaving.visit("/oauth2/sign_out").await.status, 302);
    assert_eq!(connection.reply().await.unwrap().status, 401);
    for _ in 0..3 {
        for outcome in replicas.outcomes(&person).await {
            assert_eq!(outcome, "401 login_required");
        }
    }
    assert_eq!(replicas.refreshes(), 1);
}

/// What one replica refreshed, the others go on with.
#[tokio::test]
async fn a_refresh_counts_everywhere() {
    let redis = RedisServer::start().await;
    let replicas = Setting { route: "headers: {access_token: true}", ..Setting::on(&redis) }.start().await;
    let person = replicas.expired(0, "alice").await;
    replicas.everywhere(&person, "200").await;
    assert_eq!((replicas.refreshes(), replicas.metric(EXCHANGED).await), (1, 1.0));
    let received = replicas.app.received();
    let tokens: std::collections::BTreeSet<_> = received.iter().map(|seen| seen.header("authorization")).collect();
    assert_eq!(tokens.len(), 1, "one access token for all");
    assert!(tokens.first().unwrap().is_some());
}

/// While the old token lives, nobody waits for a provider that takes two seconds.
#[tokio::test]
async fn a_token_that_still_lives_does_not_wait() {
    let redis = RedisServer::start().await;
    let route = "session: {refresh: {before_expiry: 1h}}";
    let replicas = Setting { route, ..Setting::on(&redis) }.start().await;
    // It is due at the half of its life.
    replicas.provider_does(|faults| faults.access_token_lifetime = 8);
    let person = replicas.signed_in(0, "alice").await;
    replicas.provider_does(|faults| slow_token(faults, Duration::from_secs(2)));
    let (begun, mut slowest, mut asked, mut beside) = (Instant::now(), Duration::ZERO, 0, 0);
    while replicas.metric(EXCHANGED).await < 1.0 {
        assert!(begun.elapsed() < LONG, "never refreshed");
        for replica in 0..3 {
            let sent = Instant::now();
            assert_eq!(replicas.asks(replica, &person).await.outcome(), "200");
            slowest = slowest.max(sent.elapsed());
            asked += 1;
            beside += replicas.refreshes();
        }
    }
    assert!(beside > 0, "no request came while the refresh was under way");
    println!("FIGURE {asked} requests beside a refresh of 2 s: the slowest took {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    replicas.everywhere(&person, "200").await;
    assert_eq!(replicas.refreshes(), 1);
}
