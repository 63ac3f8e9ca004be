//! The apps behind a route: several of them, over sockets of every kind, and what becomes of the request's path and
//! host on the way.

use crate::app::App;
use crate::client::{ask, get};
use crate::gateway::{Config, Folder, Gateway};
use crate::tls::Certificate;
use crate::wait::{free_port, until_so};
use crate::world::{PUBLIC, World};
use std::collections::BTreeMap;

#[tokio::test]
async fn turns_are_taken() {
    let apps = [App::named("a").await, App::named("b").await, App::named("c").await];
    let to = format!("[\"{}\", \"{}\", \"{}\"]", apps[0].origin, apps[1].origin, apps[2].origin);
    let gateway =
        Gateway::start(&Config::default().more("workers: 1").route("main", "http://app.test/", &to, PUBLIC)).await;
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..30 {
        let reply = gateway.ask(&get("/x")).await;
        *answered.entry(reply.header("x-answered-by").unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(answered, BTreeMap::from(["a", "b", "c"].map(|name| (name.to_owned(), 10))));
}

/// One that cannot be connected to costs no request, also before the checks have found out.
#[tokio::test]
async fn a_dead_app_is_passed_over() {
    let (alive, dead) = (App::named("alive").await, format!("http://127.0.0.1:{}", free_port()));
    for to in [format!("[\"{dead}\", \"{}\"]", alive.origin), format!("[\"{}\", \"{dead}\"]", alive.origin)] {
        let gateway = Gateway::start(&Config::default().route("main", "http://app.test/", &to, PUBLIC)).await;
        for i in 0..10 {
            let reply = gateway.ask(&ask("POST", "/x").body(b"a body").with("X-Number", &i.to_string())).await;
            assert_eq!((reply.status, reply.header("x-answered-by")), (200, Some("alive")), "{to}");
            assert_eq!(alive.last().body, b"a body");
        }
    }
    assert_eq!(alive.count(), 20, "each request arrives once");
}

/// After bytes were sent nothing is tried again: the app may have acted on them.
#[tokio::test]
async fn nothing_is_sent_twice() {
    let apps = [App::named("a").await, App::named("b").await];
    let to = format!("[\"{}\", \"{}\"]", apps[0].origin, apps[1].origin);
    let gateway = Gateway::start(&Config::default().route("main", "http://app.test/", &to, PUBLIC)).await;
    for (i, request) in [ask("POST", "/x").body(b"pay"), get("/x")].into_iter().enumerate() {
        let reply = gateway.ask(&request.with("X-App", "hang-up")).await;
        assert_eq!(reply.outcome(), "502 upstream_unreachable");
        assert_eq!(apps[0].count() + apps[1].count(), i + 1);
    }
}

/// An app that dies is skipped, and served again when it is back.
#[tokio::test]
async fn an_app_that_restarts_is_served_again() {
    let world = World::start().await;
    assert_eq!(world.ask(&get("/public/x")).await.status, 200);
    let World { provider: _provider, app, gateway } = world;
    drop(app);
    until_so("the app is gone", async || gateway.ask(&get("/public/x")).await.outcome() == "502 upstream_unreachable")
        .await;
    let back = App::start().await;
    let text = gateway.folder.read("config.yaml");
    let port = |origin: &str| origin.rsplit(':').next().unwrap().to_owned();
    let old = text.split("to: http://127.0.0.1:").nth(1).unwrap().split(',').next().unwrap().to_owned();
    gateway
        .reload_text(
            &text.replace(
                &format!("to: http://127.0.0.1:{old}"),
                &format!("to: http://127.0.0.1:{}", port(&back.origin)),
            ),
            "ok",
        )
        .await;
    assert_eq!(gateway.ask(&get("/public/x")).await.status, 200);
}

#[tokio::test]
async fn an_app_behind_a_unix_socket() {
    let folder = Folder::new();
    let app = App::over_unix_socket(&folder.path("app.sock"));
    let gateway = Gateway::start(&Config::default().route("main", "http://app.test/", &app.origin, PUBLIC)).await;
    let reply = gateway.ask(&ask("POST", "/x?y").body(b"body")).await;
    assert_eq!((reply.status, reply.header("x-answered-by")), (200, Some("unix")));
    let received = app.last();
    assert_eq!((received.target.as_str(), received.header("host")), ("/x?y", Some("app.test")));
    assert_eq!(received.body, b"body");
}

/// The app's certificate is verified, by the authority that the route names and for the name in `to`.
#[tokio::test]
async fn an_app_over_tls_is_verified() {
    let (localhost, other, folder) = (Certificate::of("localhost"), Certificate::of("other.test"), Folder::new());
    let ca = |certificate: &Certificate, name: &str| format!("ca_file: \"{}\"", folder.write(name, &certificate.pem));
    let (app, stranger) = (App::over_tls(localhost.acceptor()).await, App::over_tls(other.acceptor()).await);
    let (good, bad) = (ca(&localhost, "good.pem"), ca(&other, "bad.pem"));
    let route = |config: Config, name: &str, to: &App, upstream: &str| {
        config.route(
            name,
            &format!("http://app.test/{name}/"),
            &to.origin,
            &format!("auth: public, upstream: {{{upstream}}}"),
        )
    };
    let config = route(Config::default(), "good", &app, &good);
    let config = route(config, "without", &app, "connect_timeout: 5s");
    let config = route(config, "other-ca", &app, &bad);
    let config = route(config, "other-name", &stranger, &bad);
    let config = route(config, "named", &stranger, &format!("{bad}, server_name: other.test"));
    let gateway = Gateway::start(&config).await;
    for (route, expected) in [
        ("good", "200"),
        ("without", "502 upstream_unreachable"),
        ("other-ca", "502 upstream_unreachable"),
        ("other-name", "502 upstream_unreachable"),
        ("named", "200"),
        ("good", "200"),
        ("without", "502 upstream_unreachable"),
    ] {
        let reply = gateway.ask(&get(&format!("/{route}/x"))).await;
        assert_eq!(reply.outcome(), expected, "{route}: a connection made under other terms must not be used");
    }
    assert_eq!(app.last().header("x-forwarded-proto"), Some("http"), "the scheme of the route, not of the app");
}

#[tokio::test]
async fn prefix_base_and_host_become_what_the_route_says() {
    let app = App::start().await;
    let base = format!("{}/base", app.origin);
    let strip = "auth: public, upstream: {strip_prefix: true}";
    let config = Config::default()
        .route("plain", "http://app.test/", &app.origin, PUBLIC)
        .route("based", "http://app.test/based/", &base, PUBLIC)
        .route("cut", "http://app.test/cut/", &app.origin, strip)
        .route("both", "http://app.test/both/", &base, strip)
        .route("own", "http://app.test/own/", &app.origin, "auth: public, upstream: {preserve_host: false}");
    let gateway = Gateway::start(&config).await;
    for (target, arrives, prefix) in [
        ("/x?y=1", "/x?y=1", None),
        ("/based/x?y", "/base/based/x?y", None),
        ("/cut/x/y?z", "/x/y?z", Some("/cut")),
        ("/cut/", "/", Some("/cut")),
        ("/cut", "/", Some("/cut")),
        ("/cut?q", "/?q", Some("/cut")),
        ("/cut//evil.test/x", "/evil.test/x", Some("/cut")),
        ("/cut///x", "/x", Some("/cut")),
        ("/both/x", "/base/x", Some("/both")),
    ] {
        let reply = gateway.ask(&get(target).with("X-Forwarded-Prefix", "/evil")).await;
        assert_eq!(reply.status, 200, "{target}");
        let received = app.last();
        assert_eq!((received.target.as_str(), received.header("x-forwarded-prefix")), (arrives, prefix), "{target}");
        assert_eq!(received.header("host"), Some("app.test"));
    }
    gateway.ask(&get("/own/x")).await;
    let received = app.last();
    assert_eq!(received.header("host"), app.origin.strip_prefix("http://"));
    assert_eq!(received.header("x-forwarded-host"), Some("app.test"));
}

/// Exact hosts before wildcards, longest prefixes first, methods before none, wherever they stand in the file.
#[tokio::test]
async fn the_most_specific_route_wins() {
    let mut apps = Vec::new();
    let mut config = Config::default().more("public_url: http://any.test");
    for (name, from, keys) in [
        ("any", "/", ""),
        ("wild", "http://*.test/", ""),
        ("wilder", "http://*.sub.test/", ""),
        ("host", "http://app.test/", ""),
        ("prefix", "http://app.test/a/", ""),
        ("longer", "http://app.test/a/b/", ""),
        ("exact", "http://app.test/a/b", ", match: exact"),
        ("post", "http://app.test/a/", ", methods: [POST]"),
    ] {
        let app = App::named(name).await;
        config = config.route(name, from, &app.origin, &format!("auth: public{keys}"));
        apps.push(app);
    }
    let gateway = Gateway::start(&config).await;
    for (method, host, path, expected) in [
        ("GET", "app.test", "/", "host"),
        ("GET", "app.test", "/ab", "host"),
        ("GET", "app.test", "/a", "prefix"),
        ("GET", "app.test", "/a/x", "prefix"),
        ("POST", "app.test", "/a/x", "post"),
        ("POST", "app.test", "/a/b/x", "longer"),
        ("GET", "app.test", "/a/b/", "longer"),
        ("GET", "app.test", "/a/b", "exact"),
        ("GET", "other.test", "/a/b", "wild"),
        ("GET", "x.sub.test", "/", "wilder"),
        ("GET", "x.y.sub.test", "/", "wilder"),
        ("GET", "sub.test", "/", "wild"),
        ("GET", "elsewhere", "/", "any"),
    ] {
        let reply = gateway.ask(&ask(method, path).set("Host", host)).await;
        assert_eq!(reply.header("x-answered-by"), Some(expected), "{method} {host}{path}");
    }
}

#[tokio::test]
async fn a_route_may_stand_at_a_name_with_a_dot() {
    let app = App::start().await;
    let config = Config::default()
        .more("public_url: http://any.test")
        .route("acme", "http://app.test/.well-known/acme-challenge/", &app.origin, PUBLIC)
        .route("bare", "/.well-known/security.txt", &app.origin, "auth: public, match: exact");
    let gateway = Gateway::start(&config).await;
    for (path, status) in
        [("/.well-known/acme-challenge/x", 200), ("/.well-known/security.txt", 200), ("/.well-known/x", 404)]
    {
        assert_eq!(gateway.ask(&get(path)).await.status, status, "{path}");
    }
}

/// P7: the base path of an app, and a prefix that is stripped, are boundaries: no reading of what is sent leaves them.
#[tokio::test]
async fn nothing_leaves_the_base_path_of_an_app() {
    let app = App::start().await;
    let config = Config::default()
        .route("based", "http://app.test/", &format!("{}/tenant1", app.origin), PUBLIC)
        .route(
            "both",
            "http://app.test/in/",
            &format!("{}/deep/er%2Ff", app.origin),
            "auth: public, upstream: {strip_prefix: true}",
        )
        .route("stripped", "http://strip.test/in/", &app.origin, "auth: public, upstream: {strip_prefix: true}");
    let gateway = Gateway::start(&config).await;
    for (host, path) in [
        ("app.test", "/../admin/x"),
        ("app.test", "/%2e%2e/admin/x"),
        ("app.test", "/..%2fadmin/x"),
        ("app.test", "/..%5cadmin"),
        ("app.test", "/%252e%252e%252fadmin"),
        ("app.test", "/x/../../admin"),
        ("app.test", "/..;/admin"),
        ("app.test", "/..;a=b/admin"),
        ("app.test", "/a/..//../admin"),
        ("app.test", "/.."),
        ("app.test", "/a/../..;"),
        ("app.test", "/in/../x"),
        ("app.test", "/in//../../x"),
        ("strip.test", "/in/../x"),
        ("strip.test", "/in/%2e%2e%2fx"),
    ] {
        let reply = gateway.ask(&get(path).set("Host", host)).await;
        assert_eq!(reply.outcome(), "400 bad_request", "{host} {path}");
    }
    assert_eq!(app.count(), 0);
    for (host, path, sent) in [
        ("app.test", "/a/../b", "/tenant1/a/../b"),
        ("app.test", "/a//b;c/%20d", "/tenant1/a//b;c/%20d"),
        ("app.test", "/", "/tenant1/"),
        ("app.test", "/in/a%20b", "/deep/er%2Ff/a%20b"),
        ("app.test", "/in/a/../b", "/deep/er%2Ff/a/../b"),
        ("strip.test", "/in/a/../b;c", "/a/../b;c"),
    ] {
        let reply = gateway.ask(&get(path).set("Host", host)).await;
        assert_eq!((reply.status, app.last().target.as_str()), (200, sent), "{path}");
    }
}

/// P6: what is judged as one method is not served as another.
#[tokio::test]
async fn a_method_is_what_it_was_judged_as() {
    let app = App::start().await;
    let config = Config::default()
        .route(
            "writes",
            "http://app.test/",
            &app.origin,
            "auth: {accept: [bearer]}, methods: [POST, PUT, PATCH, DELETE]",
        )
        .provider("corp", "http://127.0.0.1:1", "")
        .route("reads", "http://app.test/", &app.origin, PUBLIC)
        .route("free", "http://free.test/", &app.origin, PUBLIC);
    let gateway = Gateway::start_unready(&config).await;
    for method in ["post", "Post", "pOST", "get", "delete", "trace", "connect", "g-e-t"] {
        for path in ["/x", "/oauth2/sign_out", "/unrouted"] {
            let reply = gateway.ask(&ask(method, path)).await;
            assert_eq!(reply.outcome(), "405 bad_request", "{method} {path}");
            assert!(reply.header("allow").is_some());
        }
    }
    assert_eq!(app.count(), 0);
    assert_eq!(gateway.ask(&ask("PROPFIND", "/x")).await.status, 200, "any other method is the app's business");
    for name in ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "x-http-method", "X-Method.Override"] {
        let reply = gateway.ask(&get("/x").with(name, "DELETE")).await;
        assert_eq!((reply.status, app.last().header(name)), (200, None), "{name}: the other route would be protected");
        gateway.ask(&get("/x").set("Host", "free.test").with(name, "DELETE")).await;
        assert_eq!(app.last().header(name), Some("DELETE"), "{name}: no route there is chosen by method");
    }
}
