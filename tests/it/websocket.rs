//! WebSockets through the gateway (RFC 6455), with frames made by hand: the handshake, messages both ways, and who
//! may open one.

use crate::client::{Connection, Request, ask, get};
use crate::world::World;
use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// RFC 6455, 1.3: the key of the example and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;

pub fn accept_key(key: &str) -> String {
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    );
    data_encoding::BASE64.encode(digest.as_ref())
}

/// The app's half: every text of a client comes back, without its mask.
pub async fn echo_frames(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin)) {
    while let Some(text) = read_frame(stream).await {
        if stream.write_all(&frame(&text, None)).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// A text of less than 64 KiB in one frame; a client's is masked.
fn frame(text: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { MASKED } else { 0 };
    let length = u16::try_from(text.len()).unwrap();
    let mut frame = match text.len() {
        short @ ..126 => vec![TEXT, masked | u8::try_from(short).unwrap()],
        _ => [&[TEXT, masked | 126][..], &length.to_be_bytes()].concat(),
    };
    frame.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    frame.extend(text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

async fn read_frame(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let (_opcode, second) = (stream.read_u8().await.ok()?, stream.read_u8().await.ok()?);
    let length = match second & 0x7f {
        126 => usize::from(stream.read_u16().await.ok()?),
        short => usize::from(short),
    };
    let mut mask = [0; 4];
    if second & MASKED != 0 {
        stream.read_exact(&mut mask).await.ok()?;
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await.ok()?;
    Some(text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect())
}

/// A client's opening handshake.
pub fn handshake(target: &str) -> Request {
    get(target).with_all(&[
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ])
}

/// Sends a text and reads its echo.
pub async fn echoed(connection: &mut Connection, text: &[u8]) -> Vec<u8> {
    connection.send_bytes(&frame(text, Some([0x37, 0xfa, 0x21, 0x3d]))).await;
    let header = connection.exactly(2).await;
    assert_eq!(header[0], TEXT);
    let length = match header[1] {
        126 => usize::from(u16::from_be_bytes(connection.exactly(2).await.try_into().unwrap())),
        short => usize::from(short),
    };
    connection.exactly(length).await
}

#[tokio::test]
async fn messages_pass_both_ways() {
    let world = World::start().await;
    for request in [handshake("/public/socket"), handshake("/socket").bearer(&world.token())] {
        let mut connection = world.gateway.connect().await;
        connection.send(&request).await;
        let head = connection.head().await.unwrap();
        assert_eq!((head.status, head.header("sec-websocket-accept")), (101, Some(ACCEPT)), "{head:?}");
        for text in [&b"hello"[..], b"", &b"long ".repeat(1000)] {
            assert_eq!(echoed(&mut connection, text).await, text);
        }
        assert_eq!(world.app.last().header("upgrade"), Some("websocket"));
    }
    let tunnels = world.gateway.metric("doorward_requests_total{route=\"main\",outcome=\"forwarded\"}").await;
    assert!(tunnels == 1.0, "a tunnel counts at its start, once: {tunnels}");
}

#[tokio::test]
async fn nobody_upgrades_without_a_credential() {
    let world = World::start().await;
    let check = async |request: Request, expected: &str| {
        assert_eq!(world.gateway.ask(&request).await.outcome(), expected, "{request:?}");
    };
    check(handshake("/socket"), "401 login_required").await;
    check(handshake("/socket").page(), "401 login_required").await;
    check(handshake("/socket").bearer("made.up.token"), "401 unknown_token").await;
    check(handshake("/public/..%2fsocket"), "400 bad_request").await;
    assert_eq!(world.app.count(), 0);
}

/// Any other upgrade is an ordinary request: the app never sees that something else was wished for.
#[tokio::test]
async fn other_upgrades_are_taken_out() {
    let world = World::start().await;
    let h2c = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")];
    for fields in [
        &h2c[..],
        &[("Connection", "Upgrade"), ("Upgrade", "foo")],
        &[("Connection", "Upgrade"), ("Upgrade", "websocket, h2c")],
    ] {
        let refused = world.gateway.ask(&get("/private").with_all(fields)).await;
        assert_eq!(refused.outcome(), "401 login_required", "{fields:?}");
        let passed = world.gateway.ask(&get("/public/x").with_all(fields)).await;
        assert_eq!(passed.status, 200, "{fields:?}");
        let received = world.app.last();
        assert_eq!((received.all("upgrade"), received.all("http2-settings")), (vec![], vec![]), "{fields:?}");
    }
    let posted = world
        .gateway
        .ask(&ask("POST", "/public/x").with_all(&[("Connection", "Upgrade"), ("Upgrade", "websocket")]).body(b"x"))
        .await;
    assert_eq!((posted.status, world.app.last().all("upgrade")), (200, vec![]), "a POST opens no WebSocket");
}
