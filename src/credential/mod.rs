//! Turns a presented token into a verdict. The cache of verified tokens is asked by the token's digest before anything
//! is parsed; only tokens that are not cached are parsed. Knows nothing of requests, routes or replies.

pub mod api_key;
pub mod introspection;
pub mod policy;
pub mod unknown;
pub mod verified;
pub mod verifier;
