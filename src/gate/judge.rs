//! The decision itself, in the documented order: the gateway's own endpoints, the route, a preflight, the credential, the rules,
//! and forwarding to the app. Canonicalising the request and finding its place came before, in `case`.

use crate::gate::authorise::{Entry, View};
use crate::gate::case::{Case, Place};
use crate::gate::cors::{Cors, is_preflight};
use crate::gate::decision::{Answer, Audit, Decision, Reply};
use crate::gate::gate::Gate;
use crate::gate::host::Host;
use crate::gate::path::CanonicalPath;
use crate::gate::refusal::{Refusal, own_headers};
use crate::gate::request::RequestHead;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

impl Gate {
    /// Decides a request that was [opened](Gate::open); `head` is the same request, with the body for an endpoint.
    pub async fn judge(&self, mut case: Case<'_>, head: &RequestHead<'_>) -> Decision {
        let answer = match self.decide(&mut case, head).await {
            Ok(answer) => answer,
            Err(refusal) => Answer::Reply(Box::new(self.refuse(refusal, head, &mut case.audit, case.route))),
        };
        Decision { answer, audit: case.audit }
    }

    async fn decide<'g>(&'g self, case: &mut Case<'g>, head: &RequestHead<'_>) -> Result<Answer, Refusal> {
        let place = std::mem::replace(&mut case.place, Ok(Place::Nowhere))?;
        let path = CanonicalPath::of(head.target).map_err(|_| Refusal::of(Reason::BadRequest))?;
        let route = match place {
            Place::Own(page) => return Box::pin(self.own_page(page, head, &path, case)).await,
            Place::Nowhere => return Err(Refusal::of(Reason::NoRoute)),
            Place::Https => return self.redirect_to_https(head, &path, &mut case.audit),
            Place::Route(route) => route,
        };
        case.route = Some(route);
        let audit = &mut case.audit;
        audit.route = route.metrics.clone();
        let view = View { method: head.method, host: audit.host.clone(), path: &path, headers: head.headers };
        if let Some(cors) = &route.cors
            && is_preflight(head.method, head.headers)
        {
            return Ok(Answer::Reply(Box::new(preflight(cors, head.headers, audit))));
        }
        let passed = match self.authorise(route, &view, audit).await? {
            Entry::Pass(passed) => passed,
            Entry::Login(reply) => return Ok(Answer::Reply(reply)),
        };
        audit.outcome = Outcome::forwarded;
        let by_method = self.routes.chooses_by_method(audit.host.as_ref(), path.as_str().as_bytes());
        let mut forward = self.rewrite.forward(route, head, &path, &case.caller, audit, by_method);
        if route.gives_credentials() {
            forward.set.extend(Box::pin(self.credentials(route, passed.as_ref(), head.headers, audit)).await?);
        }
        forward.session = passed;
        Ok(Answer::Forward(Box::new(forward)))
    }

    /// 308 to the same URL over https, with the https route's port if it is not 443.
    fn redirect_to_https(
        &self,
        head: &RequestHead<'_>,
        path: &CanonicalPath<'_>,
        audit: &mut Audit,
    ) -> Result<Answer, Refusal> {
        let host = audit.host.as_ref().ok_or(Refusal::of(Reason::BadRequest))?;
        let https = Host::parse(host.name())
            .ok()
            .and_then(|name| self.routes.https_port(&name, head.method, path.as_str().as_bytes()));
        let port = https.filter(|port| *port != 443).map(|port| format!(":{port}")).unwrap_or_default();
        let location = format!("https://{}{port}{}{}", host.name(), path.as_str(), path.query());
        let location = HeaderValue::from_str(&location).map_err(|_| Refusal::of(Reason::BadRequest))?;
        audit.outcome = Outcome::own_page;
        let mut headers = own_headers(&audit.request_id);
        headers.push((header::LOCATION, location));
        Ok(Answer::Reply(Box::new(Reply { status: StatusCode::PERMANENT_REDIRECT, headers, body: Bytes::new() })))
    }
}

fn preflight(cors: &Cors, asked: &HeaderMap, audit: &mut Audit) -> Reply {
    audit.outcome = Outcome::own_page;
    let mut headers = own_headers(&audit.request_id);
    headers.extend(cors.preflight(asked));
    Reply { status: StatusCode::NO_CONTENT, headers, body: Bytes::new() }
}

#[cfg(test)]
mod tests;
