//! Browser sessions: a ticket in a cookie, a sealed record in the store, this replica's cache of records, and the
//! refresh that keeps a session alive. Knows nothing of requests or redirects; the store sees digests and sealed bytes.

pub mod cache;
pub mod census;
pub mod index;
pub mod outcome;
pub mod realm;
pub mod record;
pub mod refresh;
#[expect(clippy::module_inception, reason = "the noun of the room")]
pub mod session;
pub mod sessions;
#[cfg(test)]
mod simulation;
pub mod ticket;
mod told;
mod tries;
mod unfinished;
mod unseen;
