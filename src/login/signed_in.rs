//! Whether a browser has a session, for pages that neither use nor refresh it.

use crate::login::cookie::named_like;
use crate::login::relying_party::RelyingParty;
use crate::session::session::Session;
use crate::session::sessions::{Found, Sessions};
use crate::session::ticket::Ticket;
use crate::store::kv::Unavailable;
use http::HeaderMap;
use std::sync::Arc;

/// The first valid session of any of these relying parties; it is neither touched nor refreshed.
pub async fn any_session(
    sites: &[Arc<RelyingParty>],
    headers: &HeaderMap,
    sessions: &Sessions,
) -> Option<Result<(Arc<RelyingParty>, Arc<Session>), Unavailable>> {
    let mut is_unavailable = false;
    for site in sites {
        for value in named_like(headers, &site.cookie.name, Ticket::is_like) {
            match sessions.find(&site.realm, value).await {
                Found::Live(session) if session.is_within(site.limits, sessions.now()) => {
                    return Some(Ok((site.clone(), session)));
                }
                Found::Unavailable => is_unavailable = true,
                Found::Live(_) | Found::Absent => {}
            }
        }
    }
    is_unavailable.then_some(Err(Unavailable))
}
