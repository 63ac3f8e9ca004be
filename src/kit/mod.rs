//! Small utilities that every module may use: time, entropy, secrets, digests, sealing, setting types, singleflight, calls
//! to other services. Nothing here knows of requests, OpenID Connect or the configuration.

pub mod cache;
pub mod clock;
pub mod digest;
pub mod entropy;
pub mod http_client;
pub mod quantity;
pub mod recent;
pub mod seal;
pub mod secret;
pub mod setting;
pub mod singleflight;
