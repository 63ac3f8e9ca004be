//! Between a client and an app that is slow, silent, of an older time, or has just closed: what passes, what is asked for again,
//! and how long anybody waits.

use crate::app::App;
use crate::client::{ask, get};
use crate::gateway::{Config, Gateway};
use crate::wait::until_so;
use crate::websocket::handshake;
use crate::world::PUBLIC;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// An app that is told what to write, byte by byte, for each request; `None`: it closes instead.
struct Scripted {
    origin: String,
    heads: Arc<Mutex<Vec<String>>>,
}

type Script = fn(first_of_connection: bool, head: &str) -> Option<&'static [u8]>;

impl Scripted {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = heads.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = told.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    for number in 0.. {
                        let mut head = String::new();
                        while !head.ends_with("\r\n\r\n") {
                            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        told.lock().unwrap().push(head.clone());
                        let Some(answer) = script(number == 0, &head) else { return };
                        if stream.write_all(answer).await.is_err() || answer.ends_with(b"END") {
                            return;
                        }
                    }
                });
            }
        });
        Scripted { origin, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn in_front_of(origin: &str, upstream: &str) -> Gateway {
    let keys = format!("auth: public, upstream: {{{upstream}}}");
    Gateway::start(&Config::default().more("workers: 1").route("main", "http://app.test/", origin, &keys)).await
}

/// The end of a kept connection is not the end of a request that changes nothing.
#[tokio::test]
async fn a_dead_kept_connection_costs_no_request() {
    let once: Script = |first, _| first.then_some(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let app = Scripted::start(once).await;
    let gateway = in_front_of(&app.origin, "").await;
    for method in ["GET", "HEAD", "GET", "GET"] {
        assert_eq!(gateway.ask(&ask(method, "/x?a=b").with("X-A", "kept")).await.status, 200, "{method}");
    }
    let heads = app.heads();
    assert_eq!(heads.len(), 6, "one more for each on a kept connection: {heads:?}");
    let fields = |head: &String| head.lines().filter(|line| !line.starts_with("X-Request-Id")).count();
    assert!(heads.iter().all(|head| head.contains("kept") && fields(head) == fields(&heads[0])), "{heads:?}");
    // Whatever may have changed something is not sent again.
    assert_eq!(gateway.ask(&get("/x")).await.status, 200);
    for request in [ask("POST", "/x").body(b"pay"), ask("DELETE", "/x"), get("/x").body(b"a body")] {
        let before = app.heads().len();
        assert_eq!(gateway.ask(&request).await.outcome(), "502 upstream_unreachable", "{request:?}");
        assert_eq!(app.heads().len(), before + 1, "{request:?}");
        assert_eq!(gateway.ask(&get("/again")).await.status, 200);
    }
}

/// Once a byte of the answer has come, nothing is asked for again.
#[tokio::test]
async fn half_an_answer_is_not_asked_for_again() {
    let half: Script = |first, _| match first {
        true => Some(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        false => Some(b"HTTP/1.1 200 OK\r\nX: END"),
    };
    let app = Scripted::start(half).await;
    let gateway = in_front_of(&app.origin, "").await;
    assert_eq!(gateway.ask(&get("/x")).await.status, 200);
    assert_eq!(gateway.ask(&get("/x")).await.outcome(), "502 upstream_unreachable");
    assert_eq!(app.heads().len(), 2);
}

/// RFC 9112, 6.1 and 9110, 15.2: no transfer coding and no interim answer for HTTP/1.0; both for HTTP/1.1.
#[tokio::test]
async fn an_old_client_gets_what_it_can_read() {
    let chunked: Script = |_, _| {
        Some(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    };
    let app = Scripted::start(chunked).await;
    let gateway = in_front_of(&app.origin, "").await;
    for version in ["1.0\r\nConnection: keep-alive", "1.0", "1.0\r\nExpect: 100-continue"] {
        let mut old = gateway.connect().await;
        old.send_bytes(format!("GET /x HTTP/{version}\r\nHost: app.test\r\n\r\n").as_bytes()).await;
        let answer = String::from_utf8(old.rest().await).unwrap();
        let lower = answer.to_ascii_lowercase();
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
        assert!(!lower.contains("transfer-encoding") && !answer.contains("103"), "{answer}");
    }
    let mut new = gateway.connect().await;
    new.send(&get("/x")).await;
    let hints = new.head().await.unwrap();
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>")));
    let answer = new.head().await.unwrap();
    assert_eq!((answer.status, new.chunk().await.unwrap()), (200, b"hello".to_vec()));
}

/// Early hints are no answer: where none follows, the client learns that.
#[tokio::test]
async fn an_app_that_only_hints_has_not_answered() {
    let hints: Script = |_, _| Some(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nEND");
    let app = Scripted::start(hints).await;
    let gateway = in_front_of(&app.origin, "").await;
    let mut client = gateway.connect().await;
    client.send(&get("/x")).await;
    assert_eq!(client.head().await.unwrap().status, 103);
    assert_eq!(client.reply().await.unwrap().outcome(), "502 upstream_unreachable");
}

/// An app that changes the protocol of a connection on which nobody asked for that is no app.
#[tokio::test]
async fn a_protocol_that_nobody_asked_for_is_refused() {
    let switches: Script =
        |_, _| Some(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n");
    let app = Scripted::start(switches).await;
    let gateway = in_front_of(&app.origin, "").await;
    assert_eq!(gateway.ask(&get("/x")).await.outcome(), "502 upstream_unreachable");
}

/// Whatever the client says that it wants: the app's own answer decides how long silence may last.
#[tokio::test]
async fn silence_lasts_as_long_as_the_answer_says() {
    let app = App::start().await;
    let gateway = in_front_of(&app.origin, "timeout: 500ms, stream_idle_timeout: 4s").await;
    let liars = [
        get("/x"),
        get("/x").set("Accept", "text/event-stream"),
        get("/x").with("Content-Type", "application/grpc"),
        ask("POST", "/x").body(b"whole").set("Accept", "text/event-stream"),
        handshake("/x").set("Upgrade", "none"),
    ];
    for liar in liars {
        let begun = Instant::now();
        assert_eq!(
            gateway.ask(&liar.clone().with("X-App", "never")).await.outcome(),
            "504 upstream_timeout",
            "{liar:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}: {liar:?}", begun.elapsed());
    }
    // A body that is promised and does not come is the client's fault.
    let mut silent = gateway.connect().await;
    let begun = Instant::now();
    silent.send(&ask("POST", "/x").with("Content-Length", "100").set("Accept", "text/event-stream")).await;
    assert_eq!(silent.reply().await.unwrap().outcome(), "400 bad_request");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    // An answer that is an event stream may be silent for longer, whatever the client has said, and not for ever.
    let mut events = gateway.connect().await;
    let begun = Instant::now();
    events.send(&get("/x").with("X-App", "events")).await;
    assert_eq!(events.head().await.unwrap().status, 200);
    assert_eq!(events.chunk().await.unwrap(), b"data: first\n\n");
    until_so("a silence longer than the time-out", async || begun.elapsed() > Duration::from_secs(2)).await;
    app.say_the_word();
    assert_eq!(events.chunk().await.unwrap(), b"data: second\n\n");
    let mut forgotten = gateway.connect().await;
    let begun = Instant::now();
    forgotten.send(&get("/x").with("X-App", "events")).await;
    assert_eq!(forgotten.head().await.unwrap().status, 200);
    forgotten.rest().await;
    assert!((Duration::from_secs(3)..Duration::from_secs(9)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

/// An upload that goes on is no silence, however long it takes.
#[tokio::test]
async fn an_upload_that_moves_is_waited_for() {
    let app = App::start().await;
    let gateway = in_front_of(&app.origin, "timeout: 800ms").await;
    let mut slow = gateway.connect().await;
    let begun = Instant::now();
    slow.send(&ask("POST", "/x").with("Content-Length", "8")).await;
    for _ in 0..8 {
        let next = begun.elapsed() + Duration::from_millis(300);
        until_so("the next byte's time", async || begun.elapsed() > next).await;
        slow.send_bytes(b"a").await;
    }
    assert!(begun.elapsed() > Duration::from_millis(2_400));
    assert_eq!(slow.reply().await.unwrap().status, 200);
    assert_eq!(app.last().body, b"aaaaaaaa");
}

/// Queries as people and PromQL write them arrive as they were sent.
#[tokio::test]
async fn a_query_arrives_as_it_was_written() {
    let app = App::start().await;
    let base = format!("{}/base", app.origin);
    let strip = "auth: public, upstream: {strip_prefix: true}";
    let config = Config::default().route("main", "http://app.test/", &app.origin, PUBLIC).route(
        "based",
        "http://app.test/based/",
        &base,
        strip,
    );
    let gateway = Gateway::start(&config).await;
    let mut one = gateway.connect().await;
    for query in [r#"query=up{job="node"}"#, r#"q=<a>|^`\{}"&b=">""#, r#"""#, "a=1?<", "q=%22%3C", "a=_&b=__", ""] {
        for (path, arrives) in
            [("/api/v1/query", "/api/v1/query"), ("/based/x", "/base/x"), ("http://app.test/y", "/y")]
        {
            let reply = one.ask(&get(&format!("{path}?{query}"))).await;
            assert_eq!((reply.status, app.last().target), (200, format!("{arrives}?{query}")), "{path}");
        }
    }
    // In pieces, and one request after the other on one connection.
    let before = app.count();
    for target in ["/a?b=\"<>\"", "/plain?b=_", "/c?\">"] {
        for piece in format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n").as_bytes().chunks(3) {
            one.send_bytes(piece).await;
        }
        assert_eq!(one.reply().await.unwrap().status, 200);
        assert_eq!(app.last().target, target);
    }
    assert_eq!(app.count(), before + 3);
    // In the path they stay what they were: no two readers agree on them.
    for target in ["/a<b?x=1", "/a>b", "/a?b\u{e4}=\""] {
        assert_eq!(one.ask(&get(target)).await.outcome(), "400 bad_request", "{target}");
        one = gateway.connect().await;
    }
}

/// A second request in the same breath is not read; whoever sends it is told, and sends it again.
#[tokio::test]
async fn who_does_not_wait_for_an_answer_is_told_that_the_connection_ends() {
    let app = App::start().await;
    let gateway = in_front_of(&app.origin, "").await;
    let mut hasty = gateway.connect().await;
    hasty.send_bytes(&b"GET /x HTTP/1.1\r\nHost: app.test\r\n\r\n".repeat(2)).await;
    let reply = hasty.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(hasty.reply().await.is_none());
    assert_eq!(app.count(), 1);
    let mut with_a_body = gateway.connect().await;
    assert_eq!(with_a_body.ask(&ask("POST", "/x").body(b"body")).await.header("connection"), Some("keep-alive"));
}
