//! What operators see: metric handles with closed sets of labels, the access log, the process's own log.
//! It is told what happened in words of its own; it decides nothing, and is never shown a credential.

pub mod access_log;
pub mod escape;
pub mod log;
pub mod metrics;
pub mod reason;
