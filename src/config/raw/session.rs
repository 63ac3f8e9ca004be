//! `session`, `store` and `refresh_dedup` as they are written.

use crate::config::scalar::{OneOrMany, Span};
use schemars::JsonSchema;
use serde::Deserialize;

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
    /// Where the sentinels ask for another login than the master; "" = none.
    pub sentinel_user: Option<String>,
    pub sentinel_password: Option<String>,
    /// A client certificate and its key (PEM files), for a Redis that wants one.
    pub certificate: Option<String>,
    pub private_key: Option<String>,
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
pub struct RefreshDedup {
    pub enabled: bool,
    pub result_ttl: Span,
    /// Must be longer than every provider's timeout.
    pub lease: Span,
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
            sentinel_user: None,
            sentinel_password: None,
            certificate: None,
            private_key: None,
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

impl Default for RefreshDedup {
    fn default() -> Self {
        RefreshDedup { enabled: true, result_ttl: Span::seconds(5), lease: Span::seconds(10) }
    }
}
