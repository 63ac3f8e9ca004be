//! A whole configuration, each part in the terms of the room that it is for.

use crate::caller::address::ClientIp;
use crate::kit::secret::Secret;
use crate::login::return_url::Pattern;
use crate::session::outcome::Dedup;
use crate::store::{fallback, redis};
use crate::telemetry::log::Logging;
use crate::{credential, edge, gate, provider};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: Vec<edge::Settings>,
    pub admin: crate::admin::Settings,
    pub auth_path: String,
    pub shutdown_grace: Duration,
    pub shutdown_delay: Duration,
    /// Of one listener at one time.
    pub requests_in_flight: usize,
    /// At least one.
    pub workers: usize,
    pub logging: Logging,
    pub client_ip: ClientIp,
    pub providers: Vec<provider::settings::Settings>,
    pub routes: Vec<Route>,
    pub verified_tokens: credential::verified::Settings,
    pub introspection: credential::introspection::Settings,
    pub unknown_tokens: credential::unknown::Settings,
    /// The cache of API keys, and the keys that stand in the file.
    pub api_keys: credential::api_key::keyring::Settings,
    pub own_keys: Vec<credential::api_key::Record>,
    /// Browsers may be sent on to these.
    pub return_origins: Vec<Pattern>,
    pub store: Store,
    /// How refreshes are shared.
    pub dedup: Dedup,
    /// This replica's copies of sessions; none where the cache is off.
    pub copies: Option<SessionCache>,
}

#[derive(Clone, Debug)]
pub struct Store {
    pub backend: Backend,
    /// What sealing keys are derived from: the first seals, all open. Empty: each provider's client secret, or one that is made.
    pub secrets: Vec<Secret>,
    /// What a reload compares.
    pub told: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    Memory,
    File(PathBuf),
    Redis(Box<SharedStore>),
}

/// A store that replicas share, and what this one does while it is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedStore {
    pub redis: redis::Settings,
    pub fallback: fallback::Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCache {
    pub max_entries: u64,
    pub ttl: Duration,
}

#[derive(Clone, Debug)]
pub struct Route {
    /// As written.
    pub from: String,
    pub gate: gate::route::Settings,
    pub upstream: edge::upstream::Settings,
}

impl Settings {
    /// What keeps its old value until a restart, by the names of the file's keys.
    pub fn changed_until_restart(&self, new: &Settings) -> Vec<&'static str> {
        let mut names = Vec::new();
        // Certificates are read anew; all else of a listener stays.
        let listen = |s: &Settings| -> Vec<_> {
            s.listen.iter().map(|l| edge::Settings { certificates: Vec::new(), ..l.clone() }).collect()
        };
        if listen(self) != listen(new) {
            names.push("listen");
        }
        if self.admin.address != new.admin.address {
            names.push("admin.address");
        }
        if self.workers != new.workers {
            names.push("workers");
        }
        if self.store.told != new.store.told || self.store.secrets != new.store.secrets {
            names.push("store");
        }
        if self.dedup != new.dedup {
            names.push("refresh_dedup");
        }
        names
    }
}
