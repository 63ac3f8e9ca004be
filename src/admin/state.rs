//! What the admin pages report on.

use crate::admin::api::Api;
use crate::admin::settings::{AdminToken, HostName};
use crate::credential::introspection::Introspections;
use crate::credential::unknown::UnknownTokens;
use crate::credential::verified::VerifiedTokens;
use crate::edge::connections::Connections;
use crate::edge::sockets::Sockets;
use crate::edge::upstream::Upstreams;
use crate::kit::clock::{Clock, Timestamp};
use crate::outbound::signing_keys::SigningKeys;
use crate::provider::remote::RemoteProvider;
use crate::session::census::Census;
use crate::session::realm::Realm;
use crate::session::sessions::Sessions;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::time::Instant;

pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub connections: Arc<Connections>,
    pub sockets: Arc<Sockets>,
    pub sessions: Arc<Sessions>,
    pub store: Box<dyn Fn() -> StoreNow + Send + Sync>,
    pub api: Api,
    pub access_log: AccessLog,
    pub begun: Instant,
    pub clock: Arc<dyn Clock>,
    /// `store.backend`.
    pub store_kind: &'static str,
    /// Addresses.
    pub tls_listeners: Vec<String>,
    /// The last reload, and whether it is in force.
    pub reload: Mutex<Option<(Timestamp, bool)>>,
    /// The last count of sessions; none: the store was unavailable.
    pub census: tokio::sync::Mutex<Option<(Instant, Option<Census>)>>,
    /// What a reload changes.
    pub state: RwLock<State>,
}

/// The state of the store.
pub struct StoreNow {
    /// The store has answered at least once since the start.
    pub answered: bool,
    pub up: bool,
    /// The last error.
    pub problem: Option<String>,
}

pub struct State {
    pub verified: Option<Arc<VerifiedTokens>>,
    pub unknown: Option<Arc<UnknownTokens>>,
    pub introspections: Arc<Introspections>,
    pub token: AdminToken,
    pub hosts: Vec<HostName>,
    pub providers: Vec<Arc<RemoteProvider>>,
    pub realms: Vec<Arc<Realm>>,
    pub routes: Vec<RouteLine>,
    /// A certificate's file, and when it expires in Unix time.
    pub certificates: Vec<(String, i64)>,
    /// `None`: no route signs assertions.
    pub signing_keys: Option<Arc<SigningKeys>>,
}

/// A route of the configuration.
pub struct RouteLine {
    pub name: String,
    pub from: String,
    pub access: &'static str,
    pub upstreams: Arc<Upstreams>,
}
