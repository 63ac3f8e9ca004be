//! Whose refusals are counted: the address that a trusted proxy tells, and nobody else's word.

use super::{FEW, bad, guarded};
use crate::client::{Connection, Reply, Request};
use crate::wait::until_so;
use crate::world::World;
use std::net::SocketAddr;
use tokio::net::TcpSocket;

/// Trusts what comes from 127.0.0.1; 127.0.0.2 is a stranger.
async fn behind_a_proxy() -> World {
    World::with(|config, _| guarded(config).more("client_ip: {trusted_proxies: [127.0.0.1/32]}")).await
}

fn from(client: &'static str) -> impl Fn(usize) -> Request {
    move |n| bad(n).with("X-Forwarded-For", client)
}

async fn ask_as(world: &World, peer: &str, request: &Request) -> Reply {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(peer.parse().unwrap(), 0)).unwrap();
    let stream = socket.connect(world.gateway.address().parse().unwrap()).await.unwrap();
    Connection::over(stream, &world.gateway.secrets).ask(request).await
}

#[tokio::test]
async fn addresses_behind_a_trusted_proxy_count_apart() {
    let world = behind_a_proxy().await;
    world.has_left(FEW, from("192.0.2.1")).await;
    world.has_left(FEW, from("192.0.2.2")).await;
    world.has_left(FEW, bad).await;
    for same in ["192.0.2.1", "::ffff:192.0.2.1", "198.51.100.7, 192.0.2.1"] {
        world.has_left(0, from(same)).await;
    }
    world.has_left(FEW, from("2001:db8::1")).await;
    world.has_left(0, from("2001:db8::ffff:1")).await;
    world.has_left(FEW, from("2001:db8:0:1::1")).await;
}

#[tokio::test]
async fn a_forged_address_changes_nothing() {
    let world = behind_a_proxy().await;
    let stranger = "127.0.0.2";
    for n in 0..2 * FEW {
        let forged = bad(n).with("X-Forwarded-For", &format!("192.0.2.{n}")).with("X-Real-IP", "192.0.2.77");
        let expected = if n < FEW { "401 unknown_token" } else { "429 rate_limited" };
        assert_eq!(ask_as(&world, stranger, &forged).await.outcome(), expected, "{n}");
    }
    assert_eq!(ask_as(&world, "127.0.0.3", &from("192.0.2.1")(0)).await.outcome(), "401 unknown_token", "another peer");
    // Operators are told that there may be a proxy which they did not list, once.
    let warned = || world.gateway.log().lines().filter(|line| line.contains("client_ip.trusted_proxies")).count();
    until_so("a warning", async || warned() > 0).await;
    assert_eq!(warned(), 1);
    world.has_left(FEW, from("192.0.2.1")).await; // nobody spent it in their name
}

/// What a client says of itself before the proxy's own word does not count either.
#[tokio::test]
async fn a_forged_address_behind_the_proxy_changes_nothing() {
    let world = behind_a_proxy().await;
    for n in 0..2 * FEW {
        let forged = bad(n).with("X-Forwarded-For", &format!("10.0.0.{n}, 192.0.2.1"));
        let expected = if n < FEW { "401 unknown_token" } else { "429 rate_limited" };
        assert_eq!(world.outcome(&forged).await, expected, "{n}");
    }
}
