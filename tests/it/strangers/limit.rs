//! How often an address may be refused, and what does not count.

use super::{FEW, bad, guarded, introspecting, made_up, metrics_tell_no_secret};
use crate::client::{Request, get};
use crate::wait::until_so;
use crate::world::World;
use doorward::demo::Endpoint;
use serde_json::json;

const LIMITED: &str = "doorward_rate_limited_total{route=\"main\"}";

#[tokio::test]
async fn the_first_are_refused_and_the_next_must_wait() {
    let world = World::guarded().await;
    world.has_left(FEW, bad).await;
    let told = world.ask(&bad(9)).await;
    let wait: u64 = told.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=12 * 3600 / FEW as u64).contains(&wait), "{wait}");
    assert_eq!(told.header("content-type"), Some("application/problem+json"));
    assert_eq!(told.header("cache-control"), Some("no-store"));
    let problem = told.json();
    assert_eq!((&problem["status"], &problem["reason"]), (&json!(429), &json!("rate_limited")));
    for name in ["type", "title", "detail", "request_id"] {
        assert!(problem[name].is_string(), "{name}: {problem}");
    }
    let page = world.ask(&bad(9).page()).await;
    assert_eq!(page.outcome(), "429 rate_limited");
    assert_eq!(page.header("content-type"), Some("application/problem+json"), "who presents a token is a program");
    assert!(page.header("retry-after").is_some());

    // A good token costs nothing and never meets the limit; it makes room for no bad one.
    let (old, new) = (world.token(), world.token());
    for token in [&old, &new, &old] {
        assert_eq!(world.outcome(&get("/x").bearer(token)).await, "200");
    }
    world.has_left(0, bad).await;
    // A request is counted when its answer has gone.
    for counted in [LIMITED, "doorward_requests_total{route=\"main\",outcome=\"rate_limited\"}"] {
        until_so("four are counted", async || world.gateway.metric(counted).await == 4.0).await;
    }
    assert_eq!(world.app.count(), 3);
    metrics_tell_no_secret(&world.gateway).await;
}

/// Whatever is wrong with a token, and also when it is the same one again.
#[tokio::test]
async fn every_kind_of_refusal_counts() {
    let kinds = |world: &World| {
        let token = |claims| get("/x").bearer(&world.token_with(claims));
        let [expired, foreign, other] =
            [json!({"exp": 1}), json!({"iss": "https://evil.test"}), json!({"aud": "other"})].map(token);
        let broken = get("/x").bearer(&format!("{}x", world.token()));
        let twice = bad(0).with("Authorization", "Bearer another");
        [
            (get("/x").bearer("ab!cd"), "401 invalid_token"),
            (get("/x").bearer("dwk_of_no_provider"), "401 unknown_token"),
            (twice, "401 invalid_token"),
            (bad(0), "401 unknown_token"),
            (expired, "401 token_expired"),
            (foreign, "401 invalid_token"),
            (other, "401 wrong_audience"),
            (broken, "401 invalid_token"),
        ]
    };
    let world = World::guarded().await;
    for (request, expected) in kinds(&world).into_iter().take(FEW) {
        assert_eq!(world.outcome(&request).await, expected);
    }
    for (request, _) in kinds(&world) {
        assert_eq!(world.outcome(&request).await, "429 rate_limited", "{request:?}");
    }
    for kind in 0..kinds(&world).len() {
        let world = World::guarded().await;
        let (request, expected) = kinds(&world)[kind].clone();
        for _ in 0..FEW {
            assert_eq!(world.outcome(&request).await, expected);
        }
        assert_eq!(world.outcome(&request).await, "429 rate_limited", "{expected}");
    }
}

#[tokio::test]
async fn what_says_nothing_about_a_token_is_not_counted() {
    let world = World::with(|config, app| {
        let robots = "auth: {accept: [bearer]}, require: {groups: [robots]}";
        let writers = "auth: {accept: [bearer]}, require: {scopes: [write]}";
        let open = "auth: {accept: [session]}";
        let config = config
            .route("robots", "http://app.test/robots/", &app.origin, robots)
            .route("writers", "http://app.test/writers/", &app.origin, writers)
            .route("people", "http://app.test/people/", &app.origin, open);
        introspecting(guarded(config))
    })
    .await;
    let (good, opaque) = (world.token(), world.opaque());
    world.provider.faults().status.insert(Endpoint::Introspect, 500);
    let with = |path: &str, token: &str| get(path).bearer(token);
    let session = get("/people/").with("Cookie", "doorward=0123456789012345678901");
    let cases: [(Request, &str); 8] = [
        (with("/robots/", &good), "403 forbidden"),
        (with("/writers/", &good), "403 insufficient_scope"),
        (with("/x", &opaque), "503 provider_unavailable"),
        (get("/x"), "401 login_required"),
        (session, "401 login_required"),
        (with("/people/", &made_up(1)), "401 login_required"),
        (with("/public/", &made_up(1)), "200"),
        (with("/nowhere", &made_up(1)).set("Host", "other.test"), "404 no_route"),
    ];
    for (request, expected) in &cases {
        for _ in 0..2 * FEW {
            assert_eq!(world.outcome(request).await, *expected, "{request:?}");
        }
    }
    world.provider.faults().status.clear();
    world.has_left(FEW, bad).await;

    // Nor is a 429: however many there are, the wait is no longer.
    let wait = async || -> u64 { world.ask(&bad(0)).await.header("retry-after").unwrap().parse().unwrap() };
    let before = wait().await;
    for _ in 0..50 {
        assert!(wait().await <= before);
    }
}

#[tokio::test]
async fn a_route_has_limits_of_its_own() {
    let world = World::with(|config, app| {
        let own = |keys: &str| format!("auth: {{accept: [bearer]}}, limits: {{unknown_tokens: {{{keys}}}}}");
        let config = config
            .route("strict", "http://app.test/strict/", &app.origin, &own("requests: 1"))
            .route("free", "http://app.test/free/", &app.origin, &own("enabled: false"))
            .route("same", "http://app.test/same/", &app.origin, "auth: {accept: [bearer]}");
        guarded(config)
    })
    .await;
    let at = |path: &'static str| move |n| get(path).bearer(&made_up(n));
    world.has_left(1, at("/strict/")).await;
    world.has_left(FEW, at("/x")).await;
    world.has_left(0, at("/same/")).await;
    for n in 0..10 * FEW {
        assert_eq!(world.outcome(&at("/free/")(n)).await, "401 unknown_token");
    }
    for (route, limited) in [("strict", 1.0), ("main", 1.0), ("same", 1.0), ("free", 0.0)] {
        let name = format!("doorward_rate_limited_total{{route=\"{route}\"}}");
        assert_eq!(world.gateway.metric(&name).await, limited, "{route}");
    }
}

/// One burst over many connections: not one more than may be is let through.
#[tokio::test]
async fn of_many_at_once_as_many_are_refused_as_may_be() {
    let world = World::guarded().await;
    let mut asked = Vec::new();
    for n in 0..60 {
        let mut connection = world.gateway.connect().await;
        asked.push(tokio::spawn(async move { connection.ask(&bad(n)).await.status }));
    }
    let mut refused = 0;
    for asked in asked {
        match asked.await.unwrap() {
            401 => refused += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert_eq!(refused, FEW);
}

/// Time gives back what was spent: who waits as told is refused with a 401 again.
#[tokio::test]
async fn who_waits_as_told_is_heard_again() {
    let world = World::with(|config, _| guarded(config).more("limits: {unknown_tokens: {requests: 1, per: 2s}}")).await;
    let told = crate::wait::until("a 429", async || {
        let reply = world.ask(&bad(0)).await;
        (reply.status == 429).then_some(reply)
    })
    .await;
    assert!(matches!(told.header("retry-after"), Some("1" | "2")));
    until_so("a 401", async || world.outcome(&bad(1)).await == "401 unknown_token").await;
}

/// To a proxy that asks for a verdict, which knows 401 and 403 alone.
#[tokio::test]
async fn a_proxy_that_asks_is_told_in_its_own_words() {
    let world = World::with(|config, _| guarded(config).more("client_ip: {trusted_proxies: [127.0.0.1]}")).await;
    let told = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "app.test"), ("X-Forwarded-Uri", "/x")];
    let ask = |n: usize| get("/oauth2/auth").with_all(&told).bearer(&made_up(n));
    for n in 0..FEW {
        assert_eq!(world.outcome(&ask(n)).await, "401 unknown_token");
    }
    let limited = world.ask(&ask(FEW)).await;
    assert_eq!(limited.outcome(), "401 rate_limited");
    assert!(limited.header("retry-after").is_some());
    world.has_left(0, bad).await;
    assert_eq!(world.ask(&get("/oauth2/auth").with_all(&told).bearer(&world.token())).await.status, 202);
}
