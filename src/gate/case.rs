//! A request, opened: who sends it and where it leads, before anything that it presents is looked at. The place is found
//! once, whatever comes after.

use crate::caller::address::Caller;
use crate::gate::decision::Audit;
use crate::gate::endpoint::Endpoint;
use crate::gate::endpoints::forward_auth::is_question;
use crate::gate::gate::{Gate, METHODS};
use crate::gate::host::Host;
use crate::gate::path::CanonicalPath;
use crate::gate::protocol::{self, Fault};
use crate::gate::refusal::Refusal;
use crate::gate::request::RequestHead;
use crate::gate::route::Route;
use crate::telemetry::reason::Reason;
use http::{Method, StatusCode};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub struct Case<'g> {
    pub(super) caller: Caller,
    pub(super) audit: Audit,
    pub(super) place: Result<Place<'g>, Refusal>,
}

/// Where a path leads.
pub(super) enum Place<'g> {
    Own(Endpoint),
    Route(&'g Arc<Route>),
    /// The same place over https.
    Https,
    Nowhere,
}

/// Whether `/auth` and `/forward` stand on a host that has no other page of ours.
#[derive(Clone, Copy)]
pub(super) enum Asker {
    /// Anybody: they do not.
    Anyone,
    /// A trusted proxy: they do where nothing else stands.
    Trusted,
    /// A trusted proxy that asks about another request: they do.
    Questioner,
}

/// RFC 8555, 8.3: a certificate authority asks here over plain HTTP.
const ACME_CHALLENGES: &str = "/.well-known/acme-challenge/";

impl Case<'_> {
    /// Whether the body of this request is to be read and handed to the gate.
    pub fn wants_body(&self) -> bool {
        matches!(self.place, Ok(Place::Own(_)))
    }
}

impl Gate {
    pub fn open(&self, head: &RequestHead<'_>) -> Case<'_> {
        let caller = self.client_ip.caller(head.peer, head.headers);
        if !self.warned.load(Ordering::Relaxed) && self.client_ip.is_unheard(&caller, head.headers) {
            self.warn_of_unheard(&caller);
        }
        let mut audit = self.audit(self.request_id(head.headers, &caller), caller.address);
        let place = self.place(head, &caller, &mut audit);
        Case { caller, audit, place }
    }

    /// The same where the listener serves as many requests as it may: whatever it is for, it is refused.
    pub fn open_busy(&self, head: &RequestHead<'_>) -> Case<'_> {
        let caller = self.client_ip.caller(head.peer, head.headers);
        let audit = self.audit(self.request_id(head.headers, &caller), caller.address);
        Case { caller, audit, place: Err(Refusal::busy()) }
    }

    /// Once: behind a proxy that is not listed all clients share one address, and one budget of refusals.
    fn warn_of_unheard(&self, caller: &Caller) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                peer = %caller.address,
                "says who its client is and is not in client_ip.trusted_proxies: it is taken for the client itself"
            );
        }
    }

    fn place(&self, head: &RequestHead<'_>, caller: &Caller, audit: &mut Audit) -> Result<Place<'_>, Refusal> {
        protocol::check(head).map_err(|fault| match fault {
            Fault::Method => Refusal::method_not_allowed(METHODS),
            Fault::TooLarge => Refusal::form(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Fault::Framing => Refusal::of(Reason::BadRequest),
        })?;
        let path = CanonicalPath::of(head.target).map_err(|_| Refusal::of(Reason::BadRequest))?;
        audit.host = Host::of(head, path.authority()).map_err(|_| Refusal::of(Reason::BadRequest))?;
        if head.redirect_to_https && !path.as_str().starts_with(ACME_CHALLENGES) {
            return Ok(Place::Https);
        }
        let asker = match caller.through_trusted {
            false => Asker::Anyone,
            true if is_question(head.headers) => Asker::Questioner,
            true => Asker::Trusted,
        };
        match self.locate(audit.host.as_ref(), head.method, &path, asker)? {
            Place::Route(route) if !route.stays_inside(&path) => Err(Refusal::of(Reason::BadRequest)),
            place => Ok(place),
        }
    }

    /// Where every reading of the path leads; where they part, nobody may go.
    pub(super) fn locate(
        &self,
        host: Option<&Host>,
        method: &Method,
        path: &CanonicalPath<'_>,
        asker: Asker,
    ) -> Result<Place<'_>, Refusal> {
        let has_own_pages = self.table.has_own_pages(host);
        let place = |reading: &[u8]| {
            let own = Endpoint::at(reading, &self.auth_path);
            let for_proxies = matches!(own, Some(Endpoint::Auth | Endpoint::Forward));
            match (own, self.table.find(host, method, reading), asker) {
                (Some(page), _, _) if has_own_pages => Place::Own(page),
                (Some(page), _, Asker::Questioner) if for_proxies => Place::Own(page),
                (_, Some(route), _) => Place::Route(route),
                (Some(page), None, Asker::Trusted) if for_proxies => Place::Own(page),
                _ => Place::Nowhere,
            }
        };
        let first = place(path.as_str().as_bytes());
        let part = |_| Refusal::of(Reason::BadRequest);
        if path.is_plain() || path.every_reading(|reading| place(reading).is_same(&first)).map_err(part)? {
            Ok(first)
        } else {
            Err(Refusal::of(Reason::BadRequest))
        }
    }
}

impl Place<'_> {
    fn is_same(&self, other: &Place<'_>) -> bool {
        match (self, other) {
            (Place::Own(one), Place::Own(two)) => one == two,
            (Place::Route(one), Place::Route(two)) => Arc::ptr_eq(one, two),
            (Place::Nowhere, Place::Nowhere) => true,
            _ => false,
        }
    }
}
