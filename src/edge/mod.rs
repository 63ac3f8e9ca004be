//! The only module that uses Pingora; it translates between the wire and the gate. Listeners and connection limits,
//! the proxy's phases, upstreams, the admin listener's socket, startup and shutdown. It makes no access decisions.

mod access_entry;
pub mod connection;
pub mod connections;
pub mod descriptors;
mod ending;
mod headers;
mod http10;
mod http2;
pub mod listen;
pub mod live;
mod proxy;
mod quoted;
mod reply;
mod retry;
pub mod server;
pub mod sockets;
pub mod streams;
pub mod tls;
pub mod traces;
pub mod upstream;

use crate::edge::connection::Limits;
use crate::edge::connections::Connections;
use crate::edge::live::LiveConfig;
use crate::edge::tls::CertificateFiles;
use crate::edge::traces::Traces;
use crate::kit::setting::{Count, OneOrMany, Size, Wait};
use crate::telemetry::access_log::AccessLog;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Listen")]
pub struct Settings {
    /// `ip:port`.
    pub address: Address,
    /// `true`: every request but an ACME challenge's gets 308 to https.
    #[serde(default)]
    pub redirect_to_https: bool,
    /// The longest request head, from 1KiB to 1MiB; a longer one is 431.
    #[serde(default)]
    pub max_head: HeadSize,
    /// The time in which a whole request head must arrive.
    #[serde(default = "default_head_timeout")]
    pub head_timeout: Wait,
    /// The longest idle time between two requests on a connection.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Wait,
    /// At this number, no connection is accepted until one closes.
    #[serde(default = "default_max_connections")]
    pub max_connections: Count,
    /// One certificate, or several, chosen by SNI; absent: plain HTTP.
    #[serde(default)]
    pub tls: Option<OneOrMany<CertificateFiles>>,
}

/// `ip:port`. Names and `:8080` are refused: the address must not depend on a resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Address(SocketAddr);

/// The longest head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Size", into = "Size")]
#[schemars(with = "Size")]
pub struct HeadSize(usize);

/// Shared by all listeners.
pub struct Common {
    pub live: LiveConfig,
    pub access_log: AccessLog,
    pub traces: Option<Arc<Traces>>,
    pub connections: Arc<Connections>,
    pub workers: usize,
}

fn default_head_timeout() -> Wait {
    Wait::seconds(10)
}

/// Longer than the 60 s after which load balancers commonly drop idle connections, so that they close first.
fn default_idle_timeout() -> Wait {
    Wait::seconds(75)
}

/// An idle connection takes some 50 KB: half a gigabyte at the most.
fn default_max_connections() -> Count {
    Count::of(10_000)
}

impl Settings {
    pub fn at(address: Address) -> Self {
        Settings {
            address,
            redirect_to_https: false,
            max_head: HeadSize::default(),
            head_timeout: default_head_timeout(),
            idle_timeout: default_idle_timeout(),
            max_connections: default_max_connections(),
            tls: None,
        }
    }

    pub fn certificates(&self) -> &[CertificateFiles] {
        self.tls.as_ref().map(OneOrMany::as_slice).unwrap_or_default()
    }

    pub fn limits(&self) -> Limits {
        Limits { head: *self.head_timeout, idle: *self.idle_timeout }
    }
}

/// Room for a large token and the cookies of several apps on one domain.
impl Default for HeadSize {
    fn default() -> Self {
        HeadSize(64 << 10)
    }
}

impl TryFrom<Size> for HeadSize {
    type Error = &'static str;
    fn try_from(size: Size) -> Result<Self, Self::Error> {
        if (1024..=1 << 20).contains(&size.0) { Ok(HeadSize(size.0)) } else { Err("must be from 1KiB to 1MiB") }
    }
}

impl From<HeadSize> for Size {
    fn from(size: HeadSize) -> Self {
        Size(size.0)
    }
}

impl HeadSize {
    pub fn bytes(self) -> usize {
        self.0
    }
}

impl TryFrom<String> for Address {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        let told = || format!("`{text}` is not an address; write ip:port, such as 127.0.0.1:8080 or [::]:8080");
        parsed.map(Address).ok_or_else(told)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address(address)
    }
}

impl Deref for Address {
    type Target = SocketAddr;
    fn deref(&self) -> &SocketAddr {
        &self.0
    }
}
