//! Logins and sign-outs, between the browser and the provider. Works in terms of cookies, query parameters and URLs;
//! the gate decides which requests come here and what a reply looks like.

pub mod backchannel;
pub mod callback;
pub mod cookie;
pub mod flow;
pub mod no_state;
pub mod relying_party;
pub mod return_url;
pub mod rounds;
pub mod settings;
pub mod sign_out;
pub mod signed_in;
pub mod start;
