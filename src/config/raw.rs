//! The file as it is written: every key of it, its default, and what it means. Nothing here is judged beyond its type;
//! the doc comments are what `doorward schema` tells an editor.

mod caches;
mod provider;
mod route;
mod session;

pub use caches::*;
pub use provider::*;
pub use route::*;
pub use session::*;

use crate::config::scalar::{Items, OneOrMany, Size, Span, text_or_map};
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
    /// How long the listeners stay open after the signal, for balancers that are slow to hear of it; 0s = not at all.
    #[serde(default)]
    pub shutdown_delay: Span,
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
    /// The bearer token of the API, of at least 16 bytes; empty: `/api/` answers 404.
    pub token: String,
    /// Names that may be asked for, beside IP addresses, localhost, names without a dot and those of private networks.
    pub hosts: Vec<String>,
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

impl Default for Admin {
    fn default() -> Self {
        Admin { address: "127.0.0.1:9080".into(), token: String::new(), hosts: Vec::new() }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Logging { format: LogFormat::Json, level: LogLevel::Info }
    }
}
