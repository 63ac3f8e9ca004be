//! Who is calling: the client's address as trusted proxies tell it, how often it was refused, and how fast refusals go out.
//! Knows nothing of routes or credentials.

pub mod address;
pub mod rate_limit;
pub mod tarpit;
