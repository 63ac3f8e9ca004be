//! The file as it is written: every key of it, its default, and what it means. Nothing here is judged beyond its type;
//! the doc comments are what `doorward schema` tells an editor.

use crate::config::values::{Items, OneOrMany, Size, Span, text_or_map};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Doorward's configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// One or more addresses to listen on.
    #[serde(default = "default_listen")]
    pub listen: Items<Listener>,
    #[serde(default)]
    pub admin: Admin,
    /// Where the gateway's own pages live on every protected host.
    #[serde(default = "default_auth_path")]
    pub auth_path: String,
    /// How long requests in flight may take when the process is told to stop.
    #[serde(default = "default_shutdown_grace")]
    pub shutdown_grace: Span,
    /// Worker threads; 0 = one per core.
    #[serde(default)]
    pub workers: u16,
    #[serde(default)]
    pub logging: Logging,
    #[serde(default)]
    pub client_ip: ClientIp,
    /// OpenID providers by name.
    #[serde(default)]
    pub providers: BTreeMap<String, Provider>,
    pub routes: Items<Route>,
    /// The origin for routes without a host.
    #[serde(default)]
    pub public_url: Option<String>,
    #[serde(default)]
    pub session: Session,
    #[serde(default)]
    pub store: Store,
    #[serde(default)]
    pub caches: Caches,
    #[serde(default)]
    pub refresh_dedup: RefreshDedup,
    #[serde(default)]
    pub limits: Limits,
    /// API keys kept in the file, as `doorward api-key` prints them.
    #[serde(default)]
    pub api_keys: Items<ApiKey>,
}

/// An address to listen on; a plain text is an address with the defaults.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Listener {
    Address(String),
    Full(Box<Listen>),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub address: String,
    /// Every request but an ACME challenge's gets 308 to https.
    #[serde(default)]
    pub redirect_to_https: bool,
    /// The longest request head; more is 431.
    #[serde(default = "default_max_head")]
    pub max_head: Size,
    /// For a whole request head.
    #[serde(default = "default_head_timeout")]
    pub head_timeout: Span,
    /// Between requests.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Span,
    /// Beyond it connections are not accepted until one closes.
    #[serde(default = "default_max_connections")]
    pub max_connections: u32,
    /// One certificate, or several of which SNI chooses.
    #[serde(default)]
    pub tls: Option<OneOrMany<Tls>>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: String,
    pub private_key: String,
}

/// Health, metrics, status and API; never on the public listeners.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    pub address: String,
    /// The bearer token of the API; empty: `/api/` answers 404.
    pub token: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientIp {
    /// CIDRs; only these may say who the client is.
    pub trusted_proxies: Vec<String>,
    pub header: ForwardingHeader,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardingHeader {
    #[default]
    XForwardedFor,
    Forwarded,
    XRealIp,
    CfConnectingIp,
    TrueClientIp,
}

/// An OpenID provider.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub issuer: String,
    pub client_id: String,
    #[serde(default)]
    pub client_secret: Option<String>,
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// PEM text, for private_key_jwt.
    #[serde(default)]
    pub private_key: Option<String>,
    /// One callback for many hosts; `session.cookie.domain` must cover it.
    #[serde(default)]
    pub redirect_uri: Option<String>,
    /// Sent as written; only offline_access is left out where the provider lists its scopes without it.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// The accepted `aud` of bearer tokens; empty = the client_id; `*` alone = not checked.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// ID tokens of the provider count as bearer tokens.
    #[serde(default)]
    pub bearer_id_tokens: bool,
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    #[serde(default = "default_clock_skew")]
    pub clock_skew: Span,
    /// Each call to the provider.
    #[serde(default = "default_provider_timeout")]
    pub timeout: Span,
    /// An extra certificate authority (PEM).
    #[serde(default)]
    pub ca_file: Option<String>,
    /// Added to the authorization request.
    #[serde(default)]
    pub authorization_params: BTreeMap<String, String>,
    /// Whether UserInfo is asked where the ID token lacks a mapped claim.
    #[serde(default)]
    pub userinfo: Userinfo,
    /// Opaque bearer tokens are asked about (RFC 7662).
    #[serde(default)]
    pub introspection: bool,
    #[serde(default)]
    pub claims: Claims,
    /// Overrides of the metadata, by metadata name; `discovery` says where it is read.
    #[serde(default)]
    pub endpoints: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
    None,
    PrivateKeyJwt,
}

/// Signature algorithms: never HMAC, never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Userinfo {
    #[default]
    Auto,
    Never,
}

/// Which claim says what; dots reach into objects.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    pub user: String,
    pub email: String,
    pub name: String,
    pub username: String,
    pub groups: String,
}

/// Requests of one place, who may make them, and the app they go to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique; the label in logs and metrics.
    pub name: String,
    /// Public origin and path prefix; `*.` may lead the host; a bare path is any host.
    pub from: String,
    #[serde(default)]
    pub r#match: Match,
    /// Empty = any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// One app, or several that are balanced.
    pub to: OneOrMany<String>,
    /// `public`, or who is asked and what is accepted.
    #[serde(default)]
    pub auth: Auth,
    #[serde(default)]
    pub require: Require,
    #[serde(default)]
    pub headers: Headers,
    #[serde(default)]
    pub upstream: Upstream,
    /// Answers preflights, and marks the gateway's own replies.
    #[serde(default)]
    pub cors: Option<Cors>,
    /// Any key of `session`, over the global one.
    #[serde(default)]
    pub session: SessionOver,
    /// Any key of `limits`, over the global one.
    #[serde(default)]
    pub limits: LimitsOver,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    #[default]
    Prefix,
    Exact,
}

#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Auth {
    Public(Public),
    Protected(Box<Protected>),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Public {
    Public,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protected {
    /// May be left out where there is one provider.
    pub provider: Option<String>,
    /// Providers whose tokens are accepted, chosen by `iss`; empty = the provider.
    pub bearer: Vec<String>,
    pub accept: Vec<Accept>,
    pub on_unauthenticated: OnUnauthenticated,
    /// Over the provider's.
    pub authorization_params: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    Session,
    Bearer,
    ApiKey,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnauthenticated {
    #[default]
    Auto,
    Login,
    Reject,
    Pass,
}

/// All that is given must hold; an empty list is no rule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Require {
    /// Any of.
    pub groups: Vec<String>,
    /// Any of, without regard to case; the address must not be marked unverified.
    pub emails: Vec<String>,
    /// The same for what follows the `@`.
    pub email_domains: Vec<String>,
    /// All of; bearer tokens and API keys.
    pub scopes: Vec<String>,
    /// For each claim: any of its values.
    pub claims: BTreeMap<String, OneOrMany<String>>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    pub preset: Preset,
    /// Name: "text with {user} {email} {name} {username} {groups} {claims.x.y}"; `{{` is a brace.
    pub set: BTreeMap<String, String>,
    /// Pass the session's access token as `Authorization: Bearer`.
    pub access_token: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    #[default]
    Standard,
    Grafana,
    Authelia,
    None,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// The longest silence of the app.
    pub timeout: Span,
    /// The same for WebSockets, event streams and gRPC.
    pub stream_idle_timeout: Span,
    pub connect_timeout: Span,
    pub preserve_host: bool,
    pub strip_prefix: bool,
    /// A certificate authority (PEM).
    pub ca_file: Option<String>,
    /// The name to ask for and to verify.
    pub server_name: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    pub origins: Vec<String>,
    #[serde(default)]
    pub credentials: bool,
    #[serde(default = "default_cors_max_age")]
    pub max_age: Span,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    pub cookie: Cookie,
    /// From the login on, whatever happens.
    pub max_age: Span,
    /// 0s = none.
    pub idle_timeout: Span,
    pub refresh: Refresh,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cookie {
    pub name: String,
    pub domain: Option<String>,
    pub same_site: SameSite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Refresh {
    pub before_expiry: Span,
    /// A refresh token older is not tried; 0s = no limit.
    pub max_token_age: Span,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionOver {
    pub cookie: CookieOver,
    pub max_age: Option<Span>,
    /// 0s = none.
    pub idle_timeout: Option<Span>,
    pub refresh: RefreshOver,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CookieOver {
    pub name: Option<String>,
    pub domain: Option<String>,
    pub same_site: Option<SameSite>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshOver {
    pub before_expiry: Option<Span>,
    /// 0s = no limit.
    pub max_token_age: Option<Span>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    pub backend: Backend,
    /// For `file`; in `$STATE_DIRECTORY` where that is set.
    pub path: String,
    /// Text of 32 bytes or more, or a list: the first seals, all open.
    pub secret: Option<OneOrMany<String>>,
    pub redis: Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    Memory,
    File,
    Redis,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// rediss:// for TLS; several = cluster or sentinels.
    pub urls: Vec<String>,
    pub mode: RedisMode,
    /// For sentinel.
    pub master_name: Option<String>,
    pub key_prefix: String,
    pub ca_file: Option<String>,
    pub connect_timeout: Span,
    pub command_timeout: Span,
    pub breaker: Breaker,
    /// This replica's memory while Redis is away.
    pub fallback: Fallback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisMode {
    Standalone,
    Cluster,
    Sentinel,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    pub failures: u32,
    pub cooldown: Span,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fallback {
    pub enabled: bool,
    pub max_entries: u64,
    pub grace: Span,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Caches {
    /// Never beyond the token's own exp + clock_skew.
    #[serde(deserialize_with = "cache_5m")]
    pub verified_tokens: Cache,
    #[serde(deserialize_with = "cache_30s")]
    pub introspection: Cache,
    /// The negative cache.
    #[serde(deserialize_with = "cache_10s")]
    pub unknown_tokens: Cache,
    /// This replica's copies of stored sessions.
    #[serde(deserialize_with = "cache_5s")]
    pub sessions: Cache,
    #[serde(deserialize_with = "cache_keys")]
    pub api_keys: Cache,
}

#[derive(Clone, Debug, JsonSchema)]
#[schemars(with = "CacheOver")]
pub struct Cache {
    pub enabled: bool,
    pub max_entries: u64,
    pub ttl: Span,
}

/// Any of a cache's keys.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct CacheOver {
    enabled: Option<bool>,
    max_entries: Option<u64>,
    ttl: Option<Span>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshDedup {
    pub enabled: bool,
    pub result_ttl: Span,
    /// Must be longer than every provider's timeout.
    pub lease: Span,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub unknown_tokens: UnknownTokens,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UnknownTokens {
    pub enabled: bool,
    pub requests: u32,
    pub per: Span,
    pub ipv6_prefix: u8,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsOver {
    pub unknown_tokens: UnknownTokensOver,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UnknownTokensOver {
    pub enabled: Option<bool>,
    pub requests: Option<u32>,
    pub per: Option<Span>,
    pub ipv6_prefix: Option<u8>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    pub id: String,
    pub digest: String,
    pub user: String,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub routes: Option<Vec<String>>,
    #[serde(default)]
    pub expires_at: Option<String>,
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(deserializer, |text| Ok(Listener::Address(text.into())), |full| Listener::Full(Box::new(full)))
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let public = |text: &str| match text {
            "public" => Ok(Auth::Public(Public::Public)),
            "" | "~" | "null" => Ok(Auth::default()),
            other => {
                Err(format!("`{other}` is no kind of access; write `public`, or a mapping such as {{provider: name}}"))
            }
        };
        text_or_map(deserializer, public, |protected| Auth::Protected(Box::new(protected)))
    }
}

impl Cache {
    const fn new(max_entries: u64, seconds: u64) -> Self {
        Cache { enabled: true, max_entries, ttl: Span::seconds(seconds) }
    }

    fn over<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<Cache, D::Error> {
        let over = CacheOver::deserialize(deserializer)?;
        Ok(Cache {
            enabled: over.enabled.unwrap_or(self.enabled),
            max_entries: over.max_entries.unwrap_or(self.max_entries),
            ttl: over.ttl.unwrap_or(self.ttl),
        })
    }
}

/// Tokens by the hundred thousand are some 100 MB; a token that was revoked is taken for good this long at most.
const VERIFIED_TOKENS: Cache = Cache::new(100_000, 300);
/// Introspection exists to see revocations: half a minute is what most resource servers allow themselves.
const INTROSPECTION: Cache = Cache::new(100_000, 30);
/// Long enough to blunt a flood, short enough that a token made elsewhere is soon known here.
const UNKNOWN_TOKENS: Cache = Cache::new(100_000, 10);
/// One dashboard's burst of requests reads the store once.
const SESSIONS: Cache = Cache::new(100_000, 5);
/// Keys are few and live long; a revoked one is refused on all replicas within this time even without an announcement.
const API_KEYS: Cache = Cache::new(10_000, 30);

fn cache_5m<'de, D: Deserializer<'de>>(d: D) -> Result<Cache, D::Error> {
    VERIFIED_TOKENS.over(d)
}

fn cache_30s<'de, D: Deserializer<'de>>(d: D) -> Result<Cache, D::Error> {
    INTROSPECTION.over(d)
}

fn cache_10s<'de, D: Deserializer<'de>>(d: D) -> Result<Cache, D::Error> {
    UNKNOWN_TOKENS.over(d)
}

fn cache_5s<'de, D: Deserializer<'de>>(d: D) -> Result<Cache, D::Error> {
    SESSIONS.over(d)
}

fn cache_keys<'de, D: Deserializer<'de>>(d: D) -> Result<Cache, D::Error> {
    API_KEYS.over(d)
}

fn default_listen() -> Items<Listener> {
    Items::one(Listener::Address("0.0.0.0:8080".into()))
}

fn default_auth_path() -> String {
    "/oauth2".into() // where oauth2-proxy has its pages, so that a migration need not touch the provider
}

/// Kubernetes kills after 30 s.
fn default_shutdown_grace() -> Span {
    Span::seconds(20)
}

/// Room for a large token and the cookies of several apps on one domain.
pub(crate) fn default_max_head() -> Size {
    Size(64 << 10)
}

pub(crate) fn default_head_timeout() -> Span {
    Span::seconds(10)
}

/// Longer than the 60 s after which load balancers commonly drop idle connections, so that they close first.
pub(crate) fn default_idle_timeout() -> Span {
    Span::seconds(75)
}

/// An idle connection takes some 50 KB: half a gigabyte at the most.
pub(crate) fn default_max_connections() -> u32 {
    10_000
}

fn default_scopes() -> Vec<String> {
    ["openid", "profile", "email"].map(String::from).to_vec()
}

fn default_algorithms() -> Vec<Algorithm> {
    use Algorithm::*;
    vec![RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]
}

/// What clocks without NTP drift apart in weeks.
fn default_clock_skew() -> Span {
    Span::seconds(60)
}

/// A person waits for it in a login.
fn default_provider_timeout() -> Span {
    Span::seconds(5)
}

fn default_cors_max_age() -> Span {
    Span::seconds(600) // Chromium's own limit is 2 h, Firefox's a day; a change of the rules should not take so long
}

impl Default for Admin {
    fn default() -> Self {
        Admin { address: "127.0.0.1:9080".into(), token: String::new() }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Logging { format: LogFormat::Json, level: LogLevel::Info }
    }
}

impl Default for Claims {
    fn default() -> Self {
        let [user, email, name, username, groups] =
            ["sub", "email", "name", "preferred_username", "groups"].map(String::from);
        Claims { user, email, name, username, groups }
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
            provider: None,
            bearer: Vec::new(),
            accept: vec![Accept::Session, Accept::Bearer],
            on_unauthenticated: OnUnauthenticated::Auto,
            authorization_params: BTreeMap::new(),
        }
    }
}

impl Default for Headers {
    fn default() -> Self {
        Headers { preset: Preset::Standard, set: BTreeMap::new(), access_token: false }
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Upstream {
            timeout: Span::seconds(60),
            stream_idle_timeout: Span::seconds(3600),
            connect_timeout: Span::seconds(5),
            preserve_host: true,
            strip_prefix: false,
            ca_file: None,
            server_name: None,
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Session {
            cookie: Cookie::default(),
            max_age: Span::seconds(12 * 3600),
            idle_timeout: Span::seconds(3600),
            refresh: Refresh::default(),
        }
    }
}

impl Default for Cookie {
    fn default() -> Self {
        Cookie { name: "doorward".into(), domain: None, same_site: SameSite::Lax }
    }
}

impl Default for Refresh {
    fn default() -> Self {
        Refresh { before_expiry: Span::seconds(60), max_token_age: Span::seconds(0) }
    }
}

impl Default for Store {
    fn default() -> Self {
        Store { backend: Backend::File, path: "doorward.db".into(), secret: None, redis: Redis::default() }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Redis {
            urls: vec!["redis://127.0.0.1:6379/0".into()],
            mode: RedisMode::Standalone,
            master_name: None,
            key_prefix: "doorward:".into(),
            ca_file: None,
            connect_timeout: Span::seconds(1),
            command_timeout: Span::millis(250),
            breaker: Breaker::default(),
            fallback: Fallback::default(),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { failures: 5, cooldown: Span::seconds(5) }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Fallback { enabled: true, max_entries: 50_000, grace: Span::seconds(300) }
    }
}

impl Default for Caches {
    fn default() -> Self {
        Caches {
            verified_tokens: VERIFIED_TOKENS,
            introspection: INTROSPECTION,
            unknown_tokens: UNKNOWN_TOKENS,
            sessions: SESSIONS,
            api_keys: API_KEYS,
        }
    }
}

impl Default for RefreshDedup {
    fn default() -> Self {
        RefreshDedup { enabled: true, result_ttl: Span::seconds(5), lease: Span::seconds(10) }
    }
}

impl Default for UnknownTokens {
    fn default() -> Self {
        UnknownTokens { enabled: true, requests: 10, per: Span::seconds(60), ipv6_prefix: 64 }
    }
}
