//! The decision itself, in the order of the contract: the request made canonical or refused, the client's address,
//! the gateway's own pages, the route, a preflight, the credential, the rules, and then on to the app.

use crate::caller::address::{Caller, ClientIp};
use crate::caller::rate_limit::Limiter;
use crate::caller::tarpit::Tarpit;
use crate::credential::api_key::keyring::{Keyring, Known};
use crate::credential::verifier::Verifier;
use crate::gate::authenticate::{X_API_KEY, holds_key, identity_of};
use crate::gate::case::{Case, Place};
use crate::gate::cookies::{Kept, OwnCookies};
use crate::gate::cors::{Cors, is_preflight};
use crate::gate::decision::{Answer, Audit, Decision, Forward, Reply, SessionInUse};
use crate::gate::endpoints::forward_auth::Unanswerable;
use crate::gate::host::Host;
use crate::gate::identity_headers::{HeaderFilter, overrides_method};
use crate::gate::navigation::reads_pages;
use crate::gate::path::CanonicalPath;
use crate::gate::protocol;
use crate::gate::refusal::{Addressee, Pages, REQUEST_ID, Refusal, own_headers};
use crate::gate::request::RequestHead;
use crate::gate::route::{Access, Protected, Route, Table};
use crate::kit::clock::Clock;
use crate::kit::entropy::{Entropy, Ids};
use crate::login::return_url::ReturnUrls;
use crate::provider::identity::Identity;
use crate::session::session::Session;
use crate::session::sessions::Sessions;
use crate::telemetry::metrics::{Credential, Outcome, RouteMetrics};
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::time::Instant;

/// One whole configuration, ready to judge. A reload makes another; requests in flight keep theirs.
pub struct Gate {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub request_ids: Ids,
    pub verifier: Verifier,
    /// None: there is no secret that keys could be sealed with.
    pub keys: Option<Arc<Keyring>>,
    pub limiter: Arc<Limiter>,
    pub tarpit: Arc<Tarpit>,
    pub table: Table,
    pub client_ip: ClientIp,
    pub auth_path: String,
    pub stripping: HeaderFilter,
    pub cookies: OwnCookies,
    pub pages: Pages,
    pub sessions: Arc<Sessions>,
    pub return_urls: ReturnUrls,
    /// Whether a forwarding header of somebody who is not trusted was warned of.
    pub warned: AtomicBool,
    /// What of the questions of other proxies was warned of.
    pub unanswered: Mutex<HashSet<Unanswerable>>,
    /// For requests that no route was found for.
    pub unrouted: Arc<RouteMetrics>,
}

/// What is judged: the request itself, or one that another proxy asks about.
pub(super) struct View<'a> {
    pub(super) method: &'a Method,
    pub(super) host: Option<Host>,
    pub(super) path: &'a CanonicalPath<'a>,
    pub(super) headers: &'a HeaderMap,
}

/// Who passes, or the redirect to where they can sign in.
pub(super) enum Entry {
    Pass(Option<Arc<Session>>),
    Login(Box<Reply>),
}

/// What a request's credentials prove.
pub(super) enum Proved {
    Token(Arc<Identity>),
    Key(Arc<Known>),
    Session(Arc<Session>),
    Nobody(Reason),
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
const LONGEST_REQUEST_ID: usize = 128;

impl Gate {
    /// The answer to a request that was [opened](Gate::open); `ask` is the same request, with its body where it has one for us.
    pub async fn judge(&self, case: Case<'_>, head: &RequestHead<'_>) -> Decision {
        let Case { caller, mut audit, place } = case;
        let mut route = None;
        let answer = match place {
            Ok(place) => self.decide(place, head, &caller, &mut audit, &mut route).await,
            Err(refusal) => Err(refusal),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => Answer::Reply(Box::new(self.refuse(refusal, head, &mut audit, route))),
        };
        Decision { answer, audit }
    }

    /// A refusal that comes after the judgement: the upstream could not be had.
    pub fn refuse_late(
        &self,
        reason: Reason,
        head: &RequestHead<'_>,
        audit: &mut Audit,
        route: Option<&Arc<Route>>,
    ) -> Reply {
        self.refuse(Refusal::of(reason), head, audit, route)
    }

    /// A head that could not even be read: nothing is known of it but the peer, nor of what reads the answer.
    pub fn refuse_unreadable(&self, too_large: bool, peer: IpAddr) -> (Reply, Audit) {
        let refusal = if too_large {
            Refusal::form(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        } else {
            Refusal::of(Reason::BadRequest)
        };
        self.unrouted.ended(refusal.outcome(), Duration::ZERO);
        let mut audit = self.audit(self.new_request_id(), peer.to_canonical());
        audit.reason = Some(refusal.reason);
        let to = Addressee { request_id: &audit.request_id, wants_page: false, realm: None, link: None };
        (refusal.reply(&self.pages, &to), audit)
    }

    async fn decide<'g>(
        &'g self,
        place: Place<'g>,
        head: &RequestHead<'_>,
        caller: &Caller,
        audit: &mut Audit,
        found: &mut Option<&'g Arc<Route>>,
    ) -> Result<Answer, Refusal> {
        let path = CanonicalPath::of(head.target).map_err(|_| Refusal::of(Reason::BadRequest))?;
        let route = match place {
            Place::Own(page) => return Box::pin(self.own_page(page, head, &path, caller, audit, found)).await,
            Place::Nowhere => return Err(Refusal::of(Reason::NoRoute)),
            Place::Https => return self.redirect_to_https(head, &path, audit),
            Place::Route(route) => route,
        };
        *found = Some(route);
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
        let mut forward = self.forward(route, head, &path, caller, audit);
        if let (Access::Protected(protected), Some(session)) = (&route.access, &passed) {
            if protected.access_token {
                self.pass_access_token(protected, session, &mut forward).await?;
            }
            forward.held = protected.site.clone().map(|site| SessionInUse {
                sessions: self.sessions.clone(),
                site,
                session: session.clone(),
            });
        }
        Ok(Answer::Forward(Box::new(forward)))
    }

    /// 308 to the same place over https; to the port of the https route there, where it is not the usual one.
    fn redirect_to_https(
        &self,
        head: &RequestHead<'_>,
        path: &CanonicalPath<'_>,
        audit: &mut Audit,
    ) -> Result<Answer, Refusal> {
        let host = audit.host.as_ref().ok_or(Refusal::of(Reason::BadRequest))?;
        let https = Host::parse(host.name())
            .ok()
            .and_then(|name| self.table.https_port(&name, head.method, path.as_str().as_bytes()));
        let port = https.filter(|port| *port != 443).map(|port| format!(":{port}")).unwrap_or_default();
        let location = format!("https://{}{port}{}{}", host.name(), path.as_str(), path.query());
        let location = HeaderValue::from_str(&location).map_err(|_| Refusal::of(Reason::BadRequest))?;
        audit.outcome = Outcome::own_page;
        let mut headers = own_headers(&audit.request_id);
        headers.push((header::LOCATION, location));
        Ok(Answer::Reply(Box::new(Reply { status: StatusCode::PERMANENT_REDIRECT, headers, body: Bytes::new() })))
    }

    /// Credential and rules: who may pass, or nobody where the route lets everyone pass. Who came by a session is told with it.
    pub(super) async fn authorise(
        &self,
        route: &Arc<Route>,
        view: &View<'_>,
        audit: &mut Audit,
    ) -> Result<Entry, Refusal> {
        let Access::Protected(protected) = &route.access else {
            return Ok(Entry::Pass(None));
        };
        let begun = Instant::now();
        let proved = self.authenticate(protected, view.headers, audit).await;
        route.metrics.judged(audit.credential, begun.elapsed());
        match &proved {
            Ok(Proved::Nobody(_)) => {}
            Ok(_) => self.tarpit.saw_good(begun),
            Err(refusal) => self.give_way(protected, refusal, audit.credential).await,
        }
        let (identity, session) = match proved? {
            Proved::Token(identity) => (identity, None),
            Proved::Key(key) if !key.record.is_for(&route.name) => {
                audit.identity = Some(identity_of(&key));
                return Err(Refusal::of(Reason::Forbidden));
            }
            Proved::Key(key) => (identity_of(&key), None),
            Proved::Session(session) => (session.hot.identity.clone(), Some(session)),
            Proved::Nobody(reason) => return self.nobody(route, protected, view, reason, audit),
        };
        let checked = protected.require.check(&identity);
        audit.identity = Some(identity);
        checked.map_err(Refusal::of)?;
        Ok(Entry::Pass(session))
    }

    /// Where refusals are limited, many of them wait for good requests.
    async fn give_way(&self, protected: &Protected, refusal: &Refusal, credential: Credential) {
        let is_counted = matches!(refusal.status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS);
        let is_limited = matches!(credential, Credential::bearer | Credential::api_key) && protected.limit.enabled;
        if is_counted && is_limited {
            self.tarpit.turn().await;
        }
    }

    fn forward(
        &self,
        route: &Arc<Route>,
        head: &RequestHead<'_>,
        path: &CanonicalPath<'_>,
        caller: &Caller,
        audit: &Audit,
    ) -> Forward {
        let mut remove = self.stripping.of(head.headers);
        if let Access::Protected(protected) = &route.access {
            let was_judged = audit.credential == Credential::bearer;
            if route.headers.takes_authorization(was_judged) || holds_key(protected, head.headers, audit.credential) {
                remove.push(header::AUTHORIZATION);
            }
            if protected.accepts_api_key && head.headers.contains_key(&X_API_KEY) {
                remove.push(X_API_KEY);
            }
        }
        if head.headers.contains_key(header::UPGRADE) && !protocol::is_websocket(head) {
            remove.push(header::UPGRADE);
        }
        if self.table.chooses_by_method(audit.host.as_ref(), path.as_str().as_bytes()) {
            remove.extend(head.headers.keys().filter(|name| overrides_method(name)).cloned());
        }
        let mut set = Vec::with_capacity(12);
        match self.cookies.kept(head.headers) {
            Kept::AsSent => {}
            Kept::Instead(value) => set.push((header::COOKIE, value)),
            Kept::Nothing => remove.push(header::COOKIE),
        }
        let text = |value: &str| HeaderValue::from_str(value).ok();
        set.extend(HeaderValue::try_from(caller.chain()).ok().map(|value| (FORWARDED_FOR, value)));
        set.push((FORWARDED_PROTO, route.scheme.clone()));
        set.extend(audit.host.as_ref().and_then(|host| text(host.as_str())).map(|value| (FORWARDED_HOST, value)));
        set.extend(text(&audit.request_id).map(|value| (REQUEST_ID, value)));
        if route.strip_prefix {
            set.extend(text(route.prefix()).map(|value| (FORWARDED_PREFIX, value)));
        }
        if let Some(who) = &audit.identity {
            set.extend_from_slice(&route.headers.headers(who));
        }
        let sent_as_is = path.authority().is_none() && !route.strip_prefix;
        let target = (!sent_as_is).then(|| format!("{}{}", route.path_for_app(path.as_str()), path.query()));
        Forward { route: route.clone(), target, remove, set, stream: protocol::is_stream(head), held: None }
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
        let link = wants_page.then(|| self.way_on(&refusal, head.target, audit)).flatten();
        let to = Addressee { request_id: &audit.request_id, wants_page, realm, link };
        let mut reply = refusal.reply(&self.pages, &to);
        if let Some(cors) = route.and_then(|route| route.cors.as_ref()) {
            reply.headers.extend(cors.marks(head.headers));
        }
        reply
    }

    pub(super) fn audit(&self, request_id: String, client: IpAddr) -> Audit {
        Audit {
            request_id,
            client,
            host: None,
            asked: None,
            route: self.unrouted.clone(),
            credential: Credential::none,
            identity: None,
            outcome: Outcome::bad_request,
            reason: None,
        }
    }

    /// A trusted peer's own, or a new one of 128 random bits.
    pub(super) fn request_id(&self, headers: &HeaderMap, caller: &Caller) -> String {
        let heard = caller.through_trusted.then(|| headers.get(&REQUEST_ID)).flatten();
        let given = heard.and_then(|id| id.to_str().ok());
        let is_token = |id: &str| (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.bytes().all(is_token_byte);
        given.filter(|id| is_token(id)).map_or_else(|| self.new_request_id(), str::to_owned)
    }

    fn new_request_id(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.request_ids.next())
    }
}

fn preflight(cors: &Cors, asked: &HeaderMap, audit: &mut Audit) -> Reply {
    audit.outcome = Outcome::own_page;
    let mut headers = own_headers(&audit.request_id);
    headers.extend(cors.preflight(asked));
    Reply { status: StatusCode::NO_CONTENT, headers, body: Bytes::new() }
}

/// RFC 9110, 5.6.2.
fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests;
