//! Decides one request: an [`ask::Ask`] in, an [`answer::Judged`] out, in terms of the `http` crate alone. It opens no
//! socket and knows neither the proxy nor the configuration file; what it needs is handed to it when it is built.

pub mod answer;
pub mod ask;
pub mod case;
pub mod cookies;
pub mod cors;
mod credentials;
pub mod forward_auth;
#[allow(clippy::module_inception)] // the noun of the room
pub mod gate;
pub mod host;
pub mod inject;
pub mod navigation;
pub mod own;
mod pages;
pub mod path;
mod people;
pub mod protocol;
pub mod refusal;
pub mod route;
pub mod rules;
pub mod say;
pub mod template;
mod words;
