//! Which headers hold an assertion and a token of the gateway's own, and what is wanted of them.

use crate::gate::set_name::SetName;
use crate::kit::setting::Wait;
use crate::login::relying_party::Origin;
use crate::outbound::service_token::{Grant, ServiceTokens, Wanted};
use crate::provider::settings::Scope;
use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Who is calling, signed by the gateway (ES256).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AssertionHeader")]
pub struct AssertionSettings {
    /// The header that it is in.
    pub header: SetName,
    /// Its `aud`; absent: the route's origin.
    #[serde(default)]
    pub audience: Option<String>,
    /// How long it may be used.
    #[serde(default = "default_ttl")]
    pub ttl: Wait,
}

/// A token that the gateway obtains for the app.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "UpstreamToken")]
pub struct ServiceTokenSettings {
    /// Whose token; may be left out where there is one provider.
    pub provider: Option<String>,
    /// By the gateway's own credentials, or in exchange for the caller's access token.
    pub grant: Grant,
    /// The scopes to ask for.
    pub scopes: Vec<Scope>,
    /// The `audience` to ask for.
    pub audience: Option<String>,
    /// `Authorization` holds it as `Bearer <token>`, any other header alone.
    pub header: SetName,
}

/// One route's assertion.
#[derive(Clone, Debug)]
pub struct Assertion {
    pub header: HeaderName,
    /// Absent: the route's origin.
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub ttl: Duration,
    pub origin: Origin,
}

/// One route's service token.
#[derive(Clone)]
pub struct ServiceToken {
    pub header: HeaderName,
    pub wanted: Arc<Wanted>,
    pub tokens: Arc<ServiceTokens>,
}

/// Longer than an app takes to read it, shorter than is worth stealing.
fn default_ttl() -> Wait {
    Wait::seconds(60)
}

impl Default for ServiceTokenSettings {
    fn default() -> Self {
        ServiceTokenSettings {
            provider: None,
            grant: Grant::default(),
            scopes: Vec::new(),
            audience: None,
            header: SetName::of("Authorization"),
        }
    }
}
