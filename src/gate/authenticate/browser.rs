//! People: the session that stands in a cookie, and the way to a login for who has none.

use crate::gate::decision::{Audit, Forward, Reply};
use crate::gate::gate::{Entry, Gate, Proved, View};
use crate::gate::navigation::is_navigation;
use crate::gate::refusal::{REASON, Refusal, own_headers};
use crate::gate::route::{OnUnauthenticated, Protected, Route};
use crate::login::cookie::named_like;
use crate::login::relying_party::RelyingParty;
use crate::login::start::{NotYet, start};
use crate::session::outcome::{Dependency, Outcome as Refreshed};
use crate::session::session::Session;
use crate::session::sessions::Found;
use crate::session::ticket::Ticket;
use crate::store::kv::Away;
use crate::telemetry::metrics::{Credential, Outcome};
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::sync::Arc;

/// A login that is to begin.
pub(in crate::gate) struct Beginning<'a> {
    pub(in crate::gate) site: &'a RelyingParty,
    pub(in crate::gate) origin: &'a str,
    /// Where it leads; checked.
    pub(in crate::gate) target: String,
    /// Whom the provider may suppose it is.
    pub(in crate::gate) hint: Option<&'a str>,
    pub(in crate::gate) reason: Reason,
}

impl Gate {
    /// The session of the first cookie that has one. Two cookies never mix.
    pub(in crate::gate) async fn signed_in(
        &self,
        site: &Arc<RelyingParty>,
        headers: &HeaderMap,
        audit: &mut Audit,
    ) -> Result<Proved, Reason> {
        let (mut reason, mut is_away) = (Reason::LoginRequired, false);
        for value in named_like(headers, &site.cookie.name, Ticket::is_like) {
            match self.sessions.find(&site.realm, value).await {
                Found::Live(session) => {
                    audit.credential = Credential::session;
                    match self.kept_alive(site, session).await? {
                        Some(session) => return Ok(Proved::Session(session)),
                        None => reason = Reason::SessionEnded,
                    }
                }
                Found::Absent => {}
                // What nobody can find now hides no session that this replica knows.
                Found::Away => is_away = true,
            }
        }
        if is_away {
            audit.credential = Credential::session;
            return Err(Reason::StoreUnavailable);
        }
        Ok(Proved::Nobody(reason))
    }

    /// The session if it still counts: within the route's limits, refreshed where its access token is over.
    async fn kept_alive(
        &self,
        site: &Arc<RelyingParty>,
        session: Arc<Session>,
    ) -> Result<Option<Arc<Session>>, Reason> {
        let now = self.sessions.now();
        let session = match session.is_within(site.limits, now) {
            true => session,
            // It may have been used elsewhere since this replica has copied it.
            false => match self.sessions.look_again(&site.realm, &session).await {
                Found::Live(session) if session.is_within(site.limits, now) => session,
                Found::Live(_) | Found::Absent => return Ok(None),
                Found::Away => return Err(Reason::StoreUnavailable),
            },
        };
        self.sessions.touch(&site.realm, &session, site.limits);
        self.sessions.renew_identity_beside(&site.realm, &session);
        if !session.hot.has_refresh || !session.hot.is_due(site.refresh.before_expiry, now) {
            return Ok(Some(session));
        }
        if !session.hot.has_expired(now) {
            self.sessions.refresh_beside(&site.realm, &session, site.refresh);
            return Ok(Some(session));
        }
        match self.sessions.refresh(&site.realm, &session, site.refresh).await {
            Refreshed::Live(session) => Ok(Some(session)),
            Refreshed::Ended => Ok(None),
            Refreshed::Unavailable(Dependency::Provider) => Err(Reason::ProviderUnavailable),
            Refreshed::Unavailable(Dependency::Store) => Err(Reason::StoreUnavailable),
        }
    }

    /// What becomes of who has no credential that counts.
    pub(in crate::gate) fn nobody(
        &self,
        route: &Arc<Route>,
        protected: &Protected,
        view: &View<'_>,
        reason: Reason,
        audit: &mut Audit,
    ) -> Result<Entry, Refusal> {
        let reads = matches!(*view.method, Method::GET | Method::HEAD);
        let login = match protected.on_unauthenticated {
            OnUnauthenticated::Pass => return Ok(Entry::Pass(None)),
            OnUnauthenticated::Reject => None,
            OnUnauthenticated::Auto => protected.site.as_ref().filter(|_| reads && is_navigation(view.headers)),
            OnUnauthenticated::Login => protected.site.as_ref().filter(|_| reads),
        };
        let Some(site) = login else { return Err(Refusal::of(reason)) };
        let origin = site.origin.for_host(view.host.as_ref().map(|h| h.name()).unwrap_or_default());
        let target = self.return_urls.checked(&format!("{}{}", view.path.as_str(), view.path.query()), &origin);
        let beginning = Beginning { site, origin: &origin, target, hint: None, reason };
        let mut reply = self.begin_login(beginning, view.headers, audit)?;
        if let Some(cors) = &route.cors {
            reply.headers.extend(cors.marks(view.headers));
        }
        Ok(Entry::Login(Box::new(reply)))
    }

    /// The redirect to the provider.
    pub(in crate::gate) fn begin_login(
        &self,
        beginning: Beginning<'_>,
        headers: &HeaderMap,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let Beginning { site, origin, target, hint, reason } = beginning;
        let begun = start(site, origin, target, hint, headers, &self.sessions, &self.entropy);
        let started = begun.map_err(|NotYet| Refusal::of(Reason::ProviderUnavailable))?;
        audit.outcome = Outcome::login;
        audit.reason = Some(reason);
        let mut fields = own_headers(&audit.request_id);
        fields.push((REASON, HeaderValue::from_static(reason.word())));
        fields.push((header::LOCATION, started.location));
        fields.extend(started.cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
        Ok(Reply { status: StatusCode::FOUND, headers: fields, body: Bytes::new() })
    }

    /// The session's access token goes to the app, unless it is over.
    pub(in crate::gate) async fn pass_access_token(
        &self,
        protected: &Protected,
        session: &Session,
        forward: &mut Forward,
    ) -> Result<(), Refusal> {
        let Some(site) = &protected.site else { return Ok(()) };
        forward.remove.push(header::AUTHORIZATION);
        if session.hot.has_expired(self.sessions.now()) {
            return Ok(());
        }
        let cold =
            self.sessions.cold(&site.realm, session).await.map_err(|Away| Refusal::of(Reason::StoreUnavailable))?;
        let value = cold.and_then(|cold| HeaderValue::from_str(&format!("Bearer {}", cold.access)).ok());
        forward.set.extend(value.map(|value| (header::AUTHORIZATION, value)));
        Ok(())
    }
}
