//! Redis in each of its forms, and what operators are told of one that cannot be reached.

use super::server::{Cluster, RedisServer, Watched};
use super::{EXCHANGED, Replicas, STORE_UP, Setting, page};
use crate::client::get;
use crate::gateway::{Folder, Gateway};
use crate::people::Person;
use crate::tls::Certificate;
use crate::wait::{free_port, until, until_so};
use std::time::Instant;

fn two(setting: Setting) -> Setting {
    Setting { replicas: 2, ..setting }
}

/// A login here counts there, so does a refresh, and so does a sign-out.
async fn shares(replicas: &Replicas) {
    for user in ["alice", "bob", "carol"] {
        let person = replicas.signed_in(0, user).await;
        replicas.everywhere(&person, "200").await;
        let due = replicas.expired(1, user).await;
        let before = replicas.metric(EXCHANGED).await;
        replicas.everywhere(&due, "200").await;
        assert_eq!(replicas.metric(EXCHANGED).await - before, 1.0);
        let mut leaving = replicas.led_to(1, &person);
        assert_eq!(leaving.visit("/oauth2/sign_out").await.status, 302);
        for replica in 0..2 {
            // Copies live for a minute: it was heard of.
            until_so("it is refused", async || replicas.asks(replica, &person).await.outcome() == "401 login_required")
                .await;
        }
    }
}

/// Until logins are shared again, some in a row: each thread of a replica has connections of its own to lose. Who was known
/// goes on all the while.
async fn settles(replicas: &Replicas, known: &Person) {
    let mut in_a_row = 0;
    until_so("logins are shared", async || {
        replicas.everywhere(known, "200").await;
        let person = replicas.signed_in(0, "bob").await;
        in_a_row = if replicas.asks(1, &person).await.status == 200 { in_a_row + 1 } else { 0 };
        in_a_row == 8
    })
    .await;
}

#[tokio::test]
async fn a_cluster() {
    let mut cluster = Cluster::start().await;
    let urls = cluster.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let replicas = two(Setting::at(&urls, "mode: cluster")).start().await;
    shares(&replicas).await;
    let mut spread = Vec::new();
    for node in &cluster.nodes {
        spread.push(node.keys("doorward:*").await.len());
    }
    println!("FIGURE keys on the nodes of the cluster: {spread:?}");
    assert!(spread.iter().all(|keys| *keys > 0), "{spread:?}");
    let known = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&known, "200").await;
    // Without its first node the cluster answers nothing; then it is whole again.
    cluster.nodes[0].kill();
    for _ in 0..20 {
        replicas.everywhere(&known, "200").await;
    }
    cluster.nodes[0].begin().await;
    cluster.is_whole().await;
    settles(&replicas, &known).await;
    replicas.all_see(true).await;
    shares(&replicas).await;
}

#[tokio::test]
async fn valkey() {
    let mut valkey = RedisServer::valkey().await;
    let info: String = redis::from_redis_value(valkey.ask(&["INFO", "server"]).await).unwrap();
    assert!(info.contains("valkey_version"), "{info}");
    let replicas = two(Setting::on(&valkey)).start().await;
    shares(&replicas).await;
    let known = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&known, "200").await;
    valkey.kill();
    for _ in 0..20 {
        replicas.everywhere(&known, "200").await;
    }
    valkey.begin().await;
    replicas.all_see(true).await;
    shares(&replicas).await;
}

/// The first of the addresses is down: the others serve, and announcements are heard all the same.
#[tokio::test]
async fn a_cluster_whose_first_address_is_wrong() {
    let cluster = Cluster::start().await;
    let nowhere = format!("redis://127.0.0.1:{}", free_port());
    let urls = cluster.urls();
    let urls: Vec<&str> = std::iter::once(nowhere.as_str()).chain(urls.iter().map(String::as_str)).collect();
    let replicas = two(Setting::at(&urls, "mode: cluster")).start().await;
    shares(&replicas).await;
}

async fn fails_over(watched: &mut Watched, first_sentinel_frozen: bool) {
    let urls = watched.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let replicas = two(Setting::at(&urls, "mode: sentinel, master_name: main")).start().await;
    shares(&replicas).await;
    let known = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&known, "200").await;
    watched.is_in_step().await;
    if first_sentinel_frozen {
        watched.sentinels[0].freeze();
    }
    let begun = Instant::now();
    watched.master.kill();
    until_so("the replica is master", async || {
        replicas.everywhere(&known, "200").await;
        // It hangs up on everybody when it is chosen.
        watched.replica.try_ask(&["ROLE"]).await.is_ok_and(|role| format!("{role:?}").contains("master"))
    })
    .await;
    println!("FIGURE the sentinels chose after {:?}", begun.elapsed());
    settles(&replicas, &known).await;
    println!("FIGURE logins are shared again after {:?}", begun.elapsed());
    replicas.all_see(true).await;
    shares(&replicas).await;
}

#[tokio::test]
async fn sentinels_fail_over() {
    fails_over(&mut Watched::start().await, false).await;
}

/// One of the three does not answer; the other two have chosen.
#[tokio::test]
async fn sentinels_fail_over_while_the_first_is_frozen() {
    fails_over(&mut Watched::start().await, true).await;
}

#[tokio::test]
async fn over_tls() {
    let (certificate, folder) = (Certificate::of("127.0.0.1"), Folder::new());
    let redis = RedisServer::over_tls(&certificate, false).await;
    let authority = folder.write("ca.pem", &certificate.pem);
    let url = format!("rediss://127.0.0.1:{}/0", redis.port);
    let replicas = two(Setting::at(&[&url], &format!("ca_file: \"{authority}\""))).start().await;
    shares(&replicas).await;
    // Without the authority it is not believed.
    told_of(Setting::at(&[&url], ""), "certificate").await;
}

/// A Redis that knows its clients by a certificate.
#[tokio::test]
async fn over_tls_with_a_certificate_of_the_client() {
    let (certificate, folder) = (Certificate::of("127.0.0.1"), Folder::new());
    let redis = RedisServer::over_tls(&certificate, true).await;
    let authority = folder.write("ca.pem", &certificate.pem);
    certificate.write(&folder, "client");
    let file = |name: &str| folder.path(name).display().to_string();
    let url = format!("rediss://127.0.0.1:{}/0", redis.port);
    let keys = format!(
        "ca_file: \"{authority}\", certificate: \"{}\", private_key: \"{}\"",
        file("client.pem"),
        file("client.key")
    );
    let replicas = two(Setting::at(&[&url], &keys)).start().await;
    shares(&replicas).await;
    told_of(Setting::at(&[&url], &format!("ca_file: \"{authority}\"")), "").await;
}

/// Sentinels that want no password, before a master that does.
#[tokio::test]
async fn sentinels_with_a_login_of_their_own() {
    let master = RedisServer::guarded(":hunter2-hunter2", &["--requirepass", "hunter2-hunter2"]).await;
    let sentinel = RedisServer::sentinel(master.port, Some("hunter2-hunter2")).await;
    let url = format!("redis://:hunter2-hunter2@127.0.0.1:{}/0", sentinel.port);
    let keys = "mode: sentinel, master_name: main";
    let replicas = two(Setting::at(&[&url], &format!("{keys}, sentinel_password: \"\""))).start().await;
    shares(&replicas).await;
    for gateway in &replicas.gateways {
        gateway.secrets.lock().unwrap().insert("hunter2-hunter2".into());
    }
    told_of(Setting::at(&[&url], keys), "").await;
}

#[tokio::test]
async fn with_a_user_and_a_password() {
    let own = ["--user", "doorward", "on", ">hunter2-hunter2", "~doorward:*", "&doorward:*", "+@all", "-@admin"];
    let rules = [&own[..], &["--user", "default", "off"]].concat();
    let redis = RedisServer::guarded("doorward:hunter2-hunter2", &rules).await;
    let replicas = two(Setting::on(&redis)).start().await;
    shares(&replicas).await;
    for gateway in &replicas.gateways {
        gateway.secrets.lock().unwrap().insert("hunter2-hunter2".into());
    }
    let wrong = redis.url().replace("hunter2-hunter2", "another-password");
    told_of(Setting::at(&[&wrong], ""), "authentication failed").await;
}

/// The gateway runs, serves what is public, and names the store and its problem.
async fn told_of(setting: Setting, problem: &str) {
    let (_provider, _app, config) = setting.parts().await;
    let gateway = Gateway::start_unready(&config).await;
    gateway.secrets.lock().unwrap().insert("another-password".into());
    let told = until("the problem is told", async || {
        let ready = gateway.admin("/readyz").await;
        assert_eq!(ready.status, 503, "{}", ready.text());
        let ready = ready.json();
        let waits = ready["waiting_for"] == serde_json::json!(["store"]);
        ready["store_problem"].as_str().filter(|_| waits).map(str::to_owned)
    })
    .await;
    println!("FIGURE told to operators: {told}");
    assert!(told.to_lowercase().contains(&problem.to_lowercase()), "{problem}: {told}");
    assert!(!told.contains("another-password"), "{told}");
    assert_eq!(gateway.ask(&get("/public/x")).await.outcome(), "200");
    assert_eq!(gateway.ask(&get("/x").page()).await.outcome(), "302 login_required");
    assert_eq!(gateway.ask(&get("/x")).await.outcome(), "401 login_required");
    assert_eq!(gateway.metric(STORE_UP).await, 0.0);
    until_so("it is said once", async || gateway.log().matches("the store is unavailable").count() == 1).await;
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    let nowhere = format!("redis://127.0.0.1:{}/0", free_port());
    told_of(Setting::at(&[&nowhere], ""), "refused").await;
    told_of(Setting::at(&["redis://redis.invalid:6379/0"], ""), "").await;
    told_of(Setting::at(&[&nowhere], "mode: cluster"), "").await;
    told_of(Setting::at(&[&nowhere], "mode: sentinel, master_name: main"), "").await;
}

#[tokio::test]
async fn a_node_of_a_cluster_is_no_standalone() {
    let cluster = Cluster::start().await;
    for node in &cluster.nodes {
        told_of(Setting::at(&[node.url()], ""), "cluster").await;
    }
}

/// A user who may do all but hear announcements: sessions are shared, and operators are told what is missing.
#[tokio::test]
async fn a_user_without_the_channel() {
    let redis = RedisServer::start().await;
    redis.ask(&["ACL", "SETUSER", "deaf", "on", ">another-password", "~*", "+@all", "resetchannels"]).await;
    let url = redis.url().replace("://", "://deaf:another-password@");
    let replicas = two(Setting::at(&[&url], "")).start().await;
    let person = replicas.signed_in(0, "alice").await;
    replicas.everywhere(&person, "200").await;
    for gateway in &replicas.gateways {
        until_so("a warning", async || gateway.log().contains("may not subscribe to the channel")).await;
    }
}

/// With the ACL of docs/operations.md all works; with that of versions before the index of sessions all but logouts that
/// begin elsewhere, and a warning says so.
#[tokio::test]
async fn users_with_few_rights() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let rights = docs.lines().find_map(|line| line.strip_prefix("user doorward on >PASSWORD ")).unwrap();
    let sets = ["+sadd", "+smembers", "+srem", "+scard", "+sismember"];
    for without_sets in [false, true] {
        let redis = RedisServer::start().await;
        let mut user = vec!["ACL", "SETUSER", "narrow", "on", ">another-password"];
        user.extend(rights.split(' ').filter(|right| !without_sets || !sets.contains(right)));
        redis.ask(&user).await;
        let replicas =
            two(Setting::at(&[&redis.url().replace("://", "://narrow:another-password@")], "")).start().await;
        let alice = replicas.expired(0, "alice").await;
        replicas.everywhere(&alice, "200").await;
        assert_eq!(replicas.told(1, Some("alice"), None).await.status, 200);
        for gateway in &replicas.gateways {
            assert_eq!(gateway.metric(STORE_UP).await, 1.0, "{without_sets}");
        }
        let outcome = if without_sets { "200" } else { "401 login_required" };
        until_so("it is over, or not", async || replicas.outcomes(&alice).await == [outcome; 2]).await;
        let warned = replicas.gateways.iter().all(|gateway| gateway.log().contains("may not use sets"));
        assert_eq!(warned, without_sets);
    }
}

/// It was not there at the start; once it is, nobody need do anything.
#[tokio::test]
async fn redis_that_comes_later() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let (provider, app, config) = two(Setting::on(&redis)).parts().await;
    let mut gateways = Vec::new();
    for _ in 0..2 {
        gateways.push(Gateway::start_unready(&config).await);
    }
    let replicas = Replicas { provider, app, gateways };
    assert_eq!(replicas.gateways[0].ask(&get("/public/x")).await.outcome(), "200");
    let person = replicas.signed_in(0, "alice").await;
    assert_eq!(replicas.asks(0, &person).await.outcome(), "200", "a login needs no store");
    assert_eq!(replicas.gateways[1].ask(&page(&person)).await.outcome(), "503 store_unavailable");
    redis.begin().await;
    for gateway in &replicas.gateways {
        until_so("readiness", async || gateway.admin("/readyz").await.status == 200).await;
    }
    replicas.everywhere(&person, "200").await;
    shares(&replicas).await;
}
