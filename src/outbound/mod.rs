//! What the gateway itself presents to an app: assertions of who is calling, and tokens of its own. Not requests, nor which
//! header they go into.

pub mod assertion;
pub mod service_token;
pub mod signing_keys;
