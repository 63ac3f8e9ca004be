//! Who is calling: the client's address as trusted proxies tell it, and how often it was refused. Knows nothing of routes or
//! credentials.

pub mod forwarded;
pub mod limiter;
pub mod pace;
