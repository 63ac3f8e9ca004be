//! Doorward: an authenticating reverse proxy on Pingora. The rooms and their floors are in `ARCHITECTURE.md`.

pub mod client;
pub mod kit;
pub mod provider;
pub mod watch;
