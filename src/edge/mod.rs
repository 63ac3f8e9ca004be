//! The only room that knows Pingora: it translates between the wire and the gate. Listeners and what they guard,
//! the proxy's phases, upstreams, the admin listener, start and stop. It decides nothing about who may pass.

mod access_entry;
pub mod admin;
pub mod api;
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

use crate::edge::upstream::Upstreams;
use crate::gate::gate::Gate;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// What a reload exchanges: the gate, and the upstreams of its routes by their index.
pub struct Live {
    pub gate: Gate,
    pub upstreams: Vec<Arc<Upstreams>>,
}

/// The configuration in force. A request takes it once and keeps it to its end.
pub type LiveConfig = Arc<ArcSwap<Live>>;
