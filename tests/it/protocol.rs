//! Request lines, hosts and framings that two readers would take for two requests, on the wire as an attacker
//! writes them; and what the gateway makes of hosts.

use crate::client::{ask, get};
use crate::world::World;

#[tokio::test]
async fn what_is_ambiguous_is_refused() {
    let world = World::start().await;
    let h = "Host: app.test\r\n";
    for (what, head) in [
        ("no host", "GET /public/ HTTP/1.1\r\n".to_owned()),
        ("two hosts", format!("GET /public/ HTTP/1.1\r\n{h}Host: other.test\r\n")),
        ("an empty host", "GET /public/ HTTP/1.1\r\nHost:\r\n".to_owned()),
        ("a bad host", "GET /public/ HTTP/1.1\r\nHost: app.test/x\r\n".to_owned()),
        ("a host with a user", "GET /public/ HTTP/1.1\r\nHost: a@app.test\r\n".to_owned()),
        ("an authority unlike the host", format!("GET http://other.test/public/ HTTP/1.1\r\n{h}")),
        ("a length twice", format!("POST /public/ HTTP/1.1\r\n{h}Content-Length: 1\r\nContent-Length: 1\r\n")),
        ("two lengths", format!("POST /public/ HTTP/1.1\r\n{h}Content-Length: 1\r\nContent-Length: 2\r\n")),
        ("a length with a sign", format!("POST /public/ HTTP/1.1\r\n{h}Content-Length: +1\r\n")),
        ("a list of lengths", format!("POST /public/ HTTP/1.1\r\n{h}Content-Length: 1, 1\r\n")),
        (
            "a length beside chunks",
            format!("POST /public/ HTTP/1.1\r\n{h}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            "chunks beside a length",
            format!("POST /public/ HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"),
        ),
        ("an encoding that is none", format!("POST /public/ HTTP/1.1\r\n{h}Transfer-Encoding: xchunked\r\n")),
        ("chunks not last", format!("POST /public/ HTTP/1.1\r\n{h}Transfer-Encoding: chunked, identity\r\n")),
        ("a backslash", format!("GET /public\\..\\admin HTTP/1.1\r\n{h}")),
        ("NUL", format!("GET /public/\0 HTTP/1.1\r\n{h}")),
        ("non-ASCII", format!("GET /public/ä HTTP/1.1\r\n{h}")),
        ("an escaped NUL", format!("GET /public/%00 HTTP/1.1\r\n{h}")),
        ("a NUL escaped twice", format!("GET /public/%2500 HTTP/1.1\r\n{h}")),
        ("an overlong slash", format!("GET /public/..%c0%afadmin HTTP/1.1\r\n{h}")),
        ("an overlong slash of three", format!("GET /public/..%e0%80%afadmin HTTP/1.1\r\n{h}")),
        ("half an escape", format!("GET /public/%2 HTTP/1.1\r\n{h}")),
        ("no escape", format!("GET /public/%zz HTTP/1.1\r\n{h}")),
        ("no slash", format!("GET public/ HTTP/1.1\r\n{h}")),
        ("a query alone", format!("GET ?/public/ HTTP/1.1\r\n{h}")),
        ("an asterisk", format!("OPTIONS * HTTP/1.1\r\n{h}")),
        ("a strange scheme", format!("GET ftp://app.test/public/ HTTP/1.1\r\n{h}")),
        ("a folded field", format!("GET /public/ HTTP/1.1\r\n{h}X-A: b\r\n c\r\n")),
        ("a field without a colon", format!("GET /public/ HTTP/1.1\r\n{h}X-A\r\n")),
        ("a NUL in a field", format!("GET /public/ HTTP/1.1\r\n{h}X-A: a\0b\r\n")),
        ("no request line", "nonsense\r\n".to_owned()),
    ] {
        let mut connection = world.gateway.connect().await;
        connection.send_bytes(format!("{head}\r\n").as_bytes()).await;
        let reply = connection.reply().await.unwrap_or_else(|| panic!("{what}: closed without a word"));
        assert_eq!(reply.outcome(), "400 bad_request", "{what}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{what}");
        assert!(reply.header("x-request-id").is_some(), "{what}");
        assert!(reply.text().contains("bad_request"), "{what}: {}", reply.text());
    }
    assert_eq!(world.app.count(), 0);
}

/// Bytes pass as they were sent, or not at all.
#[tokio::test]
async fn what_the_head_parser_would_rewrite_is_refused() {
    let world = World::start().await;
    for target in [
        "/public/#x",
        "/public/?a#x",
        "/public/#/../../x",
        "/public/\x01",
        "/public/\x7f",
        "/public/\tx",
        "/public/?\x01",
    ] {
        assert_eq!(world.ask(&get(target)).await.outcome(), "400 bad_request", "{target:?}");
    }
    assert_eq!(world.app.count(), 0, "{:?}", world.app.received());
}

/// What follows a refused head of unclear length is not taken for a request.
#[tokio::test]
async fn nothing_is_smuggled_behind_a_refused_head() {
    let world = World::start().await;
    let inner = "GET /public/smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";
    for framing in [
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\nContent-Length: 60",
        "Transfer-Encoding: xchunked",
    ] {
        let mut connection = world.gateway.connect().await;
        connection
            .send_bytes(format!("POST /public/ HTTP/1.1\r\nHost: app.test\r\n{framing}\r\n\r\n{inner}").as_bytes())
            .await;
        let rest = String::from_utf8(connection.rest().await).unwrap();
        assert!(rest.starts_with("HTTP/1.1 400"), "{framing}: {rest}");
        assert_eq!(rest.matches("HTTP/1.1 ").count(), 1, "{framing}: {rest}");
    }
    assert_eq!(world.app.count(), 0);
}

#[tokio::test]
async fn connect_and_trace_are_no_methods_here() {
    let world = World::start().await;
    for (method, target) in [("TRACE", "/public/"), ("CONNECT", "app.test:443"), ("CONNECT", "/public/")] {
        let reply = world.ask(&ask(method, target).bearer(&world.token())).await;
        assert_eq!(reply.outcome(), "405 bad_request", "{method}");
        assert!(reply.header("allow").is_some_and(|allow| allow.contains("GET")), "{method}");
    }
    assert_eq!(world.app.count(), 0);
}

/// P2, P3: one host in any spelling, one path by whole segments.
#[tokio::test]
async fn hosts_and_prefixes_are_compared_in_one_form() {
    let world = World::start().await;
    for (host, target, expected) in [
        ("app.test", "/public/", "200"),
        ("APP.Test", "/public/", "200"),
        ("app.test.", "/public/", "200"),
        ("app.test:8080", "/public/", "200"),
        ("app.test", "/public", "200"),
        ("app.test", "/public?x", "200"),
        ("app.test", "http://app.test/public/", "200"),
        ("app.test", "/publicadmin", "401 login_required"),
        ("APP.TEST.:1", "/private", "401 login_required"),
        ("app.test", "http://app.test/private", "401 login_required"),
        ("app.test", "/private?p=/public/", "401 login_required"),
        ("xapp.test", "/public/", "404 no_route"),
        ("app.test.evil.test", "/public/", "404 no_route"),
        ("127.0.0.1", "/public/", "404 no_route"),
    ] {
        assert_eq!(world.ask(&get(target).set("Host", host)).await.outcome(), expected, "{host} {target}");
    }
    let received = world.app.received();
    assert!(
        received.iter().all(|r| r.header("host").is_some_and(|h| h.starts_with("app.test"))),
        "passed on in lower case, without a dot"
    );
    assert_eq!(received.last().unwrap().target, "/public/", "an absolute target is passed on in origin form");
}

#[tokio::test]
async fn http_1_0_is_served() {
    let world = World::start().await;
    for (head, expected) in [
        ("GET /public/ HTTP/1.0\r\nHost: app.test\r\n\r\n", 200),
        ("GET /private HTTP/1.0\r\nHost: app.test\r\nAccept: application/json\r\n\r\n", 401),
        ("GET /public/ HTTP/1.0\r\n\r\n", 404),
    ] {
        let mut connection = world.gateway.connect().await;
        connection.send_bytes(head.as_bytes()).await;
        assert_eq!(connection.reply().await.unwrap().status, expected, "{head}");
    }
    assert_eq!(world.app.count(), 1);
}

/// RFC 9112, 9.3.
#[tokio::test]
async fn a_connection_ends_when_the_client_says_so() {
    let world = World::start().await;
    for target in ["/public/", "/private"] {
        let mut connection = world.gateway.connect().await;
        connection.ask(&get(target).with("Connection", "close")).await;
        assert_eq!(connection.rest().await, b"", "{target}");
        let mut connection = world.gateway.connect().await;
        for _ in 0..3 {
            connection.ask(&get(target)).await;
        }
    }
}

/// RFC 9112, 9.3: a client of HTTP/1.0 that does not ask for more waits for the end of the connection.
#[tokio::test]
async fn a_connection_of_http_1_0_ends_with_the_answer() {
    let world = World::start().await;
    for target in ["/public/", "/private"] {
        let mut connection = world.gateway.connect().await;
        connection.send_bytes(format!("GET {target} HTTP/1.0\r\nHost: app.test\r\n\r\n").as_bytes()).await;
        connection.reply().await.unwrap();
        assert_eq!(connection.rest().await, b"", "{target}");
    }
}
