//! Traces of sampled requests (OpenTelemetry), sent to an OTLP endpoint in batches by a thread of their own. Nothing
//! waits for it: what the endpoint does not take in time is dropped.

use crate::kit::clock::Timestamp;
use crate::kit::http_client::{self, CallError};
use crate::kit::setting::HttpUrl;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use crate::telemetry::record::{LONGEST_WORD, cut};
use crate::telemetry::spans::{Part, Parts};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter,
};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Tracing")]
pub struct Settings {
    /// An OTLP endpoint (HTTP, protobuf); an origin alone gets the path /v1/traces. Absent: nothing is traced.
    pub otlp: Option<HttpUrl>,
    /// How many of the requests that begin a trace here: `5%`. One with a `traceparent` of a trusted proxy follows it.
    pub sample: Share,
}

/// A share of requests: `0%` to `100%`, with decimals: `0.1%`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9]+(\\.[0-9]+)?%$"))]
pub struct Share(f64);

/// Begins the spans of sampled requests.
pub struct Traces {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    propagator: TraceContextPropagator,
    /// Of all values of a 64-bit number, those that are sampled.
    threshold: u64,
    asked: AtomicU64,
}

/// The span of one request.
pub struct RequestSpan {
    span: Span,
    tracer: SdkTracer,
    begun: SystemTime,
    pub parts: Parts,
    /// For the app; `None` where the client's own is passed on.
    pub traceparent: Option<HeaderValue>,
}

/// What a span says of its request beside its times.
pub struct Told<'a> {
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub route: &'a str,
    pub status: u16,
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    /// When the request began.
    pub begun: Instant,
}

/// Spans that wait; beyond it they are dropped.
const MOST_WAITING: usize = 2048;
const LONGEST_EXPORT: Duration = Duration::from_secs(5);
const SEND_EVERY: Duration = Duration::from_secs(1);
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

impl Traces {
    /// `None`: nothing is traced.
    ///
    /// # Errors
    /// The client or its thread cannot be made.
    pub fn start(settings: &Settings) -> Result<Option<Self>, String> {
        let Some(otlp) = &settings.otlp else { return Ok(None) };
        let mut url = url::Url::clone(otlp);
        if url.path() == "/" {
            url.set_path("/v1/traces");
        }
        let problem: Arc<Mutex<String>> = Arc::default();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Sender::new(problem.clone()).map_err(|e| format!("tracing: {e}"))?)
            .with_endpoint(url.as_str())
            .with_timeout(LONGEST_EXPORT)
            .build()
            .map_err(|e| format!("tracing.otlp: {e}"))?;
        let exporter = Watched { exporter, endpoint: without_secrets(url), problem, is_away: AtomicBool::new(false) };
        let config =
            BatchConfigBuilder::default().with_max_queue_size(MOST_WAITING).with_scheduled_delay(SEND_EVERY).build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        let resource = Resource::builder_empty()
            .with_service_name("doorward")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build();
        Ok(Some(Traces {
            tracer: provider.tracer("doorward"),
            provider,
            propagator: TraceContextPropagator::new(),
            threshold: settings.sample.threshold(),
            asked: AtomicU64::new(0),
        }))
    }

    /// The span of a request, if it is sampled: as the `traceparent` of a trusted proxy says, else by chance.
    pub fn begin(&self, headers: &HeaderMap, is_trusted: bool, now: Timestamp) -> Option<RequestSpan> {
        let has_own = headers.contains_key(&TRACEPARENT);
        // W3C Trace Context, 3.2: of several fields none counts.
        let is_one = headers.get_all(&TRACEPARENT).iter().nth(1).is_none();
        let parent = (has_own && is_one && is_trusted)
            .then(|| self.propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers)))
            .filter(|context| context.span().span_context().is_valid());
        let is_sampled = match &parent {
            Some(parent) => parent.span().span_context().is_sampled(),
            None => self.by_chance(),
        };
        if !is_sampled {
            return None;
        }
        let passes_own = has_own && !is_trusted;
        let begun = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.millis()).unwrap_or(0));
        let builder = self.tracer.span_builder("request").with_kind(SpanKind::Server).with_start_time(begun);
        let span = self.tracer.build_with_context(builder, &parent.unwrap_or_default());
        let context = span.span_context();
        let traceparent = format!("00-{}-{}-01", context.trace_id(), context.span_id());
        let traceparent = HeaderValue::from_str(&traceparent).ok().filter(|_| !passes_own);
        Some(RequestSpan { span, tracer: self.tracer.clone(), begun, parts: Parts::default(), traceparent })
    }

    /// Sends what waits, for a moment; then nothing is traced any more.
    pub fn finish(&self) {
        let _ = self.provider.shutdown_with_timeout(SEND_EVERY); // what is not sent by then is lost
    }

    /// A counter, mixed (splitmix64): as good as chance, and it never repeats with the rhythm of the requests.
    fn by_chance(&self) -> bool {
        let mut mixed = self.asked.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) < self.threshold || self.threshold == u64::MAX
    }
}

impl RequestSpan {
    pub fn end(mut self, told: &Told<'_>) {
        let method = cut(told.method, LONGEST_WORD);
        self.span.update_name(format!("{method} {}", told.route));
        self.span.set_attributes([
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.response.status_code", i64::from(told.status)),
            KeyValue::new("http.route", told.route.to_owned()),
            KeyValue::new("url.path", told.path.to_owned()),
            KeyValue::new("doorward.route", told.route.to_owned()),
            KeyValue::new("doorward.outcome", told.outcome.word()),
        ]);
        self.span.set_attributes(told.reason.map(|reason| KeyValue::new("doorward.reason", reason.word())));
        self.tell_parts(told.begun);
        if told.status >= 500 {
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }

    /// Each as a span below this one.
    fn tell_parts(&self, begun: Instant) {
        let around = Context::new().with_remote_span_context(self.span.span_context().clone());
        for Part { name, begun: at, took } in self.parts.all() {
            let from = self.begun + at.saturating_duration_since(begun);
            let kind = if name.starts_with("credential") { SpanKind::Internal } else { SpanKind::Client };
            let builder = self.tracer.span_builder(name).with_kind(kind).with_start_time(from);
            self.tracer.build_with_context(builder, &around).end_with_timestamp(from + took);
        }
    }
}

impl Share {
    fn threshold(self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let threshold = (self.0 / 100.0 * u64::MAX as f64) as u64; // saturates
        threshold
    }
}

impl Default for Share {
    fn default() -> Self {
        Share(5.0)
    }
}

impl TryFrom<String> for Share {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let is_plain = |number: &&str| match number.split_once('.') {
            Some((whole, part)) => digits(whole) && digits(part),
            None => digits(number),
        };
        let number = text.strip_suffix('%').filter(is_plain).and_then(|number| number.parse().ok());
        number
            .filter(|number| *number <= 100.0)
            .map(Share)
            .ok_or_else(|| format!("`{text}` is not a share; write 0% to 100%, such as 5%"))
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        format!("{}%", share.0)
    }
}

/// A query or a password may be a key.
fn without_secrets(mut url: url::Url) -> String {
    url.set_query(None);
    let _ = url.set_password(None); // an HTTP URL can have none
    url.into()
}

/// Sends a batch. The exporter's thread belongs to no runtime, so the sender has its own.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Mutex<Runtime>,
    problem: Arc<Mutex<String>>,
}

impl Sender {
    fn new(problem: Arc<Mutex<String>>) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Sender { client: http_client::client(LONGEST_EXPORT, None)?, runtime: runtime.into(), problem })
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = request.try_into()?;
        let answer =
            self.runtime.lock().block_on(async { self.client.execute(request).await }).map_err(CallError::transport);
        *self.problem.lock() = answer.as_ref().map_or_else(ToString::to_string, |answer| answer.status().to_string());
        // What it says of refused spans changes nothing here.
        Ok(Response::builder().status(answer.map_err(|problem| problem.to_string())?.status()).body(Bytes::new())?)
    }
}

/// Says once that the endpoint does not take spans, and once that it does again.
#[derive(Debug)]
struct Watched {
    exporter: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    /// What the last call came to.
    problem: Arc<Mutex<String>>,
    is_away: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match (&result, self.is_away.swap(result.is_err(), Ordering::Relaxed)) {
            (Err(_), false) => {
                let problem = self.problem.lock().clone();
                tracing::warn!(endpoint = %self.endpoint, problem, "traces cannot be sent; they are dropped");
            }
            (Ok(()), true) => tracing::info!(endpoint = %self.endpoint, "traces are sent again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(sample: &str) -> Traces {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let otlp = url::Url::parse("http://127.0.0.1:1").unwrap();
        let settings = Settings { otlp: Some(otlp.into()), sample: Share::try_from(sample.to_owned()).unwrap() };
        Traces::start(&settings).unwrap().unwrap()
    }

    #[test]
    fn a_share_of_requests_is_sampled() {
        for (sample, expected) in [("0%", 0..=0), ("100%", 10_000..=10_000), ("5%", 400..=600), ("0.1%", 1..=30)] {
            let traces = traces(sample);
            let sampled = (0..10_000).filter(|_| traces.by_chance()).count();
            assert!(expected.contains(&sampled), "{sample}: {sampled}");
        }
        for bad in ["5", "101%", "-1%", "1e1%", "%", "NaN%", "inf%", ".5%", "5.%", "1.2.3%"] {
            assert!(Share::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_trusted_parent_decides_and_a_strangers_is_none() {
        let traces = traces("0%");
        let with = |flags: &str| {
            let value = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
            HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_str(&value).unwrap())])
        };
        let begin =
            |headers: &HeaderMap, is_trusted| traces.begin(headers, is_trusted, Timestamp::from_seconds(1_000_000_000));
        let span = begin(&with("01"), true).unwrap();
        let traceparent = span.traceparent.unwrap();
        assert!(traceparent.to_str().unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert_ne!(traceparent, with("01")[TRACEPARENT], "the app's parent is this span");
        for (headers, is_trusted) in [(with("00"), true), (with("01"), false), (HeaderMap::new(), true)] {
            assert!(begin(&headers, is_trusted).is_none());
        }
        let all = self::traces("100%");
        assert_eq!(
            all.begin(&with("01"), false, Timestamp::from_seconds(1_000_000_000)).unwrap().traceparent,
            None,
            "passed on as it is"
        );
        let broken = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static("x"))]);
        let mut two = with("01");
        two.append(TRACEPARENT, with("01")[TRACEPARENT].clone());
        assert!(begin(&broken, true).is_none() && begin(&two, true).is_none());
    }
}
