//! `routes` as it is written.

use crate::config::raw::caches::LimitsOver;
use crate::config::raw::session::SessionOver;
use crate::config::scalar::{OneOrMany, Span, text_or_map};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Requests of one place, who may make them, and the app they go to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique; the label in logs and metrics.
    pub name: String,
    /// Public origin and path prefix; `*.` may lead the host; a bare path is any host.
    pub from: String,
    #[serde(default)]
    pub r#match: Match,
    /// Empty = any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// One app, or several that are balanced.
    pub to: OneOrMany<String>,
    /// `public`, or who is asked and what is accepted.
    #[serde(default)]
    pub auth: Auth,
    #[serde(default)]
    pub require: Require,
    #[serde(default)]
    pub headers: Headers,
    #[serde(default)]
    pub upstream: Upstream,
    /// Answers preflights, and marks the gateway's own replies.
    #[serde(default)]
    pub cors: Option<Cors>,
    /// Any key of `session`, over the global one.
    #[serde(default)]
    pub session: SessionOver,
    /// Any key of `limits`, over the global one.
    #[serde(default)]
    pub limits: LimitsOver,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    #[default]
    Prefix,
    Exact,
}

#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Auth {
    Public(Public),
    Protected(Box<Protected>),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Public {
    Public,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protected {
    /// May be left out where there is one provider.
    pub provider: Option<String>,
    /// Providers whose tokens are accepted, chosen by `iss`; empty = the provider.
    pub bearer: Vec<String>,
    pub accept: Vec<Accept>,
    pub on_unauthenticated: OnUnauthenticated,
    /// Over the provider's; a list: the parameter several times.
    pub authorization_params: BTreeMap<String, OneOrMany<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    Session,
    Bearer,
    ApiKey,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnauthenticated {
    #[default]
    Auto,
    Login,
    Reject,
    Pass,
}

/// All that is given must hold; an empty list is no rule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Require {
    /// Any of.
    pub groups: Vec<String>,
    /// Any of, without regard to case; the address must not be marked unverified.
    pub emails: Vec<String>,
    /// The same for what follows the `@`.
    pub email_domains: Vec<String>,
    /// All of; bearer tokens and API keys.
    pub scopes: Vec<String>,
    /// For each claim: any of its values.
    pub claims: BTreeMap<String, OneOrMany<String>>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    pub preset: Preset,
    /// Name: "text with {user} {email} {name} {username} {groups} {claims.x.y}"; `{{` is a brace.
    pub set: BTreeMap<String, String>,
    /// Pass the session's access token as `Authorization: Bearer`.
    pub access_token: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    #[default]
    Standard,
    Grafana,
    Authelia,
    None,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// The longest silence of the app.
    pub timeout: Span,
    /// The same for WebSockets, event streams and gRPC.
    pub stream_idle_timeout: Span,
    pub connect_timeout: Span,
    pub preserve_host: bool,
    pub strip_prefix: bool,
    /// A certificate authority (PEM).
    pub ca_file: Option<String>,
    /// The name to ask for and to verify.
    pub server_name: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    pub origins: Vec<String>,
    #[serde(default)]
    pub credentials: bool,
    #[serde(default = "default_cors_max_age")]
    pub max_age: Span,
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let public = |text: &str| match text {
            "public" => Ok(Auth::Public(Public::Public)),
            "" | "~" | "null" => Ok(Auth::default()),
            other => {
                Err(format!("`{other}` is no kind of access; write `public`, or a mapping such as {{provider: name}}"))
            }
        };
        text_or_map(deserializer, public, |protected| Auth::Protected(Box::new(protected)))
    }
}

fn default_cors_max_age() -> Span {
    Span::seconds(600) // Chromium's own limit is 2 h, Firefox's a day; a change of the rules should not take so long
}

impl Default for Auth {
    fn default() -> Self {
        Auth::Protected(Box::default())
    }
}

impl Default for Protected {
    fn default() -> Self {
        Protected {
            provider: None,
            bearer: Vec::new(),
            accept: vec![Accept::Session, Accept::Bearer],
            on_unauthenticated: OnUnauthenticated::Auto,
            authorization_params: BTreeMap::new(),
        }
    }
}

impl Default for Headers {
    fn default() -> Self {
        Headers { preset: Preset::Standard, set: BTreeMap::new(), access_token: false }
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Upstream {
            timeout: Span::seconds(60),
            stream_idle_timeout: Span::seconds(3600),
            connect_timeout: Span::seconds(5),
            preserve_host: true,
            strip_prefix: false,
            ca_file: None,
            server_name: None,
        }
    }
}
