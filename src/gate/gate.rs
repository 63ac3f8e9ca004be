//! The decision itself, in the order of the contract: the request made canonical or refused, the client's address,
//! the gateway's own pages, the route, a preflight, the credential, the rules, and then on to the app.

use crate::caller::address::{Caller, ClientIp};
use crate::caller::rate_limit::Limiter;
use crate::caller::tarpit::Pace;
use crate::credential::api_key::keyring::{Keys, Known};
use crate::credential::verifier::Verifier;
use crate::gate::authenticate::{X_API_KEY, holds_key, identity_of};
use crate::gate::case::{Case, Place};
use crate::gate::cookies::{Kept, OwnCookies};
use crate::gate::cors::{Cors, is_preflight};
use crate::gate::decision::{Answer, Forward, Judged, Notes, Reply, SessionInUse};
use crate::gate::endpoints::forward_auth::Unanswerable;
use crate::gate::host::Host;
use crate::gate::identity_headers::{Stripping, overrides_method};
use crate::gate::navigation::reads_pages;
use crate::gate::path::CanonicalPath;
use crate::gate::protocol;
use crate::gate::refusal::{Addressee, Pages, REQUEST_ID, Refusal, own_headers};
use crate::gate::request::Ask;
use crate::gate::route::{Access, Protected, Route, Table};
use crate::kit::clock::Clock;
use crate::kit::entropy::{Entropy, Ids};
use crate::login::return_url::ReturnUrls;
use crate::provider::identity::Identity;
use crate::session::sessions::{Session, Sessions};
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
    pub keys: Option<Arc<Keys>>,
    pub limiter: Arc<Limiter>,
    pub pace: Arc<Pace>,
    pub table: Table,
    pub client_ip: ClientIp,
    pub auth_path: String,
    pub stripping: Stripping,
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
    pub async fn judge(&self, case: Case<'_>, ask: &Ask<'_>) -> Judged {
        let Case { caller, mut notes, place } = case;
        let mut route = None;
        let answer = match place {
            Ok(place) => self.decide(place, ask, &caller, &mut notes, &mut route).await,
            Err(refusal) => Err(refusal),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => Answer::Reply(Box::new(self.refuse(refusal, ask, &mut notes, route))),
        };
        Judged { answer, notes }
    }

    /// A refusal that comes after the judgement: the upstream could not be had.
    pub fn refuse_late(&self, reason: Reason, ask: &Ask<'_>, notes: &mut Notes, route: Option<&Arc<Route>>) -> Reply {
        self.refuse(Refusal::of(reason), ask, notes, route)
    }

    /// A head that could not even be read: nothing is known of it but the peer, nor of what reads the answer.
    pub fn refuse_unreadable(&self, too_large: bool, peer: IpAddr) -> (Reply, Notes) {
        let refusal = if too_large {
            Refusal::form(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        } else {
            Refusal::of(Reason::BadRequest)
        };
        self.unrouted.ended(refusal.outcome(), Duration::ZERO);
        let mut notes = self.notes(self.new_request_id(), peer.to_canonical());
        notes.reason = Some(refusal.reason);
        let to = Addressee { request_id: &notes.request_id, wants_page: false, realm: None, link: None };
        (refusal.reply(&self.pages, &to), notes)
    }

    async fn decide<'g>(
        &'g self,
        place: Place<'g>,
        ask: &Ask<'_>,
        caller: &Caller,
        notes: &mut Notes,
        found: &mut Option<&'g Arc<Route>>,
    ) -> Result<Answer, Refusal> {
        let path = CanonicalPath::of(ask.target).map_err(|_| Refusal::of(Reason::BadRequest))?;
        let route = match place {
            Place::Own(page) => return Box::pin(self.own_page(page, ask, &path, caller, notes, found)).await,
            Place::Nowhere => return Err(Refusal::of(Reason::NoRoute)),
            Place::Https => return self.redirect_to_https(ask, &path, notes),
            Place::Route(route) => route,
        };
        *found = Some(route);
        notes.route = route.metrics.clone();
        let view = View { method: ask.method, host: notes.host.clone(), path: &path, headers: ask.headers };
        if let Some(cors) = &route.cors
            && is_preflight(ask.method, ask.headers)
        {
            return Ok(Answer::Reply(Box::new(preflight(cors, ask.headers, notes))));
        }
        let passed = match self.authorise(route, &view, notes).await? {
            Entry::Pass(passed) => passed,
            Entry::Login(reply) => return Ok(Answer::Reply(reply)),
        };
        notes.outcome = Outcome::forwarded;
        let mut forward = self.forward(route, ask, &path, caller, notes);
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
    fn redirect_to_https(&self, ask: &Ask<'_>, path: &CanonicalPath<'_>, notes: &mut Notes) -> Result<Answer, Refusal> {
        let host = notes.host.as_ref().ok_or(Refusal::of(Reason::BadRequest))?;
        let https = Host::parse(host.name())
            .ok()
            .and_then(|name| self.table.https_port(&name, ask.method, path.as_str().as_bytes()));
        let port = https.filter(|port| *port != 443).map(|port| format!(":{port}")).unwrap_or_default();
        let location = format!("https://{}{port}{}{}", host.name(), path.as_str(), path.query());
        let location = HeaderValue::from_str(&location).map_err(|_| Refusal::of(Reason::BadRequest))?;
        notes.outcome = Outcome::own_page;
        let mut headers = own_headers(&notes.request_id);
        headers.push((header::LOCATION, location));
        Ok(Answer::Reply(Box::new(Reply { status: StatusCode::PERMANENT_REDIRECT, headers, body: Bytes::new() })))
    }

    /// Credential and rules: who may pass, or nobody where the route lets everyone pass. Who came by a session is told with it.
    pub(super) async fn authorise(
        &self,
        route: &Arc<Route>,
        view: &View<'_>,
        notes: &mut Notes,
    ) -> Result<Entry, Refusal> {
        let Access::Protected(protected) = &route.access else {
            return Ok(Entry::Pass(None));
        };
        let begun = Instant::now();
        let proved = self.authenticate(protected, view.headers, notes).await;
        route.metrics.judged(notes.credential, begun.elapsed());
        match &proved {
            Ok(Proved::Nobody(_)) => {}
            Ok(_) => self.pace.saw_good(begun),
            Err(refusal) => self.give_way(protected, refusal, notes.credential).await,
        }
        let (identity, session) = match proved? {
            Proved::Token(identity) => (identity, None),
            Proved::Key(key) if !key.record.is_for(&route.name) => {
                notes.identity = Some(identity_of(&key));
                return Err(Refusal::of(Reason::Forbidden));
            }
            Proved::Key(key) => (identity_of(&key), None),
            Proved::Session(session) => (session.hot.identity.clone(), Some(session)),
            Proved::Nobody(reason) => return self.nobody(route, protected, view, reason, notes),
        };
        let checked = protected.require.check(&identity);
        notes.identity = Some(identity);
        checked.map_err(Refusal::of)?;
        Ok(Entry::Pass(session))
    }

    /// Where refusals are limited, many of them wait for good requests.
    async fn give_way(&self, protected: &Protected, refusal: &Refusal, credential: Credential) {
        let is_counted = matches!(refusal.status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS);
        let is_limited = matches!(credential, Credential::bearer | Credential::api_key) && protected.limit.enabled;
        if is_counted && is_limited {
            self.pace.turn().await;
        }
    }

    fn forward(
        &self,
        route: &Arc<Route>,
        ask: &Ask<'_>,
        path: &CanonicalPath<'_>,
        caller: &Caller,
        notes: &Notes,
    ) -> Forward {
        let mut remove = self.stripping.of(ask.headers);
        if let Access::Protected(protected) = &route.access {
            let was_judged = notes.credential == Credential::bearer;
            if route.headers.takes_authorization(was_judged) || holds_key(protected, ask.headers, notes.credential) {
                remove.push(header::AUTHORIZATION);
            }
            if protected.accepts_api_key && ask.headers.contains_key(&X_API_KEY) {
                remove.push(X_API_KEY);
            }
        }
        if ask.headers.contains_key(header::UPGRADE) && !protocol::is_websocket(ask) {
            remove.push(header::UPGRADE);
        }
        if self.table.chooses_by_method(notes.host.as_ref(), path.as_str().as_bytes()) {
            remove.extend(ask.headers.keys().filter(|name| overrides_method(name)).cloned());
        }
        let mut set = Vec::with_capacity(12);
        match self.cookies.kept(ask.headers) {
            Kept::AsSent => {}
            Kept::Instead(value) => set.push((header::COOKIE, value)),
            Kept::Nothing => remove.push(header::COOKIE),
        }
        let text = |value: &str| HeaderValue::from_str(value).ok();
        set.extend(HeaderValue::try_from(caller.chain()).ok().map(|value| (FORWARDED_FOR, value)));
        set.push((FORWARDED_PROTO, route.scheme.clone()));
        set.extend(notes.host.as_ref().and_then(|host| text(host.as_str())).map(|value| (FORWARDED_HOST, value)));
        set.extend(text(&notes.request_id).map(|value| (REQUEST_ID, value)));
        if route.strip_prefix {
            set.extend(text(route.prefix()).map(|value| (FORWARDED_PREFIX, value)));
        }
        if let Some(who) = &notes.identity {
            set.extend_from_slice(&route.headers.headers(who));
        }
        let sent_as_is = path.authority().is_none() && !route.strip_prefix;
        let target = (!sent_as_is).then(|| format!("{}{}", route.path_for_app(path.as_str()), path.query()));
        Forward { route: route.clone(), target, remove, set, stream: protocol::is_stream(ask), held: None }
    }

    pub(super) fn refuse(
        &self,
        refusal: Refusal,
        ask: &Ask<'_>,
        notes: &mut Notes,
        route: Option<&Arc<Route>>,
    ) -> Reply {
        notes.outcome = refusal.outcome();
        notes.reason = Some(refusal.reason);
        let realm = Some(&**notes.route.name()).filter(|name| *name != "-");
        let wants_page = reads_pages(ask.headers);
        let link = wants_page.then(|| self.way_on(&refusal, ask.target, notes)).flatten();
        let to = Addressee { request_id: &notes.request_id, wants_page, realm, link };
        let mut reply = refusal.reply(&self.pages, &to);
        if let Some(cors) = route.and_then(|route| route.cors.as_ref()) {
            reply.headers.extend(cors.marks(ask.headers));
        }
        reply
    }

    pub(super) fn notes(&self, request_id: String, client: IpAddr) -> Notes {
        Notes {
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

fn preflight(cors: &Cors, asked: &HeaderMap, notes: &mut Notes) -> Reply {
    notes.outcome = Outcome::own_page;
    let mut headers = own_headers(&notes.request_id);
    headers.extend(cors.preflight(asked));
    Reply { status: StatusCode::NO_CONTENT, headers, body: Bytes::new() }
}

/// RFC 9110, 5.6.2.
fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests;
