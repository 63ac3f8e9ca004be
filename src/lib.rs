//! Doorward: an authenticating reverse proxy on Pingora. `ARCHITECTURE.md` describes the modules and their layers.

pub mod admin;
pub mod app;
pub mod caller;
pub mod config;
pub mod credential;
#[cfg(feature = "demo")]
pub mod demo;
pub mod edge;
pub mod gate;
pub mod kit;
pub mod login;
pub mod outbound;
pub mod provider;
pub mod session;
pub mod store;
pub mod telemetry;

#[cfg(test)]
mod floors;
