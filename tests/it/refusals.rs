//! What is told to whom is refused: problem JSON for a program, a page for a person, the same facts in both; and
//! what is told when the app cannot be had.

use crate::client::{Reply, Request, ask, get};
use crate::wait::free_port;
use crate::world::{BEARER, PUBLIC, World};

/// What every answer of the gateway's own carries.
#[track_caller]
fn check_own(reply: &Reply) {
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    let id = reply.header("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert!(reply.header("x-answered-by").is_none(), "{reply:?}");
}

#[track_caller]
fn check_problem(reply: &Reply, status: u16, reason: &str) {
    check_own(reply);
    assert_eq!(reply.outcome(), format!("{status} {reason}"));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    let problem = reply.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["reason"], reason);
    assert_eq!(problem["request_id"].as_str(), reply.header("x-request-id"));
    for member in ["type", "title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
    }
}

#[track_caller]
fn check_page(reply: &Reply, status: u16, reason: &str) {
    check_own(reply);
    assert_eq!(reply.outcome(), format!("{status} {reason}"));
    assert!(reply.header("content-type").unwrap().starts_with("text/html"), "{reply:?}");
    assert!(reply.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let page = reply.text();
    assert!(page.contains(reason) && page.contains(reply.header("x-request-id").unwrap()), "{page}");
    assert!(!page.contains("<script"), "{page}");
}

#[tokio::test]
async fn a_program_gets_problem_json_and_a_person_a_page() {
    let world = World::start().await;
    let expired = world.token_with(serde_json::json!({"exp": 1_000_000_000}));
    let challenge = "Bearer realm=\"main\"";
    let invalid = "Bearer realm=\"main\", error=\"invalid_token\"";
    for (request, status, reason, expected) in [
        (get("/"), 401, "login_required", Some(challenge)),
        (ask("POST", "/").body(b"x"), 401, "login_required", Some(challenge)),
        (ask("OPTIONS", "/"), 401, "login_required", Some(challenge)),
        (get("/").with("Authorization", "Basic YTpi"), 401, "login_required", Some(challenge)),
        (get("/").bearer("no-jwt-at-all"), 401, "unknown_token", Some(invalid)),
        (get("/").bearer(&expired), 401, "token_expired", Some(invalid)),
        (get("/").with("Authorization", "Bearer "), 401, "invalid_token", Some(invalid)),
        (get("/").bearer(&world.token()).bearer(&world.token()), 401, "invalid_token", Some(invalid)),
        (get("/").set("Host", "other.test"), 404, "no_route", None),
        (get("/a/%2e%2e/public/"), 400, "bad_request", None),
    ] {
        let program = world.ask(&request).await;
        check_problem(&program, status, reason);
        let challenged = |reply: &Reply| {
            let sent = reply.header("www-authenticate");
            assert!(sent.is_some() == expected.is_some(), "{request:?}: {sent:?}");
            let described = sent.is_some_and(|sent| sent.contains("error_description=\"The bearer token "));
            assert!(sent.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{request:?}: {sent:?}");
            assert_eq!(described, expected == Some(invalid) && reason != "unknown_token", "{request:?}: {sent:?}");
        };
        challenged(&program);
        let person = world.ask(&request.clone().page()).await;
        // Whoever presents a token is a program, also where it does not say so (curl).
        let presents = format!("{request:?}").contains("Bearer");
        if presents {
            check_problem(&person, status, reason)
        } else {
            check_page(&person, status, reason)
        }
        challenged(&person);
        let curl = world.ask(&request.set("Accept", "*/*")).await;
        check_problem(&curl, status, reason);
    }
    assert_eq!(world.app.count(), 0, "nothing of this reaches the app");
}

#[tokio::test]
async fn a_refusal_of_a_head_has_no_body() {
    let world = World::start().await;
    let mut connection = world.gateway.connect().await;
    let refused = connection.ask(&ask("HEAD", "/")).await;
    assert_eq!(refused.outcome(), "401 login_required");
    let passed = connection.ask(&ask("HEAD", "/public/")).await;
    assert_eq!((passed.status, passed.header("x-answered-by")), (200, Some("app")), "the connection is still in step");
}

#[tokio::test]
async fn a_good_token_passes_by_every_method() {
    let world = World::start().await;
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let reply = world.ask(&ask(method, "/some/path?q=1&q=%20;x").bearer(&world.token()).body(b"body")).await;
        assert_eq!(reply.status, 200, "{method}");
        let received = world.app.last();
        assert_eq!((received.method.as_str(), received.target.as_str()), (method, "/some/path?q=1&q=%20;x"));
        assert_eq!(received.body, b"body");
        assert_eq!(received.header("host"), Some("app.test"));
        assert!(received.header("authorization").unwrap().starts_with("Bearer ey"), "a judged token passes on");
    }
}

/// Tokens in other places than `Authorization` are no credentials.
#[tokio::test]
async fn a_token_elsewhere_counts_for_nothing() {
    let world = World::start().await;
    let token = world.token();
    world.gateway.secrets.lock().unwrap().insert(token.clone());
    for request in [
        get(&format!("/?access_token={token}")),
        get("/").with("Cookie", &format!("BearerToken={token}; access_token={token}")),
        get("/").with("X-Auth-Token", &token),
        ask("POST", "/")
            .with("Content-Type", "application/x-www-form-urlencoded")
            .body(format!("access_token={token}").as_bytes()),
        get("/").set("Accept", "text/event-stream"),
        get("/").with("User-Agent", "kube-probe/1.31"),
    ] {
        assert_eq!(world.ask(&request).await.outcome(), "401 login_required", "{request:?}");
    }
    assert_eq!(world.app.count(), 0);
}

#[tokio::test]
async fn an_app_that_cannot_be_had_is_told() {
    let dead = format!("http://127.0.0.1:{}", free_port());
    let world = World::with(|config, app| {
        config
            .route("dead", "http://app.test/dead/", &dead, PUBLIC)
            .route("slow", "http://app.test/slow/", &app.origin, "auth: public, upstream: {timeout: 300ms}")
            .route("dead-private", "http://app.test/dead/private/", &dead, BEARER)
    })
    .await;
    let check = async |request: Request, status: u16, reason: &str| {
        check_problem(&world.ask(&request).await, status, reason);
        let person = world.ask(&request.clone().page()).await;
        let presents = format!("{request:?}").contains("Bearer");
        if presents { check_problem(&person, status, reason) } else { check_page(&person, status, reason) }
    };
    check(get("/dead/"), 502, "upstream_unreachable").await;
    check(get("/dead/private/").bearer(&world.token()), 502, "upstream_unreachable").await;
    check(get("/dead/private/"), 401, "login_required").await;
    check(get("/slow/").with("X-App", "never"), 504, "upstream_timeout").await;
    check(get("/slow/").with("X-App", "hang-up"), 502, "upstream_unreachable").await;
    let errors = world.gateway.metric("doorward_requests_total{route=\"dead\",outcome=\"upstream_error\"}").await;
    assert!(errors == 2.0, "{errors}");
}

/// The gateway's own pages that need a session say that there is none; other methods are told which would do.
#[tokio::test]
async fn own_pages_are_matched_exactly() {
    let world = World::start().await;
    for (method, path, expected) in [
        ("GET", "/oauth2/userinfo", "401 login_required"),
        ("POST", "/oauth2/userinfo", "405 bad_request"),
        ("DELETE", "/oauth2/callback", "405 bad_request"),
        ("GET", "/oauth2/callback?code=x&state=y", "400 state_mismatch"),
        ("GET", "/oauth2/backchannel_logout", "405 bad_request"),
        ("GET", "/oauth2/userinfo/", "401 login_required"),
        ("GET", "/oauth2/%75serinfo", "400 bad_request"),
        ("GET", "/oauth2//userinfo", "400 bad_request"),
    ] {
        let reply = world.ask(&ask(method, path)).await;
        assert_eq!(reply.outcome(), expected, "{method} {path}");
        assert_eq!(reply.header("allow").is_some(), reply.status == 405, "{method} {path}");
    }
    let large = ask("POST", "/oauth2/callback").body(&vec![b'x'; 64 * 1024 + 1]);
    assert_eq!(world.ask(&large).await.outcome(), "413 bad_request");
    assert_eq!(world.app.count(), 0);
}
