//! `store` of the configuration.

use crate::kit::secret::Secret;
use crate::kit::setting::OneOrMany;
use crate::store::redis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where sessions and API keys are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Store")]
pub struct Settings {
    /// `redis` is shared by all replicas; the others belong to one process.
    pub backend: Backend,
    /// For `file`; in `$STATE_DIRECTORY` where that is set.
    pub path: String,
    /// A string of 32 bytes or more, or a list: the first seals, all can open. Absent: with memory and file, generated
    /// once and kept; with redis, the client secrets of the providers.
    pub secret: Option<OneOrMany<StoreSecret>>,
    pub redis: redis::Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    Memory,
    File,
    Redis,
}

impl Backend {
    pub fn word(self) -> &'static str {
        match self {
            Backend::Memory => "memory",
            Backend::File => "file",
            Backend::Redis => "redis",
        }
    }
}

/// What sealing keys are derived from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Secret")]
pub struct StoreSecret(Secret);

/// As many bytes as the keys that are derived from it.
const SHORTEST_SECRET: usize = 32;

impl Settings {
    /// The secrets; the first seals, all can open.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secret.iter().flat_map(|secrets| secrets.as_slice()).map(|secret| &secret.0)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings { backend: Backend::File, path: "doorward.db".into(), secret: None, redis: Default::default() }
    }
}

impl TryFrom<Secret> for StoreSecret {
    type Error = String;
    fn try_from(secret: Secret) -> Result<Self, String> {
        match secret.expose().len() {
            SHORTEST_SECRET.. => Ok(StoreSecret(secret)),
            n => Err(format!("must have 32 bytes or more, and has {n}; `openssl rand -base64 32` makes one")),
        }
    }
}
