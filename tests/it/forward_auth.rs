//! Judging for another proxy (`/oauth2/auth`, `/oauth2/forward`): whose word counts about the request to judge, and
//! what is told of the person.

use crate::client::{Reply, Request, ask, get};
use crate::wait::until_so;
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

/// A question that names no request is answered to nobody: not even a trusted proxy is told of its own request.
#[tokio::test]
async fn a_question_about_nothing_is_refused() {
    let world = world("127.0.0.0/8").await;
    for page in ["/oauth2/auth", "/oauth2/forward"] {
        for host in ["auth.test", "app.test", "unrouted.test"] {
            let reply = world.ask(&get(page).set("Host", host).bearer(&world.token())).await;
            assert_eq!((reply.outcome().as_str(), identity(&reply)), ("403 bad_request", [None; 4]), "{page} {host}");
        }
    }
    let log = world.gateway.log();
    assert_eq!(log.matches("it has neither X-Forwarded-Method").count(), 1, "{log}");
    assert_eq!(world.app.count(), 0);
}

#[tokio::test]
async fn who_it_is_overwrites_what_a_client_sent() {
    let world = world("127.0.0.0/8").await;
    let good = world.ask(&about("/oauth2/auth", "app.test", "/x").bearer(&world.token())).await;
    assert_eq!(good.outcome(), "202");
    assert_eq!(identity(&good), [Some("alice"), Some("alice@example.com"), Some("alice"), Some("admins,dev")]);
    assert_eq!(good.header("x-forwarded-user"), Some("alice"), "and the headers of the route's preset");
    let bare = world.token_with(json!({"email": null, "preferred_username": null, "groups": null}));
    let bare = world.ask(&about("/oauth2/auth", "app.test", "/x").bearer(&bare)).await;
    assert_eq!(
        identity(&bare),
        [Some("alice"), Some(""), Some(""), Some("")],
        "absent ones are empty, so that they overwrite"
    );
    for (request, expected) in [
        (about("/oauth2/auth", "app.test", "/x"), "401 login_required"),
        (about("/oauth2/auth", "app.test", "/x").page(), "401 login_required"),
        (about("/oauth2/auth", "app.test", "/x").bearer("no-jwt"), "401 unknown_token"),
    ] {
        let reply = world.ask(&request).await;
        assert_eq!((reply.outcome().as_str(), identity(&reply)), (expected, [None; 4]), "{request:?}");
    }
    assert_eq!(world.app.count(), 0);
}

/// The question of ingress-nginx, which asks under the host of the service.
fn original(page: &str, method: &str, url: &str) -> Request {
    get(page).set("Host", "doorward.auth.svc").with_all(&[("X-Original-Method", method), ("X-Original-URL", url)])
}

/// F2: what names the request is told whole, once, and in one voice; else nobody is answered.
#[tokio::test]
async fn a_question_is_whole_or_refused() {
    let world = world("127.0.0.0/8").await;
    let token = world.token();
    for (request, expected) in [
        (original("/oauth2/auth", "GET", "https://app.test/admins/x"), "202"),
        (original("/oauth2/auth", "GET", "https://app.test/robots/x"), "403 forbidden"),
        (original("/oauth2/auth", "GET", "https://app.test"), "202"),
        (original("/oauth2/forward", "GET", "http://APP.test./x?q=1"), "202"),
        (original("/oauth2/auth", "GET", "/admins/x"), "403 bad_request"),
        (original("/oauth2/auth", "GET", "ftp://app.test/x"), "403 bad_request"),
        (original("/oauth2/auth", "GET", "https://user@app.test/x"), "403 bad_request"),
        (original("/oauth2/auth", "GET", "https:///x"), "403 bad_request"),
        (original("/oauth2/auth", "GET", "https://app.test/x").without("X-Original-Method"), "403 bad_request"),
        (original("/oauth2/auth", "GET", "https://app.test/x").with("X-Original-Method", "GET"), "403 bad_request"),
        (
            original("/oauth2/auth", "GET", "https://app.test/x").with("X-Original-URL", "https://app.test/x"),
            "403 bad_request",
        ),
        // What a client forged and the proxy passed on.
        (original("/oauth2/auth", "GET", "https://app.test/robots/x").with("X-Forwarded-Uri", "/x"), "403 bad_request"),
        (
            original("/oauth2/auth", "GET", "https://app.test/x").with("X-Forwarded-Host", "else.test"),
            "403 bad_request",
        ),
        (
            about("/oauth2/auth", "app.test", "/public/x")
                .with_all(&[("X-Original-Method", "GET"), ("X-Original-URL", "https://app.test/robots/x")]),
            "403 bad_request",
        ),
        (
            about("/oauth2/auth", "app.test", "/x")
                .with_all(&[("X-Original-Method", "POST"), ("X-Original-URL", "https://app.test/x")]),
            "403 bad_request",
        ),
        (
            about("/oauth2/auth", "app.test", "/admins/x?q=1")
                .with_all(&[("X-Original-Method", "GET"), ("X-Original-URL", "https://app.test/admins/x?q=1")]),
            "202",
        ),
        (about("/oauth2/auth", "app.test", "/x").without("X-Forwarded-Method"), "403 bad_request"),
        (about("/oauth2/forward", "app.test", "/x").without("X-Forwarded-Uri"), "403 bad_request"),
        (about("/oauth2/forward", "app.test", "/x").without("X-Forwarded-Host"), "403 bad_request"),
        (about("/oauth2/auth", "app.test", "/x").set("X-Forwarded-Method", "post"), "403 bad_request"),
        (about("/oauth2/forward", "app.test", "/x").set("X-Forwarded-Method", "post"), "405 bad_request"),
        (about("/oauth2/forward", "app.test", "/x").set("X-Forwarded-Method", "TRACE"), "405 bad_request"),
        (about("/oauth2/forward", "app.test", "/x%00"), "400 bad_request"),
        (about("/oauth2/forward", "app.test", "/admins#/public/"), "400 bad_request"),
        (about("/oauth2/auth", "app.test", "/admins#/public/"), "403 bad_request"),
    ] {
        assert_eq!(world.ask(&request.clone().bearer(&token)).await.outcome(), expected, "{request:?}");
    }
    let log = world.gateway.log();
    for told in ["x-original-method is missing", "x-original-url is not an absolute", "name two requests"] {
        assert_eq!(log.matches(told).count(), 1, "{told}: {log}");
    }
    assert_eq!(world.app.count(), 0);
}

/// The log speaks of the request that was asked about.
#[tokio::test]
async fn the_log_names_the_request_that_was_asked_about() {
    let world = world("127.0.0.0/8").await;
    let request = about("/oauth2/auth", "app.test", "/robots/secret?q=1").set("X-Forwarded-Method", "DELETE");
    assert_eq!(world.ask(&request.bearer(&world.token())).await.outcome(), "403 forbidden");
    let told = "\"route\":\"robots\",\"method\":\"DELETE\",\"host\":\"app.test\",\"path\":\"/robots/secret\"";
    until_so("the line", async || world.gateway.log().contains(told)).await;
}

/// `/auth` narrows the rules of the route by its query, and takes no other words.
#[tokio::test]
async fn a_question_may_narrow_the_rules() {
    let world = world("127.0.0.0/8").await;
    let token = world.token();
    for (query, expected) in [
        ("allowed_groups=admins", "202"),
        ("allowed_groups=robots,dev", "202"),
        ("allowed_groups=robots&allowed_groups=dev", "202"),
        ("allowed_groups=robots", "403 forbidden"),
        ("allowed_emails=ALICE@example.com", "202"),
        ("allowed_emails=bob@example.com", "403 forbidden"),
        ("allowed_email_domains=example.com&allowed_groups=dev", "202"),
        ("allowed_email_domains=example.com&allowed_groups=robots", "403 forbidden"),
        ("allowed_groups=", "403 bad_request"),
        ("allowed_groups=dev,", "403 bad_request"),
        ("allowed_groups", "403 bad_request"),
        ("allowed_group=dev", "403 bad_request"),
    ] {
        let page = format!("/oauth2/auth?{query}");
        let reply = world.ask(&about(&page, "app.test", "/x").bearer(&token)).await;
        assert_eq!(reply.outcome(), expected, "{query}");
    }
    let anonymous = about("/oauth2/auth?allowed_groups=dev", "app.test", "/public/x");
    assert_eq!(world.ask(&anonymous).await.outcome(), "403 forbidden", "nobody is in a group");
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

/// The asking proxy passes on where WebDAV is to write to, and the app obeys.
#[tokio::test]
async fn a_destination_elsewhere_is_never_accepted() {
    let world = world("127.0.0.0/8").await;
    for (destination, status) in [("/public/b", 202), ("/admins/b", 400), ("/public/a%2fb/%2e%2e/%2e%2e/x", 400)] {
        let copy = about("/oauth2/forward", "app.test", "/public/a").set("X-Forwarded-Method", "COPY");
        assert_eq!(world.ask(&copy.with("Destination", destination)).await.status, status, "{destination}");
        let copy = about("/oauth2/auth", "app.test", "/public/a").set("X-Forwarded-Method", "COPY");
        let status = if status == 400 { 403 } else { status };
        assert_eq!(world.ask(&copy.with("Destination", destination)).await.status, status, "{destination}");
    }
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
    let world = world("127.0.0.0/8").await;
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
        let told = [("X-Forwarded-Method", method), ("X-Forwarded-Host", "app.test"), ("X-Forwarded-Uri", "/x")];
        let reply = world.ask(&ask(method, "/oauth2/auth").with_all(&told).bearer(&world.token())).await;
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
        // Any 2xx would be leave to pass.
        assert_eq!(world.ask(&preflight).await.status, 401, "{page}");
    }
}

/// A proxy before ingress-nginx tells the host, too; that is no second question.
#[tokio::test]
async fn a_host_beside_a_whole_question_is_compared() {
    let world = world("127.0.0.0/8").await;
    let asked = |told: &[&str]| {
        let request = get("/oauth2/auth")
            .set("Host", "doorward.auth.svc")
            .with_all(&[("X-Original-Method", "GET"), ("X-Original-URL", "https://app.test/x")])
            .bearer(&world.token());
        told.iter().fold(request, |request, host| request.with("X-Forwarded-Host", host))
    };
    for (told, status) in [
        (&[][..], 202),
        (&["app.test"], 202),
        (&["APP.test:443"], 403),
        (&["other.test"], 403),
        (&["app.test", "app.test"], 403),
        (&["a b"], 403),
    ] {
        assert_eq!(world.ask(&asked(told)).await.status, status, "{told:?}");
    }
}

/// A path that is no text has no one meaning.
#[tokio::test]
async fn a_path_of_other_bytes_is_refused() {
    let world = world("127.0.0.0/8").await;
    for (page, outcome) in [("/oauth2/forward", "400 bad_request"), ("/oauth2/auth", "403 bad_request")] {
        assert_eq!(
            world.ask(&about(page, "app.test", "/\u{e4}").bearer(&world.token())).await.outcome(),
            outcome,
            "{page}"
        );
    }
}

/// With a 2xx the asking proxy lets a request pass to the app: no page of the gateway's own is answered so.
#[tokio::test]
async fn no_own_page_is_consent() {
    let world = World::with(|config, app| {
        config
            .more("client_ip: {trusted_proxies: [127.0.0.0/8]}")
            .route(
                "person",
                "http://app.test/person/",
                &app.origin,
                "auth: {accept: [session, bearer]}, headers: {assertion: {header: X-Jwt}}",
            )
            .route("mcp", "http://app.test/mcp", &app.origin, "auth: {accept: [bearer], resource_metadata: true}")
    })
    .await;
    let logout = format!("/oauth2/frontchannel_logout?iss={}&sid=x", world.provider.issuer());
    for uri in [
        "/oauth2/start",
        "/oauth2/sign_in",
        "/oauth2/callback",
        "/oauth2/sign_out",
        "/oauth2/signed_out",
        "/oauth2/userinfo",
        "/oauth2/auth",
        "/oauth2/forward",
        "/oauth2/backchannel_logout",
        &logout,
        "/.well-known/doorward/jwks.json",
        "/.well-known/oauth-protected-resource/mcp",
    ] {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let asked = about("/oauth2/forward", "app.test", uri).set("X-Forwarded-Method", method);
            let preflight = asked.clone().with("Origin", "https://a.test").with("Access-Control-Request-Method", "GET");
            for request in [asked.clone(), asked.page(), preflight] {
                let reply = world.ask(&request).await;
                assert!(reply.status >= 300, "{method} {uri}: {}", reply.status);
            }
        }
    }
    assert_eq!(world.app.count(), 0);
}
