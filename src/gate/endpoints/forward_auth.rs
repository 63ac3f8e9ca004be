//! Judging for another proxy: nginx `auth_request` (`/auth`), Traefik ForwardAuth and Caddy forward_auth (`/forward`).
//! The request to judge is told whole, by one of two sets of headers, and these count from a trusted proxy alone. A proxy
//! that tells half of it passes the rest on from its client, and would be answered about a request that nobody sent: that,
//! and everything else that leaves room, is refused.

use crate::caller::address::Caller;
use crate::gate::case::{Asker, Place};
use crate::gate::decision::{Answer, Audit, Reply};
use crate::gate::encode::{encode, encode_list};
use crate::gate::endpoint::Endpoint;
use crate::gate::endpoints::Parameters;
use crate::gate::gate::{Entry, Gate, METHODS, View};
use crate::gate::host::Host;
use crate::gate::identity_headers::Preset;
use crate::gate::path::CanonicalPath;
use crate::gate::protocol::is_served;
use crate::gate::refusal::{REASON, Refusal, own_headers};
use crate::gate::request::RequestHead;
use crate::gate::route::{Access, Route};
use crate::gate::rules::Rules;
use crate::provider::identity::Identity;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::fmt;
use std::sync::Arc;

/// The request that another proxy asks about.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::gate) struct Subject<'a> {
    pub(in crate::gate) method: Method,
    pub(in crate::gate) host: Host,
    pub(in crate::gate) target: &'a str,
}

/// Why a question cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unanswerable {
    /// Who asks is no trusted proxy.
    Stranger,
    Nothing,
    Missing(&'static str),
    Repeated(&'static str),
    Unreadable(&'static str),
    /// `X-Original-URL` is no whole URL.
    NoHost,
    /// Both sets stand there and tell of two requests.
    Contradiction,
}

/// Traefik and Caddy send these.
const FORWARDED: [&str; 3] = ["x-forwarded-method", "x-forwarded-host", "x-forwarded-uri"];
/// ingress-nginx sends these.
const ORIGINAL: [&str; 2] = ["x-original-method", "x-original-url"];
const IDENTITY: [&str; 4] =
    ["x-auth-request-user", "x-auth-request-email", "x-auth-request-preferred-username", "x-auth-request-groups"];

/// Whether a request asks about another one. `X-Forwarded-Host` alone is what every proxy sends.
pub(in crate::gate) fn is_question(headers: &HeaderMap) -> bool {
    let [method, _, uri] = FORWARDED;
    [method, uri].iter().chain(&ORIGINAL).any(|name| headers.contains_key(*name))
}

impl<'a> Subject<'a> {
    pub(in crate::gate) fn of(headers: &'a HeaderMap, from_trusted: bool) -> Result<Subject<'a>, Unanswerable> {
        if !from_trusted {
            return Err(Unanswerable::Stranger);
        }
        let stands = |names: &[&str]| names.iter().any(|name| headers.contains_key(*name));
        match (stands(&FORWARDED), stands(&ORIGINAL)) {
            (false, false) => Err(Unanswerable::Nothing),
            (true, false) => Subject::forwarded(headers),
            (false, true) => Subject::original(headers),
            // Every proxy sends the host alone.
            (true, true) if !stands(&[FORWARDED[0], FORWARDED[2]]) => {
                let (host, told) = (only(headers, FORWARDED[1])?, Subject::original(headers)?);
                if Host::parse(host).is_ok_and(|host| host == told.host) {
                    Ok(told)
                } else {
                    Err(Unanswerable::Contradiction)
                }
            }
            (true, true) => {
                let (one, two) = (Subject::forwarded(headers)?, Subject::original(headers)?);
                if one == two { Ok(one) } else { Err(Unanswerable::Contradiction) }
            }
        }
    }

    fn forwarded(headers: &'a HeaderMap) -> Result<Subject<'a>, Unanswerable> {
        let [method, host, uri] = FORWARDED;
        Ok(Subject {
            method: method_of(headers, method)?,
            host: Host::parse(only(headers, host)?).map_err(|_| Unanswerable::Unreadable(host))?,
            target: only(headers, uri)?,
        })
    }

    fn original(headers: &'a HeaderMap) -> Result<Subject<'a>, Unanswerable> {
        let [method, url] = ORIGINAL;
        let whole = only(headers, url)?;
        let (scheme, rest) = whole.split_once("://").ok_or(Unanswerable::NoHost)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Unanswerable::NoHost);
        }
        let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Ok(Subject {
            method: method_of(headers, method)?,
            host: Host::parse(authority).map_err(|_| Unanswerable::NoHost)?,
            target: if target.is_empty() { "/" } else { target },
        })
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Unanswerable> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Unanswerable::Missing(name)),
        (Some(value), None) => value.to_str().map_err(|_| Unanswerable::Unreadable(name)),
        _ => Err(Unanswerable::Repeated(name)),
    }
}

fn method_of(headers: &HeaderMap, name: &'static str) -> Result<Method, Unanswerable> {
    only(headers, name)?.parse().map_err(|_| Unanswerable::Unreadable(name))
}

impl Gate {
    /// For `/auth`: whoever asks there takes any 2xx for leave to pass the request on.
    pub(in crate::gate) async fn judge_for_auth_request<'g>(
        &'g self,
        query: &Parameters,
        head: &RequestHead<'_>,
        caller: &Caller,
        audit: &mut Audit,
        found: &mut Option<&'g Arc<Route>>,
    ) -> Result<Reply, Refusal> {
        let narrowed = narrowed(query).ok_or(of_question())?;
        let subject = self.subject(head, caller, audit)?;
        let path = CanonicalPath::of(subject.target.as_bytes()).map_err(|_| Refusal::of(Reason::BadRequest))?;
        let route = match self.locate_subject(&subject, &path)? {
            Place::Route(route) => route,
            Place::Nowhere => return Err(Refusal::of(Reason::NoRoute)),
            Place::Own(_) | Place::Https => return Err(of_question()),
        };
        *found = Some(route);
        match self.judge_subject(route, &subject, &path, head, audit).await? {
            Entry::Pass(_) => {
                let is_within = narrowed.is_empty()
                    || audit.identity.as_ref().is_some_and(|identity| narrowed.check(identity).is_ok());
                is_within.then(|| accepted(route, audit)).ok_or(Refusal::of(Reason::Forbidden))
            }
            Entry::Login(_) => Err(Refusal::of(Reason::LoginRequired)),
        }
    }

    /// For `/forward`: the answer, whatever it is, is shown to the client.
    pub(in crate::gate) async fn judge_for_forward_auth<'g>(
        &'g self,
        head: &RequestHead<'_>,
        caller: &Caller,
        audit: &mut Audit,
        found: &mut Option<&'g Arc<Route>>,
    ) -> Result<Reply, Refusal> {
        let subject = self.subject(head, caller, audit)?;
        let path = CanonicalPath::of(subject.target.as_bytes()).map_err(|_| Refusal::of(Reason::BadRequest))?;
        let route = match self.locate_subject(&subject, &path)? {
            Place::Route(route) => route,
            Place::Own(own) if !matches!(own, Endpoint::Auth | Endpoint::Forward) => {
                return self.own_page_for_proxy(own, &subject, &path, head, caller, audit).await;
            }
            Place::Own(_) | Place::Https => return Err(of_question()),
            Place::Nowhere => return Err(Refusal::of(Reason::NoRoute)),
        };
        *found = Some(route);
        // A preflight, too: its 204 would be leave to pass, for whoever asks there takes any 2xx so.
        match self.judge_subject(route, &subject, &path, head, audit).await? {
            Entry::Pass(_) => Ok(accepted(route, audit)),
            Entry::Login(reply) => Ok(*reply),
        }
    }

    /// The request that is asked about; from here on the log and the pages speak of it.
    fn subject<'a>(&self, head: &RequestHead<'a>, caller: &Caller, audit: &mut Audit) -> Result<Subject<'a>, Refusal> {
        let subject = Subject::of(head.headers, caller.through_trusted).map_err(|cause| {
            if self.unanswered.lock().insert(cause) {
                tracing::warn!(peer = %head.peer, host = audit.host.as_ref().map(Host::as_str), %cause, "a question about a request is refused");
            }
            // A path that is no text has no one meaning.
            match cause {
                Unanswerable::Unreadable(name) if name == FORWARDED[2] => Refusal::of(Reason::BadRequest),
                _ => of_question(),
            }
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

    /// A forwarded request for a page of ours is answered as that page.
    async fn own_page_for_proxy(
        &self,
        page: Endpoint,
        subject: &Subject<'_>,
        path: &CanonicalPath<'_>,
        head: &RequestHead<'_>,
        caller: &Caller,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let own = RequestHead { method: &subject.method, target: subject.target.as_bytes(), ..*head };
        match Box::pin(self.own_page(page, &own, path, caller, audit, &mut None)).await? {
            Answer::Reply(reply) => Ok(*reply),
            Answer::Forward(_) => Err(Refusal::of(Reason::BadRequest)),
        }
    }
}

const fn of_question() -> Refusal {
    Refusal::form(StatusCode::FORBIDDEN)
}

/// What the query of `/auth` asks beyond the route's rules: any of each list. `None` where it asks for anything else, or
/// for nobody: a list that was filled in wrongly must not let everyone pass.
fn narrowed(query: &Parameters) -> Option<Rules> {
    let mut rules = Rules::default();
    for (name, value) in query.iter() {
        let list = match name {
            "allowed_groups" => &mut rules.groups,
            "allowed_emails" => &mut rules.emails,
            "allowed_email_domains" => &mut rules.email_domains,
            _ => return None,
        };
        for item in value.split(',').map(str::trim) {
            if item.is_empty() {
                return None;
            }
            list.push(if name == "allowed_groups" { item.to_owned() } else { item.to_ascii_lowercase() });
        }
    }
    Some(rules)
}

/// The 202 of both pages: who it is, absent claims as empty values, so that the other proxy overwrites what a client
/// sent; nobody, too, on a route that lets everyone pass.
fn accepted(route: &Route, audit: &mut Audit) -> Reply {
    audit.outcome = Outcome::own_page;
    let who = audit.identity.as_deref();
    let mut headers = own_headers(&audit.request_id);
    if !matches!(route.access, Access::Public) {
        let preset = route.headers.preset();
        let values = who.map_or([const { None }; 4], |who| preset.values(who));
        let preset = preset.names().into_iter().zip(values).filter(|_| preset != Preset::None);
        let identity = IDENTITY.into_iter().zip(who.map_or([const { None }; 4], identity_values));
        headers.extend(identity.chain(preset).filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value.unwrap_or_default()).ok()?))
        }));
        if let Some(who) = who {
            let set = route.headers.headers(who);
            headers.extend(set.iter().filter(|(name, _)| !preset_has(route, name)).cloned());
        }
    }
    Reply { status: StatusCode::ACCEPTED, headers, body: Bytes::new() }
}

/// A refusal, told in the few statuses that `auth_request` passes on.
pub(in crate::gate) fn for_auth_request(mut refused: Reply) -> Reply {
    refused.status = match refused.status {
        StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE | StatusCode::FORBIDDEN => refused.status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::FOUND => StatusCode::UNAUTHORIZED,
        _ => StatusCode::FORBIDDEN,
    };
    debug_assert!(refused.headers.iter().any(|(name, _)| name == REASON));
    refused
}

impl fmt::Display for Unanswerable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswerable::Stranger => f.write_str("the peer is not in client_ip.trusted_proxies"),
            Unanswerable::Nothing => f.write_str(
                "it has neither X-Forwarded-Method, X-Forwarded-Host and X-Forwarded-Uri nor X-Original-Method and X-Original-URL",
            ),
            Unanswerable::Missing(name) => write!(f, "the header {name} is missing"),
            Unanswerable::Repeated(name) => write!(f, "the header {name} stands there twice"),
            Unanswerable::Unreadable(name) => write!(f, "the header {name} cannot be read"),
            Unanswerable::NoHost => f.write_str("the header x-original-url is not an absolute http or https URL"),
            Unanswerable::Contradiction => f.write_str("the headers X-Forwarded-* and X-Original-* name two requests"),
        }
    }
}

fn preset_has(route: &Route, name: &HeaderName) -> bool {
    route.headers.preset().names().contains(&name.as_str())
}

fn identity_values(who: &Identity) -> [Option<String>; 4] {
    let text = |text: &Option<Box<str>>| text.as_deref().map(encode);
    [Some(encode(&who.user)), text(&who.email), text(&who.username), encode_list(&who.groups)]
}
