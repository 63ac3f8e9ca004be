//! What a refresh comes to, and the settings by which replicas share it.

use crate::kit::digest::TokenDigest;
use crate::kit::singleflight::Singleflight;
use crate::session::session::Session;
use std::sync::Arc;
use std::time::Duration;

/// The refreshes under way in this process, by the digest of the session's place.
pub type Refreshes = Singleflight<TokenDigest, Outcome>;

/// `refresh_dedup`, and how long a session goes on without its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dedup {
    /// Across replicas; within one process refreshes are always coalesced.
    pub enabled: bool,
    /// How long others may take a result.
    pub result_ttl: Duration,
    /// Longer than every provider's time-out.
    pub lease: Duration,
    pub grace: Duration,
}

/// What a request with a session whose access token is over can do.
#[derive(Clone)]
pub enum Outcome {
    /// Go on with this.
    Live(Arc<Session>),
    /// The session is over: the provider says so.
    Ended,
    /// Nobody could tell; the session stays.
    Unavailable(Dependency),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    Provider,
    Store,
}
