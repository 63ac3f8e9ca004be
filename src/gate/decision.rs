//! The decision on a request: forward it with these headers, or send this reply; and what log and metrics record of it.

use crate::gate::host::Host;
use crate::gate::route::Route;
use crate::gate::rules::Judged;
use crate::login::relying_party::RelyingParty;
use crate::provider::identity::Identity;
use crate::session::session::Session;
use crate::telemetry::metrics::{Credential, Outcome, RouteMetrics};
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;

pub enum Answer {
    Forward(Box<Forward>),
    Reply(Box<Reply>),
}

/// How to forward the request to the app.
pub struct Forward {
    pub route: Arc<Route>,
    /// The request target without its origin and without a stripped prefix; `None` if it is forwarded as sent.
    pub target: Option<String>,
    pub remove: Vec<HeaderName>,
    /// Each replaces all fields of its name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// The request looks like a WebSocket, an event stream or gRPC; the response decides, where it can.
    pub stream: bool,
    /// The session that let the request pass.
    pub session: Option<SignedIn>,
}

/// A session, and the provider's logins that it is one of.
#[derive(Clone)]
pub struct SignedIn {
    pub site: Arc<RelyingParty>,
    pub session: Arc<Session>,
}

impl From<Judged> for Why {
    fn from(judged: Judged) -> Self {
        Why { text: judged.words().into(), rule: Some(judged.rule.into()) }
    }
}

/// A response made by the gateway itself.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

/// The decision on one request, and its record for log and metrics.
pub struct Decision {
    pub answer: Answer,
    pub audit: Audit,
}

pub struct Audit {
    pub request_id: String,
    pub client: IpAddr,
    pub host: Option<Host>,
    /// The method and the target of the request that another proxy asks about.
    pub asked: Option<(Method, String)>,
    pub route: Arc<RouteMetrics>,
    pub credential: Credential,
    pub identity: Option<Arc<Identity>>,
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    /// Of a refusal.
    pub why: Option<Why>,
    /// Where a login that failed was to lead.
    pub meant_for: Option<String>,
}

/// Why a request was refused, in words for operators. It holds no credential.
#[derive(Clone, Debug)]
pub struct Why {
    /// The rule that did not hold.
    pub rule: Option<Arc<str>>,
    pub text: Arc<str>,
}

impl Why {
    pub fn of(text: impl Into<Arc<str>>) -> Option<Self> {
        Some(Why { rule: None, text: text.into() })
    }
}
