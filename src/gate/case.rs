//! An opened request: its client and the route or endpoint it is for, before its credentials are looked at. The lookup
//! is done once per request.

use crate::caller::address::Caller;
use crate::gate::decision::Audit;
use crate::gate::endpoint::Endpoint;
use crate::gate::gate::{Gate, METHODS};
use crate::gate::host::Host;
use crate::gate::path::CanonicalPath;
use crate::gate::protocol::{self, Fault};
use crate::gate::refusal::Refusal;
use crate::gate::request::RequestHead;
use crate::gate::route::Route;
use crate::gate::subject::is_question;
use crate::telemetry::reason::Reason;
use http::{Method, StatusCode};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// It does not hold the head: reading a body needs the connection, which the head borrows.
pub struct Case<'g> {
    pub(super) caller: Caller,
    pub(super) audit: Audit,
    pub(super) place: Result<Place<'g>, Refusal>,
    /// The route that decides, once it is known.
    pub(super) route: Option<&'g Arc<Route>>,
}

/// What serves a path.
pub(super) enum Place<'g> {
    Own(Endpoint),
    Route(&'g Arc<Route>),
    /// A redirect to the same URL over https.
    Https,
    Nowhere,
}

/// Whether `/auth` and `/forward` are served on a host that has no other endpoint of the gateway.
#[derive(Clone, Copy)]
pub(super) enum Asker {
    /// Any client: they are not.
    Anyone,
    /// A trusted proxy: they are if no route matches.
    Trusted,
    /// A trusted proxy that asks about another request: they are.
    Questioner,
}

/// RFC 8555, 8.3: a certificate authority fetches these over plain HTTP.
const ACME_CHALLENGES: &str = "/.well-known/acme-challenge/";

fn is_challenge(path: &CanonicalPath<'_>) -> bool {
    let token = path.as_str().strip_prefix(ACME_CHALLENGES);
    path.is_plain() && token.is_some_and(|token| !token.is_empty() && !token.contains('/'))
}

impl Case<'_> {
    /// Whether the body of this request is to be read and handed to the gate.
    pub fn wants_body(&self) -> bool {
        matches!(self.place, Ok(Place::Own(_)))
    }

    /// Whether the peer is a trusted proxy.
    pub fn is_through_trusted(&self) -> bool {
        self.caller.through_trusted
    }
}

impl Gate {
    pub fn open(&self, head: &RequestHead<'_>) -> Case<'_> {
        let caller = self.client_ip.caller(head.peer, head.headers);
        if !self.warned.peer.load(Ordering::Relaxed) && self.client_ip.is_unheard(&caller, head.headers) {
            self.warn_of_unheard(&caller);
        }
        let mut audit = self.audit(self.request_id(head.headers, &caller), caller.address);
        let place = self.place(head, &caller, &mut audit);
        Case { caller, audit, place, route: None }
    }

    /// As `open`, when the listener is at its limit of concurrent requests: every request is refused.
    pub fn open_busy(&self, head: &RequestHead<'_>) -> Case<'_> {
        let caller = self.client_ip.caller(head.peer, head.headers);
        let audit = self.audit(self.request_id(head.headers, &caller), caller.address);
        Case { caller, audit, place: Err(Refusal::busy()), route: None }
    }

    /// Warns once: behind a proxy that is not trusted, all clients share one address and so one rate limit.
    fn warn_of_unheard(&self, caller: &Caller) {
        if !self.warned.peer.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                peer = %caller.address,
                "a peer that is not in client_ip.trusted_proxies sends forwarding headers; its own address counts as the client's"
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
        if head.redirect_to_https && !is_challenge(&path) {
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

    /// The place that every reading of the path leads to; refused if they differ.
    pub(super) fn locate(
        &self,
        host: Option<&Host>,
        method: &Method,
        path: &CanonicalPath<'_>,
        asker: Asker,
    ) -> Result<Place<'_>, Refusal> {
        let place = |reading: &[u8]| {
            let own = Endpoint::at(reading, &self.endpoints.path).filter(|own| match own {
                Endpoint::ResourceMetadata(path) => self.routes.resource(host, path).is_some(),
                Endpoint::Jwks => self.routes.signs(host),
                _ => true,
            });
            let for_proxies = matches!(own, Some(Endpoint::Auth | Endpoint::Forward));
            match (own, self.routes.find(host, method, reading), asker) {
                (Some(page), _, _) if page.is_public() || self.routes.has_own_pages(host) => Place::Own(page),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_one_file_of_its_folder() {
        for (path, expected) in [
            ("/.well-known/acme-challenge/a-Token_1", true),
            ("/.well-known/acme-challenge/", false),
            ("/.well-known/acme-challenge/a/b", false),
            ("/.well-known/acme-challenge/..", false),
            ("/.well-known/acme-challenge/../../secret", false),
            ("/.well-known/acme-challenge/%2e%2e", false),
            ("/x", false),
        ] {
            assert_eq!(is_challenge(&CanonicalPath::of(path.as_bytes()).unwrap()), expected, "{path}");
        }
    }
}
