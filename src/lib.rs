//! Doorward: an authenticating reverse proxy on Pingora. The rooms and their floors are in `ARCHITECTURE.md`.

pub mod app;
pub mod bearer;
pub mod client;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod edge;
pub mod gate;
pub mod kit;
pub mod provider;
pub mod watch;

#[cfg(test)]
mod floors;
