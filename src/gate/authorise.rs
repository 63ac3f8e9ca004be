//! Credential and rules: who passes.

use crate::gate::authenticate::{Proved, identity_of};
use crate::gate::decision::{Audit, Reply, SignedIn, Why};
use crate::gate::destination;
use crate::gate::gate::Gate;
use crate::gate::host::Host;
use crate::gate::navigation::is_navigation;
use crate::gate::path::CanonicalPath;
use crate::gate::refusal::Refusal;
use crate::gate::route::{Access, OnUnauthenticated, Protected, Route};
use crate::gate::sign_in::Beginning;
use crate::login::relying_party::RelyingParty;
use crate::telemetry::reason::Reason;
use crate::telemetry::spans;
use http::{HeaderMap, Method};
use std::sync::Arc;
use tokio::time::Instant;

/// The request to authorise: the one received, or one that another proxy asks about.
pub(super) struct View<'a> {
    pub(super) method: &'a Method,
    pub(super) host: Option<Host>,
    pub(super) path: &'a CanonicalPath<'a>,
    pub(super) headers: &'a HeaderMap,
}

/// The request passes, or is redirected to a login.
pub(super) enum Entry {
    Pass(Option<SignedIn>),
    Login(Box<Reply>),
}

/// What is done with a request without a valid credential.
pub(super) enum WayIn<'a> {
    Pass,
    /// By a login at this relying party, or at one of several.
    SignIn(&'a Arc<RelyingParty>),
    Refuse,
}

impl<'a> WayIn<'a> {
    pub(super) fn of(protected: &'a Protected, method: &Method, headers: &HeaderMap) -> Self {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let login = match protected.on_unauthenticated {
            OnUnauthenticated::Pass => return WayIn::Pass,
            OnUnauthenticated::Reject => None,
            OnUnauthenticated::Auto => protected.sites.first().filter(|_| reads && is_navigation(headers)),
            OnUnauthenticated::Login => protected.sites.first().filter(|_| reads),
        };
        login.map_or(WayIn::Refuse, WayIn::SignIn)
    }
}

impl Gate {
    /// Checks where it would write, credential and rules. `Pass` carries the session if one authenticated the request.
    pub(super) async fn authorise(
        &self,
        route: &Arc<Route>,
        view: &View<'_>,
        audit: &mut Audit,
    ) -> Result<Entry, Refusal> {
        destination::check(&self.routes, route, view.host.as_ref(), view.method, view.headers)?;
        let Access::Protected(protected) = &route.access else {
            return Ok(Entry::Pass(None));
        };
        let begun = Instant::now();
        let proved = self.authenticator.authenticate(protected, view.headers, audit).await;
        let took = begun.elapsed();
        spans::note(|| "credential", took);
        route.metrics.judged(audit.credential, took);
        match &proved {
            Ok(Proved::Nobody(_)) => {}
            Ok(_) => self.authenticator.tarpit.saw_good(begun),
            Err(refusal) => self.authenticator.give_way(protected, refusal, audit.credential).await,
        }
        let (identity, session) = match proved? {
            Proved::Token(identity) => (identity, None),
            Proved::Key(key) if !key.record.is_for(&route.name) => {
                audit.identity = Some(identity_of(&key));
                audit.why = Some(Why { rule: Some("routes".into()), text: "the API key is for other routes".into() });
                return Err(Refusal::of(Reason::Forbidden));
            }
            Proved::Key(key) => (identity_of(&key), None),
            Proved::Session(found) => (found.session.hot.identity.clone(), Some(found)),
            Proved::Nobody(reason) => return self.nobody(route, protected, view, reason, audit),
        };
        let checked = protected.require.check(&identity);
        if checked.is_err() {
            let broken = protected.require.broken(&identity);
            broken.iter().for_each(|rule| route.note_broken(rule));
            audit.why = broken.map(Into::into);
        } else {
            route.note_met();
        }
        audit.identity = Some(identity);
        checked.map_err(Refusal::of)?;
        Ok(Entry::Pass(session))
    }

    /// What to do with a request without a valid credential.
    fn nobody(
        &self,
        route: &Arc<Route>,
        protected: &Protected,
        view: &View<'_>,
        reason: Reason,
        audit: &mut Audit,
    ) -> Result<Entry, Refusal> {
        let site = match WayIn::of(protected, view.method, view.headers) {
            WayIn::Pass => return Ok(Entry::Pass(None)),
            WayIn::Refuse => return Err(Refusal::of(reason)),
            WayIn::SignIn(site) => site,
        };
        let origin = site.origin.for_host(view.host.as_ref().map(|h| h.name()).unwrap_or_default());
        let target =
            self.endpoints.return_urls.checked(&format!("{}{}", view.path.as_str(), view.path.query()), &origin);
        let mut reply = match protected.sites.len() {
            1 => {
                if let Some(cause) = self.endpoints.in_vain(site, view.headers) {
                    return Err(self.endpoints.stop_loop(site, cause, audit));
                }
                let beginning = Beginning { site, origin: &origin, target, hint: None, reason };
                self.endpoints.begin_login(beginning, view.headers, audit)?
            }
            _ => self.endpoints.let_choose(&target, reason, audit),
        };
        if let Some(cors) = &route.cors {
            reply.headers.extend(cors.marks(view.headers));
        }
        Ok(Entry::Login(Box::new(reply)))
    }
}
