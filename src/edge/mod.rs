//! The only room that knows Pingora: it translates between the wire and the gate. Listeners and what they guard,
//! the proxy's phases, upstreams, the socket of the admin listener, start and stop. It decides nothing about who may pass.

mod access_entry;
pub mod connection;
pub mod connections;
pub mod descriptors;
mod headers;
mod http10;
pub mod listen;
mod proxy;
mod quoted;
mod reply;
mod retry;
pub mod server;
pub mod sockets;
pub mod streams;
pub mod tls;
pub mod upstream;

use crate::edge::connection::Limits;
use crate::edge::connections::Connections;
use crate::edge::tls::CertificateFiles;
use crate::edge::upstream::Upstreams;
use crate::gate::gate::Gate;
use crate::telemetry::access_log::AccessLog;
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::Arc;

/// One listener, as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub address: SocketAddr,
    pub redirect_to_https: bool,
    pub max_head: usize,
    pub limits: Limits,
    pub max_connections: usize,
    /// Empty: plain HTTP.
    pub certificates: Vec<CertificateFiles>,
}

/// What all listeners have in common.
pub struct Common {
    pub live: LiveConfig,
    pub access_log: AccessLog,
    pub connections: Arc<Connections>,
    pub workers: usize,
}

/// What a reload exchanges: the gate, and the upstreams of its routes by their index.
pub struct Live {
    pub gate: Gate,
    pub upstreams: Vec<Arc<Upstreams>>,
}

/// The configuration in force. A request takes it once and keeps it to its end.
pub type LiveConfig = Arc<ArcSwap<Live>>;
