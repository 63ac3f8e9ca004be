//! Retry after a lost connection: an app may close an idle connection just as a request is written to it. Safe requests
//! are sent once more, on a new connection.

use http::Method;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, RetryType};
use pingora_proxy::Session;
use std::time::Duration;

/// A GET or HEAD without a body (RFC 9110, 9.2.2).
pub(super) fn is_harmless(session: &mut Session) -> bool {
    matches!(session.req_header().method, Method::GET | Method::HEAD) && session.is_body_empty()
}

/// Whether a reused connection ended before a byte of the response came, or the app reports that it did not process
/// the request.
pub(super) fn was_lost(e: &Error, reused: bool) -> bool {
    if matches!(e.retry, RetryType::Decided(true)) {
        return true;
    }
    let has_ended = matches!(
        e.etype(),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::H2Error
    );
    let nothing_came = e.context.as_ref().is_none_or(|told| match told.as_str().split_once("already read: ") {
        Some((_, bytes)) => bytes.starts_with('0'),
        None => true,
    });
    reused && *e.esource() == ErrorSource::Upstream && has_ended && nothing_came
}

/// Gives the peer's connection a pool key of its own, by `number`, and does not keep it idle in the pool.
pub(super) fn make_new(peer: &mut HttpPeer, number: u64) {
    peer.group_key ^= number | 1 << 63;
    peer.options.idle_timeout = Some(Duration::from_millis(1));
}
