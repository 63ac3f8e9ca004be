//! A presented token becomes a verdict. The verified cache is asked by the token's digest before anything is
//! parsed; only what it does not know is taken apart. Knows nothing of requests, routes or replies.

pub mod api_key;
pub mod introspection;
pub mod policy;
pub mod unknown;
pub mod verified;
pub mod verifier;
