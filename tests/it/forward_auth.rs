//! Judging for another proxy (`/oauth2/auth`, `/oauth2/forward`): whose word counts about the request to judge, and
//! what is told of the person.

use crate::client::{Reply, Request, ask, get};
use crate::world::World;
use serde_json::json;

/// The question of a proxy about another request.
fn about(page: &str, host: &str, uri: &str) -> Request {
    let told = [
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Uri", uri),
    ];
    get(page).set("Host", "auth.test").with_all(&told)
}

async fn world(trusted: &str) -> World {
    World::with(|config, app| {
        config
            .more(&format!("client_ip: {{trusted_proxies: [{trusted}]}}"))
            .route("auth", "http://auth.test/", &app.origin, "auth: {accept: [bearer]}")
            .route(
                "admins",
                "http://app.test/admins/",
                &app.origin,
                "auth: {accept: [bearer]}, require: {groups: [admins]}",
            )
            .route(
                "robots",
                "http://app.test/robots/",
                &app.origin,
                "auth: {accept: [bearer]}, require: {groups: [robots]}",
            )
            .route(
                "dash",
                "http://app.test/dash/",
                &app.origin,
                "auth: {accept: [bearer]}, headers: {preset: authelia}",
            )
    })
    .await
}

fn identity(reply: &Reply) -> [Option<&str>; 4] {
    ["user", "email", "preferred-username", "groups"].map(|name| reply.header(&format!("x-auth-request-{name}")))
}

#[tokio::test]
async fn a_request_of_its_own_is_judged_by_its_host() {
    let world = world("").await;
    let good = world.ask(&get("/oauth2/auth").bearer(&world.token())).await;
    assert_eq!(good.outcome(), "202");
    assert_eq!(identity(&good), [Some("alice"), Some("alice@example.com"), Some("alice"), Some("admins,dev")]);
    assert_eq!(good.header("x-forwarded-user"), Some("alice"), "and the headers of the route's preset");
    let bare = world.token_with(json!({"email": null, "preferred_username": null, "groups": null}));
    let bare = world.ask(&get("/oauth2/auth").bearer(&bare)).await;
    assert_eq!(
        identity(&bare),
        [Some("alice"), Some(""), Some(""), Some("")],
        "absent ones are empty, so that they overwrite"
    );
    for (request, expected) in [
        (get("/oauth2/auth"), "401 login_required"),
        (get("/oauth2/auth").page(), "401 login_required"),
        (get("/oauth2/auth").bearer("no-jwt"), "401 unknown_token"),
        (get("/oauth2/forward").bearer(&world.token()), "403 bad_request"),
    ] {
        let reply = world.ask(&request).await;
        assert_eq!(reply.outcome(), expected, "{request:?}");
        assert_eq!(identity(&reply), [None; 4]);
    }
    assert_eq!(world.app.count(), 0);
}

/// F1: from anyone but a trusted proxy forwarding headers ask about a request that nobody sent.
#[tokio::test]
async fn an_untrusted_peer_cannot_name_another_request() {
    let world = world("192.0.2.1/32").await;
    for page in ["/oauth2/auth", "/oauth2/forward"] {
        for request in [
            about(page, "app.test", "/public/x"),
            about(page, "app.test", "/x"),
            get(page).with("X-Forwarded-Uri", "/public/x"),
            get(page).with("X-Forwarded-Host", "app.test"),
            get(page).with("X-Forwarded-Method", "OPTIONS"),
            get(page).with("X-Forwarded-Proto", "https"),
        ] {
            let reply = world.ask(&request.bearer(&world.token())).await;
            assert_eq!(reply.outcome(), "403 bad_request", "{page} {request:?}", request = reply);
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_asks_about_any_request() {
    let world = world("127.0.0.0/8").await;
    let token = world.token();
    let check = async |page: &str, host: &str, uri: &str, token: Option<&str>, expected: &str| {
        let request = about(page, host, uri);
        let request = token.map_or(request.clone(), |token| request.bearer(token));
        let reply = world.ask(&request).await;
        assert_eq!(reply.outcome(), expected, "{page} {host} {uri}");
        reply
    };
    for page in ["/oauth2/auth", "/oauth2/forward"] {
        let public = check(page, "app.test", "/public/x?q=1", None, "202").await;
        assert_eq!(identity(&public), [None; 4], "a public route tells of nobody");
        check(page, "app.test", "/x", None, "401 login_required").await;
        check(page, "APP.test.:80", "/x", None, "401 login_required").await;
        let known = check(page, "app.test", "/x", Some(&token), "202").await;
        assert_eq!(identity(&known)[0], Some("alice"));
        check(page, "app.test", "/admins/x", Some(&token), "202").await;
        check(page, "app.test", "/robots/x", Some(&token), "403 forbidden").await;
        let dash = check(page, "app.test", "/dash/x", Some(&token), "202").await;
        assert_eq!((dash.header("remote-user"), dash.header("remote-groups")), (Some("alice"), Some("admins,dev")));
    }
    check("/oauth2/auth", "other.test", "/x", Some(&token), "403 no_route").await;
    check("/oauth2/forward", "other.test", "/x", Some(&token), "404 no_route").await;
    assert_eq!(world.app.count(), 0);
}

/// F1: never 202 for what two readers would take for two requests.
#[tokio::test]
async fn an_ambiguous_request_is_never_accepted() {
    let world = world("127.0.0.0/8").await;
    let token = world.token();
    for uri in [
        "/public/../x",
        "/public/%2e%2e/x",
        "/public/..%2fx",
        "/public/%252e%252e/x",
        "/public/..;/x",
        "/public/%00",
        "/public/%c0%af",
        "/public/%zz",
        "/public/\\x",
        "//public/x",
        "http://app.test/public/",
        "public/",
        "",
        "*",
        "/oauth2/auth",
        "/oauth2/start",
        "/oauth2/%61uth",
    ] {
        for page in ["/oauth2/auth", "/oauth2/forward"] {
            for request in [about(page, "app.test", uri), about(page, "app.test", uri).bearer(&token)] {
                let reply = world.ask(&request).await;
                assert!(
                    matches!(reply.outcome().as_str(), "400 bad_request" | "403 bad_request"),
                    "{page} {uri:?}: {}",
                    reply.outcome()
                );
            }
        }
    }
    for request in [
        about("/oauth2/auth", "app.test", "/public/").without("X-Forwarded-Host"),
        about("/oauth2/auth", "app.test", "/public/").with("X-Forwarded-Host", "auth.test"),
        about("/oauth2/auth", "app.test", "/public/").with("X-Forwarded-Uri", "/x"),
        about("/oauth2/auth", "app test", "/public/"),
        about("/oauth2/auth", "app.test, auth.test", "/public/"),
        about("/oauth2/auth", "", "/public/"),
        about("/oauth2/auth", "app.test", "/public/").set("X-Forwarded-Method", "GET POST"),
    ] {
        assert_eq!(world.ask(&request).await.outcome(), "403 bad_request", "{request:?}");
    }
    assert_eq!(world.app.count(), 0);
}

/// The page answers whatever the method of the question is: nginx repeats that of the request.
#[tokio::test]
async fn any_method_may_ask() {
    let world = world("").await;
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
        let reply = world.ask(&ask(method, "/oauth2/auth").bearer(&world.token())).await;
        assert_eq!(reply.outcome(), "202", "{method}");
    }
}

/// A page of another origin reads the refusal, also where another proxy asks; and its preflight is answered.
#[tokio::test]
async fn refusals_are_marked_for_other_origins() {
    let world = World::with(|config, app| {
        config
            .more("client_ip: {trusted_proxies: [127.0.0.1]}")
            .route("auth", "http://auth.test/", &app.origin, "auth: {accept: [bearer]}")
            .route(
                "api",
                "http://app.test/api/",
                &app.origin,
                "auth: {accept: [bearer]}, cors: {origins: [\"https://page.test\"]}",
            )
    })
    .await;
    let origin = |reply: &Reply| reply.header("access-control-allow-origin").map(str::to_owned);
    for page in ["/oauth2/auth", "/oauth2/forward"] {
        let reply = world.ask(&about(page, "app.test", "/api/x").with("Origin", "https://page.test")).await;
        assert_eq!((reply.status, origin(&reply).as_deref()), (401, Some("https://page.test")), "{page}");
        let reply = world.ask(&about(page, "app.test", "/api/x").with("Origin", "https://evil.test")).await;
        assert_eq!((reply.status, origin(&reply)), (401, None), "{page}");
        let preflight = about(page, "app.test", "/api/x")
            .set("X-Forwarded-Method", "OPTIONS")
            .with_all(&[("Origin", "https://page.test"), ("Access-Control-Request-Method", "PUT")]);
        let expected = if page == "/oauth2/forward" { 204 } else { 401 };
        assert_eq!(world.ask(&preflight).await.status, expected, "{page}");
    }
}
