//! `store.redis` of the configuration.

use crate::kit::secret::Secret;
use crate::kit::setting::{Count, FilePath, Rule, Span, Text, Wait, rule};
use redis::IntoConnectionInfo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// A Redis that replicas share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Redis")]
pub struct Settings {
    /// `rediss://` for TLS; several = the nodes of a cluster, or sentinels.
    pub urls: Vec<RedisUrl>,
    /// What the `urls` are.
    pub mode: Mode,
    /// The name that the sentinels watch.
    pub master_name: Option<String>,
    /// The user for the sentinels, if it differs from the master's; "" = none.
    pub sentinel_user: Option<String>,
    /// See `sentinel_user`.
    pub sentinel_password: Option<Secret>,
    /// A client certificate (PEM file), if Redis requires one.
    pub certificate: Option<FilePath>,
    /// The private key of `certificate`.
    pub private_key: Option<FilePath>,
    /// Prefix of every key, for a Redis that other services use too.
    pub key_prefix: KeyPrefix,
    /// A certificate authority (PEM file) in place of the system's.
    pub ca_file: Option<FilePath>,
    /// Time-out for opening a connection.
    pub connect_timeout: Wait,
    /// Time-out for each command.
    pub command_timeout: Wait,
    pub breaker: Breaker,
    pub fallback: Standby,
}

/// An address of a Redis. It may hold a password: it is never printed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Secret", into = "String")]
#[schemars(with = "String")]
pub struct RedisUrl(Secret);

/// Without braces: the part of a key in braces (the hash tag) selects the cluster node, and is the key's own.
pub(super) type KeyPrefix = Text<KeyPrefixRule>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Standalone,
    Cluster,
    Sentinel,
}

/// When a failing Redis is no longer called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// This many failures in a row open the breaker.
    pub failures: Count,
    /// Time between two attempts while the breaker is open.
    pub cooldown: Wait,
}

/// This replica's memory while Redis is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Standby {
    /// `false`: while Redis is unavailable, requests with a session get 503.
    pub enabled: bool,
    /// Maximum number of entries that this replica has seen, and of writes in its journal.
    pub max_entries: u64,
    /// How long a session is used past its access token while Redis is unavailable.
    pub grace: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            urls: vec![RedisUrl(Secret::new("redis://127.0.0.1:6379/0".into()))],
            mode: Mode::Standalone,
            master_name: None,
            sentinel_user: None,
            sentinel_password: None,
            certificate: None,
            private_key: None,
            key_prefix: KeyPrefix::of("doorward:"),
            ca_file: None,
            connect_timeout: Wait::seconds(1),
            command_timeout: Wait::millis(250), // a request waits for it once
            breaker: Breaker::default(),
            fallback: Standby::default(),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { failures: Count::of(5), cooldown: Wait::seconds(5) }
    }
}

impl Default for Standby {
    fn default() -> Self {
        Standby { enabled: true, max_entries: 50_000, grace: Span::seconds(300) }
    }
}

impl TryFrom<Secret> for RedisUrl {
    type Error = &'static str;
    fn try_from(url: Secret) -> Result<Self, Self::Error> {
        let known = Url::parse(url.expose()).is_ok_and(|u| matches!(u.scheme(), "redis" | "rediss") && u.has_host());
        let is_read = |url: &str| url.into_connection_info().is_ok_and(|info| info.redis_settings().db() >= 0);
        if known && is_read(url.expose()) {
            return Ok(RedisUrl(url));
        }
        Err(
            "is not an address of a Redis; write redis://user:password@host:6379/0, or rediss:// for TLS, with special characters of a name or a password in percent encoding (`/` is %2F, `@` is %40)",
        )
    }
}

/// With its password redacted.
impl From<RedisUrl> for String {
    fn from(url: RedisUrl) -> Self {
        let Some(mut url) = url.parsed() else { return "***".into() };
        if url.password().is_some() {
            let _ = url.set_password(Some("***")); // there is a host: it cannot fail
        }
        url.into()
    }
}

impl RedisUrl {
    pub(super) fn as_str(&self) -> &str {
        self.0.expose()
    }

    pub fn parsed(&self) -> Option<Url> {
        Url::parse(self.0.expose()).ok()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefixRule;

impl Rule for KeyPrefixRule {
    fn check(text: &str) -> Result<(), String> {
        rule(!text.contains(['{', '}']), || "must have no braces".into())
    }
}
