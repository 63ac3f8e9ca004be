//! What operators see: metric handles with closed sets of labels, the access log, the process's own log.
//! Callers report events in this module's own types; it decides nothing and never gets a credential.

pub mod access_log;
pub mod decisions;
pub mod durations;
pub mod escape;
pub mod history;
pub mod log;
pub mod metrics;
pub mod reason;
pub mod record;
pub mod requester;
pub mod spans;
