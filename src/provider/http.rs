//! HTTP calls to a provider: each with a time-out, without redirects, and with a limit on the answer's size. Each call
//! that a request waits for reports whether the provider is available.

use crate::kit::clock::Clock;
use crate::kit::http_client::{CallError, MAX_ANSWER};
use bytes::BytesMut;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::UNIX_EPOCH;
use url::Url;

/// The HTTP client for one provider.
pub(crate) struct Http {
    client: Client,
    on_answer: OnAnswer,
    /// The provider's clock, as it told it last, less ours, in seconds.
    skew: Arc<AtomicI64>,
    clock: Arc<dyn Clock>,
}

/// Called after each call: whether the provider answered, or the problem.
pub(crate) type OnAnswer = Box<dyn Fn(Result<(), String>) + Send + Sync>;

/// No clock is that far off.
const UNKNOWN: i64 = i64::MIN;

impl Http {
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>, on_answer: OnAnswer) -> Self {
        Http { client, on_answer, skew: Arc::new(AtomicI64::new(UNKNOWN)), clock }
    }

    /// `None`: no answer had a `Date` yet.
    pub(crate) fn clock_skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Relaxed)).filter(|skew| *skew != UNKNOWN)
    }

    /// RFC 9110, 6.6.1: the time at which the answer was made.
    fn note(&self, answer: &Answer) {
        if let Some(date) = answer.date {
            self.skew.store(date - self.clock.now().seconds(), Ordering::Relaxed);
        }
    }

    pub(crate) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.client.request(method, url.clone())
    }

    /// Fetches metadata or keys. The caller checks the content, and reports whether the provider is available.
    pub(crate) async fn get(&self, url: &Url) -> Result<Vec<u8>, CallError> {
        match answer(self.client.get(url.clone()).header("accept", "application/json")).await? {
            (StatusCode::OK, answer) => {
                self.note(&answer);
                Ok(answer.body)
            }
            (status, _) => Err(CallError::Status(status)),
        }
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Answer), CallError> {
        let answered = answer(request).await;
        (self.on_answer)(match &answered {
            Ok((status, _)) if status.is_server_error() => Err(CallError::Status(*status).to_string()),
            Ok((_, answer)) => {
                self.note(answer);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        });
        answered
    }
}

/// The body of an answer.
pub(crate) struct Answer {
    pub(crate) is_jwt: bool,
    /// In Unix time.
    date: Option<i64>,
    pub(crate) body: Vec<u8>,
}

async fn answer(request: RequestBuilder) -> Result<(StatusCode, Answer), CallError> {
    let mut answer = request.send().await.map_err(CallError::transport)?;
    let kind = answer.headers().get("content-type").map_or(&b""[..], |value| value.as_bytes());
    let kind = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let is_jwt = kind.eq_ignore_ascii_case(b"application/jwt");
    let date = answer.headers().get("date").and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let date = date.and_then(|date| i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok());
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(CallError::transport)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            let status = answer.status();
            return Err(if status.is_server_error() { CallError::Status(status) } else { CallError::TooLarge });
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), Answer { is_jwt, date, body: body.into() }))
}
