//! Decides one request: an [`ask::RequestHead`] in, an [`answer::Judged`] out, in terms of the `http` crate alone. It opens no
//! socket and knows neither the proxy nor the configuration file; what it needs is handed to it when it is built.

mod authenticate;
pub mod case;
pub mod cookies;
pub mod cors;
pub mod decision;
pub mod encode;
pub mod endpoint;
pub mod endpoints;
#[allow(clippy::module_inception)] // the noun of the room
pub mod gate;
pub mod host;
pub mod html;
pub mod identity_headers;
pub mod navigation;
pub mod path;
pub mod protocol;
pub mod refusal;
pub mod request;
pub mod route;
pub mod rules;
pub mod template;
