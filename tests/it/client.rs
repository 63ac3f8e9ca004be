//! A client that sends exactly the bytes that it is told to, on one connection, and reads what comes back. It fixes
//! nothing: no header is added, no path is cleaned. What it sends as a bearer token is noted, for the search in the logs.

use crate::wait::in_time;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The host that requests are for unless they say otherwise.
pub const HOST: &str = "app.test";

/// Everything secret that was sent.
pub type Secrets = Arc<Mutex<BTreeSet<String>>>;

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub struct Connection {
    stream: BufReader<Box<dyn Duplex>>,
    secrets: Secrets,
    head_only: bool,
}

/// As a program asks.
pub fn get(target: &str) -> Request {
    ask("GET", target)
}

pub fn ask(method: &str, target: &str) -> Request {
    let fields = [("Host", HOST), ("Accept", "application/json")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    Request { method: method.to_owned(), target: target.to_owned(), fields: fields.to_vec(), body: Vec::new() }
}

impl Request {
    /// One more field, also of a name that is there.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn with_all<'a>(self, fields: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Self {
        fields.into_iter().fold(self, |request, (name, value)| request.with(name, value))
    }

    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// In the place of all fields of that name.
    pub fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    pub fn bearer(self, token: &str) -> Self {
        self.with("Authorization", &format!("Bearer {token}"))
    }

    /// As a person's browser asks for a page.
    pub fn page(self) -> Self {
        self.set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.with("Content-Length", &body.len().to_string())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

impl Reply {
    /// The only value of a field; none where it is absent.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} comes {} times: {:?}", all.len(), self.fields);
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {:?}", self.status, self.text()))
    }

    /// The status and the word of the refusal, such as `401 wrong_audience`; the status alone where there is none.
    #[track_caller]
    pub fn outcome(&self) -> String {
        let reason = self.header("x-doorward-reason").map(|word| format!(" {word}")).unwrap_or_default();
        format!("{}{reason}", self.status)
    }

    fn field_is(&self, name: &str, value: &str) -> bool {
        self.all(name).iter().any(|known| known.eq_ignore_ascii_case(value))
    }
}

impl Connection {
    pub async fn open(address: &str, secrets: &Secrets) -> Self {
        let stream = in_time("a connection", TcpStream::connect(address)).await;
        Self::over(stream.unwrap_or_else(|e| panic!("{address}: {e}")), secrets)
    }

    pub fn over(stream: impl Duplex + 'static, secrets: &Secrets) -> Self {
        Connection { stream: BufReader::new(Box::new(stream)), secrets: secrets.clone(), head_only: false }
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> impl Future<Output = Reply> {
        let place = std::panic::Location::caller();
        async move {
            self.send(request).await;
            self.reply().await.unwrap_or_else(|| panic!("{place}: closed without an answer to {request:?}"))
        }
    }

    pub async fn send(&mut self, request: &Request) {
        self.head_only = request.method == "HEAD";
        self.send_bytes(&request.bytes()).await;
    }

    /// The other side may have closed already; that shows when the answer is read.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        note_tokens(bytes, &self.secrets);
        let _ = in_time("room to write", self.stream.get_mut().write_all(bytes)).await;
        let _ = in_time("a flush", self.stream.get_mut().flush()).await;
    }

    /// The next answer, whole; `None` where the connection ends before it begins.
    pub async fn reply(&mut self) -> Option<Reply> {
        let mut reply = in_time("an answer's head", self.read_head()).await?;
        if !self.head_only && reply.status >= 200 && reply.status != 204 && reply.status != 304 {
            reply.body = in_time("an answer's body", self.read_body(&reply)).await;
        }
        Some(reply)
    }

    /// The next answer's head; the body is left to `chunk`, `exactly` or `rest`.
    pub async fn head(&mut self) -> Option<Reply> {
        in_time("an answer's head", self.read_head()).await
    }

    /// The next chunk of a body; `None` after the last.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        in_time("a chunk", self.read_chunk()).await
    }

    /// The next byte, without a deadline; `None` at the end of the connection.
    pub async fn byte(&mut self) -> Option<u8> {
        self.stream.read_u8().await.ok()
    }

    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        in_time("so many bytes", self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// All that comes until the other side closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = in_time("the end of the connection", self.stream.read_to_end(&mut bytes)).await;
        bytes
    }

    async fn read_head(&mut self) -> Option<Reply> {
        let first = self.line().await?;
        let status =
            first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status: {first:?}"));
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(Reply { status, fields, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    async fn read_body(&mut self, head: &Reply) -> Vec<u8> {
        if head.field_is("transfer-encoding", "chunked") {
            let mut body = Vec::new();
            while let Some(chunk) = self.read_chunk().await {
                body.extend(chunk);
            }
            return body;
        }
        let mut body = Vec::new();
        match head.header("content-length") {
            Some(length) => {
                body.resize(length.parse().unwrap(), 0);
                self.stream.read_exact(&mut body).await.unwrap();
            }
            None => drop(self.stream.read_to_end(&mut body).await),
        }
        body
    }

    async fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line().await?;
        let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).await.ok()?;
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await.unwrap_or(0);
        let line = line.strip_suffix(b"\r\n").filter(|_| read > 0)?;
        Some(String::from_utf8_lossy(line).into_owned())
    }
}

fn note_tokens(bytes: &[u8], secrets: &Secrets) {
    const BEARER: &str = "authorization: bearer ";
    for line in String::from_utf8_lossy(bytes).lines() {
        if line.len() > BEARER.len() + 15 && line.to_ascii_lowercase().starts_with(BEARER) {
            secrets.lock().unwrap().insert(line[BEARER.len()..].trim().to_owned());
        }
    }
}
