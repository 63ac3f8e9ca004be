//! `refresh_dedup.enabled: false`: each replica spends a refresh token by itself, within a replica one request does.

use super::server::RedisServer;
use super::{Setting, slow_token};
use crate::client::get;
use std::time::Duration;

async fn everybody_at_once(rotates: bool, replicas_asked: usize) -> (usize, Vec<String>) {
    let redis = RedisServer::start().await;
    let replicas = Setting { dedup: "refresh_dedup: {enabled: false}", ..Setting::on(&redis) }.start().await;
    let person = replicas.expired(0, "alice").await;
    replicas.provider_does(|faults| {
        faults.rotate_refresh_tokens = rotates;
        slow_token(faults, Duration::from_secs(1));
    });
    let mut connections = Vec::new();
    for n in 0..60 {
        connections.push(replicas.gateways[n % replicas_asked].connect().await);
    }
    let asked: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let request = person.dressed(get("/x"));
            tokio::spawn(async move { connection.ask(&request).await.outcome() })
        })
        .collect();
    let mut outcomes = Vec::new();
    for asked in asked {
        outcomes.push(asked.await.unwrap());
    }
    for kind in ["refresh", "lease"] {
        assert_eq!(redis.keys(&format!("doorward:*{kind}:*")).await, Vec::<String>::new());
    }
    (replicas.refreshes(), outcomes)
}

#[tokio::test]
async fn within_a_process_one_request_spends_the_token() {
    let (refreshes, outcomes) = everybody_at_once(true, 1).await;
    assert_eq!((refreshes, outcomes), (1, vec!["200".to_owned(); 60]));
}

#[tokio::test]
async fn each_process_spends_it_for_itself() {
    let (refreshes, outcomes) = everybody_at_once(false, 3).await;
    assert_eq!((refreshes, outcomes), (3, vec!["200".to_owned(); 60]));
}
