//! The file: every key at its top and of a route. The keys below them stand in the rooms that they are for.

use crate::caller::address::ClientIp;
use crate::caller::rate_limit;
use crate::credential::{api_key, introspection, unknown, verified};
use crate::edge::{self, traces, upstream};
use crate::gate::cors::Cors;
use crate::gate::place::{From, RouteMethod, is_plain_path};
use crate::gate::route::OnUnauthenticated;
use crate::gate::rules::Rules;
use crate::gate::{branding, identity_headers};
use crate::kit::setting::{Count, Items, OneOrMany, Rule, Span, Text, http_url, rule, text_or_map};
use crate::outbound::assertion;
use crate::provider::settings::AuthorizationParams;
use crate::session::outcome::Dedup;
use crate::telemetry::log::Logging;
use crate::{admin, login, provider, session, store};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

/// Doorward's configuration.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// One or more addresses to listen on.
    #[serde(default = "default_listen")]
    #[schemars(with = "Vec<Listener>")]
    pub listen: Items<Listener>,
    #[serde(default)]
    pub admin: admin::Settings,
    /// Where the gateway's own pages live on every protected host.
    #[serde(default = "default_auth_path")]
    pub auth_path: AuthPath,
    /// How long requests in flight may take when the process is told to stop.
    #[serde(default = "default_shutdown_grace")]
    pub shutdown_grace: Span,
    /// How long the listeners stay open after the signal, for balancers that are slow to hear of it; 0s = not at all.
    #[serde(default)]
    pub shutdown_delay: Span,
    /// Worker threads; 0 = one per core.
    #[serde(default)]
    pub workers: u16,
    #[serde(default)]
    pub logging: Logging,
    /// Spans of sampled requests, for a collector.
    #[serde(default)]
    pub tracing: traces::Settings,
    /// What the gateway's own pages show beside their words.
    #[serde(default)]
    pub pages: branding::Settings,
    #[serde(default)]
    pub client_ip: ClientIp,
    /// OpenID providers by name.
    #[serde(default)]
    pub providers: BTreeMap<String, provider::settings::Settings>,
    /// Required: at least one.
    #[schemars(with = "Vec<Route>")]
    pub routes: Items<Route>,
    /// The origin for routes without a host.
    #[serde(default)]
    pub public_url: Option<PublicUrl>,
    #[serde(default)]
    pub session: login::settings::Settings,
    #[serde(default)]
    pub store: store::settings::Settings,
    #[serde(default)]
    pub caches: Caches,
    #[serde(default)]
    pub refresh_dedup: Dedup,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub assertion: assertion::Settings,
    /// API keys kept in the file, as `doorward api-key` prints them.
    #[serde(default)]
    #[schemars(with = "Vec<api_key::Configured>")]
    pub api_keys: Items<api_key::Configured>,
}

/// An address to listen on; a plain text is an address with the defaults.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(with = "WrittenListener")]
pub struct Listener(pub edge::Settings);

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the forms of a listener, for the schema")]
enum WrittenListener {
    Address(edge::Address),
    Full(edge::Settings),
}

/// A path below which the gateway has pages of its own.
pub type AuthPath = Text<AuthPathRule>;

/// An origin: scheme, host and port.
pub type PublicUrl = Text<PublicUrlRule>;

/// What this process remembers; a cache that is off is not looked at at all.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Caches {
    /// Bearer tokens that were verified; never beyond the token's own exp + clock_skew.
    pub verified_tokens: verified::Settings,
    /// What providers said of opaque tokens.
    pub introspection: introspection::Settings,
    /// Bearer tokens that were refused: the negative cache.
    pub unknown_tokens: unknown::Settings,
    /// This replica's copies of stored sessions.
    pub sessions: session::cache::Settings,
    /// API keys of the store, and ids for which there is none.
    pub api_keys: api_key::keyring::Settings,
}

/// What one client, or all of a listener, may cost.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Refused credentials of one client.
    pub unknown_tokens: rate_limit::Settings,
    /// Of one listener at one time; beyond it 503.
    pub requests_in_flight: Count,
}

/// Requests of one place, who may make them, and the app they go to.
// A required key that cannot be read has a stand-in, so that the rest of the route is judged, too.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["name", "from", "to"]))]
pub struct Route {
    /// Unique; the label in logs and metrics.
    #[serde(default)]
    pub name: RouteName,
    /// Public origin and path prefix; `*.` may lead the host; a bare path is any host.
    #[serde(default = "From::stand_in")]
    pub from: From,
    /// By whole segments, or the whole path.
    #[serde(default)]
    pub r#match: Match,
    /// Empty = any.
    #[serde(default)]
    pub methods: Vec<RouteMethod>,
    /// One app, or several that are balanced.
    #[serde(default)]
    pub to: OneOrMany<upstream::Origin>,
    /// `public`, or which credentials are accepted and whose.
    #[serde(default)]
    pub auth: Auth,
    #[serde(default)]
    pub require: Rules,
    #[serde(default)]
    pub headers: identity_headers::Settings,
    #[serde(default)]
    pub upstream: upstream::Settings,
    /// Answers preflights, and marks the gateway's own replies.
    #[serde(default)]
    pub cors: Option<Cors>,
    /// Any key of `session`, over the global one.
    #[serde(default)]
    pub session: login::settings::Settings,
    /// Any key of `limits`, over the global one, but for `requests_in_flight`.
    #[serde(default)]
    pub limits: RouteLimits,
}

/// Letters, digits, `.`, `-` and `_`.
pub type RouteName = Text<RouteNameRule>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    #[default]
    Prefix,
    Exact,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteLimits {
    /// Refused credentials of one client.
    pub unknown_tokens: rate_limit::Settings,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Auth {
    Public(Public),
    Protected(Box<Protected>),
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Public {
    Public,
}

/// Which credentials are accepted, and whose.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protected {
    /// Where users sign in; may be left out where there is one provider. A list: users choose on `/sign_in`.
    pub provider: OneOrMany<String>,
    /// Providers whose tokens are accepted, chosen by `iss`; empty = those of `provider`.
    pub bearer: Vec<String>,
    /// The kinds of credentials.
    pub accept: Accepted,
    /// What a request without a credential gets.
    pub on_unauthenticated: OnUnauthenticated,
    /// Over the provider's; a list: the parameter several times.
    pub authorization_params: AuthorizationParams,
    /// Publishes which providers' tokens the route accepts (RFC 9728), as MCP clients need it; its address is then an
    /// accepted `aud`, too.
    pub resource_metadata: bool,
}

/// At least one kind of credential.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Vec<Accept>")]
pub struct Accepted(Vec<Accept>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    Session,
    Bearer,
    ApiKey,
}

fn default_listen() -> Items<Listener> {
    let any = std::net::SocketAddr::from(([0, 0, 0, 0], 8080));
    Items(vec![(0, Listener(edge::Settings::at(any.into())))])
}

/// Kubernetes kills after 30 s.
fn default_shutdown_grace() -> Span {
    Span::seconds(20)
}

/// Where oauth2-proxy has its pages, so that a migration need not touch the provider.
fn default_auth_path() -> AuthPath {
    AuthPath::of("/oauth2")
}

/// As many requests as connections, so that HTTP/2 brings no more work than HTTP/1.1 could.
impl Default for Limits {
    fn default() -> Self {
        Limits { unknown_tokens: rate_limit::Settings::default(), requests_in_flight: Count::of(10_000) }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Auth::Protected(Box::default())
    }
}

impl Default for Protected {
    fn default() -> Self {
        Protected {
            provider: OneOrMany::default(),
            bearer: Vec::new(),
            accept: Accepted(vec![Accept::Session, Accept::Bearer]),
            on_unauthenticated: OnUnauthenticated::Auto,
            authorization_params: AuthorizationParams::default(),
            resource_metadata: false,
        }
    }
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = |text: &str| edge::Address::try_from(text.to_string()).map(|at| Listener(edge::Settings::at(at)));
        text_or_map(deserializer, at, |full| Ok(Listener(full)))
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let public = |text: &str| match text {
            "public" => Ok(Auth::Public(Public::Public)),
            "" | "~" | "null" => Ok(Auth::default()),
            other => Err(format!("`{other}` is unknown; write `public`, or a mapping such as {{provider: name}}")),
        };
        text_or_map(deserializer, public, |protected| Ok(Auth::Protected(Box::new(protected))))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthPathRule;

impl Rule for AuthPathRule {
    fn check(text: &str) -> Result<(), String> {
        rule(is_plain_path(text) && text.len() > 1 && !text.ends_with('/'), || {
            format!("`{text}` is not a path of its own; write one such as /oauth2, without a slash at its end")
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrlRule;

impl Rule for PublicUrlRule {
    fn check(text: &str) -> Result<(), String> {
        let plain = |url: Url| url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        rule(http_url(text).is_some_and(plain), || {
            "is not an origin; write scheme, host and port alone, such as https://app.example.com".into()
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteNameRule;

impl Rule for RouteNameRule {
    fn check(text: &str) -> Result<(), String> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        // `-` is what log and metrics say where there is no route.
        rule(plain && text != "-", || {
            "must be made of letters, digits, `.`, `-` and `_`, and be more than a `-`".into()
        })
    }
}

impl TryFrom<Vec<Accept>> for Accepted {
    type Error = &'static str;
    fn try_from(list: Vec<Accept>) -> Result<Self, Self::Error> {
        let told = "without a credential nobody passes; name one, or leave the key out";
        if list.is_empty() { Err(told) } else { Ok(Accepted(list)) }
    }
}

impl Protected {
    pub fn accepts(&self, credential: Accept) -> bool {
        self.accept.0.contains(&credential)
    }
}

impl Auth {
    pub fn protected(&self) -> Option<&Protected> {
        match self {
            Auth::Protected(auth) => Some(auth),
            Auth::Public(_) => None,
        }
    }
}

impl File {
    /// The providers where users of a route sign in: those that it names, or the only one there is.
    pub fn own_providers<'a>(&'a self, auth: &'a Protected) -> Vec<&'a str> {
        match auth.provider.as_slice() {
            [] if self.providers.len() == 1 => self.providers.keys().map(String::as_str).collect(),
            named => named.iter().map(String::as_str).collect(),
        }
    }

    /// The providers of a route that accepts sessions.
    pub fn sign_ins<'a>(&'a self, route: &'a Route) -> Vec<(&'a str, &'a Protected)> {
        let auth = route.auth.protected().filter(|auth| auth.accepts(Accept::Session));
        auth.into_iter().flat_map(|auth| self.own_providers(auth).into_iter().map(move |name| (name, auth))).collect()
    }

    /// All providers whose tokens or sessions a route accepts.
    pub fn providers_of<'a>(&'a self, auth: &'a Protected) -> Vec<&'a str> {
        let bearer = auth.bearer.iter().map(String::as_str);
        let all: BTreeSet<&str> = self.own_providers(auth).into_iter().chain(bearer).collect();
        all.into_iter().collect()
    }
}
