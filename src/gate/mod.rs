//! Decides one request: a [`request::RequestHead`] in, a [`decision::Decision`] out, using only the `http` crate's
//! types. It opens no socket and knows neither the proxy nor the configuration file; dependencies are passed in.

mod app_credentials;
pub mod authenticate;
mod authorise;
pub mod branding;
pub mod case;
pub mod cookies;
pub mod cors;
pub mod decision;
mod destination;
pub mod encode;
pub mod endpoint;
mod endpoints;
pub mod explain;
#[allow(clippy::module_inception)] // named after its type, `Gate`
pub mod gate;
pub mod group_filter;
pub mod held;
pub mod host;
pub mod html;
pub mod identity_headers;
mod judge;
pub mod navigation;
pub mod outbound_headers;
pub mod passed_tokens;
pub mod path;
pub mod place;
pub mod protocol;
pub mod refusal;
mod refuse;
pub mod request;
pub mod resource;
pub mod rewrite;
pub mod route;
pub mod rules;
pub mod set_name;
mod sign_in;
pub mod subject;
pub mod table;
pub mod template;
