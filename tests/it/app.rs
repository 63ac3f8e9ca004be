//! The app behind the gateway: it answers with the head and body that it received, byte for byte, and keeps them. The
//! field `X-App` in a request asks for something else. It knows no gateway.

use crate::client::Duplex;
use crate::wait::in_time;
use crate::websocket::{accept_key, echo_frames};
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub version: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Stops with its handle.
pub struct App {
    /// As it stands in `to`.
    pub origin: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    name: String,
    received: Mutex<Vec<Received>>,
    /// What waits for the test's word takes a permit.
    word: Semaphore,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    Tls(TcpListener, TlsAcceptor),
}

type Stream = BufReader<Box<dyn Duplex>>;

impl Received {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The only value of a field; none where it is absent.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} arrived {} times: {:?}", all.len(), self.fields);
        all.first().copied()
    }

    pub fn json(&self) -> serde_json::Value {
        json!({
            "method": self.method, "target": self.target, "version": self.version, "fields": self.fields,
            "body": String::from_utf8_lossy(&self.body),
        })
    }
}

impl App {
    pub async fn start() -> Self {
        Self::named("app").await
    }

    /// The name stands in every answer, as `X-Answered-By`.
    pub async fn named(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        Self::serve(name, origin, Listener::Tcp(listener))
    }

    pub fn over_unix_socket(path: &Path) -> Self {
        Self::serve("unix", format!("unix:{}", path.display()), Listener::Unix(UnixListener::bind(path).unwrap()))
    }

    /// `https`, with this certificate; clients that do not accept it are let go.
    pub async fn over_tls(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        Self::serve("tls", origin, Listener::Tls(listener, acceptor))
    }

    fn serve(name: &str, origin: String, listener: Listener) -> Self {
        let shared = Arc::new(Shared { name: name.to_owned(), received: Mutex::default(), word: Semaphore::new(0) });
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Ok(stream) = listener.accept().await {
                    tokio::spawn(converse(BufReader::new(stream), serving.clone()));
                }
            }
        });
        App { origin, shared, task }
    }

    /// All that arrived so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    #[track_caller]
    pub fn last(&self) -> Received {
        self.received().pop().expect("the app was not asked")
    }

    /// Lets one that waits go on.
    pub fn say_the_word(&self) {
        self.shared.word.add_permits(1);
    }
}

impl Listener {
    async fn accept(&self) -> std::io::Result<Box<dyn Duplex>> {
        Ok(match self {
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
            Listener::Tls(listener, acceptor) => Box::new(acceptor.accept(listener.accept().await?.0).await?),
        })
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: Stream, app: Arc<Shared>) {
    while let Some(mut request) = read_head(&mut stream).await {
        let wish = request.header("x-app").unwrap_or_default().to_owned();
        if wish == "mirror" {
            app.received.lock().unwrap().push(request.clone());
            return mirror(stream).await;
        }
        request.body = read_body(&mut stream, &request).await;
        app.received.lock().unwrap().push(request.clone());
        if request.all("upgrade").iter().any(|v| v.eq_ignore_ascii_case("websocket")) {
            return upgrade(stream, &request).await;
        }
        if answer(&mut stream, &wish, &request, &app).await.is_err() {
            return;
        }
    }
}

async fn answer(stream: &mut Stream, wish: &str, request: &Received, app: &Shared) -> std::io::Result<()> {
    let (verb, value) = wish.split_once(' ').unwrap_or((wish, ""));
    let mut status = "200 OK".to_owned();
    let mut fields = Vec::new();
    match verb {
        "" => {}
        "status" => status = format!("{value} Asked For"),
        "field" => fields.extend(value.split(" | ").map(str::to_owned)),
        "wait" => word(app).await.forget(),
        "never" => std::future::pending().await,
        "hang-up" => return Err(std::io::ErrorKind::ConnectionAborted.into()),
        "events" => return events(stream, app).await,
        "drip" => return drip(stream).await,
        "chunked" => return chunked(stream, value.parse().unwrap()).await,
        other => panic!("no such wish: {other}"),
    }
    let body = if request.method == "HEAD" { String::new() } else { request.json().to_string() };
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Answered-By: {}\r\n", app.name);
    fields.iter().for_each(|field| head.push_str(&format!("{field}\r\n")));
    head += &format!("Content-Length: {}\r\n\r\n", request.json().to_string().len());
    stream.write_all((head + &body).as_bytes()).await
}

async fn word(app: &Shared) -> SemaphorePermit<'_> {
    in_time("the test's word to the app", app.word.acquire()).await.unwrap()
}

/// Server-sent events; the second comes when the test says so.
async fn events(stream: &mut Stream, app: &Shared) -> std::io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    stream.write_all(b"d\r\ndata: first\n\n\r\n").await?;
    word(app).await.forget();
    stream.write_all(b"e\r\ndata: second\n\n\r\n0\r\n\r\n").await
}

/// A download without an end, a byte now and then.
async fn drip(stream: &mut Stream) -> std::io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    loop {
        beat.tick().await;
        stream.write_all(b"1\r\nx\r\n").await?;
    }
}

/// So many bytes that count up, in chunks of uneven sizes.
async fn chunked(stream: &mut Stream, length: usize) -> std::io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    let (body, mut at) = (pattern(length), 0);
    for size in [1, 7, 4096, 65_537].into_iter().cycle() {
        let end = (at + size).min(length);
        if at == end {
            break;
        }
        stream.write_all(format!("{:x}\r\n", end - at).as_bytes()).await?;
        stream.write_all(&[&body[at..end], b"\r\n"].concat()).await?;
        at = end;
    }
    stream.write_all(b"0\r\n\r\n").await
}

/// Bytes by which a lost, doubled or swapped piece shows.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i / 251 + i) % 251).unwrap()).collect()
}

/// Sends each chunk of the request back as soon as it is there.
async fn mirror(mut stream: Stream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    while let Some(chunk) = read_chunk(&mut stream).await {
        let _ = stream.write_all(&[format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat()).await;
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
}

async fn upgrade(mut stream: Stream, request: &Received) {
    let key = accept_key(request.header("sec-websocket-key").unwrap_or_default());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n\r\n"
    );
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    if request.header("x-app") == Some("flood") {
        let frame = [&[0x82, 127][..], &65_537_u64.to_be_bytes(), &[7; 65_537]].concat();
        while stream.write_all(&frame).await.is_ok() {}
        return;
    }
    echo_frames(&mut stream).await;
}

async fn read_head(stream: &mut Stream) -> Option<Received> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.ok()?;
        match line.strip_suffix(b"\r\n")? {
            b"" => break,
            line => lines.push(String::from_utf8_lossy(line).into_owned()),
        }
    }
    let first = lines.first()?.clone();
    let mut words = first.splitn(3, ' ').map(str::to_owned);
    let fields = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Some(Received {
        method: words.next()?,
        target: words.next()?,
        version: words.next()?,
        fields: fields.collect(),
        body: Vec::new(),
    })
}

async fn read_body(stream: &mut Stream, request: &Received) -> Vec<u8> {
    let mut body = Vec::new();
    if request.all("transfer-encoding").iter().any(|v| v.eq_ignore_ascii_case("chunked")) {
        while let Some(chunk) = read_chunk(stream).await {
            body.extend(chunk);
        }
    } else if let Some(length) = request.header("content-length") {
        body.resize(length.parse().unwrap(), 0);
        let _ = stream.read_exact(&mut body).await;
    }
    body
}

async fn read_chunk(stream: &mut Stream) -> Option<Vec<u8>> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let size = usize::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).await.ok()?;
    chunk.truncate(size);
    (size > 0).then_some(chunk)
}
