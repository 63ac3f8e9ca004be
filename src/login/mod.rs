//! Conversations with the browser and the provider: a login begun and ended, a sign-out. Works in terms of cookies, query
//! parameters and URLs; which requests lead here, and what a reply looks like, is the gate's business.

pub mod callback;
pub mod cookie;
pub mod flow;
pub mod relying_party;
pub mod return_url;
pub mod sign_out;
pub mod start;
