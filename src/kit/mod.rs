//! Small honest tools that every room may use: time, entropy, secrets, digests, coalesced work.
//! Nothing here knows of HTTP, OpenID Connect or the configuration.

pub mod clock;
pub mod digest;
pub mod entropy;
pub mod seal;
pub mod secret;
pub mod singleflight;
