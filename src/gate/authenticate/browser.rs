//! Browser users: the session in a cookie.

use crate::gate::authenticate::{Authenticator, Proved};
use crate::gate::decision::{Audit, SignedIn};
use crate::login::cookie::named_like;
use crate::login::relying_party::RelyingParty;
use crate::session::outcome::{Dependency, Outcome as Refreshed};
use crate::session::session::Session;
use crate::session::sessions::Found;
use crate::session::ticket::Ticket;
use crate::telemetry::metrics::Credential;
use crate::telemetry::reason::Reason;
use crate::telemetry::requester::Requester;
use http::HeaderMap;
use std::sync::Arc;

impl Authenticator {
    /// The session of the first cookie with a valid one. Two cookies are never combined.
    pub(super) async fn signed_in(
        &self,
        sites: &[Arc<RelyingParty>],
        headers: &HeaderMap,
        audit: &mut Audit,
    ) -> Result<Proved, Reason> {
        let (mut reason, mut unavailable) = (Reason::LoginRequired, None);
        for site in sites {
            for value in named_like(headers, &site.cookie.name, Ticket::is_like) {
                match self.sessions.find(&site.realm, value).await {
                    Found::Live(session) => {
                        audit.credential = Credential::session;
                        match self.kept_alive(site, session, audit).await {
                            Ok(Some(session)) => {
                                return Ok(Proved::Session(SignedIn { site: site.clone(), session }));
                            }
                            Ok(None) => reason = Reason::SessionEnded,
                            // Another provider's session may be good.
                            Err(cause) => unavailable = unavailable.or(Some(cause)),
                        }
                    }
                    Found::Absent => {}
                    // The session of a later cookie may be in this replica's cache.
                    Found::Unavailable => unavailable = unavailable.or(Some(Reason::StoreUnavailable)),
                }
            }
        }
        if let Some(cause) = unavailable {
            audit.credential = Credential::session;
            return Err(cause);
        }
        Ok(Proved::Nobody(reason))
    }

    /// The session if still valid: within the route's limits, refreshed if its access token has expired.
    async fn kept_alive(
        &self,
        site: &Arc<RelyingParty>,
        session: Arc<Session>,
        audit: &Audit,
    ) -> Result<Option<Arc<Session>>, Reason> {
        let now = self.sessions.now();
        let by = || Requester { client: audit.client, request_id: audit.request_id.clone() };
        let session = match session.is_within(site.limits, now) {
            true => session,
            // Another replica may have used it since this one cached it.
            false => match self.sessions.look_again(&site.realm, &session).await {
                Found::Live(session) if session.is_within(site.limits, now) => session,
                Found::Live(session) => {
                    self.sessions.tell_expired(&site.realm, &session, site.limits, &by());
                    return Ok(None);
                }
                Found::Absent => return Ok(None),
                Found::Unavailable => return Err(Reason::StoreUnavailable),
            },
        };
        self.sessions.touch(&site.realm, &session, site.limits);
        self.sessions.renew_identity_beside(&site.realm, &session, by);
        if !session.hot.has_refresh || !session.hot.is_due(site.refresh.before_expiry, now) {
            return Ok(Some(session));
        }
        if !session.hot.has_expired(now) {
            self.sessions.refresh_beside(&site.realm, &session, site.refresh, by());
            return Ok(Some(session));
        }
        match self.sessions.refresh(&site.realm, &session, site.refresh, by()).await {
            Refreshed::Live(session) => Ok(Some(session)),
            Refreshed::Ended => Ok(None),
            Refreshed::Unavailable(Dependency::Provider) => Err(Reason::ProviderUnavailable),
            Refreshed::Unavailable(Dependency::Store) => Err(Reason::StoreUnavailable),
        }
    }
}
