//! The head that goes to the app.

use crate::edge::headers::{is_only, parts_of};
use crate::edge::proxy::context::RequestContext;
use crate::edge::quoted;
use crate::edge::traces::TRACEPARENT;
use crate::gate::protocol::has_token;
use http::{HeaderValue, Version, header};
use pingora_error::{ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

impl RequestContext {
    /// Applies what the gate decided to the head that Pingora is about to send.
    pub(super) fn prepare(&self, session: &Session, upstream: &mut RequestHeader) -> Result<()> {
        let (forward, upstreams) = self.forwarded()?;
        let target = self.tried.and_then(|index| upstreams.target(index));
        let quoted = self.quoted.as_deref();
        let base = target.map_or("", |target| target.base_path.as_str());
        let mut parts = parts_of(upstream);
        // gRPC needs it; Pingora takes it for a field of one connection, as it is in HTTP/1.1.
        let is_http2 = parts.version == Version::HTTP_2 && session.req_header().version == Version::HTTP_2;
        if is_http2 && has_token(&session.req_header().headers, header::TE, "trailers") {
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        for name in &forward.remove {
            parts.headers.remove(name);
        }
        let own_host = self.audit.as_ref().and_then(|audit| audit.host.as_ref()).map(|host| host.as_str());
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
            None if base.is_empty() && session.req_header().version != Version::HTTP_2 && quoted.is_none() => None,
            own => {
                let sent = own.as_deref().map(str::as_bytes).or(quoted).unwrap_or(session.req_header().raw_path());
                let sent = [base.as_bytes(), sent].concat();
                let is_carried = target.is_some_and(|target| target.carries_lines);
                Some(if quoted.is_some() { quoted::for_upstream(&sent, is_carried) } else { sent })
            }
        };
        parts.headers.reserve(forward.set.len());
        for (name, value) in &forward.set {
            parts.headers.insert(name, value.clone());
        }
        if let Some(parent) = self.span.as_ref().and_then(|span| span.traceparent.clone()) {
            parts.headers.insert(TRACEPARENT, parent);
        }
        *upstream = RequestHeader::from(parts);
        target.map_or(Ok(()), |target| upstream.set_raw_path(&target))
    }
}
