//! The configuration in force.

use crate::edge::upstream::Upstreams;
use crate::gate::gate::Gate;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// What a reload replaces: the gate, and the upstreams of its routes by route index.
pub struct Live {
    pub gate: Gate,
    pub upstreams: Vec<Arc<Upstreams>>,
}

/// The current configuration. A request loads it once and uses that snapshot until it ends.
pub type LiveConfig = Arc<ArcSwap<Live>>;
