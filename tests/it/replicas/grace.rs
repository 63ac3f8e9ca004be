//! While Redis is away: whose access token is over goes on for a while, and no refresh token is spent; whom a replica does
//! not know is told to come again.

use super::server::RedisServer;
use super::{Replicas, Setting, page};
use crate::client::get;
use crate::people::Person;
use crate::wait::{LONG, until_so};
use doorward::demo::Endpoint;
use std::time::{Duration, Instant};

const GRACE: Duration = Duration::from_secs(4);

fn with_grace(redis: &RedisServer) -> Setting {
    Setting::at(&[redis.url()], "fallback: {grace: 4s}")
}

/// Asks until the grace is over: only 200, then 503.
async fn goes_on_for_a_while(replicas: &Replicas, replica: usize, person: &Person, begun: Instant) {
    let mut answered = 0;
    loop {
        let reply = replicas.asks(replica, person).await;
        match reply.outcome().as_str() {
            "200" => answered += 1,
            "503 store_unavailable" => {
                assert!(reply.header("retry-after").is_some());
                assert_eq!(reply.header("set-cookie"), None);
                break;
            }
            other => panic!("{other} after {:?}", begun.elapsed()),
        }
        assert!(begun.elapsed() < LONG, "never ends");
        tokio::task::yield_now().await;
    }
    let took = begun.elapsed();
    println!("FIGURE an expired session without its store: {answered} answers, then 503 after {took:?}");
    assert!(answered > 0 && took + Duration::from_millis(500) > GRACE, "{answered} answers, {took:?}");
}

#[tokio::test]
async fn an_expired_session_goes_on_for_the_grace() {
    for copies in ["sessions: {ttl: 60s}", "sessions: {enabled: false}"] {
        let mut redis = RedisServer::start().await;
        let replicas = Setting { copies, ..with_grace(&redis) }.start().await;
        let begun = Instant::now();
        let person = replicas.expired(0, "alice").await;
        redis.kill();
        // The very first request finds out that Redis is away.
        goes_on_for_a_while(&replicas, 0, &person, begun).await;
        assert_eq!(replicas.refreshes(), 0, "no refresh token was spent");
        redis.begin().await;
        until_so("it is refreshed", async || replicas.asks(0, &person).await.status == 200).await;
        until_so("the others are back", async || replicas.asks(1, &person).await.status == 200).await;
        replicas.everywhere(&person, "200").await;
        assert_eq!(replicas.refreshes(), 1);
    }
}

/// Without `refresh_dedup`, too.
#[tokio::test]
async fn without_dedup_no_token_is_spent_either() {
    let mut redis = RedisServer::start().await;
    let replicas = Setting { dedup: "refresh_dedup: {enabled: false}", ..with_grace(&redis) }.start().await;
    let person = replicas.expired(0, "alice").await;
    redis.kill();
    assert_eq!(replicas.asks(0, &person).await.outcome(), "200");
    assert_eq!(replicas.refreshes(), 0);
}

#[tokio::test]
async fn whom_a_replica_does_not_know_is_told_to_come_again() {
    let mut redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let person = replicas.signed_in(1, "bob").await;
    redis.kill();
    for _ in 0..3 {
        for request in [page(&person), person.dressed(get("/x"))] {
            let reply = replicas.gateways[0].ask(&request).await;
            assert_eq!(reply.outcome(), "503 store_unavailable");
            assert_eq!((reply.header("location"), reply.header("set-cookie")), (None, None));
            assert!(reply.header("retry-after").is_some());
        }
    }
    assert_eq!(replicas.asks(1, &person).await.outcome(), "200", "this one knows");
    assert_eq!(replicas.gateways[0].ask(&get("/public/x")).await.outcome(), "200");
    let stranger = replicas.gateways[0].ask(&get("/x").page()).await;
    assert_eq!(stranger.outcome(), "302 login_required", "who has no cookie signs in");
    redis.begin().await;
    until_so("it is back", async || replicas.asks(0, &person).await.status == 200).await;
}

/// Provider and Redis both away, then back, in either order, also with Redis emptied: nobody is lost.
#[tokio::test]
async fn provider_and_redis_both_away() {
    for (provider_first, emptied) in [(true, false), (false, false), (false, true)] {
        let mut redis = RedisServer::start().await;
        let replicas = Setting { copies: "sessions: {enabled: false}", ..with_grace(&redis) }.start().await;
        let mut people = Vec::new();
        for (replica, user) in [(0, "alice"), (1, "bob"), (2, "carol")] {
            people.push(replicas.expired(replica, user).await);
        }
        let away = |faults: &mut doorward::demo::Faults| {
            for endpoint in [Endpoint::Token, Endpoint::Jwks, Endpoint::Discovery, Endpoint::UserInfo] {
                faults.status.insert(endpoint, 503);
            }
        };
        replicas.provider_does(away);
        redis.kill();
        for (replica, person) in people.iter().enumerate() {
            until_so("the grace is over", async || {
                let outcome = replicas.asks(replica, person).await.outcome();
                assert!(["200", "503 store_unavailable"].contains(&outcome.as_str()), "{outcome}");
                outcome != "200"
            })
            .await;
        }
        if provider_first {
            replicas.provider_does(|_| {});
        }
        if emptied {
            redis.begin_empty().await
        } else {
            redis.begin().await
        }
        replicas.all_see(true).await;
        if !provider_first {
            for person in &people {
                replicas.everywhere(person, "503 provider_unavailable").await;
            }
            replicas.provider_does(|_| {});
        }
        let before = replicas.refreshes();
        for person in &people {
            until_so("the provider is asked again", async || replicas.asks(0, person).await.status == 200).await;
            replicas.everywhere(person, "200").await;
        }
        assert_eq!(replicas.refreshes() - before, people.len());
    }
}
