//! Bodies in both directions, whole and unbuffered: what is there is passed on before the rest is.

use crate::app::pattern;
use crate::client::{Connection, HOST, ask, get};
use crate::wait::{in_time, stays_silent, until_so};
use crate::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

const SIZES: [usize; 6] = [0, 1, 1024, 65_536, 65_537, 1_500_000];

#[tokio::test]
async fn bodies_arrive_as_they_were_sent() {
    let world = World::start().await;
    let mut connection = world.gateway.connect().await;
    for size in SIZES {
        let body = pattern(size);
        let reply = connection.ask(&ask("POST", "/public/x").body(&body)).await;
        assert_eq!(reply.status, 200, "{size}");
        let received = world.app.last();
        assert!(received.body == body, "{size} bytes with a length");
        assert_eq!(received.header("content-length"), Some(size.to_string().as_str()));

        connection.send(&ask("POST", "/public/x").with("Transfer-Encoding", "chunked")).await;
        for piece in body.chunks(40_000) {
            connection.send_bytes(&chunk(piece)).await;
        }
        connection.send_bytes(b"0\r\n\r\n").await;
        assert_eq!(connection.reply().await.unwrap().status, 200, "{size}");
        let received = world.app.last();
        assert!(received.body == body, "{size} bytes in chunks");
        assert_eq!((received.header("transfer-encoding"), received.header("content-length")), (Some("chunked"), None));
    }
}

#[tokio::test]
async fn answers_arrive_as_they_were_sent() {
    let world = World::start().await;
    let mut connection = world.gateway.connect().await;
    for size in SIZES {
        let reply = connection.ask(&get("/public/x").with("X-App", &format!("chunked {size}"))).await;
        assert!(reply.status == 200 && reply.body == pattern(size), "{size} bytes in chunks");
    }
    for status in [200, 201, 204, 302, 304, 404, 418, 500, 503] {
        let reply = connection.ask(&ask("HEAD", "/public/x").with("X-App", &format!("status {status}"))).await;
        assert_eq!(
            (reply.status, reply.header("x-doorward-reason")),
            (status, None),
            "the app's own answers are the app's"
        );
    }
}

/// What an app says about its connection is no business of the client's; everything else is passed on.
#[tokio::test]
async fn fields_of_the_connection_stay_behind() {
    let world = World::start().await;
    let wish = "field Connection: keep-alive, X-Internal | X-Internal: secret | Keep-Alive: timeout=5 | X-Kept: 1 | X-Kept: 2 | Location: /elsewhere";
    let reply = world.ask(&get("/public/x").with("X-App", wish)).await;
    assert_eq!((reply.all("x-internal"), reply.all("keep-alive")), (vec![], vec![]));
    assert_eq!((reply.all("x-kept"), reply.header("location")), (vec!["1", "2"], Some("/elsewhere")));
}

#[tokio::test]
async fn a_first_event_arrives_before_the_stream_ends() {
    let world = World::start().await;
    for request in [get("/public/events"), get("/events").bearer(&world.token())] {
        let mut connection = world.gateway.connect().await;
        connection.send(&request.set("Accept", "text/event-stream").with("X-App", "events")).await;
        let head = connection.head().await.unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(connection.chunk().await.unwrap(), b"data: first\n\n");
        world.app.say_the_word();
        assert_eq!(connection.chunk().await.unwrap(), b"data: second\n\n");
        assert_eq!(connection.chunk().await, None);
    }
}

/// A stream may be silent for longer than an ordinary answer.
#[tokio::test]
async fn a_stream_outlives_the_ordinary_time_out() {
    let world = World::with(|config, app| {
        config.route(
            "short",
            "http://app.test/short/",
            &app.origin,
            "auth: public, upstream: {timeout: 200ms, stream_idle_timeout: 30s}",
        )
    })
    .await;
    let mut connection = world.gateway.connect().await;
    connection.send(&get("/short/events").set("Accept", "text/event-stream").with("X-App", "events")).await;
    connection.head().await.unwrap();
    assert_eq!(connection.chunk().await.unwrap(), b"data: first\n\n");
    assert!(stays_silent(connection.chunk()).await, "nothing comes, and nothing ends");
    world.app.say_the_word();
    let rest = String::from_utf8(connection.exactly(20).await).unwrap();
    assert!(rest.contains("data: second"), "{rest}");
}

/// Each piece of a request comes back before the next is sent.
#[tokio::test]
async fn request_bodies_are_not_buffered() {
    let world = World::start().await;
    let mut connection = world.gateway.connect().await;
    connection.send(&ask("POST", "/public/x").with("Transfer-Encoding", "chunked").with("X-App", "mirror")).await;
    let mirrored = async |connection: &mut Connection, piece: &[u8]| {
        connection.send_bytes(&chunk(piece)).await;
        assert_eq!(connection.chunk().await.unwrap(), piece);
    };
    connection.send_bytes(&chunk(b"first")).await;
    assert_eq!(connection.head().await.unwrap().status, 200);
    assert_eq!(connection.chunk().await.unwrap(), b"first");
    mirrored(&mut connection, b"second").await;
    mirrored(&mut connection, b"third").await;
    connection.send_bytes(b"0\r\n\r\n").await;
    assert_eq!(connection.chunk().await, None);
}

/// A refusal does not wait for a body that nobody will read.
#[tokio::test]
async fn a_refusal_comes_before_the_body() {
    let world = World::start().await;
    let mut connection = world.gateway.connect().await;
    connection.send(&ask("POST", "/private").with("Content-Length", "1000000000").with("Expect", "100-continue")).await;
    assert_eq!(connection.reply().await.unwrap().outcome(), "401 login_required");
    assert_eq!(world.app.count(), 0);
}

/// A body that ends early is no body: the app does not take it for a whole one.
#[tokio::test]
async fn a_body_cut_short_is_not_completed() {
    let world = World::start().await;
    let mut connection = world.gateway.connect().await;
    connection.send(&ask("POST", "/public/x").with("Transfer-Encoding", "chunked")).await;
    connection.send_bytes(b"5\r\nhello\r\nzz\r\n").await;
    let reply = connection.reply().await;
    assert!(reply.is_none_or(|reply| reply.status >= 400));
}

/// The names of our pages are ours only on hosts where people or programs are judged.
#[tokio::test]
async fn a_public_host_has_no_pages_of_ours() {
    let world = World::with(|config, app| config.route("open", "http://open.test/", &app.origin, "auth: public")).await;
    for target in ["/oauth2/callback", "/oauth2/sign_out", "/oauth2/auth"] {
        let body = pattern(70_000);
        let reply = world.ask(&ask("POST", target).set("Host", "open.test").body(&body)).await;
        assert_eq!((reply.status, world.app.last().target.as_str()), (200, target));
        assert!(world.app.last().body == body, "{target}: the body arrives whole");
    }
}

/// A form that breaks off is refused in our own words, and has its line in the access log.
#[tokio::test]
async fn a_form_that_cannot_be_read_is_refused() {
    let world = World::start().await;
    let mut connection = world.gateway.connect().await;
    connection.send(&ask("POST", "/oauth2/sign_out").with("Transfer-Encoding", "chunked")).await;
    connection.send_bytes(b"no chunk\r\n").await;
    let reply = connection.reply().await.unwrap();
    assert_eq!(reply.outcome(), "400 bad_request");
    let line = format!("\"request_id\":\"{}\"", reply.header("x-request-id").unwrap());
    until_so("a line in the access log", async || world.gateway.log().contains(&line)).await;
}

/// Who sends more than anybody wants still gets the answer.
/// One whose client closes the connection afterwards, and sends on while the answer is there.
#[tokio::test]
async fn a_refused_upload_is_read_to_its_end() {
    let world = World::start().await;
    let mut stream = in_time("a connection", TcpStream::connect(world.gateway.address())).await.unwrap();
    let head = format!("POST /x HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: 900000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let status = &mut [0; 12];
    in_time("an answer", stream.read_exact(status)).await.unwrap();
    assert_eq!(status, b"HTTP/1.1 401");
    for _ in 0..9 {
        in_time("room to write", stream.write_all(&pattern(100_000))).await.unwrap();
    }
    let ended = in_time("the end", stream.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "reset: {ended:?}");
    assert_eq!(world.app.count(), 0);
}
