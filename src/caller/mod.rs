//! The client of a request: its address as reported by trusted proxies, the rate limit on its refusals, and the tarpit
//! that delays refusals. Must not know of routes or credentials.

pub mod address;
pub mod rate_limit;
pub mod tarpit;
