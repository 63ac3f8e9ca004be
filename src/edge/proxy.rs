//! The proxy's phases, each a translation: the head becomes an ask, the gate's answer becomes headers, a reply or an
//! upstream, the end becomes a log line and metrics.

use crate::edge::connection::{answer_has_ended, cut_current, head_is_read, line_was_odd, wait_for_reader};
use crate::edge::heads::{is_only, parts_of, strip_hop_by_hop};
use crate::edge::line::Line;
use crate::edge::listen::{Settings, Traffic};
use crate::edge::upstream::Upstreams;
use crate::edge::{Live, LiveConfig, reply};
use crate::gate::answer::{Answer, Forward, Notes, Reply};
use crate::gate::ask::{Ask, Posted};
use crate::gate::own::MAX_BODY;
use crate::watch::access::AccessLog;
use crate::watch::metrics::Outcome;
use crate::watch::reason::Reason;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// One shard's proxy.
#[allow(unreachable_pub)] // part of a public type's name
pub struct Proxy {
    live: LiveConfig,
    access_log: AccessLog,
    traffic: Arc<Traffic>,
    max_head: usize,
    idle_seconds: u64,
    redirect_to_https: bool,
}

/// One request on its way.
#[allow(unreachable_pub)] // the context that Pingora's trait makes public
pub struct Passage {
    live: Arc<Live>,
    begun: Instant,
    notes: Option<Notes>,
    forward: Option<Box<Forward>>,
    /// The upstream that was tried last, and whether another may be.
    tried: Option<usize>,
    retried: bool,
    is_tunnel: bool,
    line: Option<Line>,
    _in_flight: InFlight,
}

/// Counts a request until it ends, also by a panic.
struct InFlight(Arc<Traffic>);

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// For a form that we read, an answer that we send, and what is still to come of a request that is answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// So much of a body that nobody wants is still read.
const MAX_UNREAD: usize = 1 << 20;

impl Proxy {
    pub(super) fn new(live: LiveConfig, settings: &Settings, access_log: AccessLog, traffic: Arc<Traffic>) -> Self {
        Proxy {
            live,
            access_log,
            traffic,
            max_head: settings.max_head,
            idle_seconds: settings.limits.idle.as_secs().max(1),
            redirect_to_https: settings.redirect_to_https,
        }
    }
}

impl Passage {
    fn forwarded(&self) -> Result<(&Forward, &Arc<Upstreams>)> {
        let forward = self.forward.as_deref();
        let found = forward.and_then(|forward| Some((forward, self.live.upstreams.get(forward.route.index)?)));
        // Without a decision nothing goes anywhere.
        found.ok_or_else(|| Error::explain(ErrorType::InternalError, "no decision was made"))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request's body, no more of it than this and what shows that there is more.
async fn read_body(session: &mut Session, most: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() <= most {
        match session.read_request_body().await? {
            Some(piece) => body.extend_from_slice(&piece),
            None => break,
        }
    }
    Ok(body)
}

/// Sends an answer of ours. Who does not take it in time, or has gone, is not waited for.
async fn send(session: &mut Session, reply: Reply) -> Result<()> {
    if !matches!(timeout(PATIENCE, reply::write(session, reply)).await, Ok(Ok(()))) {
        cut_current();
        return Err(Error::explain(ErrorType::WriteError, "the answer was not taken").into_down());
    }
    // A connection that is closed with bytes unread is reset, and the answer may be lost on its way. Who waits for 100 sends
    // nothing more.
    if !session.as_downstream_mut().is_body_done() && !session.req_header().headers.contains_key(header::EXPECT) {
        let _ = timeout(PATIENCE, read_body(session, MAX_UNREAD)).await;
    }
    Ok(())
}

/// Pingora drops a `Content-Length` beside a `Transfer-Encoding` as it parses; only the raw head still shows it.
fn raw_head_has(session: &Session, name: &[u8]) -> bool {
    let raw = session.as_downstream().to_h1_raw();
    raw.split(|b| *b == b'\n').any(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

fn ask(session: &Session, max_head: usize, redirect_to_https: bool) -> Ask<'_> {
    let head = session.req_header();
    let is_h2 = head.version == Version::HTTP_2;
    Ask {
        method: &head.method,
        target: head.raw_path(),
        version: head.version,
        authority: head.uri.authority().filter(|_| is_h2).map(|authority| authority.as_str()),
        headers: &head.headers,
        length_beside_encoding: head.headers.contains_key(header::TRANSFER_ENCODING)
            && raw_head_has(session, b"content-length:"),
        rewritten: line_was_odd(),
        body: Posted::Unread,
        peer: session.client_addr().and_then(|a| a.as_inet()).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip()),
        max_head,
        redirect_to_https,
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Passage;

    fn new_ctx(&self) -> Passage {
        self.traffic.in_flight.fetch_add(1, Ordering::AcqRel);
        Passage {
            live: self.live.load_full(),
            begun: Instant::now(),
            notes: None,
            forward: None,
            tried: None,
            retried: false,
            is_tunnel: false,
            line: None,
            _in_flight: InFlight(self.traffic.clone()),
        }
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _passage: &mut Passage) -> Result<()> {
        head_is_read();
        let draining = self.traffic.draining.load(Ordering::Relaxed);
        // Where the client's own version or `Connection` closes it, it stays so.
        let kept = session.get_keepalive().is_some() && !draining;
        session.set_keepalive(kept.then_some(self.idle_seconds));
        session.as_downstream_mut().set_total_drain_timeout(Some(PATIENCE));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, passage: &mut Passage) -> Result<bool> {
        let judged = {
            let gate = &passage.live.gate;
            let case = gate.open(&ask(session, self.max_head, self.redirect_to_https));
            let form = match case.wants_body() && session.req_header().method == Method::POST {
                true => Some(timeout(PATIENCE, read_body(session, MAX_BODY)).await),
                false => None,
            };
            let mut ask = ask(session, self.max_head, self.redirect_to_https);
            ask.body = match &form {
                None => Posted::Unread,
                Some(Ok(Ok(form))) if form.len() > MAX_BODY => Posted::TooLarge,
                Some(Ok(Ok(form))) => Posted::Whole(form),
                Some(Ok(Err(_)) | Err(_)) => Posted::Broken,
            };
            gate.judge(case, &ask).await
        };
        let (head, now) = (session.req_header(), passage.live.gate.clock.now());
        passage.line =
            Line::of(&self.access_log, &judged.notes, head.method.as_str(), head.raw_path(), now, passage.begun);
        if let (Some(line), Answer::Reply(reply)) = (&mut passage.line, &judged.answer) {
            line.told(reply.status.as_u16(), &judged.notes);
        }
        passage.notes = Some(judged.notes);
        match judged.answer {
            Answer::Reply(reply) => {
                send(session, *reply).await?;
                Ok(true)
            }
            Answer::Forward(forward) => {
                // A body is read, and an upgrade recognised, by what stands in the head: it must be what the app is sent.
                for name in [header::UPGRADE, HTTP2_SETTINGS] {
                    if forward.remove.contains(&name) {
                        session.req_header_mut().remove_header(&name);
                    }
                }
                passage.forward = Some(forward);
                let (forward, upstreams) = passage.forwarded()?;
                let silence =
                    if forward.stream { upstreams.settings.stream_idle_timeout } else { upstreams.settings.timeout };
                session.as_downstream_mut().set_read_timeout(Some(silence));
                session.as_downstream_mut().set_write_timeout(Some(silence));
                wait_for_reader(silence);
                Ok(false)
            }
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, passage: &mut Passage) -> Result<Box<HttpPeer>> {
        let (forward, upstreams) = passage.forwarded()?;
        let (index, target) = upstreams
            .next(passage.tried)
            .ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "the route has no upstream").into_up())?;
        let peer = upstreams.peer(target, forward.stream).await?;
        passage.tried = Some(index);
        Ok(peer)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        passage: &mut Passage,
    ) -> Result<()> {
        let (forward, upstreams) = passage.forwarded()?;
        let target = passage.tried.and_then(|index| upstreams.target(index));
        let base = target.map_or("", |target| target.base_path.as_str());
        let mut parts = parts_of(upstream);
        for name in &forward.remove {
            parts.headers.remove(name);
        }
        let own_host = passage.notes.as_ref().and_then(|notes| notes.host.as_ref()).map(|host| host.as_str());
        let host = match target {
            Some(target) if !upstreams.settings.preserve_host => Some(target.authority.as_str()),
            _ => own_host,
        };
        if let Some(host) = host
            && !is_only(&parts.headers, header::HOST, host)
        {
            let host = HeaderValue::from_str(host).or_err(ErrorType::InternalError, "a host that is none")?;
            parts.headers.insert(header::HOST, host);
        }
        let target = match &forward.target {
            None if base.is_empty() && session.req_header().version != Version::HTTP_2 => None,
            own => {
                let sent = own.as_deref().map_or(session.req_header().raw_path(), str::as_bytes);
                Some([base.as_bytes(), sent].concat())
            }
        };
        // Moved: nothing is sent twice, see `error_while_proxy`.
        let set = passage.forward.as_mut().map(|forward| std::mem::take(&mut forward.set)).unwrap_or_default();
        if set.is_empty() {
            return Err(Error::explain(ErrorType::InternalError, "the headers have gone to another upstream"));
        }
        for (name, value) in set {
            parts.headers.insert(name, value);
        }
        *upstream = RequestHeader::from(parts);
        target.map_or(Ok(()), |target| upstream.set_raw_path(&target))
    }

    /// An empty last piece, such as an empty DATA frame that ends an upload over HTTP/2, would be written as the last chunk,
    /// and the last chunk once more behind it: the start of a request that nobody sent.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        _passage: &mut Passage,
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
        passage: &mut Passage,
    ) -> Result<()> {
        strip_hop_by_hop(response);
        let cookies = &passage.live.gate.cookies;
        if response.headers.get_all(header::SET_COOKIE).iter().any(|cookie| cookies.is_planted(cookie)) {
            let kept: Vec<_> = response
                .headers
                .get_all(header::SET_COOKIE)
                .iter()
                .filter(|c| !cookies.is_planted(c))
                .cloned()
                .collect();
            response.remove_header(&header::SET_COOKIE);
            for cookie in kept {
                response.append_header(header::SET_COOKIE, cookie)?;
            }
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS && session.was_upgraded() | session.is_upgrade_req() {
            passage.is_tunnel = true;
            if let (Some(line), Some(notes)) = (&mut passage.line, &passage.notes) {
                line.told(response.status.as_u16(), notes);
            }
            if let Some(notes) = &passage.notes {
                notes.route.ended(Outcome::forwarded, passage.begun.elapsed()); // a tunnel counts at its start
            }
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        passage: &mut Passage,
        mut e: Box<Error>,
    ) -> Box<Error> {
        let another = passage.forwarded().is_ok_and(|(_, upstreams)| upstreams.has_another());
        e.set_retry(another && !passage.retried);
        passage.retried = true;
        e
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        mut e: Box<Error>,
        _passage: &mut Passage,
        _reused: bool,
    ) -> Box<Error> {
        e.set_retry(false); // bytes were sent: the app may have acted on them
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, passage: &mut Passage) -> FailToProxy {
        let reason = match (e.esource(), e.etype()) {
            (
                ErrorSource::Downstream,
                ErrorType::ReadTimedout | ErrorType::InvalidHTTPHeader | ErrorType::HTTPStatus(_),
            ) => Reason::BadRequest,
            (ErrorSource::Downstream, _) => return FailToProxy { error_code: 0, can_reuse_downstream: false },
            (_, ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
                Reason::UpstreamTimeout
            }
            _ => Reason::UpstreamUnreachable,
        };
        tracing::debug!(error = %e.etype().as_str(), "not proxied");
        let late = passage.notes.as_mut().map(|notes| {
            let ask = ask(session, self.max_head, self.redirect_to_https);
            let route = passage.forward.as_ref().map(|forward| &forward.route);
            passage.live.gate.refuse_late(reason, &ask, notes, route)
        });
        let Some(late) = late.filter(|_| session.response_written().is_none()) else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        let error_code = late.status.as_u16();
        session.set_keepalive(None);
        let _ = send(session, late).await; // a client that has gone needs no answer
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _e: Option<&Error>, passage: &mut Passage) {
        answer_has_ended();
        let Some(notes) = &passage.notes else { return };
        if !passage.is_tunnel {
            notes.route.ended(notes.outcome, passage.begun.elapsed());
        }
        if let Some(mut line) = passage.line.take() {
            line.told(session.response_written().map_or(0, |response| response.status.as_u16()), notes);
        }
    }

    // Pingora's own lines name the whole request line, and a query may hold a secret.
    fn suppress_error_log(&self, _session: &Session, _passage: &Passage, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _passage: &Passage,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, _session: &Session, _passage: &Passage) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests;
