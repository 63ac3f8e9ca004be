//! A stream ends with the session that opened it, whichever replica it is on and whoever ends the session.

use super::server::RedisServer;
use super::{Replicas, Setting};
use crate::client::{Connection, get};
use crate::people::Person;
use crate::wait::until_so;
use crate::websocket::{echoed, handshake};
use serde_json::Value;
use std::time::{Duration, Instant};

/// RFC 6455, 7.4.1: an unmasked Close frame of the server with status 1008.
const CLOSE: u8 = 0x88;
const POLICY_VIOLATION: [u8; 2] = 1008_u16.to_be_bytes();
/// The contract's.
const SOON: Duration = Duration::from_secs(5);

/// A WebSocket, an event stream and a long download of one person.
struct Open {
    socket: Connection,
    events: Connection,
    download: Connection,
}

impl Open {
    async fn at(replicas: &Replicas, replica: usize, person: &Person) -> Self {
        let gateway = &replicas.gateways[replica];
        let open = async |request: crate::client::Request, status: u16| {
            let mut connection = gateway.connect().await;
            connection.send(&person.dressed(request)).await;
            assert_eq!(connection.head().await.unwrap().status, status);
            connection
        };
        let mut socket = open(handshake("/socket"), 101).await;
        assert_eq!(echoed(&mut socket, b"hello").await, b"hello");
        let mut events = open(get("/events").with("X-App", "events"), 200).await;
        assert_eq!(events.chunk().await.unwrap(), b"data: first\n\n");
        let download = open(get("/file").with("X-App", "drip"), 200).await;
        Open { socket, events, download }
    }

    /// When the last of them ended.
    async fn end(mut self, since: Instant) -> Duration {
        let (socket, events, download) = tokio::join!(self.socket.rest(), self.events.rest(), self.download.rest());
        let [first, length, status @ ..] = &socket[..4] else { panic!("{socket:?}") };
        assert_eq!((*first, usize::from(*length)), (CLOSE, socket.len() - 2), "one whole Close frame");
        assert_eq!(*status, POLICY_VIOLATION);
        assert_eq!(String::from_utf8_lossy(&events), "", "nothing ends it in order");
        assert!(!download.ends_with(b"0\r\n\r\n"), "a cut download does not look complete");
        since.elapsed()
    }

    async fn is_open(&mut self) {
        assert_eq!(echoed(&mut self.socket, b"still here").await, b"still here");
        assert!(self.download.chunk().await.is_some());
    }
}

#[tokio::test]
async fn streams_end_with_their_session_on_all_replicas() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    let bob = replicas.signed_in(0, "bob").await;
    let mut untouched = Open::at(&replicas, 1, &bob).await;

    let alice = replicas.signed_in(0, "alice").await;
    let open = [Open::at(&replicas, 0, &alice).await, Open::at(&replicas, 1, &alice).await];
    let (begun, mut leaving) = (Instant::now(), replicas.led_to(2, &alice));
    assert_eq!(leaving.visit("/oauth2/sign_out").await.status, 302);
    for open in open {
        let took = open.end(begun).await;
        println!("FIGURE a stream's end after a sign-out elsewhere: {took:?}");
        assert!(took < SOON, "{took:?}");
    }

    let alice = replicas.signed_in(1, "alice").await;
    let open = [Open::at(&replicas, 0, &alice).await, Open::at(&replicas, 1, &alice).await];
    let begun = Instant::now();
    assert_eq!(replicas.told(2, Some("alice"), None).await.status, 200);
    for open in open {
        let took = open.end(begun).await;
        println!("FIGURE a stream's end after a back-channel logout elsewhere: {took:?}");
        assert!(took < SOON, "{took:?}");
    }
    untouched.is_open().await;
}

/// The provider's "no" to a refresh, at whichever replica it is asked.
#[tokio::test]
async fn streams_end_when_a_refresh_is_denied() {
    let redis = RedisServer::start().await;
    let replicas = Setting::on(&redis).start().await;
    replicas.provider_does(|faults| faults.access_token_lifetime = 3);
    let alice = replicas.signed_in(0, "alice").await;
    let open = Open::at(&replicas, 0, &alice).await;
    replicas.provider_does(|faults| faults.refresh_error = Some("invalid_grant".to_owned()));
    until_so("a refresh that is denied", async || replicas.asks(1, &alice).await.status == 401).await;
    let took = open.end(Instant::now()).await;
    assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn streams_end_at_the_session_s_age() {
    let redis = RedisServer::start().await;
    let setting = Setting { route: "session: {max_age: 4s}", replicas: 1, ..Setting::on(&redis) };
    let replicas = setting.start().await;
    let alice = replicas.signed_in(0, "alice").await;
    let (open, begun) = (Open::at(&replicas, 0, &alice).await, Instant::now());
    let took = open.end(begun).await;
    assert!(took < Duration::from_secs(4) + SOON, "{took:?}");
    replicas.everywhere(&alice, "401 session_ended").await;
    let log = replicas.gateways[0].log();
    let ends: Vec<&str> = log.lines().filter(|line| line.contains("\"duration_ms\":4")).collect();
    assert_eq!(ends.iter().filter(|line| line.contains("\"outcome\":\"forwarded\"")).count(), ends.len(), "{ends:?}");
}

/// No announcement comes through, and the store cannot be asked: who is not known to be out stays in.
#[tokio::test]
async fn streams_outlive_an_outage() {
    let redis = RedisServer::start().await;
    let replicas = Setting { replicas: 2, ..Setting::impatient(&redis) }.start().await;
    let (alice, bob) = (replicas.signed_in(0, "alice").await, replicas.signed_in(0, "bob").await);
    let (mut stays, goes) = (Open::at(&replicas, 0, &bob).await, Open::at(&replicas, 0, &alice).await);
    redis.freeze();
    replicas.all_see(false).await;
    let begun = Instant::now();
    // What this replica is told it knows at once, whatever the store says.
    assert_eq!(replicas.told(0, Some("alice"), None).await.status, 200);
    assert!(goes.end(begun).await < SOON);
    stays.is_open().await;
    redis.thaw();
    replicas.all_see(true).await;
    stays.is_open().await;
    assert_eq!(replicas.asks(1, &bob).await.json()["method"], Value::from("GET"));
}

/// A WebSocket on which the app never stops sending is closed between two of its frames.
#[tokio::test]
async fn a_busy_socket_is_closed_in_order() {
    let redis = RedisServer::start().await;
    let replicas = Setting { replicas: 1, ..Setting::on(&redis) }.start().await;
    let alice = replicas.signed_in(0, "alice").await;
    let mut socket = replicas.gateways[0].connect().await;
    socket.send(&alice.dressed(handshake("/socket").with("X-App", "flood"))).await;
    assert_eq!(socket.head().await.unwrap().status, 101);
    let mut leaving = alice.clone();
    let (reads, left) = tokio::join!(socket.rest(), leaving.visit("/oauth2/sign_out"));
    assert_eq!(left.status, 302);
    // Frames of 64 KiB and a byte each, whole, and then the Close frame.
    let mut rest = &reads[..];
    while let [0x82, 127, length @ ..] = rest {
        let size = usize::try_from(u64::from_be_bytes(length[..8].try_into().unwrap())).unwrap();
        rest = &length[8 + size..];
    }
    assert_eq!((rest[0], rest.len(), &rest[2..4]), (CLOSE, 2 + usize::from(rest[1]), &POLICY_VIOLATION[..]));
}
