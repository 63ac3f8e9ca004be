//! HTTP/2 frame by frame, without the tidying that a client does: paths and authorities as an attacker sends them, and
//! trailers from end to end, as gRPC needs them.

use crate::app::App;
use crate::gateway::{Config, Folder, Gateway};
use crate::tls::{Certificate, stream};
use crate::wait::{in_time, until, until_so};
use crate::world::{BEARER, PUBLIC, object, provider};
use bytes::Bytes;
use doorward::demo::{IssueOptions, Provider};
use doorward::kit::clock::{Clock, SystemClock};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Http2 {
    provider: Provider,
    app: App,
    grpc: Grpc,
    gateway: Gateway,
    certificate: Certificate,
}

/// An app that speaks HTTP/2 in clear: it sends the body back, and a trailer after it.
struct Grpc {
    origin: String,
    received: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Grpc {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("h2c://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let heads = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let heads = heads.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        heads.lock().unwrap().push(request.headers().clone());
                        tokio::spawn(echo(request, respond));
                    }
                });
            }
        });
        Grpc { origin, received }
    }
}

async fn echo(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let (mut body, mut send) = (request.into_body(), respond.send_response(head, false).unwrap());
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        send.send_data(piece, false).unwrap();
    }
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let _ = send.send_trailers(trailers); // the call may have been reset
}

impl Http2 {
    async fn start() -> Self {
        let (provider, app, grpc, folder) = (provider().await, App::start().await, Grpc::start().await, Folder::new());
        let certificate = Certificate::of("app.test");
        let config = Config::default()
            .listener(&format!("tls: {}", certificate.write(&folder, "app")))
            .provider("corp", provider.issuer(), "clock_skew: 0s")
            .route("public", "https://app.test/public/", &app.origin, PUBLIC)
            .route("main", "https://app.test/", &app.origin, BEARER)
            .route("grpc", "https://app.test/grpc/", &grpc.origin, BEARER);
        let gateway = Gateway::start(&config).await;
        Http2 { provider, app, grpc, gateway, certificate }
    }

    async fn connect(&self) -> SendRequest<Bytes> {
        let stream = stream(&self.gateway.address(), "app.test", &["h2"], &[&self.certificate]).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        client.ready().await.unwrap()
    }

    /// The status and the word of the refusal; `reset` where the stream is.
    async fn ask(&self, request: Request<()>) -> String {
        let (response, _) = match self.connect().await.send_request(request, true) {
            Ok(sent) => sent,
            Err(error) => return format!("not sent: {error}"),
        };
        let Ok(response) = in_time("an answer", response).await else { return "reset".to_owned() };
        let reason = response.headers().get("x-doorward-reason").map(|word| format!(" {}", word.to_str().unwrap()));
        format!("{}{}", response.status().as_u16(), reason.unwrap_or_default())
    }
}

fn uri(authority: &str, path: &str) -> Uri {
    Uri::builder().scheme("https").authority(authority).path_and_query(path).build().unwrap()
}

fn get(path: &str) -> http::request::Builder {
    Request::builder().uri(uri("app.test", path)).header("accept", "application/json")
}

/// P1 over HTTP/2: what is judged is what arrives.
#[tokio::test]
async fn paths_are_judged_as_they_are_sent() {
    let world = Http2::start().await;
    for (path, expected) in [
        ("/public/x", "200"),
        ("/public/a/../b//c/%2e/d;e?f=%zz", "200"),
        ("/x", "401 login_required"),
        ("/publicadmin", "401 login_required"),
        ("/public/../x", "400 bad_request"),
        ("/public/%2e%2e/x", "400 bad_request"),
        ("/public/..%2fx", "400 bad_request"),
        ("/public/%252e%252e/x", "400 bad_request"),
        ("/public/..;/x", "400 bad_request"),
        ("//public/x", "400 bad_request"),
        ("/public/%5c..%5c../x", "400 bad_request"),
        ("/public/%00", "400 bad_request"),
        ("/public/%c0%af", "400 bad_request"),
        ("/oauth2/%61uth", "400 bad_request"),
    ] {
        let before = world.app.count();
        assert_eq!(world.ask(get(path).body(()).unwrap()).await, expected, "{path}");
        if expected == "200" {
            assert_eq!(world.app.last().target, path, "byte for byte");
        } else {
            assert_eq!(world.app.count(), before, "{path}");
        }
    }
}

impl Http2 {
    async fn check_host(&self, authority: &str, host: Option<&str>, expected: &str) {
        let request = Request::builder().uri(uri(authority, "/public/x"));
        let request =
            host.map_or(Request::builder().uri(uri(authority, "/public/x")), |host| request.header("host", host));
        assert_eq!(self.ask(request.body(()).unwrap()).await, expected, "{authority} {host:?}");
    }
}

/// P3 over HTTP/2: the authority is the host, in any spelling.
#[tokio::test]
async fn the_authority_is_the_host() {
    let world = Http2::start().await;
    world.check_host("app.test", None, "200").await;
    world.check_host("APP.Test", None, "200").await;
    world.check_host("app.test:8443", None, "200").await;
    world.check_host("app.test", Some("app.test"), "200").await;
    world.check_host("other.test", None, "404 no_route").await;
    assert!(
        world
            .app
            .received()
            .iter()
            .all(|received| received.header("host").is_some_and(|host| host.starts_with("app.test")))
    );
}

/// What is malformed is answered by the gateway as anything else is, with a reason and a request id.
#[tokio::test]
async fn a_host_unlike_the_authority_is_refused() {
    let world = Http2::start().await;
    world.check_host("app.test", Some("other.test"), "400 bad_request").await;
    world.check_host("other.test", Some("app.test"), "400 bad_request").await;
    world.check_host("user@app.test", None, "400 bad_request").await;
    let two = get("/public/x").header("content-length", "0").header("content-length", "0").body(()).unwrap();
    assert_eq!(world.ask(two).await, "400 bad_request");
    let hosts = get("/public/x").header("host", "app.test").header("host", "other.test").body(()).unwrap();
    assert_eq!(world.ask(hosts).await, "400 bad_request");
    assert_eq!(world.app.count(), 0);
}

/// An app that writes what it is given in answer to each head, and then is silent.
async fn teller(answer: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut piece = [0; 4096];
                while let Ok(1..) = stream.read(&mut piece).await {
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    origin
}

/// A client of one public route to this app.
async fn client_of(origin: &str, settings: &str) -> (SendRequest<Bytes>, Gateway) {
    client_to(&format!("\"{origin}\""), settings).await
}

async fn client_to(to: &str, settings: &str) -> (SendRequest<Bytes>, Gateway) {
    let (certificate, folder) = (Certificate::of("app.test"), Folder::new());
    let config = Config::default()
        .more("shutdown_grace: 1s")
        .listener(&format!("tls: {}", certificate.write(&folder, "app")))
        .route("public", "https://app.test/", to, &format!("auth: public, {settings}"));
    let gateway = Gateway::start(&config).await;
    let stream = stream(&gateway.address(), "app.test", &["h2"], &[&certificate]).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    (client.ready().await.unwrap(), gateway)
}

/// What the app does wrong is told as over HTTP/1.1; the answer to HEAD ends with its head, early or late.
#[tokio::test]
async fn the_app_s_faults_are_not_the_client_s() {
    let garbage = teller(b"HTP/9 what\r\n\r\n").await;
    let silent = teller(b"").await;
    for (origin, expected) in [
        ("http://127.0.0.1:1", (502, "upstream_unreachable")),
        (garbage.as_str(), (502, "upstream_unreachable")),
        (silent.as_str(), (504, "upstream_timeout")),
    ] {
        let (mut client, _gateway) = client_of(origin, "upstream: {timeout: 1s}").await;
        for method in [Method::GET, Method::HEAD] {
            let (response, _) = client.send_request(get("/").method(&method).body(()).unwrap(), true).unwrap();
            let response = in_time("an answer", response).await.unwrap();
            let reason = response.headers()["x-doorward-reason"].to_str().unwrap();
            assert_eq!((response.status().as_u16(), reason), expected, "{method} {origin}");
            let mut body = response.into_body();
            let piece = in_time("the body", body.data()).await.transpose().unwrap();
            assert_eq!(piece.is_some(), method == Method::GET, "{method} {origin}");
        }
    }
}

/// A burst of small pieces fits into the windows, and ends nothing.
#[tokio::test]
async fn many_small_pieces_pass_at_once() {
    let world = Http2::start().await;
    let request = get("/public/up").method(Method::POST).body(()).unwrap();
    let (response, mut send) = world.connect().await.send_request(request, false).unwrap();
    for _ in 0..1000 {
        send.send_data(Bytes::from_static(b"a small message of some fifty bytes, one of many.."), false).unwrap();
    }
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(in_time("an answer", response).await.unwrap().status(), 200);
    assert_eq!(world.app.last().body.len(), 50_000);
}

/// An app that opens connections and reads nothing.
async fn deaf() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    origin
}

/// An upload of more than the buffers on the way hold.
fn upload(client: &mut SendRequest<Bytes>, path: &str) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let request = get(path).method(Method::POST).body(()).unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    send.send_data(Bytes::from(vec![b'x'; 16 << 20]), true).unwrap();
    (response, send)
}

async fn line_of(gateway: &Gateway, path: &str) -> serde_json::Value {
    let wanted = format!("\"path\":\"{path}\"");
    let found = async || gateway.log().lines().find(|line| line.contains(&wanted)).map(str::to_owned);
    serde_json::from_str(&until(&format!("the line of {path}"), found).await).unwrap()
}

/// Neither Pingora nor the client sees that the app takes no more: the sweep ends it, and others on the connection go on.
#[tokio::test]
async fn an_upload_that_nobody_reads_ends() {
    let (mut client, gateway) = client_of(&deaf().await, "upstream: {timeout: 1s}").await;
    let (response, _send) = upload(&mut client, "/stuck");
    assert!(in_time("the end", response).await.is_err(), "reset");
    let line = line_of(&gateway, "/stuck").await;
    assert_eq!([&line["outcome"], &line["reason"]], ["upstream_error", "upstream_timeout"]);
    until_so("nothing is in flight", async || {
        gateway.metric(&format!("doorward_requests_in_flight{{listener=\"{}\"}}", gateway.address())).await == 0.0
    })
    .await;
}

/// What a stop cuts has its line, over HTTP/2 as well, whatever it waits for.
#[tokio::test]
async fn a_stop_leaves_no_request_without_a_line() {
    let (mut client, gateway) = client_of(&deaf().await, "upstream: {timeout: 60s}").await;
    let (_response, _send) = upload(&mut client, "/stuck");
    let (_waiting, _) = client.send_request(get("/waits").body(()).unwrap(), true).unwrap();
    until_so("both are in flight", async || {
        gateway.metric(&format!("doorward_requests_in_flight{{listener=\"{}\"}}", gateway.address())).await == 2.0
    })
    .await;
    gateway.signal("TERM");
    for path in ["/stuck", "/waits"] {
        assert_eq!(line_of(&gateway, path).await["status"], 0, "{path}");
    }
}

/// The time for opening a connection is none of the app's silence: the next one is asked.
#[tokio::test]
async fn an_app_that_takes_no_connection_is_passed_over() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    // Its queue holds one; who comes later is not answered at all.
    let _first = tokio::net::TcpStream::connect(address).await.unwrap();
    let _next = tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address)).await;
    let good = App::start().await;
    let to = format!("[\"http://{address}\", \"{}\"]", good.origin);
    let (mut client, _gateway) = client_to(&to, "upstream: {timeout: 1s, connect_timeout: 2s}").await;
    for _ in 0..2 {
        let (response, _) = client.send_request(get("/").body(()).unwrap(), true).unwrap();
        assert_eq!(in_time("an answer", response).await.unwrap().status(), 200);
    }
}

/// An app over HTTP/2 whose first connection answers once and then hangs: others are not sent the same way.
#[tokio::test]
async fn a_connection_that_hangs_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("\"h2c://{}\"", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((stream, _)) = listener.accept().await {
            let most = if std::mem::take(&mut is_first) { 1 } else { usize::MAX };
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let (mut answered, mut hanging) = (0, Vec::new());
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if answered < most {
                        answered += 1;
                        respond.send_response(Response::new(()), true).map(drop).unwrap();
                    } else {
                        hanging.push(respond);
                    }
                }
            });
        }
    });
    let (mut client, _gateway) = client_to(&to, "upstream: {timeout: 1s}").await;
    for expected in [200, 504, 200, 200] {
        let (response, _) = client.send_request(get("/").body(()).unwrap(), true).unwrap();
        assert_eq!(in_time("an answer", response).await.unwrap().status(), expected);
    }
}

/// Who reads slowly gets all of it, though no request is open any more: the idle time-out waits for what is being sent.
#[tokio::test]
async fn who_reads_slowly_gets_the_whole() {
    let answer: &[u8] = Vec::leak([b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", &[b'x'; 60000][..]].concat());
    let (certificate, folder) = (Certificate::of("app.test"), Folder::new());
    let tls = format!("idle_timeout: 1s, tls: {}", certificate.write(&folder, "app"));
    let config = Config::default().listener(&tls).route("public", "https://app.test/", &teller(answer).await, PUBLIC);
    let gateway = Gateway::start(&config).await;
    let stream = stream(&gateway.address(), "app.test", &["h2"], &[&certificate]).await.unwrap();
    // The client grants less than the response, and more of it only after the idle time.
    let builder = h2::client::Builder::new().initial_window_size(30_000).clone();
    let (client, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let (response, _) = client.send_request(get("/").body(()).unwrap(), true).unwrap();
    let mut body = in_time("the head", response).await.unwrap().into_body();
    let mut received = 0;
    while received < 30_000 {
        received += in_time("the first half", body.data()).await.unwrap().unwrap().len();
    }
    let begun = std::time::Instant::now();
    until_so("the idle time is over", async || begun.elapsed() > Duration::from_secs(3)).await;
    body.flow_control().release_capacity(30_000).unwrap();
    while let Some(piece) = in_time("the rest", body.data()).await.transpose().unwrap() {
        received += piece.len();
    }
    assert_eq!(received, 60_000);
}

/// RFC 9110, 10.1.1: also over HTTP/2.
#[tokio::test]
async fn who_waits_to_send_a_form_is_told_to() {
    let world = Http2::start().await;
    let request = Request::builder().method(Method::POST).uri(uri("app.test", "/oauth2/callback"));
    let request = request.header("expect", "100-continue").body(()).unwrap();
    let (mut response, mut body) = world.connect().await.send_request(request, false).unwrap();
    let interim = in_time("100", std::future::poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(interim.status(), 100);
    body.send_data(Bytes::from_static(b"code=1&state=2"), true).unwrap();
    let response = in_time("an answer", response).await.unwrap();
    assert_eq!(response.headers()["x-doorward-reason"], "state_mismatch");
}

/// RFC 8297 over HTTP/2: the hints come before the response, as they are.
#[tokio::test]
async fn early_hints_pass() {
    let origin = teller(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    )
    .await;
    let (mut client, _gateway) = client_of(&origin, "cors: null").await;
    let (mut response, _) = client.send_request(get("/page").body(()).unwrap(), true).unwrap();
    let mut hints = Vec::new();
    while let Some(hint) =
        in_time("a hint", std::future::poll_fn(|cx| response.poll_informational(cx))).await.transpose().unwrap()
    {
        hints.push((hint.status().as_u16(), hint.headers()["link"].to_str().unwrap().to_owned()));
        if hints.len() == 2 {
            break;
        }
    }
    assert_eq!(hints, [(103, "</a.css>".to_owned()), (103, "</b.css>".to_owned())]);
    let response = in_time("the response", response).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(in_time("the body", response.into_body().data()).await.unwrap().unwrap(), "hello");
}

/// What a client says of itself lengthens nothing: a time-out follows the response.
#[tokio::test]
async fn silence_has_the_limit_of_the_response() {
    let settings = "upstream: {timeout: 1s, stream_idle_timeout: 1h}";
    let wishes = [("accept", "text/event-stream"), ("content-type", "application/grpc")];
    let silent = teller(b"").await;
    let (mut client, _gateway) = client_of(&silent, settings).await;
    for (name, wish) in wishes {
        let (response, _) = client.send_request(get("/").header(name, wish).body(()).unwrap(), true).unwrap();
        let response = in_time("an answer", response).await.unwrap();
        assert_eq!(response.headers()["x-doorward-reason"], "upstream_timeout", "{wish}");
        let post = get("/").method(Method::POST).header(name, wish).header("content-length", "100").body(()).unwrap();
        let (response, _body) = client.send_request(post, false).unwrap();
        let response = in_time("an answer to a body that does not come", response).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-doorward-reason"]),
            (400, &"bad_request".parse().unwrap())
        );
    }
    let half = teller(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    let (mut client, _gateway) = client_of(&half, settings).await;
    for (name, wish) in wishes {
        let (response, _) = client.send_request(get("/").header(name, wish).body(()).unwrap(), true).unwrap();
        let mut body = in_time("the head", response).await.unwrap().into_body();
        assert_eq!(in_time("the first half", body.data()).await.unwrap().unwrap(), "half");
        assert!(in_time("the end", body.data()).await.unwrap().is_err(), "cut off: {wish}");
    }
}

#[tokio::test]
async fn other_methods_are_refused_here_too() {
    let world = Http2::start().await;
    let trace = get("/public/x").method(Method::TRACE).body(()).unwrap();
    assert_eq!(world.ask(trace).await, "405 bad_request");
    let connect = Request::builder().method(Method::CONNECT).uri("app.test:443").body(()).unwrap();
    let outcome = world.ask(connect).await;
    assert!(matches!(outcome.as_str(), "405 bad_request" | "reset"), "{outcome}");
    assert_eq!(world.app.count(), 0);
}

/// gRPC: messages both ways while the call is open, trailers at its end, and the identity in between.
#[tokio::test]
async fn trailers_pass_from_end_to_end() {
    let world = Http2::start().await;
    let token = world.provider.issue_access_token("alice", &IssueOptions::default());
    world.gateway.secrets.lock().unwrap().insert(token.clone());
    let call = |token: Option<&str>| {
        let request = get("/grpc/pkg.Service/Call")
            .method(Method::POST)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        token.map_or(Request::builder(), |token| request.header("authorization", format!("Bearer {token}")))
    };
    let refused =
        get("/grpc/pkg.Service/Call").method(Method::POST).header("content-type", "application/grpc").body(()).unwrap();
    assert_eq!(world.ask(refused).await, "401 login_required");

    let (response, mut send) = world.connect().await.send_request(call(Some(&token)).body(()).unwrap(), false).unwrap();
    send.send_data(Bytes::from_static(b"first"), false).unwrap();
    let response = in_time("the head", response).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(in_time("the first message", body.data()).await.unwrap().unwrap(), "first");
    send.send_data(Bytes::from_static(b"second"), false).unwrap();
    assert_eq!(in_time("the second message", body.data()).await.unwrap().unwrap(), "second");
    send.send_data(Bytes::new(), true).unwrap();
    assert!(in_time("the end", body.data()).await.is_none());
    let trailers = in_time("the trailers", body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    let head = world.grpc.received.lock().unwrap().last().unwrap().clone();
    assert_eq!(head.get("x-forwarded-user").unwrap(), "alice");
    assert_eq!(head.get("te").map(|v| v.to_str().unwrap()), Some("trailers"));
}

/// A form that does not come to its end holds nothing for ever.
#[tokio::test]
async fn a_form_that_stops_is_answered() {
    let world = Http2::start().await;
    let request = Request::builder().method(Method::POST).uri(uri("app.test", "/oauth2/callback")).body(()).unwrap();
    let (response, mut body) = world.connect().await.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"code=1"), false).unwrap();
    let response = in_time("an answer", response).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()["x-doorward-reason"].as_bytes()),
        (400, &b"bad_request"[..])
    );
}

/// P6 over HTTP/2.
#[tokio::test]
async fn a_method_with_a_small_letter_is_refused() {
    let world = Http2::start().await;
    for method in ["post", "Post", "get", "trace"] {
        let request = Request::builder().method(method).uri(uri("app.test", "/public/x")).body(()).unwrap();
        assert_eq!(world.ask(request).await, "405 bad_request", "{method}");
    }
    assert_eq!(world.app.count(), 0);
}

/// An app that keeps one connection and every byte that it got on it, and answers each request with its head alone.
async fn recorder() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Vec::new()));
    let bytes = received.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut piece = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut piece).await {
                    let ends = {
                        let mut bytes = bytes.lock().unwrap();
                        bytes.extend_from_slice(&piece[..read]);
                        bytes.ends_with(b"\n0\r\n\r\n") || (bytes.ends_with(b"\r\n\r\n") && last_request_is_get(&bytes))
                    };
                    if ends {
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                    }
                }
            });
        }
    });
    (origin, received)
}

fn last_request_is_get(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.rfind("GET /").is_some_and(|get| text.rfind("POST /").is_none_or(|post| post < get))
}

/// P8: an upload's end is written once, whatever the frames; what follows on the connection to the app is the next request.
#[tokio::test]
async fn an_upload_ends_once() {
    for pieces in [
        &[&b"hello"[..], b""][..],
        &[b"", b"hello", b"", b"", b""],
        &[b"", b""],
        &[b""],
        &[b"hello"],
        &[b"hello", b"", b"world"],
    ] {
        let ((origin, received), folder) = (recorder().await, Folder::new());
        let certificate = Certificate::of("app.test");
        let config = Config::default()
            .listener(&format!("tls: {}", certificate.write(&folder, "app")))
            .more("workers: 1")
            .route("public", "https://app.test/", &origin, PUBLIC);
        let gateway = Gateway::start(&config).await;
        let stream = stream(&gateway.address(), "app.test", &["h2"], &[&certificate]).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        for _ in 0..3 {
            let post = Request::builder().method(Method::POST).uri(uri("app.test", "/up")).body(()).unwrap();
            let (response, mut body) = client.send_request(post, false).unwrap();
            for (i, piece) in pieces.iter().enumerate() {
                body.send_data(Bytes::from_static(piece), i + 1 == pieces.len()).unwrap();
            }
            assert_eq!(in_time("the upload's answer", response).await.unwrap().status(), 200, "{pieces:?}");
            let (response, _) = client.send_request(get("/next").body(()).unwrap(), true).unwrap();
            assert_eq!(in_time("the next answer", response).await.unwrap().status(), 200, "{pieces:?}");
        }
        let text = String::from_utf8_lossy(&received.lock().unwrap()).into_owned();
        assert_eq!(text.matches("\n0\r\n\r\n").count(), 3, "{pieces:?}: {text}");
        assert_eq!((text.matches("POST /up").count(), text.matches("GET /next").count()), (3, 3), "{text}");
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            assert_eq!(text.matches(&*String::from_utf8_lossy(piece)).count(), 3, "{text}");
        }
    }
}

/// A stream over HTTP/2 ends with the token that opened it; others on the connection go on.
#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let world = Http2::start().await;
    let token = |seconds: u64| {
        let expires = SystemClock.now().plus(Duration::from_secs(seconds)).seconds();
        let claims = object(json!({"exp": expires}));
        let token = world.provider.issue_access_token("alice", &IssueOptions { claims, ..IssueOptions::default() });
        world.gateway.secrets.lock().unwrap().insert(token.clone());
        token
    };
    let mut client = world.connect().await;
    let mut open = async |path: &str, token: &str, wish: &str| {
        let request = get(path)
            .method(if wish.is_empty() { Method::POST } else { Method::GET })
            .header("content-type", "application/grpc")
            .header("authorization", format!("Bearer {token}"))
            .header("x-app", wish);
        let (response, send) = client.send_request(request.body(()).unwrap(), !wish.is_empty()).unwrap();
        let response = in_time("the head", response).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        (response.into_body(), send)
    };
    let (short, long) = (token(3), token(3600));
    let (mut call, mut sent) = open("/grpc/pkg.Service/Call", &short, "").await;
    let (mut events, _) = open("/events", &short, "events").await;
    let (mut download, _) = open("/file", &short, "drip").await;
    let (mut other, mut sending) = open("/grpc/pkg.Service/Call", &long, "").await;
    sent.send_data(Bytes::from_static(b"first"), false).unwrap();
    assert_eq!(in_time("the first message", call.data()).await.unwrap().unwrap(), "first");
    for body in [&mut call, &mut events, &mut download] {
        let end = in_time("the end of a stream", async {
            loop {
                match body.data().await {
                    Some(Ok(piece)) => drop(body.flow_control().release_capacity(piece.len())),
                    Some(Err(error)) => break error.to_string(),
                    None => break "in order".into(),
                }
            }
        });
        assert_eq!(end.await, "stream error received: stream no longer needed", "it does not look complete");
    }
    sending.send_data(Bytes::from_static(b"still here"), false).unwrap();
    assert_eq!(in_time("a message", other.data()).await.unwrap().unwrap(), "still here");
}
