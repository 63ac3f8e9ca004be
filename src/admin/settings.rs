//! `admin` of the configuration.

use crate::edge::Address;
use crate::gate::host::Host;
use crate::kit::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Health, metrics, status and API; never on the public listeners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Admin")]
pub struct Settings {
    /// `ip:port`.
    pub address: Address,
    /// The bearer token of the API, of at least 16 bytes; empty: `/api/` answers 404.
    pub token: AdminToken,
    /// Accepted `Host` names, besides IP addresses, localhost, names without a dot and those of private networks.
    pub hosts: Vec<HostName>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Secret", into = "String")]
#[schemars(with = "Secret")]
pub struct AdminToken(Option<Secret>);

/// The name of a host, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct HostName(pub(super) String);

impl Default for Settings {
    fn default() -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080).into();
        Settings { address, token: AdminToken::default(), hosts: Vec::new() }
    }
}

impl TryFrom<Secret> for AdminToken {
    type Error = &'static str;
    fn try_from(token: Secret) -> Result<Self, Self::Error> {
        match token.expose().len() {
            0 => Ok(AdminToken(None)),
            1..SHORTEST_TOKEN => Err("must have at least 16 bytes; `openssl rand -hex 32` makes one"),
            _ => Ok(AdminToken(Some(token))),
        }
    }
}

/// Redacted.
impl From<AdminToken> for String {
    fn from(token: AdminToken) -> Self {
        token.0.map_or_else(String::new, |_| "***".into())
    }
}

impl AdminToken {
    pub fn get(&self) -> Option<&Secret> {
        self.0.as_ref()
    }
}

impl TryFrom<String> for HostName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match Host::parse(&text) {
            Ok(host) if host.port().is_none() => Ok(HostName(host.name().to_string())),
            _ => Err(format!("`{text}` is not the name of a host, without a port")),
        }
    }
}

/// A shorter token could be found by brute force.
const SHORTEST_TOKEN: usize = 16;
