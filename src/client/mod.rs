//! Who is calling: the client's address as trusted proxies tell it. Knows nothing of routes or credentials.

pub mod forwarded;
