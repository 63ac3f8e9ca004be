//! The outcome of a refresh, and the settings for sharing it between replicas.

use crate::kit::digest::TokenDigest;
use crate::kit::setting::{Span, Wait};
use crate::kit::singleflight::Singleflight;
use crate::session::session::Session;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The refreshes under way in this process, by the digest of the session's place.
pub type Refreshes = Singleflight<TokenDigest, Outcome>;

/// How replicas share refreshes of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dedup {
    /// Across replicas; within one process refreshes are always coalesced.
    pub enabled: bool,
    /// How long other replicas may use a result.
    pub result_ttl: Wait,
    /// How long one replica may take; longer than the timeout of every provider.
    pub lease: Span,
    /// How long a session is used without its store: `store.redis.fallback.grace`.
    #[serde(skip)]
    pub grace: Span,
}

impl Default for Dedup {
    fn default() -> Self {
        Dedup { enabled: true, result_ttl: Wait::seconds(5), lease: Span::seconds(10), grace: Span::NONE }
    }
}

/// How a request continues after a refresh of its session.
#[derive(Clone)]
pub enum Outcome {
    /// Continue with this session.
    Live(Arc<Session>),
    /// The session has ended: the provider refused it, or it was signed out.
    Ended,
    /// A dependency is unavailable; the session is kept.
    Unavailable(Dependency),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    Provider,
    Store,
}
