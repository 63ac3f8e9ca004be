//! The redirect of a browser to its provider.

use crate::gate::decision::{Audit, Reply, Why};
use crate::gate::endpoints::parameters::redirect;
use crate::gate::gate::Endpoints;
use crate::gate::refusal::{REASON, Refusal, own_headers};
use crate::login::no_state::NoState;
use crate::login::relying_party::RelyingParty;
use crate::login::rounds;
use crate::login::start::{NotYet, start};
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use url::form_urlencoded;

/// A login to start.
pub(super) struct Beginning<'a> {
    pub(super) site: &'a RelyingParty,
    pub(super) origin: &'a str,
    /// The return URL, already checked.
    pub(super) target: String,
    /// The `login_hint` for the provider.
    pub(super) hint: Option<&'a str>,
    pub(super) reason: Reason,
}

impl Endpoints {
    /// The redirect to the page where users choose a provider.
    pub(super) fn let_choose(&self, target: &str, reason: Reason, audit: &mut Audit) -> Reply {
        audit.outcome = Outcome::login;
        audit.reason = Some(reason);
        let target: String = form_urlencoded::byte_serialize(target.as_bytes()).collect();
        let mut reply = redirect(&format!("{}/sign_in?rd={target}", self.path), audit);
        reply.headers.push((REASON, HeaderValue::from_static(reason.word())));
        reply
    }

    /// Why a login would only repeat those that this browser has just completed.
    pub(super) fn in_vain(&self, site: &RelyingParty, headers: &HeaderMap) -> Option<NoState> {
        rounds::in_vain(&site.realm.secrets, &site.cookie, headers, self.sessions.now())
    }

    /// The refusal of a login that would be in vain.
    pub(super) fn stop_loop(&self, site: &RelyingParty, cause: NoState, audit: &mut Audit) -> Refusal {
        let (provider, why) = (site.provider(), cause.words());
        tracing::warn!(
            event = "login_failed", request_id = %audit.request_id, provider, client = %audit.client,
            reason = Reason::StateMismatch.word(), why, "a login loop was stopped"
        );
        site.realm.metrics.logged_in(Reason::StateMismatch.word());
        audit.why = Why::of(why);
        Refusal { cause: Some(cause), ..Refusal::of(Reason::StateMismatch) }
    }

    /// The redirect to the provider.
    pub(super) fn begin_login(
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
}
