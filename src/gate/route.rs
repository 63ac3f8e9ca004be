//! Which route a request belongs to. The most specific wins, wherever it stands in the file: an exact host before a
//! wildcard, a longer wildcard before a shorter, then bare paths; within a host `exact` before prefixes, the longest
//! prefix by whole segments, a route with methods before one without.

use crate::caller::rate_limit;
use crate::credential::policy::Policy;
use crate::gate::cors::Cors;
use crate::gate::identity_headers::IdentityHeaders;
use crate::gate::outbound_headers::{Assertion, ServiceToken, ServiceTokenSettings};
use crate::gate::path::{CanonicalPath, MOST_WORK, every_reading};
use crate::gate::place::Place;
use crate::gate::resource::Resource;
use crate::gate::rules::{Judged, Rules};
use crate::login::cookie::CookieSpec;
use crate::login::relying_party::{Origin, RelyingParty};
use crate::session::session::{Limits, RefreshLimits};
use crate::telemetry::metrics::RouteMetrics;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One route, ready to serve.
pub struct Route {
    /// Its position in the configuration; selects its upstreams.
    pub index: usize,
    pub name: Arc<str>,
    pub place: Place,
    pub access: Access,
    pub headers: IdentityHeaders,
    /// `None`: it has no metadata as a protected resource.
    pub resource: Option<Resource>,
    pub assertion: Option<Assertion>,
    pub service_token: Option<ServiceToken>,
    pub cors: Option<Cors>,
    pub strip_prefix: bool,
    /// All readings of each base path of its apps.
    bases: Vec<Vec<Vec<u8>>>,
    /// `http` or `https`, as the client sees it.
    pub scheme: HeaderValue,
    pub metrics: Arc<RouteMetrics>,
    /// Identity headers too large for many apps were warned of.
    warned: AtomicBool,
    /// Somebody met its rules.
    is_met: AtomicBool,
    /// That nobody has the claim of a rule was warned of.
    told_absent: AtomicBool,
}

/// One route, as configured.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: Arc<str>,
    pub place: Place,
    pub https: bool,
    pub access: AccessSettings,
    pub headers: IdentityHeaders,
    pub resource: Option<Resource>,
    pub assertion: Option<Assertion>,
    pub service_token: Option<ServiceTokenSettings>,
    pub cors: Option<Cors>,
    pub strip_prefix: bool,
    /// The base paths of its apps, without trailing slashes.
    pub bases: Vec<String>,
    /// The base name of its session cookie, set even without sessions: such cookies are never forwarded.
    pub cookie: String,
}

#[derive(Clone, Debug)]
pub enum AccessSettings {
    Public,
    Protected(Box<ProtectedSettings>),
}

#[derive(Clone, Debug)]
pub struct ProtectedSettings {
    /// The providers whose tokens are accepted.
    pub bearer: Vec<Arc<str>>,
    pub accepts_bearer: bool,
    pub accepts_api_key: bool,
    /// How often a client may be refused.
    pub limit: rate_limit::Settings,
    pub on_unauthenticated: OnUnauthenticated,
    pub require: Rules,
    /// One for each provider to choose from; empty: browser sessions are not accepted.
    pub sessions: Vec<SessionSettings>,
}

/// How users sign in to a route.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    pub provider: Arc<str>,
    pub cookie: CookieSpec,
    pub limits: Limits,
    pub refresh: RefreshLimits,
    pub origin: Origin,
    pub redirect_uri: Option<String>,
    /// Another provider uses the same cookie name and host or domain.
    pub shares_jar: bool,
    pub params: Vec<(String, String)>,
}

pub enum Access {
    Public,
    Protected(Box<Protected>),
}

pub struct Protected {
    pub accepts_bearer: bool,
    pub accepts_api_key: bool,
    pub limit: rate_limit::Settings,
    pub policy: Policy,
    pub on_unauthenticated: OnUnauthenticated,
    pub require: Rules,
    /// Where users sign in, one for each provider to choose from; empty if sessions are not accepted.
    pub sites: Vec<Arc<RelyingParty>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnauthenticated {
    /// A navigation is redirected to a login, anything else is refused.
    #[default]
    Auto,
    /// Every GET and HEAD is redirected to a login.
    Login,
    Reject,
    Pass,
}

impl Access {
    /// Where users sign in.
    pub fn sites(&self) -> &[Arc<RelyingParty>] {
        match self {
            Access::Protected(protected) => &protected.sites,
            Access::Public => &[],
        }
    }
}

impl Route {
    /// `policy`: whose tokens are accepted; `sites`: where its users sign in.
    pub fn new(
        index: usize,
        settings: Settings,
        policy: impl FnOnce(&[Arc<str>]) -> Policy,
        sites: Vec<Arc<RelyingParty>>,
        service_token: Option<ServiceToken>,
        metrics: RouteMetrics,
    ) -> Route {
        let access = match settings.access {
            AccessSettings::Public => Access::Public,
            AccessSettings::Protected(p) => Access::Protected(Box::new(Protected {
                accepts_bearer: p.accepts_bearer,
                accepts_api_key: p.accepts_api_key,
                limit: p.limit,
                policy: policy(&p.bearer),
                on_unauthenticated: p.on_unauthenticated,
                require: p.require,
                sites,
            })),
        };
        Route {
            index,
            name: settings.name,
            place: settings.place,
            access,
            headers: settings.headers,
            resource: settings.resource,
            assertion: settings.assertion,
            service_token,
            cors: settings.cors,
            strip_prefix: settings.strip_prefix,
            bases: settings
                .bases
                .iter()
                .collect::<BTreeSet<_>>()
                .iter()
                .map(|base| readings(base.as_bytes()))
                .collect(),
            scheme: HeaderValue::from_static(if settings.https { "https" } else { "http" }),
            metrics: Arc::new(metrics),
            warned: AtomicBool::new(false),
            is_met: AtomicBool::new(false),
            told_absent: AtomicBool::new(false),
        }
    }

    pub(super) fn note_met(&self) {
        if !self.is_met.load(Ordering::Relaxed) {
            self.is_met.store(true, Ordering::Relaxed);
        }
    }

    /// Warns once where a claim is absent and nobody has met the rules yet: its name may be wrong, or its scope not asked for.
    pub(super) fn note_broken(&self, rule: &Judged) {
        let is_mapped = rule.has.is_empty() && rule.rule != "scopes";
        if is_mapped && !self.is_met.load(Ordering::Relaxed) && !self.told_absent.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                route = %self.name, rule = rule.rule, wanted = rule.wanted,
                "the claim of a rule is absent, and nobody has met the rules of this route yet; is it mapped, and its scope requested?"
            );
        }
    }

    /// The path for the app: the whole, or the rest after the stripped prefix, beginning with exactly one `/`.
    pub fn path_for_app<'a>(&self, path: &'a str) -> std::borrow::Cow<'a, str> {
        let prefix = self.prefix();
        match path.strip_prefix(prefix) {
            Some(rest) if self.strip_prefix => format!("/{}", rest.trim_start_matches('/')).into(),
            _ => path.into(),
        }
    }

    /// Whether the app's paths are others than the client's.
    pub fn changes_paths(&self) -> bool {
        self.strip_prefix || self.bases.iter().any(|base| base.first().is_some_and(|path| !path.is_empty()))
    }

    /// Whether every reading of the forwarded path stays below the app's base path or the stripped prefix.
    pub fn stays_inside(&self, path: &CanonicalPath<'_>) -> bool {
        if path.is_plain() {
            return true; // it has only one reading
        }
        let sent = self.path_for_app(path.as_str());
        // Several base paths share the limit, so that they cost no more than one.
        let work = MOST_WORK / self.bases.len().max(1);
        self.bases.iter().all(|base| {
            let written = base.first().map_or(&b""[..], Vec::as_slice);
            match (written, self.strip_prefix) {
                (b"", false) => true,
                (b"", true) => is_inside(&[STRIPPED.to_vec()], &sent, work),
                _ => is_inside(base, &sent, work),
            }
        })
    }

    /// Counts identity headers that are too large for many apps, and warns once.
    pub fn note_size(&self, identity: &[(HeaderName, HeaderValue)]) {
        let size: usize = identity.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size <= LARGE {
            return;
        }
        self.metrics.had_large_identity();
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                route = %self.name, bytes = size,
                "the identity headers are larger than many apps read; headers.groups leaves out groups that the app does not need"
            );
        }
    }

    /// The path prefix without trailing slashes.
    pub fn prefix(&self) -> &str {
        self.place.path.trim_end_matches('/')
    }
}

/// Beyond it common servers refuse a request's head.
const LARGE: usize = 16 * 1024;

/// Stands in for the base path if the prefix is stripped and the app has none.
const STRIPPED: &[u8] = b"/-";

/// All readings of a configured base path; only the path as written if there are too many.
fn readings(path: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let counted = every_reading(path, MOST_WORK, |reading| {
        all.push(reading.to_vec());
        true
    });
    if counted.is_err() {
        all.truncate(1);
    }
    all
}

fn is_inside(base: &[Vec<u8>], sent: &str, work: usize) -> bool {
    let written = base.first().map_or(&b""[..], Vec::as_slice);
    let is_below = |reading: &[u8]| {
        base.iter().any(|base| {
            reading.strip_prefix(base.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    };
    every_reading(&[written, sent.as_bytes()].concat(), work, is_below) == Ok(true)
}

#[cfg(test)]
mod tests;
