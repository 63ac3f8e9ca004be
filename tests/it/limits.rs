//! What a listener bears: heads that drip or swell, connections that idle, and more of them than it may have. Whoever
//! keeps to the limits is served all the while (D2).

use crate::app::App;
use crate::client::{Connection, ask, get};
use crate::gateway::{Config, Gateway};
use crate::wait::{in_time, stays_silent, until_so};
use crate::world::PUBLIC;
use std::time::{Duration, Instant};
use tokio::time::timeout;

async fn gateway(listener: &str) -> (Gateway, App) {
    let app = App::start().await;
    let config = Config::default().listener(listener).route("main", "http://app.test/", &app.origin, PUBLIC);
    (Gateway::start(&config).await, app)
}

/// Until the other side closes, and what came before.
async fn closed_after(connection: &mut Connection) -> (Duration, Vec<u8>) {
    let begun = Instant::now();
    let rest = connection.rest().await;
    (begun.elapsed(), rest)
}

#[tokio::test]
async fn a_head_that_drips_is_cut() {
    let (gateway, app) = gateway("head_timeout: 700ms, idle_timeout: 60s").await;
    let (mut dripping, mut other) = (gateway.connect().await, gateway.connect().await);
    let begun = Instant::now();
    dripping.send_bytes(b"GET / HTTP/1.1\r\nHost: app.test\r\nX-A: ").await;
    let dripped = async {
        loop {
            dripping.send_bytes(b"a").await;
            if let Ok(answer) = timeout(Duration::from_millis(50), dripping.byte()).await {
                return answer;
            }
            assert_eq!(other.ask(&get("/x")).await.status, 200, "others are served");
        }
    };
    assert_eq!(in_time("the cut", dripped).await, None, "no answer, an end");
    let took = begun.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert!(app.received().iter().all(|received| received.target == "/x"));
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let (gateway, _app) = gateway("head_timeout: 500ms, idle_timeout: 60s").await;
    let mut silent = gateway.connect().await;
    let (took, rest) = closed_after(&mut silent).await;
    assert!(rest.is_empty() && took < Duration::from_secs(3), "{took:?} {rest:?}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let (gateway, _app) = gateway("head_timeout: 10s, idle_timeout: 1s").await;
    let mut idle = gateway.connect().await;
    assert_eq!(idle.ask(&get("/x")).await.status, 200);
    let mut busy = gateway.connect().await;
    busy.send(&get("/x").with("X-App", "never")).await;
    let (took, rest) = closed_after(&mut idle).await;
    assert!(
        rest.is_empty() && (Duration::from_millis(800)..Duration::from_secs(4)).contains(&took),
        "{took:?} {rest:?}"
    );
    assert!(stays_silent(busy.head()).await, "a request that is being served is not idle");
}

#[tokio::test]
async fn a_further_connection_waits_until_one_closes() {
    let (gateway, app) = gateway("max_connections: 2").await;
    // Those that looked whether the listener is there may still be open.
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut connection = gateway.connect().await;
        assert_eq!(connection.ask(&get("/kept")).await.status, 200);
        kept.push(connection);
    }
    let mut further = gateway.connect().await;
    further.send(&get("/further")).await;
    assert!(stays_silent(further.head()).await);
    assert_eq!(app.count(), 2);
    assert_eq!(kept[1].ask(&get("/kept")).await.status, 200, "those inside are served");
    assert_eq!(gateway.admin("/livez").await.status, 200, "and the admin listener has its own places");
    drop(kept.pop());
    assert_eq!(further.reply().await.unwrap().status, 200);
    assert_eq!(app.last().target, "/further");
}

/// 431: more fields or more bytes than a head may have, told in the gateway's own words.
#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (gateway, app) = gateway("max_head: 16KiB").await;
    let fields = |count: usize| (0..count - 2).fold(get("/x"), |request, i| request.with(&format!("X-{i}"), "1"));
    let padded = |size: usize| get("/x").with("X-Padding", &"a".repeat(size));
    for (what, request, expected) in [
        ("all the fields there may be", fields(128), "200"),
        ("one too many", fields(129), "431 bad_request"),
        ("many too many", fields(400), "431 bad_request"),
        ("a head as large as may be", padded(16_000), "200"),
        ("a head too large", padded(16_400), "431 bad_request"),
        ("a head far too large", padded(300_000), "431 bad_request"),
        ("a target too large", get(&format!("/{}", "a".repeat(17_000))), "431 bad_request"),
        ("a large cookie", get("/x").with("Cookie", &format!("a={}", "b".repeat(64 * 1024))), "431 bad_request"),
        ("a body of any size", ask("POST", "/x").body(&vec![b'a'; 100_000]), "200"),
    ] {
        let reply = gateway.ask(&request).await;
        assert_eq!(reply.outcome(), expected, "{what}");
        if expected != "200" {
            let line = format!("\"request_id\":\"{}\"", reply.header("x-request-id").unwrap());
            until_so(&format!("{what}: a line in the access log"), async || gateway.log().contains(&line)).await;
        }
    }
    assert_eq!(app.count(), 3);
}

/// A head without an end is cut off at the listener's limits, whatever is in it.
#[tokio::test]
async fn a_head_without_an_end_is_cut() {
    let (gateway, app) = gateway("max_head: 16KiB, head_timeout: 3s").await;
    let mut connection = gateway.connect().await;
    connection.send_bytes(b"GET /x HTTP/1.1\r\nHost: app.test\r\n").await;
    let endless = async {
        for i in 0.. {
            connection.send_bytes(format!("X-{i}: {}\r\n", "a".repeat(1000)).as_bytes()).await;
            if let Ok(reply) = timeout(Duration::from_millis(1), connection.head()).await {
                return reply;
            }
        }
        None
    };
    let reply = in_time("an end", endless).await;
    assert!(reply.is_none_or(|reply| reply.status == 431));
    assert_eq!(app.count(), 0);
    assert_eq!(gateway.ask(&get("/x")).await.status, 200);
}

/// Many connections at once, each with a request or two.
#[tokio::test]
async fn many_connections_are_served() {
    let (gateway, app) = gateway("max_connections: 1000").await;
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(gateway.connect().await);
    }
    let mut asking = tokio::task::JoinSet::new();
    for mut connection in open {
        asking.spawn(async move { (connection.ask(&get("/x")).await.status, connection.ask(&get("/y")).await.status) });
    }
    assert!(asking.join_all().await.into_iter().all(|statuses| statuses == (200, 200)));
    assert_eq!(app.count(), 400);
}

/// Idle connections take neither the probes' descriptors nor those of the app's connections: more wait until some close.
#[tokio::test]
async fn idle_connections_leave_descriptors_for_the_rest() {
    let app = App::start().await;
    // Raised where the hard limit allows it; shared out where it does not.
    for (limits, served) in [((700, 4_000), true), ((700, 700), false)] {
        let mut config = Config::default().more("workers: 1").route("main", "http://app.test/", &app.origin, PUBLIC);
        config.files = Some(limits);
        let gateway = Gateway::start(&config).await;
        let mut open = Vec::new();
        for _ in 0..800 {
            open.push(gateway.connect().await);
        }
        assert_eq!(open[0].ask(&get("/x")).await.status, 200, "{limits:?}");
        assert_eq!(gateway.admin("/livez").await.status, 200, "{limits:?}");
        assert!(gateway.descriptors() < limits.1 as usize - 100, "{limits:?}: {}", gateway.descriptors());
        let mut last = open.pop().unwrap();
        last.send(&get("/last")).await;
        if served {
            assert_eq!(last.reply().await.unwrap().status, 200);
        } else {
            assert!(stays_silent(last.head()).await);
            open.truncate(50);
            assert_eq!(last.reply().await.unwrap().status, 200, "it is served when others have gone");
            assert!(gateway.log().contains("the limit of open files"), "and the operator is told");
        }
    }
}

/// Beyond `limits.requests_in_flight` a request is told to come back; what is free again is taken again.
#[tokio::test]
async fn requests_at_once_are_bounded() {
    let app = App::start().await;
    let config = Config::default()
        .more("limits: {requests_in_flight: 3, unknown_tokens: {enabled: false}}")
        .another_listener("")
        .route("main", "http://app.test/", &app.origin, PUBLIC);
    let gateway = Gateway::start(&config).await;
    let mut waiting = Vec::new();
    for i in 0..3 {
        let mut connection = gateway.connect().await;
        connection.send(&get("/x").with("X-App", "wait")).await;
        until_so("the request at the app", async || app.count() == i + 1).await;
        waiting.push(connection);
    }
    let refused = gateway.ask(&get("/x")).await;
    assert_eq!(refused.outcome(), "503 rate_limited");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(gateway.ask(&get("/x").page()).await.outcome(), "503 rate_limited");
    let mut elsewhere = Connection::open(&gateway.address_of(1), &gateway.secrets).await;
    assert_eq!(elsewhere.ask(&get("/x")).await.status, 200, "each listener has its own");
    app.say_the_word();
    until_so("room", async || gateway.ask(&get("/x")).await.status == 200).await;
    (0..2).for_each(|_| app.say_the_word());
}
