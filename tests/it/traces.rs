//! Traces at a collector: what is sampled arrives there, what comes from strangers begins nothing, and a collector that
//! does not work costs nobody anything.

use crate::app::{App, Received};
use crate::client::{ask, get};
use crate::gateway::{Config, Gateway};
use crate::wait::until;
use crate::world::{World, usual};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traced(config: Config, otlp: &str, sample: &str) -> Config {
    config.more(&format!("tracing: {{otlp: \"{otlp}\", sample: {sample}}}"))
}

fn holds(sent: &Received, bytes: &[u8]) -> bool {
    sent.body.windows(bytes.len()).any(|window| window == bytes)
}

/// The export that holds these bytes.
async fn export(collector: &App, bytes: &[u8]) -> Received {
    until("an export", async || collector.received().into_iter().find(|sent| holds(sent, bytes))).await
}

fn trace_id(traceparent: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(traceparent.split('-').nth(1).unwrap().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_sampled_request_arrives_at_the_collector() {
    let collector = App::start().await;
    let world = World::with(|config, _| traced(config, &collector.origin, "100%")).await;
    assert_eq!(world.ask(&get("/public/x?secret=1").set("traceparent", PARENT)).await.status, 200);
    assert_eq!(world.app.last().header("traceparent"), Some(PARENT), "a stranger's is passed on, and is no parent");
    assert_eq!(world.ask(&get("/public/y")).await.status, 200);
    let own = world.app.last().header("traceparent").unwrap().to_owned();
    let sent = export(&collector, &trace_id(&own)).await;
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/v1/traces"));
    assert_eq!(sent.header("content-type"), Some("application/x-protobuf"));
    for word in ["doorward", "GET public", "/public/y", "doorward.route", "forwarded", "upstream"] {
        assert!(holds(&sent, word.as_bytes()), "{word}");
    }
    assert_eq!(world.ask(&get("/own/y")).await.status, 401);
    let sent = export(&collector, b"/own/y").await;
    for word in ["doorward.reason", "login_required", "credential"] {
        assert!(holds(&sent, word.as_bytes()), "{word}");
    }
    world.ask(&ask(&"M".repeat(30_000), "/public/z")).await;
    let sent = export(&collector, b"/public/z").await;
    assert!(sent.body.len() < 5000, "{} bytes", sent.body.len());
    let stranger = trace_id(PARENT);
    for sent in collector.received() {
        assert!(!holds(&sent, &stranger) && !holds(&sent, b"secret"));
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_what_is_sampled() {
    let collector = App::start().await;
    let world = World::with(|config, _| {
        traced(config, &format!("{}/otlp/in", collector.origin), "0%").more("client_ip: {trusted_proxies: [127.0.0.1]}")
    })
    .await;
    let not_sampled = PARENT.replace("-01", "-00").replace("0af7", "0bf7");
    for (traceparent, is_sampled) in [(not_sampled.as_str(), false), (PARENT, true)] {
        assert_eq!(world.ask(&get("/public/x").set("traceparent", traceparent)).await.status, 200);
        let received = world.app.last().header("traceparent").unwrap().to_owned();
        assert_eq!(trace_id(&received), trace_id(traceparent));
        assert_eq!(received != traceparent, is_sampled, "the app's parent is the gateway's span");
    }
    let sent = export(&collector, &trace_id(PARENT)).await;
    assert_eq!(sent.target, "/otlp/in");
    assert!(!holds(&sent, &trace_id(&not_sampled)));
}

#[tokio::test]
async fn a_collector_that_fails_costs_nobody_anything() {
    let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = format!("http://{}", hangs.local_addr().unwrap());
    // The provider's keys are no collector: every export is refused.
    let world = World::start().await;
    let refuses = format!("{}/nothing", world.provider.issuer());
    for otlp in ["http://127.0.0.1:1", &refuses, &hanging] {
        let config = traced(usual(&world.provider, &world.app), otlp, "100%");
        let mut gateway = Gateway::start(&config).await;
        for _ in 0..200 {
            assert_eq!(gateway.ask(&get("/public/x")).await.status, 200);
        }
        let lines = || gateway.log().lines().filter(|line| line.contains("traces cannot be sent")).count();
        crate::wait::until_so(&format!("{otlp}: a line"), async || lines() == 1).await;
        for _ in 0..200 {
            assert_eq!(gateway.ask(&get("/public/x")).await.status, 200);
        }
        assert_eq!(lines(), 1, "{otlp}");
        gateway.signal("TERM");
        assert!(gateway.ended().await.success(), "{otlp}");
    }
}
