//! How one request would be judged, without asking anybody: for the operator's `explain`.

mod own_page;

use crate::gate::app_credentials::describe;
use crate::gate::authenticate::{OF_KEYS, Presented, presented, presented_key};
use crate::gate::authorise::WayIn;
use crate::gate::case::Place;
use crate::gate::cors::is_preflight;
use crate::gate::decision::Audit;
use crate::gate::destination;
use crate::gate::gate::Gate;
use crate::gate::path::CanonicalPath;
use crate::gate::refusal::Refusal;
use crate::gate::request::RequestHead;
use crate::gate::route::{Access, Protected, Route};
use crate::gate::rules::Judged;
use crate::provider::claims::Claims;
use crate::provider::identity::Identity;
use crate::provider::settings::Settings;
use crate::telemetry::metrics::{Credential, Outcome};
use crate::telemetry::reason::Reason;
use http::{HeaderName, StatusCode, header};
use serde_json::Value;
use std::sync::Arc;

/// Routes that are named beside the one that matches.
const MOST_PASSED_OVER: usize = 10;

/// What an operator is told of one request.
pub struct Explanation {
    /// The readings of the path, where they differ; the path itself comes first.
    pub readings: Vec<String>,
    pub route: Option<Arc<Route>>,
    /// The routes of the host that were looked at before it, and do not match.
    pub passed_over: Vec<String>,
    /// What is asked for, in words.
    pub access: String,
    pub credential: String,
    pub rules: Vec<Judged>,
    pub status: StatusCode,
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    pub headers: Vec<(String, String)>,
    identity: Option<Arc<Identity>>,
}

impl Gate {
    pub fn explain(&self, head: &RequestHead<'_>, who: Option<&Claims>) -> Explanation {
        let mut case = self.open(head);
        let mut told = Explanation {
            readings: readings(head.target),
            route: None,
            passed_over: Vec::new(),
            access: String::new(),
            credential: Credential::none.word().into(),
            rules: Vec::new(),
            status: StatusCode::OK,
            outcome: Outcome::own_page,
            reason: None,
            headers: Vec::new(),
            identity: None,
        };
        let route = match std::mem::replace(&mut case.place, Ok(Place::Nowhere)) {
            Err(refusal) => return told.refused(&refusal),
            Ok(Place::Nowhere) => return told.refused(&Refusal::of(Reason::NoRoute)),
            Ok(Place::Own(page)) => return self.explain_page(&page, head, who, &mut case, told),
            Ok(Place::Https) => {
                told.status = StatusCode::PERMANENT_REDIRECT;
                return told;
            }
            Ok(Place::Route(route)) => route,
        };
        let Ok(path) = CanonicalPath::of(head.target) else { return told.refused(&Refusal::of(Reason::BadRequest)) };
        let passed = self.routes.passed_over(case.audit.host.as_ref(), head.method, path.as_str().as_bytes());
        told.passed_over = passed.map(|route| route.name.to_string()).take(MOST_PASSED_OVER).collect();
        told.route = Some(route.clone());
        if route.cors.is_some() && is_preflight(head.method, head.headers) {
            told.access = "a preflight, answered before any credential".into();
            told.status = StatusCode::NO_CONTENT;
            return told;
        }
        if let Err(refusal) =
            destination::check(&self.routes, route, case.audit.host.as_ref(), head.method, head.headers)
        {
            return told.refused(&refusal);
        }
        let audit = &mut case.audit;
        if let Access::Protected(protected) = &route.access {
            told.access = asked_for(protected);
            match enter(protected, head, who, audit, &mut told) {
                Ok(()) => {}
                Err(Stop::Refused(refusal)) => return told.refused(&refusal),
                Err(Stop::Login) => return told.sent_to_login(),
            }
        } else {
            told.access = "public".into();
        }
        told.outcome = Outcome::forwarded;
        told.identity.clone_from(&audit.identity);
        let by_method = self.routes.chooses_by_method(audit.host.as_ref(), path.as_str().as_bytes());
        let forward = self.rewrite.forward(route, head, &path, &case.caller, audit, by_method);
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let set = forward.set.iter().map(|(name, value)| (name.to_string(), text(value)));
        let own: Vec<_> = set.chain(describe(route, audit)).collect();
        let host = audit.host.iter().map(|host| (header::HOST.to_string(), host.as_str().to_owned()));
        let is_replaced = |name: &HeaderName| {
            name == header::HOST || forward.remove.contains(name) || own.iter().any(|(other, _)| other == name.as_str())
        };
        let passed = head.headers.iter().filter(|(name, _)| !is_replaced(name));
        told.headers = host
            .chain(passed.map(|(name, value)| (name.to_string(), text(value))))
            .chain(own.iter().cloned())
            .collect();
        told
    }
}

impl Explanation {
    fn refused(mut self, refusal: &Refusal) -> Self {
        (self.status, self.outcome, self.reason) = (refusal.status, refusal.outcome(), Some(refusal.reason));
        self
    }

    fn sent_to_login(mut self) -> Self {
        (self.status, self.outcome) = (StatusCode::FOUND, Outcome::login);
        self.reason = Some(Reason::LoginRequired);
        self
    }
}

/// What is answered in place of the app.
enum Stop {
    Refused(Refusal),
    Login,
}

/// Whether the request passes credential and rules; what was looked at is told.
fn enter(
    protected: &Protected,
    head: &RequestHead<'_>,
    who: Option<&Claims>,
    audit: &mut Audit,
    told: &mut Explanation,
) -> Result<(), Stop> {
    let refused = |reason| Err(Stop::Refused(Refusal::of(reason)));
    let Some(who) = who else {
        if let Some((credential, reason)) = unproved(protected, head) {
            let kind = credential.word();
            told.credential = format!("{kind}, which is not verified here; --claims stands for a good one");
            return refused(reason);
        }
        return match WayIn::of(protected, head.method, head.headers) {
            WayIn::Pass => Ok(()),
            WayIn::Refuse => refused(Reason::LoginRequired),
            WayIn::SignIn(_) => Err(Stop::Login),
        };
    };
    let (credential, identity) = assume(protected, who).map_err(|(refusal, why)| {
        told.credential = format!("none: {why}");
        Stop::Refused(refusal)
    })?;
    told.credential = credential.word().into();
    told.rules = protected.require.each(&identity);
    let checked = protected.require.check(&identity);
    (audit.credential, audit.identity) = (credential, Some(Arc::new(identity)));
    checked.or_else(refused)
}

/// Why a credential that stands in the request is none here: nobody is asked about it.
fn unproved(protected: &Protected, head: &RequestHead<'_>) -> Option<(Credential, Reason)> {
    let bearer = presented(head.headers);
    if presented_key(protected, head.headers, &bearer).is_some() {
        return Some((Credential::api_key, Reason::UnknownToken));
    }
    match bearer {
        Presented::Token(token) if protected.accepts_bearer && token.starts_with(OF_KEYS) => {
            Some((Credential::bearer, Reason::UnknownToken))
        }
        Presented::Token(_) if protected.accepts_bearer => Some((Credential::bearer, Reason::InvalidToken)),
        Presented::Unusable if protected.accepts_bearer || protected.accepts_api_key => {
            Some((Credential::bearer, Reason::InvalidToken))
        }
        _ => None,
    }
}

fn readings(target: &[u8]) -> Vec<String> {
    let Ok(path) = CanonicalPath::of(target) else { return vec![String::from_utf8_lossy(target).into_owned()] };
    let mut all = vec![path.as_str().to_string()];
    if !path.is_plain() {
        let _ = path.every_reading(|reading| {
            let reading = String::from_utf8_lossy(reading).into_owned();
            if !all.contains(&reading) {
                all.push(reading);
            }
            true
        });
    }
    all
}

fn asked_for(protected: &Protected) -> String {
    let kinds = [
        (!protected.sites.is_empty(), "session"),
        (protected.accepts_bearer, "bearer"),
        (protected.accepts_api_key, "api_key"),
    ];
    let kinds: Vec<&str> = kinds.iter().filter(|(accepts, _)| *accepts).map(|(_, kind)| *kind).collect();
    format!("protected: {}", kinds.join(", "))
}

/// Somebody with these claims, by a credential of a kind that the route accepts: a session first.
fn assume(protected: &Protected, claims: &Claims) -> Result<(Credential, Identity), (Refusal, &'static str)> {
    let no_user = "the claims lack the one that is mapped to `user`";
    let of_provider = |settings: &Settings, by_token| Identity::assumed(claims, by_token, settings);
    let sessions: Vec<&Settings> = protected.sites.iter().map(|site| site.realm.provider.settings()).collect();
    if let Some(first) = sessions.first() {
        let settings = sessions.iter().find(|settings| settings.is_issuer_of(claims)).unwrap_or(first);
        let identity = of_provider(settings, false).map_err(|_| (Refusal::of(Reason::Forbidden), no_user))?;
        return Ok((Credential::session, identity));
    }
    if protected.accepts_bearer {
        let accepted: Vec<&Settings> = protected.policy.providers().collect();
        let named = accepted.iter().find(|settings| settings.is_bearer_issuer_of(claims));
        let only = accepted.first().filter(|_| !claims.contains_key("iss"));
        let refused = |why| (Refusal::of(Reason::InvalidToken), why);
        let settings = named.or(only).ok_or(refused("iss: is of no provider whose tokens the route accepts"))?;
        return Ok((Credential::bearer, of_provider(settings, true).map_err(|_| refused(no_user))?));
    }
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let texts = |name: &str| -> Vec<String> {
        let all = claims.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    // A key has no claims but these.
    let user = text("user").or(text("sub")).ok_or((Refusal::of(Reason::UnknownToken), "`user` or `sub` is missing"))?;
    let identity = Identity::of_api_key(user, text("email"), &texts("groups"), &texts("scopes"));
    Ok((Credential::api_key, identity))
}
