//! Decides for another proxy: nginx `auth_request` (`/auth`), Traefik ForwardAuth and Caddy forward_auth (`/forward`).
//! One of two sets of headers must describe the request in full, and counts from a trusted proxy alone. A proxy that
//! sets only some of them passes on the rest from its client, and the decision would be about a request that nobody
//! sent. Incomplete or ambiguous descriptions are refused.

use crate::gate::authorise::{Entry, View};
use crate::gate::case::{Asker, Case, Place};
use crate::gate::decision::{Answer, Audit, Reply, SignedIn};
use crate::gate::encode::encode;
use crate::gate::endpoint::Endpoint;
use crate::gate::endpoints::parameters::Parameters;
use crate::gate::gate::{Gate, METHODS};
use crate::gate::host::Host;
use crate::gate::identity_headers::Preset;
use crate::gate::passed_tokens::{PassToken, Tokens};
use crate::gate::path::CanonicalPath;
use crate::gate::protocol::is_served;
use crate::gate::refusal::{REASON, Refusal, own_headers};
use crate::gate::request::RequestHead;
use crate::gate::route::{Access, Route};
use crate::gate::rules::Rules;
use crate::gate::subject::Subject;
use crate::provider::identity::Identity;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;

const IDENTITY: [&str; 4] =
    ["x-auth-request-user", "x-auth-request-email", "x-auth-request-preferred-username", "x-auth-request-groups"];

const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-auth-request-access-token");

impl Gate {
    /// For `/auth`: the asking proxy forwards the request on any 2xx.
    pub(in crate::gate) async fn judge_for_auth_request<'g>(
        &'g self,
        query: &Parameters,
        head: &RequestHead<'_>,
        case: &mut Case<'g>,
    ) -> Result<Reply, Refusal> {
        let subject = self.subject(head, case)?;
        let narrowed = narrowed(query).ok_or(of_question())?;
        let path = CanonicalPath::of(subject.target.as_bytes()).map_err(|_| Refusal::of(Reason::BadRequest))?;
        let route = match self.locate_subject(&subject, &path)? {
            Place::Route(route) => route,
            Place::Nowhere => return Err(Refusal::of(Reason::NoRoute)),
            Place::Own(_) | Place::Https => return Err(of_question()),
        };
        case.route = Some(route);
        // Of a login loop the asking proxy learns by the status of a missing login, and its sign-in shows the page.
        let stopped = |refusal: Refusal| match refusal.reason {
            Reason::StateMismatch => Refusal { status: StatusCode::UNAUTHORIZED, ..refusal },
            _ => refusal,
        };
        match self.judge_subject(route, &subject, &path, head, &mut case.audit).await.map_err(stopped)? {
            Entry::Pass(session) => {
                let is_within = narrowed.is_empty()
                    || case.audit.identity.as_ref().is_some_and(|identity| narrowed.check(identity).is_ok());
                if !is_within {
                    let broken = case.audit.identity.as_ref().and_then(|identity| narrowed.broken(identity));
                    case.audit.why = broken.map(Into::into);
                    return Err(Refusal::of(Reason::Forbidden));
                }
                self.accepted(route, session.as_ref(), head, &mut case.audit).await
            }
            Entry::Login(_) => Err(Refusal::of(Reason::LoginRequired)),
        }
    }

    /// For `/forward`: the asking proxy returns any reply but a 2xx to the client.
    pub(in crate::gate) async fn judge_for_forward_auth<'g>(
        &'g self,
        head: &RequestHead<'_>,
        case: &mut Case<'g>,
    ) -> Result<Reply, Refusal> {
        let subject = self.subject(head, case)?;
        let path = CanonicalPath::of(subject.target.as_bytes()).map_err(|_| Refusal::of(Reason::BadRequest))?;
        let route = match self.locate_subject(&subject, &path)? {
            Place::Route(route) => route,
            Place::Own(own) if !matches!(own, Endpoint::Auth | Endpoint::Forward) => {
                return self.own_page_for_proxy(own, &subject, &path, head, case).await;
            }
            Place::Own(_) | Place::Https => return Err(of_question()),
            Place::Nowhere => return Err(Refusal::of(Reason::NoRoute)),
        };
        case.route = Some(route);
        // Preflights are judged, too: the asking proxy would forward the request on their 204.
        match self.judge_subject(route, &subject, &path, head, &mut case.audit).await? {
            Entry::Pass(session) => self.accepted(route, session.as_ref(), head, &mut case.audit).await,
            Entry::Login(reply) => Ok(*reply),
        }
    }

    /// The request that is asked about; from here on log and pages describe it.
    fn subject<'a>(&self, head: &RequestHead<'a>, case: &mut Case<'_>) -> Result<Subject<'a>, Refusal> {
        let audit = &mut case.audit;
        let subject = Subject::of(head.headers, case.caller.through_trusted).map_err(|cause| {
            if self.warned.questions.lock().insert(cause) {
                tracing::warn!(peer = %head.peer, host = audit.host.as_ref().map(Host::as_str), %cause, "a forward-auth request is refused");
            }
            // A path that is not text is ambiguous.
            if cause.is_of_target() { Refusal::of(Reason::BadRequest) } else { of_question() }
        })?;
        audit.host = Some(subject.host.clone());
        audit.asked = Some((subject.method.clone(), subject.target.to_owned()));
        Ok(subject)
    }

    fn locate_subject(&self, subject: &Subject<'_>, path: &CanonicalPath<'_>) -> Result<Place<'_>, Refusal> {
        if path.authority().is_some() {
            return Err(of_question());
        }
        if !is_served(&subject.method) {
            return Err(Refusal::method_not_allowed(METHODS));
        }
        self.locate(Some(&subject.host), &subject.method, path, Asker::Anyone)
    }

    async fn judge_subject(
        &self,
        route: &Arc<Route>,
        subject: &Subject<'_>,
        path: &CanonicalPath<'_>,
        head: &RequestHead<'_>,
        audit: &mut Audit,
    ) -> Result<Entry, Refusal> {
        audit.route = route.metrics.clone();
        let view = View { method: &subject.method, host: Some(subject.host.clone()), path, headers: head.headers };
        self.authorise(route, &view, audit).await
    }

    /// A forwarded request for one of the gateway's endpoints is answered by it.
    async fn own_page_for_proxy<'g>(
        &'g self,
        page: Endpoint,
        subject: &Subject<'_>,
        path: &CanonicalPath<'_>,
        head: &RequestHead<'_>,
        case: &mut Case<'g>,
    ) -> Result<Reply, Refusal> {
        let own = RequestHead { method: &subject.method, target: subject.target.as_bytes(), ..*head };
        match Box::pin(self.own_page(page, &own, path, case)).await? {
            Answer::Reply(mut reply) => {
                // The asking proxy shows an answer only with another status than 2xx; with that it would ask the app,
                // for which nobody was authenticated.
                if reply.status.is_success() {
                    reply.status = StatusCode::UNAUTHORIZED;
                }
                Ok(*reply)
            }
            Answer::Forward(_) => Err(Refusal::of(Reason::BadRequest)),
        }
    }

    /// The 202 of both endpoints, with identity headers and tokens. What is absent, and all of it without an identity on a
    /// protected route, are empty values, so that the asking proxy overwrites what a client sent.
    async fn accepted(
        &self,
        route: &Route,
        session: Option<&SignedIn>,
        head: &RequestHead<'_>,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let tokens = self.authenticator.tokens(route, session, audit.credential, head.headers).await?;
        let outbound = self.outbound(route, session, head.headers, audit).await?;
        audit.outcome = Outcome::own_page;
        let mut headers = own_headers(&audit.request_id);
        if !matches!(route.access, Access::Public) {
            headers.extend(told(route, audit.identity.as_deref(), &tokens));
        }
        // What is absent is empty, so that the asking proxy passes none of the client's.
        let is_absent = |name: &&HeaderName| !outbound.iter().any(|(known, _)| known == *name);
        let absent = route.outbound_names().filter(is_absent);
        headers.extend(absent.map(|name| (name.clone(), HeaderValue::from_static(""))));
        headers.extend(outbound);
        Ok(Reply { status: StatusCode::ACCEPTED, headers, body: Bytes::new() })
    }
}

const fn of_question() -> Refusal {
    Refusal::form(StatusCode::FORBIDDEN)
}

/// The additional rules in the query of `/auth`: any of each list. `None` for an unknown parameter or an empty item: a
/// list that was filled in wrongly must not let everyone pass, nor one that is not read to its end.
pub(in crate::gate) fn narrowed(query: &Parameters) -> Option<Rules> {
    if query.is_cut {
        return None;
    }
    let mut rules = Rules::default();
    for (name, value) in query.iter() {
        for item in value.split(',').map(|item| item.trim().to_string()) {
            match name {
                _ if item.is_empty() => return None,
                "allowed_groups" => rules.groups.push(item),
                "allowed_emails" => rules.emails.push(item.into()),
                "allowed_email_domains" => rules.email_domains.push(item.try_into().ok()?),
                _ => return None,
            }
        }
    }
    Some(rules)
}

fn told(route: &Route, who: Option<&Identity>, tokens: &Tokens) -> Vec<(HeaderName, HeaderValue)> {
    let own = &route.headers;
    let preset = own.preset();
    let values = who.map_or([const { None }; 4], |who| own.preset_values(who));
    // What `headers.set` sets stands in the place of the preset's.
    let is_set = |name: &str| own.names().any(|set| set == name);
    let preset = preset.names().into_iter().zip(values).filter(|(name, _)| preset != Preset::None && !is_set(name));
    let identity =
        IDENTITY.into_iter().zip(who.map_or([const { None }; 4], |who| identity_values(who, own.groups(who))));
    let mut headers: Vec<_> = identity
        .chain(preset)
        .filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value.unwrap_or_default()).ok()?))
        })
        .collect();
    let with_tokens = who.map(|who| own.with_tokens(who, tokens)).unwrap_or_default();
    let is_absent = |name: &&HeaderName| !with_tokens.iter().any(|(known, _)| known == *name);
    headers.extend(own.names_with_tokens().filter(is_absent).map(|name| (name.clone(), HeaderValue::from_static(""))));
    headers.extend(with_tokens);
    if own.passes_access_token() && !headers.iter().any(|(name, _)| *name == ACCESS_TOKEN) {
        let token = tokens.access.as_ref().and_then(|token| PassToken::In(ACCESS_TOKEN).value(token));
        headers.push((ACCESS_TOKEN, token.unwrap_or(HeaderValue::from_static(""))));
    }
    if let Some(who) = who {
        let identity = own.headers(who);
        route.note_size(&identity);
        let is_told = |name: &HeaderName| preset_has(route, name) && !is_set(name.as_str());
        headers.extend(identity.iter().filter(|(name, _)| !is_told(name)).cloned());
    }
    headers
}

/// Maps a refusal's status to the few of `/auth`: 401, 403 and 503.
pub(in crate::gate) fn for_auth_request(mut refused: Reply) -> Reply {
    refused.status = status_for_auth_request(refused.status);
    debug_assert!(refused.headers.iter().any(|(name, _)| name == REASON));
    refused
}

pub(in crate::gate) fn status_for_auth_request(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE | StatusCode::FORBIDDEN => status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::FOUND => StatusCode::UNAUTHORIZED,
        status if status.is_server_error() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }
}

fn preset_has(route: &Route, name: &HeaderName) -> bool {
    route.headers.preset().names().contains(&name.as_str())
}

fn identity_values(who: &Identity, groups: Option<String>) -> [Option<String>; 4] {
    let text = |text: &Option<Box<str>>| text.as_deref().map(encode);
    [Some(encode(&who.user)), text(&who.email), text(&who.username), groups]
}
