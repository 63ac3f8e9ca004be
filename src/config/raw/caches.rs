//! `caches` and `limits` as they are written.

use crate::config::scalar::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

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
pub struct Limits {
    pub unknown_tokens: UnknownTokens,
    /// Of one listener at one time; beyond it 503.
    pub requests_in_flight: u32,
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

/// As many as connections, so that HTTP/2 brings no more work than HTTP/1.1 could.
impl Default for Limits {
    fn default() -> Self {
        Limits { unknown_tokens: UnknownTokens::default(), requests_in_flight: 10_000 }
    }
}

impl Default for UnknownTokens {
    fn default() -> Self {
        UnknownTokens { enabled: true, requests: 10, per: Span::seconds(60), ipv6_prefix: 64 }
    }
}
