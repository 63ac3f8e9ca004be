//! Refusals of a gate: what is recorded of them, and the way on that a page offers.

use crate::gate::decision::{Audit, Reply};
use crate::gate::gate::{Endpoints, Gate};
use crate::gate::navigation::reads_pages;
use crate::gate::refusal::{Addressee, Refusal, SIGN_IN};
use crate::gate::request::RequestHead;
use crate::gate::route::Route;
use crate::login::relying_party::RelyingParty;
use crate::telemetry::metrics::Credential;
use crate::telemetry::reason::Reason;
use http::{Method, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use url::form_urlencoded;

impl Gate {
    /// A refusal after the decision to forward: the upstream failed.
    pub fn refuse_late(
        &self,
        reason: Reason,
        head: &RequestHead<'_>,
        audit: &mut Audit,
        route: Option<&Arc<Route>>,
    ) -> Reply {
        self.refuse(Refusal::of(reason), head, audit, route)
    }

    /// A refusal of a head that could not be parsed: only the peer is known, so the reply is problem JSON.
    pub fn refuse_unreadable(&self, too_large: bool, peer: IpAddr) -> (Reply, Audit) {
        let refusal = if too_large {
            Refusal::form(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        } else {
            Refusal::of(Reason::BadRequest)
        };
        self.unrouted.ended(refusal.outcome(), Some(refusal.reason), Duration::ZERO);
        let mut audit = self.audit(self.new_request_id(), peer.to_canonical());
        audit.reason = Some(refusal.reason);
        let to = Addressee {
            request_id: &audit.request_id,
            wants_page: false,
            realm: None,
            metadata: None,
            links: Vec::new(),
            user: None,
        };
        (refusal.reply(&self.endpoints.html, &to), audit)
    }

    pub(super) fn refuse(
        &self,
        refusal: Refusal,
        head: &RequestHead<'_>,
        audit: &mut Audit,
        route: Option<&Arc<Route>>,
    ) -> Reply {
        audit.outcome = refusal.outcome();
        audit.reason = Some(refusal.reason);
        let realm = Some(&**audit.route.name()).filter(|name| *name != "-");
        let wants_page = reads_pages(head.headers);
        let links = if wants_page { self.ways_on(&refusal, head, audit) } else { Vec::new() };
        let metadata = route.and_then(|route| route.resource.as_ref()).map(|resource| resource.metadata.as_str());
        let user = audit.identity.as_ref().map(|identity| identity.email.as_deref().unwrap_or(&identity.user));
        let to = Addressee { request_id: &audit.request_id, wants_page, realm, metadata, links, user };
        let mut reply = refusal.reply(&self.endpoints.html, &to);
        if let Some(cors) = route.and_then(|route| route.cors.as_ref()) {
            reply.headers.extend(cors.marks(head.headers));
        }
        reply
    }

    /// The links on a refusal's HTML page.
    fn ways_on(&self, refusal: &Refusal, head: &RequestHead<'_>, audit: &Audit) -> Vec<(&'static str, String)> {
        let asked = audit.asked.as_ref().map(|(method, target)| (method, target.as_bytes()));
        let (method, target) = asked.unwrap_or((head.method, head.target));
        let sign_in = || self.endpoints.start(&self.routes.sites(audit.host.as_ref()));
        let to = |target: &[u8]| {
            let target: String = form_urlencoded::byte_serialize(target).collect();
            sign_in().map(|start| (SIGN_IN, format!("{start}?rd={target}")))
        };
        let keeping_target = || to(target);
        let as_meant = || audit.meant_for.as_ref().and_then(|target| to(target.as_bytes()));
        let again = || {
            let target = std::str::from_utf8(target).ok().filter(|target| is_reload(method, target))?;
            (&**audit.route.name() != "-").then(|| ("Try again", target.to_owned()))
        };
        let ways = match refusal.reason {
            Reason::LoginFailed | Reason::StateMismatch => {
                [as_meant().or_else(|| sign_in().map(|start| (SIGN_IN, start))), None]
            }
            Reason::ProviderUnavailable | Reason::StoreUnavailable if audit.meant_for.is_some() => [as_meant(), None],
            Reason::LoginRequired | Reason::SessionEnded => [keeping_target().map(|(_, to)| ("Sign in", to)), None],
            // The session is kept; a user who does not want to wait can start another.
            Reason::ProviderUnavailable if audit.credential == Credential::session => [again(), keeping_target()],
            Reason::ProviderUnavailable
            | Reason::StoreUnavailable
            | Reason::UpstreamUnreachable
            | Reason::UpstreamTimeout
            | Reason::RateLimited => [again(), None],
            Reason::Forbidden if audit.credential == Credential::session => {
                [Some(("Sign out", format!("{}/sign_out", self.endpoints.path))), None]
            }
            _ => [None, None],
        };
        ways.into_iter().flatten().collect()
    }
}

/// Whether a link can repeat the request: on this host, and without changing anything.
fn is_reload(method: &Method, target: &str) -> bool {
    let leaves = target.get(1..2).is_some_and(|second| ["/", "\\"].contains(&second));
    method == Method::GET && target.starts_with('/') && !leaves
}

impl Endpoints {
    /// The path that starts a login; where there are several relying parties, the target decides or users do.
    pub(super) fn start(&self, sites: &[Arc<RelyingParty>]) -> Option<String> {
        let page = if sites.len() == 1 { "start" } else { "sign_in" };
        (!sites.is_empty()).then(|| format!("{}/{page}", self.path))
    }
}
