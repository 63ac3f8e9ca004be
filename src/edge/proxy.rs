//! The proxy's phases, each a translation: the head becomes a `RequestHead`, the gate's decision becomes headers, a
//! reply or an upstream, the end becomes an access log entry and metrics.

mod context;
mod exchange;
mod outgoing;

use crate::edge::access_entry::{AccessEntry, logged_path};
use crate::edge::connection::{
    allow_silence, answer_has_ended, head_is_read, is_tunnel_now, more_has_come, target_as_written, wait_for_reader,
};
use crate::edge::connections::{Capacity, Connections};
use crate::edge::headers::{drop_nominations, strip_hop_by_hop, strip_planted_cookies};
use crate::edge::live::LiveConfig;
use crate::edge::proxy::context::RequestContext;
use crate::edge::proxy::exchange::{
    PATIENCE, has_answered, is_grpc, is_stream, read_form, reason_of, request_head, send, why_of,
};
use crate::edge::traces::{Told, Traces};
use crate::edge::{Common, Settings, http10, quoted, retry};
use crate::gate::decision::{Answer, Why};
use crate::gate::endpoint::MAX_BODY;
use crate::gate::request::Body;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// One shard's proxy.
#[allow(unreachable_pub)] // part of a public type's name
pub struct Proxy {
    live: LiveConfig,
    access_log: AccessLog,
    traces: Option<Arc<Traces>>,
    connections: Arc<Connections>,
    capacity: Arc<Capacity>,
    max_head: usize,
    idle_seconds: u64,
    redirect_to_https: bool,
}

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// A response that takes longer keeps its session in use.
const LONG: Duration = Duration::from_secs(1);

impl Proxy {
    pub(super) fn new(settings: &Settings, capacity: Arc<Capacity>, common: &Common) -> Self {
        Proxy {
            live: common.live.clone(),
            access_log: common.access_log.clone(),
            traces: common.traces.clone(),
            connections: common.connections.clone(),
            capacity,
            max_head: settings.max_head.bytes(),
            idle_seconds: settings.idle_timeout.as_secs().max(1),
            redirect_to_https: settings.redirect_to_https,
        }
    }

    /// After a stop signal, closes the connection after this response: another request on it may be lost.
    fn close_where_ending(&self, session: &mut Session) {
        if self.connections.are_ending() {
            session.set_keepalive(None);
        }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    // Boxed: Pingora moves its future, with the context in it, several times a request.
    type CTX = Box<RequestContext>;

    fn new_ctx(&self) -> Box<RequestContext> {
        Box::new(RequestContext::new(self.live.load_full(), &self.capacity))
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _passage: &mut Box<RequestContext>) -> Result<()> {
        head_is_read();
        // If the client's HTTP version or `Connection` header closes the connection, it stays so.
        // A pipelined second request is not read: the response tells the client that the connection closes.
        let head = &session.req_header().headers;
        let mut of_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE].iter();
        let is_pipelined = more_has_come() && !of_body.any(|name| head.contains_key(name));
        let kept = session.get_keepalive().is_some() && !self.connections.are_ending() && !is_pipelined;
        session.set_keepalive(kept.then_some(self.idle_seconds));
        session.as_downstream_mut().set_total_drain_timeout(Some(PATIENCE));
        http10::prepare(session);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<RequestContext>) -> Result<bool> {
        ctx.quoted = target_as_written(session.req_header().raw_path());
        let quoted = ctx.quoted.as_deref();
        let decision = {
            let gate = &ctx.live.gate;
            let case = if self.capacity.is_busy() {
                gate.open_busy(&request_head(session, quoted, self.max_head, self.redirect_to_https))
            } else {
                gate.open(&request_head(session, quoted, self.max_head, self.redirect_to_https))
            };
            if let Some(traces) = &self.traces {
                ctx.span = traces.begin(&session.req_header().headers, case.is_through_trusted(), gate.clock.now());
            }
            let form = match case.wants_body() && session.req_header().method == Method::POST {
                true => Some(timeout(PATIENCE, read_form(session)).await),
                false => None,
            };
            let mut head = request_head(session, quoted, self.max_head, self.redirect_to_https);
            head.body = match &form {
                None => Body::Unread,
                Some(Ok(Ok(form))) if form.len() > MAX_BODY => Body::TooLarge,
                Some(Ok(Ok(form))) => Body::Whole(form),
                Some(Ok(Err(_)) | Err(_)) => Body::Broken,
            };
            match &ctx.span {
                // Boxed: most requests are not sampled.
                Some(span) => Box::pin(span.parts.clone().of(gate.judge(case, &head))).await,
                None => gate.judge(case, &head).await,
            }
        };
        let (head, now) = (session.req_header(), ctx.live.gate.clock.now());
        ctx.line =
            AccessEntry::of(&self.access_log, &decision.audit, head.method.as_str(), head.raw_path(), now, ctx.begun);
        if let (Some(line), Answer::Reply(reply)) = (&mut ctx.line, &decision.answer) {
            line.told(reply.status.as_u16(), &decision.audit);
        }
        ctx.audit = Some(decision.audit);
        match decision.answer {
            Answer::Reply(reply) => {
                self.close_where_ending(session);
                send(session, *reply).await?;
                Ok(true)
            }
            Answer::Forward(forward) => {
                drop_nominations(session.req_header_mut())?;
                // Pingora reads a body and recognises an upgrade by this head: it must match what the app is sent.
                for name in [header::UPGRADE, HTTP2_SETTINGS] {
                    if forward.remove.contains(&name) {
                        session.req_header_mut().remove_header(&name);
                    }
                }
                ctx.forward = Some(forward);
                let (forward, upstreams) = ctx.forwarded()?;
                let settings = &upstreams.settings;
                // A client that still has to send a body is not waiting for events.
                let is_stream = forward.stream && (session.is_body_empty() || is_grpc(session.req_header()));
                wait_for_reader(*settings.timeout);
                // The kind of response decides how long silence may last, and is not known yet. Pingora's time-outs cannot be
                // changed later: they are off.
                session.as_downstream_mut().set_read_timeout(None);
                session.as_downstream_mut().set_write_timeout(None);
                ctx.patience = if is_stream { *settings.stream_idle_timeout } else { *settings.timeout };
                if is_stream {
                    ctx.hold(session, &self.connections.streams); // the app may be silent before its head, too
                }
                Ok(false)
            }
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Box<RequestContext>) -> Result<Box<HttpPeer>> {
        if ctx.span.is_some() {
            ctx.sent.get_or_insert_with(Instant::now);
        }
        let (_, upstreams) = ctx.forwarded()?;
        let none = || Error::explain(ErrorType::ConnectNoRoute, "the route has no upstream").into_up();
        let same = ctx.tried.filter(|_| ctx.renewed);
        let again = same.and_then(|index| Some((index, upstreams.target(index)?)));
        let (index, target) = again.or_else(|| upstreams.next(ctx.tried)).ok_or_else(none)?;
        let mut peer = upstreams.peer(target, ctx.patience).await?;
        let is_carried = ctx.quoted.is_some() && target.carries_lines;
        if is_carried {
            quoted::carry(&mut peer);
        }
        if ctx.renewed || is_carried {
            retry::make_new(&mut peer, self.connections.unkept.fetch_add(1, Ordering::Relaxed));
        }
        ctx.tried = Some(index);
        Ok(peer)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        // Not before: how long a connection may take to open is another limit.
        allow_silence(*ctx.forwarded()?.1.settings.timeout);
        ctx.prepare(session, upstream)
    }

    /// Drops an empty last piece, such as an empty DATA frame that ends an upload over HTTP/2: Pingora would write it
    /// as the last chunk and then write the last chunk again, which the app would read as the start of another request.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        _passage: &mut Box<RequestContext>,
    ) -> Result<()> {
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        ctx.answered = true;
        self.close_where_ending(session);
        http10::bound_answer(session, response);
        strip_hop_by_hop(response);
        strip_planted_cookies(response, &ctx.live.gate.rewrite.cookies)?;
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            if !session.was_upgraded() && !session.is_upgrade_req() {
                return Err(Error::explain(ErrorType::InvalidHTTPHeader, "a 101 that nobody asked for").into_up());
            }
            is_tunnel_now();
            if let Some(audit) = &ctx.audit {
                ctx.is_counted = true;
                audit.route.ended(Outcome::forwarded, None, ctx.begun.elapsed()); // a tunnel is counted when it starts
            }
        }
        if let Some(audit) = &ctx.audit {
            audit.route.app_answered(response.status.as_u16());
        }
        // A response that is cut off has no last phase.
        if let (Some(line), Some(audit)) = (&mut ctx.line, &ctx.audit)
            && (!response.status.is_informational() || response.status == StatusCode::SWITCHING_PROTOCOLS)
        {
            line.told(response.status.as_u16(), audit);
        }
        // Without a length nobody knows when it ends; it may be silent until then.
        if is_stream(response) || !response.headers.contains_key(header::CONTENT_LENGTH) {
            ctx.hold(session, &self.connections.streams);
        }
        if is_stream(response) {
            ctx.count_stream();
            let (_, upstreams) = ctx.forwarded()?;
            allow_silence(*upstreams.settings.stream_idle_timeout);
            wait_for_reader(*upstreams.settings.stream_idle_timeout);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Box<RequestContext>,
    ) -> Result<Option<Duration>> {
        if !ctx.is_counted_stream() && ctx.begun.elapsed() > LONG {
            ctx.count_stream();
            ctx.hold(session, &self.connections.streams);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<RequestContext>,
        mut e: Box<Error>,
    ) -> Box<Error> {
        let another = ctx.forwarded().is_ok_and(|(_, upstreams)| upstreams.has_another());
        e.set_retry(another && !ctx.retried);
        ctx.retried = true;
        e
    }

    /// The app may have acted on the bytes sent: only a safe request that was lost with a reused connection is retried.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut Box<RequestContext>,
        reused: bool,
    ) -> Box<Error> {
        let again = !ctx.answered && !ctx.renewed && retry::is_harmless(session) && retry::was_lost(&e, reused);
        ctx.renewed |= again;
        e.set_retry(again);
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Box<RequestContext>) -> FailToProxy {
        let Some(reason) = reason_of(e, session) else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        if reason == Reason::UpstreamTimeout {
            ctx.leave_connection();
        }
        let why = Why::of(why_of(e, ctx.tried_upstream()));
        let late = ctx.audit.as_mut().map(|audit| {
            audit.why = why;
            let quoted = ctx.quoted.as_deref();
            let head = request_head(session, quoted, self.max_head, self.redirect_to_https);
            let route = ctx.forward.as_ref().map(|forward| &forward.route);
            ctx.live.gate.refuse_late(reason, &head, audit, route)
        });
        if ctx.line.is_none()
            && let Some(audit) = &ctx.audit
        {
            let (head, now) = (session.req_header(), ctx.live.gate.clock.now());
            let of = AccessEntry::of(&self.access_log, audit, head.method.as_str(), head.raw_path(), now, ctx.begun);
            ctx.line = of;
        }
        let Some(late) = late.filter(|_| !has_answered(session)) else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        let error_code = late.status.as_u16();
        session.set_keepalive(None);
        let _ = send(session, late).await; // a client that has gone needs no answer
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut Box<RequestContext>) {
        answer_has_ended();
        ctx.count();
        let Some(audit) = &ctx.audit else { return };
        let answer = session.response_written().filter(|_| has_answered(session));
        let status = answer.map_or(0, |response| response.status.as_u16());
        if let Some(mut line) = ctx.line.take() {
            line.told(status, audit);
        }
        if let Some(span) = ctx.span.take() {
            if let Some(sent) = ctx.sent {
                span.parts.add("upstream".into(), sent, sent.elapsed());
            }
            let head = session.req_header();
            span.end(&Told {
                method: head.method.as_str(),
                path: &logged_path(head.raw_path().split(|b| *b == b'?').next().unwrap_or_default()),
                route: audit.route.name(),
                status,
                outcome: audit.outcome,
                reason: audit.reason,
                begun: ctx.begun,
            });
        }
    }

    // Pingora's own log lines contain the whole request line, and a query may hold a secret.
    fn suppress_error_log(&self, _session: &Session, _passage: &Box<RequestContext>, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _passage: &Box<RequestContext>,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, _session: &Session, _passage: &Box<RequestContext>) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests;
