//! The proxy's phases over an in-memory stream: from wire bytes to the gate's request head, and from its decision to
//! wire bytes.

use super::*;
use crate::app::test::built;
use arc_swap::ArcSwap;
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

const CONFIG: &str = "\
providers: {corp: {issuer: 'https://id.test', client_id: doorward, client_secret: s}}
routes:
  - {name: public, from: 'http://app.test/public/', to: 'http://127.0.0.1:3000/base', auth: public, upstream: {preserve_host: false}}
  - {name: main, from: 'http://app.test/', to: 'http://127.0.0.1:3000'}
";

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn proxy() -> Proxy {
    let live = Arc::new(ArcSwap::from_pointee(built(CONFIG)));
    let access_log = AccessLog::start(None, Sink).unwrap();
    Proxy {
        live,
        access_log,
        traces: None,
        connections: Arc::default(),
        capacity: Capacity::new(String::new(), 1, usize::MAX, Arc::new(usize::MAX.into())),
        max_head: 1024,
        idle_seconds: 75,
        redirect_to_https: false,
    }
}

/// Runs the filters on a head; returns the response, or the head that the app would get.
async fn pass(head: &str) -> String {
    let proxy = proxy();
    let (mut client, server) = duplex(1 << 16);
    client.write_all(head.replace('\n', "\r\n").as_bytes()).await.unwrap();
    let mut session = Session::new_h1(Box::new(server));
    assert!(session.as_downstream_mut().read_request().await.unwrap());
    let mut ctx = proxy.new_ctx();
    proxy.early_request_filter(&mut session, &mut ctx).await.unwrap();
    if proxy.request_filter(&mut session, &mut ctx).await.unwrap() {
        proxy.logging(&mut session, None, &mut ctx).await;
        drop(session);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        return answer;
    }
    let peer = proxy.upstream_peer(&mut session, &mut ctx).await.unwrap();
    assert_eq!(peer._address.to_string(), "127.0.0.1:3000");
    let mut upstream = session.req_header().clone();
    proxy.upstream_request_filter(&mut session, &mut upstream, &mut ctx).await.unwrap();
    let mut wire = format!("{} {}\n", upstream.method, String::from_utf8_lossy(upstream.raw_path())).into_bytes();
    upstream.header_to_h1_wire(&mut wire);
    String::from_utf8(wire).unwrap().replace("\r\n", "\n").to_ascii_lowercase()
}

#[tokio::test]
async fn a_refusal_is_written_and_ends_there() {
    let answer = pass("GET /x HTTP/1.1\nHost: app.test\nAccept: application/json\n\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 401 Unauthorized\r\n")
            && answer.contains("x-doorward-reason: login_required")
            && answer.ends_with('}'),
        "{answer}"
    );
    let answer = pass("HEAD /x HTTP/1.1\nHost: app.test\nAccept: application/json\n\n").await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.ends_with("\r\n\r\n"), "a HEAD gets no body: {answer}");
    let long = format!("GET /public/x HTTP/1.1\nHost: app.test\nX-Long: {}\n\n", "a".repeat(1024));
    assert!(pass(&long).await.starts_with("HTTP/1.1 431"));
    let both = "POST /public/x HTTP/1.1\nHost: app.test\nContent-Length: 5\nTransfer-Encoding: chunked\n\n";
    assert!(pass(both).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn the_app_gets_the_bytes_that_were_judged() {
    let head = pass("GET /public/a%20b/./c?x=%2F&y= HTTP/1.1\nHost: APP.test.\nX-Forwarded-User: root\nX_Forwarded_User: root\nCookie: a=1; doorward=x\n\n").await;
    assert!(head.starts_with("get /base/public/a%20b/./c?x=%2f&y=\n"), "{head}");
    assert!(
        head.contains("\nhost: 127.0.0.1:3000\n")
            && head.contains("\ncookie: a=1\n")
            && head.contains("\nx-forwarded-for: "),
        "{head}"
    );
    assert!(head.contains("\nx-forwarded-host: app.test\n") && !head.contains("root"), "{head}");
    let absolute =
        pass("GET http://app.test/public/x HTTP/1.1\nHost: app.test\nUpgrade: h2c\nConnection: Upgrade\n\n").await;
    assert!(absolute.starts_with("get /base/public/x\n") && !absolute.contains("upgrade: h2c"), "{absolute}");
}

#[tokio::test]
async fn without_a_decision_nothing_is_forwarded() {
    let proxy = proxy();
    let (mut client, server) = duplex(1024);
    client.write_all(b"GET /public/x HTTP/1.1\r\nHost: app.test\r\n\r\n").await.unwrap();
    let mut session = Session::new_h1(Box::new(server));
    session.as_downstream_mut().read_request().await.unwrap();
    let mut ctx = proxy.new_ctx();
    assert!(proxy.upstream_peer(&mut session, &mut ctx).await.is_err());
    let mut upstream = session.req_header().clone();
    assert!(proxy.upstream_request_filter(&mut session, &mut upstream, &mut ctx).await.is_err());
    assert_eq!(proxy.capacity.in_flight.load(Ordering::SeqCst), 1);
    drop(ctx);
    assert_eq!(proxy.capacity.in_flight.load(Ordering::SeqCst), 0);
}

#[test]
fn nobody_takes_a_forwarding_header_back_out() {
    for (sent, expected) in [
        ("close", Some("close")),
        ("close, X-Forwarded-For", Some("close")),
        ("x-forwarded-proto , X-Hop,x-forwarded-host", Some("X-Hop")),
        ("X-Forwarded-For", Some("")),
    ] {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        head.insert_header("connection", sent).unwrap();
        drop_nominations(&mut head).unwrap();
        assert_eq!(head.headers.get("connection").map(|value| value.to_str().unwrap()), expected, "{sent}");
    }
}

#[test]
fn hop_by_hop_fields_of_the_app_stay_here() {
    let mut response = ResponseHeader::build(200, None).unwrap();
    for (name, value) in [("connection", "close, x-hop"), ("keep-alive", "timeout=5"), ("x-hop", "1"), ("x-app", "2")] {
        response.append_header(name, value).unwrap();
    }
    strip_hop_by_hop(&mut response);
    assert!(
        !response.headers.contains_key("x-hop")
            && !response.headers.contains_key("keep-alive")
            && response.headers.contains_key("x-app")
    );
}
