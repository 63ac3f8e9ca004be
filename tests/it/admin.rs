//! The admin listener: what probes and Prometheus are told, and that it is no public one.

use crate::app::App;
use crate::client::{Connection, Secrets, ask, get};
use crate::gateway::{Config, Gateway};
use crate::wait::until_so;
use crate::world::{PUBLIC, World};
use serde_json::json;

#[tokio::test]
async fn probes_are_answered() {
    let world = World::start().await;
    let alive = world.gateway.admin("/livez").await;
    assert_eq!((alive.status, alive.header("cache-control")), (200, Some("no-store")));
    let ready = world.gateway.admin("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"degraded": []})));
    let page = world.gateway.admin("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    for told in ["main", "public", world.provider.issuer(), "ready"] {
        assert!(page.text().contains(told), "{told}: {}", page.text());
    }
    assert_eq!(world.gateway.admin("/elsewhere").await.status, 404);
    for path in ["/livez", "/readyz", "/metrics", "/api/v1/sessions", "/"] {
        let public = world.ask(&get(path)).await;
        assert_eq!(public.outcome(), "401 login_required", "{path} is a path of the app on a public listener");
    }
}

#[tokio::test]
async fn only_reading_is_possible() {
    let world = World::start().await;
    let address = format!("127.0.0.1:{}", world.gateway.admin_port());
    for path in ["/livez", "/readyz", "/metrics", "/"] {
        let mut connection = Connection::open(&address, &Secrets::default()).await;
        let post = connection.ask(&ask("POST", path).set("Host", &address).body(b"x")).await;
        assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")), "{path}");
        let mut connection = Connection::open(&address, &Secrets::default()).await;
        let head = connection.ask(&ask("HEAD", path).set("Host", &address)).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
}

/// Every family of the contract that a gateway without sessions has, under the contract's name and labels.
#[tokio::test]
async fn metrics_have_the_names_of_the_contract() {
    let world = World::start().await;
    let token = world.token();
    for _ in 0..2 {
        world.ask(&get("/x").bearer(&token)).await;
    }
    world.ask(&get("/x").bearer("no-jwt")).await;
    world.ask(&get("/x").bearer(&world.token_with(json!({"aud": "other"})))).await;
    world.ask(&get("/public/x")).await;
    world.ask(&get("/x").set("Host", "other.test")).await;
    world.ask(&get("/public/..%2fx")).await;
    let samples = [
        ("doorward_requests_total{route=\"main\",outcome=\"forwarded\"}", 2.0),
        ("doorward_requests_total{route=\"main\",outcome=\"unauthorized\"}", 2.0),
        ("doorward_requests_total{route=\"public\",outcome=\"forwarded\"}", 1.0),
        ("doorward_requests_total{route=\"-\",outcome=\"no_route\"}", 1.0),
        ("doorward_requests_total{route=\"-\",outcome=\"bad_request\"}", 1.0),
        ("doorward_request_duration_seconds_count{route=\"main\"}", 4.0),
        ("doorward_auth_duration_seconds_count{route=\"main\",credential=\"bearer\"}", 4.0),
        ("doorward_cache_requests_total{cache=\"verified_tokens\",result=\"hit\"}", 1.0),
        ("doorward_cache_requests_total{cache=\"verified_tokens\",result=\"miss\"}", 3.0),
        ("doorward_token_verifications_total{provider=\"corp\",result=\"ok\"}", 1.0),
        ("doorward_token_verifications_total{provider=\"corp\",result=\"wrong_audience\"}", 1.0),
        ("doorward_jwks_fetches_total{provider=\"corp\",result=\"ok\"}", 1.0),
        ("doorward_provider_up{provider=\"corp\"}", 1.0),
        ("doorward_store_up", 1.0),
    ];
    for (name, expected) in samples {
        until_so(name, async || world.gateway.metric(name).await == expected).await;
    }
    let metrics = world.gateway.admin("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text();
    assert!(
        text.contains("doorward_build_info{version=\"")
            && text.contains("doorward_cache_entries{cache=\"verified_tokens\"}"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}

/// No client makes a series of its own.
#[tokio::test]
async fn labels_are_closed_sets() {
    let world = World::start().await;
    for i in 0..20 {
        let odd = format!("invented-{i}");
        world.ask(&get(&format!("/public/{odd}")).set("Host", &format!("{odd}.test"))).await;
        world.ask(&ask(&format!("INVENTED{i}"), "/public/x")).await;
        world.ask(&get("/x").bearer(&world.token_with(json!({"iss": odd, "sub": odd})))).await;
    }
    let text = world.gateway.admin("/metrics").await.text();
    assert!(!text.to_lowercase().contains("invented"), "{text}");
}

#[tokio::test]
async fn the_api_needs_its_token() {
    let app = App::start().await;
    let config = Config::default().route("public", "http://app.test/", &app.origin, PUBLIC);
    let without = Gateway::start(&config).await;
    assert_eq!(without.admin("/api/v1/sessions").await.status, 404);
    let mut with = config.clone();
    with.env.push(("DOORWARD__ADMIN__TOKEN".to_owned(), "the-operators-token-17".to_owned()));
    let with = Gateway::start(&with).await;
    with.secrets.lock().unwrap().insert("the-operators-token-17".to_owned());
    assert_eq!(with.admin("/api/v1/sessions").await.status, 401);
    let address = format!("127.0.0.1:{}", with.admin_port());
    for (token, unauthorized) in [("wrong", true), ("the-operators-token-1", true), ("the-operators-token-17", false)] {
        let mut connection = Connection::open(&address, &with.secrets).await;
        let status = connection.ask(&get("/api/v1/nothing").set("Host", &address).bearer(token)).await.status;
        assert_eq!(status == 401, unauthorized, "{token}: {status}");
    }
}

/// A page of another name that was made to resolve to this machine reads nothing here.
#[tokio::test]
async fn another_host_is_refused() {
    let world = World::start().await;
    let address = format!("127.0.0.1:{}", world.gateway.admin_port());
    let status = async |request: crate::client::Request| {
        let mut connection = Connection::open(&address, &Secrets::default()).await;
        connection.ask(&request).await.status
    };
    for path in ["/livez", "/readyz", "/metrics", "/", "/api/v1/api-keys"] {
        for host in ["evil.test", "evil.test:80", "localhost.evil.test"] {
            assert_eq!(status(get(path).set("Host", host)).await, 403, "{host} {path}");
        }
    }
    for host in ["localhost", "doorward", "doorward.auth.svc:9080", "[::1]:1"] {
        assert_eq!(status(get("/livez").set("Host", host)).await, 200, "{host}");
    }
}

/// Probes are answered, whoever holds connections open and asks nothing on them.
#[tokio::test]
async fn connections_that_say_nothing_hold_up_no_probe() {
    let world = World::start().await;
    let address = format!("127.0.0.1:{}", world.gateway.admin_port());
    let mut held = Vec::new();
    for i in 0..1_200 {
        let mut connection = Connection::open(&address, &Secrets::default()).await;
        if i % 2 == 0 {
            connection.send_bytes(b"GET /livez HTTP/1.1\r\nHost: ").await;
        }
        held.push(connection);
    }
    assert_eq!(world.gateway.admin("/livez").await.status, 200);
    assert!(world.gateway.descriptors() < 500, "{}", world.gateway.descriptors());
    assert_eq!(world.ask(&get("/public/x")).await.status, 200);
}
