//! The replica that holds the lease dies, or is frozen, while the provider takes its time: another goes on once the lease
//! has run out, with at most one further grant.

use super::server::RedisServer;
use super::{Replicas, Setting};
use crate::client::{Connection, get};
use crate::people::Person;
use crate::wait::until_so;
use doorward::demo::{Endpoint, Faults};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const SLOW: Duration = Duration::from_millis(900);

struct Held {
    _redis: RedisServer,
    replicas: Replicas,
    person: Person,
    /// Of the request that the holder works for.
    first: Connection,
}

/// The first replica holds the lease and has asked the provider.
async fn held(fault: impl FnOnce(&mut Faults)) -> Held {
    let redis = RedisServer::start().await;
    let setting = Setting { dedup: "refresh_dedup: {lease: 2s}", timeout: "1500ms", ..Setting::on(&redis) };
    let replicas = setting.start().await;
    let person = replicas.expired(0, "alice").await;
    replicas.provider_does(fault);
    let mut first = replicas.gateways[0].connect().await;
    first.send(&person.dressed(get("/first"))).await;
    until_so("the provider is asked", async || replicas.refreshes() == 1).await;
    Held { _redis: redis, replicas, person, first }
}

impl Held {
    /// Requests that wait at the other replicas.
    async fn others(&self) -> Vec<JoinHandle<String>> {
        let mut asked = Vec::new();
        for n in 0..10 {
            let mut connection = self.replicas.gateways[1 + n % 2].connect().await;
            let request = self.person.dressed(get("/other"));
            asked.push(tokio::spawn(async move { connection.ask(&request).await.outcome() }));
        }
        asked
    }
}

async fn all(asked: Vec<JoinHandle<String>>) -> Vec<String> {
    let mut outcomes = Vec::new();
    for asked in asked {
        outcomes.push(asked.await.unwrap());
    }
    outcomes.sort();
    outcomes.dedup();
    outcomes
}

/// The provider had done nothing yet: nobody is lost.
#[tokio::test]
async fn killed_before_the_provider_did_anything() {
    let held = held(|faults| _ = faults.delay.insert(Endpoint::Token, SLOW)).await;
    let others = held.others().await;
    held.replicas.gateways[0].signal("KILL");
    let begun = Instant::now();
    held.replicas.provider_does(|_| {});
    assert_eq!(all(others).await, ["200"]);
    println!("FIGURE the holder killed: the others went on after {:?} (a lease of 2 s)", begun.elapsed());
    assert_eq!(held.replicas.refreshes(), 2, "one further grant");
    for replica in [1, 2] {
        assert_eq!(held.replicas.asks(replica, &held.person).await.outcome(), "200");
    }
    assert_eq!(held.replicas.refreshes(), 2);
}

/// The provider had rotated, and its answer died with the holder: what it calls reuse ends the session, once.
#[tokio::test]
async fn killed_after_the_provider_rotated() {
    let held = held(|faults| _ = faults.reply_delay.insert(Endpoint::Token, SLOW)).await;
    let others = held.others().await;
    held.replicas.gateways[0].signal("KILL");
    held.replicas.provider_does(|_| {});
    let outcomes = all(others).await;
    assert!(outcomes.iter().all(|outcome| outcome.starts_with("401 ")), "{outcomes:?}");
    assert_eq!(held.replicas.refreshes(), 2, "one further grant");
}

/// The same where refresh tokens serve again: nobody is lost.
#[tokio::test]
async fn killed_at_a_provider_that_does_not_rotate() {
    let held = held(|faults| {
        faults.reply_delay.insert(Endpoint::Token, SLOW);
        faults.rotate_refresh_tokens = false;
    })
    .await;
    let others = held.others().await;
    held.replicas.gateways[0].signal("KILL");
    held.replicas.provider_does(|faults| faults.rotate_refresh_tokens = false);
    assert_eq!(all(others).await, ["200"]);
    assert_eq!(held.replicas.refreshes(), 2);
}

/// Frozen with the answer on its way: the others spend the token once more, which reuse detection answers with the end of
/// the session; when it thaws, the holder revives nothing.
#[tokio::test]
async fn frozen_while_the_provider_rotates() {
    let mut held = held(|faults| _ = faults.delay.insert(Endpoint::Token, SLOW)).await;
    let others = held.others().await;
    held.replicas.gateways[0].signal("STOP");
    held.replicas.provider_does(|_| {});
    let outcomes = all(others).await;
    assert!(outcomes.iter().all(|outcome| outcome.starts_with("401 ")), "{outcomes:?}");
    assert_eq!(held.replicas.refreshes(), 2, "one further grant");
    held.replicas.gateways[0].signal("CONT");
    let first = held.first.reply().await.unwrap().outcome();
    println!("FIGURE the frozen holder's own request, after the thaw: {first}");
    // What was announced while it was frozen, it may hear a moment later; till then its copy leads it to the same end.
    until_so("the holder has heard of the end", async || {
        let outcome = held.replicas.asks(0, &held.person).await.outcome();
        assert!(outcome.starts_with("401 "), "{outcome}");
        outcome == "401 login_required"
    })
    .await;
    held.replicas.everywhere(&held.person, "401 login_required").await;
    assert_eq!(held.replicas.refreshes(), 2);
}

/// The same where refresh tokens serve again: everybody goes on, the holder too.
#[tokio::test]
async fn frozen_at_a_provider_that_does_not_rotate() {
    let mut held = held(|faults| {
        faults.delay.insert(Endpoint::Token, SLOW);
        faults.rotate_refresh_tokens = false;
    })
    .await;
    let others = held.others().await;
    held.replicas.gateways[0].signal("STOP");
    held.replicas.provider_does(|faults| faults.rotate_refresh_tokens = false);
    assert_eq!(all(others).await, ["200"]);
    assert_eq!(held.replicas.refreshes(), 2, "one further grant");
    held.replicas.gateways[0].signal("CONT");
    let first = held.first.reply().await.unwrap().outcome();
    assert!(["200", "503 provider_unavailable"].contains(&first.as_str()), "{first}");
    held.replicas.everywhere(&held.person, "200").await;
    assert_eq!(held.replicas.refreshes(), 2);
}

/// Frozen for less than the lease: the others wait, and one grant is enough.
#[tokio::test]
async fn frozen_for_a_moment() {
    let mut held = held(|faults| _ = faults.delay.insert(Endpoint::Token, Duration::from_millis(400))).await;
    held.replicas.gateways[0].signal("STOP");
    let others = held.others().await;
    held.replicas.gateways[0].signal("CONT");
    assert_eq!(held.first.reply().await.unwrap().outcome(), "200");
    assert_eq!(all(others).await, ["200"]);
    assert_eq!(held.replicas.refreshes(), 1);
}
