//! Cross-origin requests: preflights are answered before credentials, and the gateway's own replies are marked so that
//! a browser shows their true cause.

use crate::client::{Reply, Request, ask, get};
use crate::world::World;

const OURS: &str = "https://ui.test";
const EXPOSED: &str = "Retry-After, WWW-Authenticate, X-Request-Id, X-Doorward-Reason";

async fn world() -> World {
    let cors = "cors: {origins: [\"https://ui.test\"], credentials: true, max_age: 5m}";
    World::with(|config, app| {
        config
            .route("api", "http://app.test/api/", &app.origin, &format!("auth: {{accept: [bearer]}}, {cors}"))
            .route("open", "http://app.test/public/open/", &app.origin, &format!("auth: public, {cors}"))
            .route("any", "http://app.test/any/", &app.origin, "auth: {accept: [bearer]}, cors: {origins: [\"*\"]}")
    })
    .await
}

fn preflight(target: &str, origin: &str) -> Request {
    let asked = [("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "authorization, x-odd")];
    ask("OPTIONS", target).with("Origin", origin).with_all(&asked)
}

/// Origin, credentials, methods, headers and age that are allowed.
fn allowed(reply: &Reply) -> [Option<&str>; 5] {
    ["allow-origin", "allow-credentials", "allow-methods", "allow-headers", "max-age"]
        .map(|name| reply.header(&format!("access-control-{name}")))
}

#[tokio::test]
async fn a_preflight_is_answered_before_credentials() {
    let world = world().await;
    let ours = [Some(OURS), Some("true"), Some("PUT"), Some("authorization, x-odd"), Some("300")];
    let any = [Some("*"), None, Some("PUT"), Some("authorization, x-odd"), Some("600")];
    for (request, expected) in [
        (preflight("/api/x", OURS), ours),
        (preflight("/public/open/x", OURS), ours),
        (preflight("/api/x", "https://evil.test"), [None; 5]),
        (preflight("/api/x", "https://ui.test.evil.test"), [None; 5]),
        (preflight("/api/x", "http://ui.test"), [None; 5]),
        (preflight("/api/x", "null"), [None; 5]),
        (preflight("/any/x", "https://evil.test"), any),
    ] {
        let reply = world.ask(&request).await;
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{request:?}");
        assert_eq!(allowed(&reply), expected, "{request:?}");
        assert_eq!(reply.all("vary"), ["Origin"]);
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(reply.header("x-request-id").is_some());
    }
    assert_eq!(world.app.count(), 0, "the app is not asked");
}

/// An OPTIONS that lacks one of the two fields is a request as any other, and so is one on a route without `cors`.
#[tokio::test]
async fn what_is_no_preflight_needs_a_credential() {
    let world = world().await;
    for request in [
        ask("OPTIONS", "/api/x"),
        ask("OPTIONS", "/api/x").with("Origin", OURS),
        ask("OPTIONS", "/api/x").with("Access-Control-Request-Method", "PUT"),
        preflight("/api/x", OURS).without("Origin"),
        preflight("/private", OURS),
    ] {
        assert_eq!(world.ask(&request).await.outcome(), "401 login_required", "{request:?}");
    }
    assert_eq!(world.app.count(), 0);
    let passed = world.ask(&preflight("/public/x", OURS)).await;
    assert_eq!(passed.header("x-answered-by"), Some("app"), "the app's own preflights are the app's");
}

#[tokio::test]
async fn own_replies_are_marked_and_the_apps_are_not() {
    let world = world().await;
    let marks = |reply: &Reply| {
        (
            reply.header("access-control-allow-origin").map(str::to_owned),
            reply.header("access-control-expose-headers").map(str::to_owned),
        )
    };
    let ours = (Some(OURS.to_owned()), Some(EXPOSED.to_owned()));
    for (request, status, expected) in [
        (get("/api/x").with("Origin", OURS), 401, ours.clone()),
        (get("/api/x").with("Origin", OURS).bearer("no-jwt"), 401, ours.clone()),
        (get("/api/x").with("Origin", "https://evil.test"), 401, (None, None)),
        (get("/any/x").with("Origin", "https://evil.test"), 401, (Some("*".to_owned()), Some(EXPOSED.to_owned()))),
        (get("/private").with("Origin", OURS), 401, (None, None)),
    ] {
        let reply = world.ask(&request).await;
        assert_eq!((reply.status, marks(&reply)), (status, expected), "{request:?}");
    }
    let refused = world.ask(&get("/api/x")).await;
    assert_eq!(refused.all("vary"), ["Origin"], "also for a request without an origin: caches must know");
    let passed = world.ask(&get("/api/x").with("Origin", OURS).bearer(&world.token())).await;
    assert_eq!((passed.status, marks(&passed)), (200, (None, None)), "the app speaks for itself");
}
