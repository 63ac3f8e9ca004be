//! Whoever has a stream open uses the session, whether or not anything moves on it.

use super::{Scene, main_route};
use crate::client::get;
use crate::wait::until_so;
use crate::websocket::handshake;
use std::time::{Duration, Instant};

const SHORT: &str = "session: {idle_timeout: 2s}, upstream: {timeout: 30s}";

#[tokio::test]
async fn an_open_stream_keeps_its_session() {
    let scene = Scene::with(|config, app| main_route(config, app, SHORT)).await;
    let (socket, events, idle) =
        (scene.signed_in("alice").await, scene.signed_in("alice").await, scene.signed_in("bob").await);
    let (mut silent, mut listening) = (scene.gateway.connect().await, scene.gateway.connect().await);
    silent.send(&socket.dressed(handshake("/socket"))).await;
    assert_eq!(silent.head().await.unwrap().status, 101);
    listening.send(&events.dressed(get("/events").with("X-App", "events"))).await;
    assert_eq!(listening.head().await.unwrap().status, 200);
    let begun = Instant::now();
    until_so("twice the idle time", async || begun.elapsed() > Duration::from_secs(5)).await;
    let now = async |person: &super::Person| person.ask(&person.dressed(get("/x"))).await.outcome();
    assert_eq!(now(&idle).await, "401 session_ended", "without a stream it has ended");
    assert_eq!((now(&socket).await, now(&events).await), ("200".into(), "200".into()));
    // The stream has ended: the session is idle again.
    drop(silent);
    let other = scene.signed_in("bob").await;
    let begun = Instant::now();
    until_so("the idle time", async || begun.elapsed() > Duration::from_secs(5)).await;
    assert_eq!(now(&socket).await, "401 session_ended");
    assert_eq!(now(&other).await, "401 session_ended");
    assert_eq!(now(&events).await, "200");
}
