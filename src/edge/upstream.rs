//! The apps behind a route: balanced round-robin, unhealthy ones skipped, names resolved in the background.

mod origin;

pub use crate::edge::upstream::origin::Origin;
use crate::edge::upstream::origin::{Location, Protocol};
use crate::gate::outbound_headers::ServiceTokenSettings;
use crate::kit::setting::{FilePath, Wait};
use arc_swap::ArcSwap;
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use pingora_error::{Error, ErrorType, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

/// How the app of a route is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Upstream")]
pub struct Settings {
    /// `to` of the route.
    #[serde(skip)]
    pub to: Vec<Origin>,
    /// The longest silence of the app.
    pub timeout: Wait,
    /// The same for WebSockets, event streams and gRPC.
    pub stream_idle_timeout: Wait,
    /// The time-out for opening a connection.
    pub connect_timeout: Wait,
    /// `false`: the app sees its own host in `Host`.
    pub preserve_host: bool,
    /// `true`: the path of `from` is removed from the path that the app gets.
    pub strip_prefix: bool,
    /// A certificate authority (PEM file) in place of the system's.
    pub ca_file: Option<FilePath>,
    /// The TLS server name to send (SNI) and to verify, in place of the host of `to`.
    pub server_name: Option<String>,
    /// A token that the gateway obtains for the app.
    pub token: Option<ServiceTokenSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            to: Vec::new(),
            timeout: Wait::seconds(60),
            stream_idle_timeout: Wait::seconds(3600),
            connect_timeout: Wait::seconds(5),
            preserve_host: true,
            strip_prefix: false,
            ca_file: None,
            server_name: None,
            token: None,
        }
    }
}

/// The apps of one route.
pub struct Upstreams {
    pub settings: Settings,
    targets: Vec<Target>,
    turn: AtomicUsize,
}

/// One app and its current state.
pub struct Target {
    pub base_path: String,
    /// A request line can be written to it byte for byte: HTTP/1.1 without TLS.
    pub carries_lines: bool,
    /// The value of `Host` if the client's own is not preserved.
    pub authority: String,
    location: Location,
    peer: HttpPeer,
    addresses: ArcSwap<Vec<SocketAddr>>,
    /// Of HTTP/2 connections: those with an earlier number are not used again.
    generation: AtomicU64,
    healthy: AtomicBool,
    failures: AtomicUsize,
}

/// Two checks that fail in a row make an upstream unhealthy.
const CHECK_EVERY: Duration = Duration::from_secs(5);
const FAILURES: usize = 2;
/// Well below the usual idle time-outs of apps: a request must not be sent on a connection that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(30);

impl Upstreams {
    /// # Errors
    /// The CA file cannot be read, or a Unix socket's path is invalid.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let authorities = settings.ca_file.as_deref().map(read_authorities).transpose()?;
        let target = |origin: &Origin| Target::new(origin, &settings, authorities.as_ref());
        let targets = settings.to.iter().map(target).collect::<Result<_, String>>()?;
        Ok(Upstreams { settings, targets, turn: AtomicUsize::new(0) })
    }

    /// The next app, round-robin, except the one that was just tried; healthy ones first.
    pub fn next(&self, tried: Option<usize>) -> Option<(usize, &Target)> {
        let n = self.targets.len();
        let start = if n > 1 { self.turn.fetch_add(1, Relaxed) } else { 0 };
        let in_turn = || (0..n).map(|i| (start + i) % n.max(1)).filter(|i| Some(*i) != tried || n == 1);
        let healthy = in_turn().find(|i| self.targets.get(*i).is_some_and(|t| t.healthy.load(Relaxed)));
        let chosen = healthy.or_else(|| in_turn().next())?;
        Some((chosen, self.targets.get(chosen)?))
    }

    pub fn target(&self, index: usize) -> Option<&Target> {
        self.targets.get(index)
    }

    pub fn has_another(&self) -> bool {
        self.targets.len() > 1
    }

    /// Each target's name and health, for the status page.
    pub fn health(&self) -> impl Iterator<Item = (String, bool)> {
        self.targets.iter().map(|t| (t.name(), t.healthy.load(Relaxed)))
    }

    /// Resolves names and, with several targets, checks which accept connections; runs until it is dropped.
    pub async fn keep_checked(self: Arc<Self>) {
        loop {
            for target in &self.targets {
                target.resolve(*self.settings.connect_timeout).await;
                if self.targets.len() > 1 {
                    target.check(*self.settings.connect_timeout).await;
                }
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// The Pingora peer of a target. `patience`: the write time-out. There is none for reading: how long the app may be silent
    /// is watched with the client's connection, and a timer of Pingora's costs a system call for each request.
    pub async fn peer(&self, target: &Target, patience: Duration) -> Result<Box<HttpPeer>> {
        let mut peer = Box::new(target.peer.clone());
        if let Location::Host { .. } = target.location {
            let mut address = target.addresses.load().first().copied();
            if address.is_none() {
                target.resolve(*self.settings.connect_timeout).await;
                address = target.addresses.load().first().copied();
            }
            let address = address.ok_or_else(|| {
                Error::explain(ErrorType::ConnectNoRoute, "the upstream's name does not resolve").into_up()
            })?;
            peer._address = pingora_core::protocols::l4::socket::SocketAddr::Inet(address);
        }
        peer.group_key = peer.group_key.wrapping_add(target.generation.load(Relaxed));
        peer.options.write_timeout = Some(patience);
        Ok(peer)
    }
}

impl Target {
    /// A request over a connection to it was not answered in time: over HTTP/2, others would go the same way.
    pub fn leave_connection(&self) {
        if self.peer.options.alpn == ALPN::H2 {
            self.generation.fetch_add(1, Relaxed);
        }
    }

    /// For operators.
    pub fn name(&self) -> String {
        match &self.location {
            Location::Host { .. } => self.authority.clone(),
            Location::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    fn new(origin: &Origin, settings: &Settings, authorities: Option<&Arc<[WrappedX509]>>) -> Result<Self, String> {
        let tls = origin.protocol.is_over_tls();
        let mut peer = match &origin.place {
            Location::Host { name, port } => {
                let sni = settings.server_name.clone().unwrap_or_else(|| name.trim_matches(['[', ']']).to_string());
                // A placeholder; `Upstreams::peer` sets the resolved address.
                HttpPeer::new(SocketAddr::from(([127, 0, 0, 1], *port)), tls, sni)
            }
            Location::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())
                .map_err(|e| format!("{}: {e}", path.display()))?,
        };
        peer.options.connection_timeout = Some(*settings.connect_timeout);
        peer.options.total_connection_timeout = Some(*settings.connect_timeout);
        peer.options.idle_timeout = Some(POOL_IDLE);
        if matches!(origin.protocol, Protocol::H2 | Protocol::H2c) {
            peer.options.alpn = ALPN::H2;
            peer.options.max_h2_streams = 100;
        }
        if let Some(authorities) = authorities {
            peer.options.ca = Some(authorities.clone());
        }
        // All routes share the pools: connections with different TLS or protocol settings need different keys.
        peer.group_key = group_key(settings, origin);
        Ok(Target {
            base_path: origin.base_path.clone(),
            carries_lines: origin.protocol == Protocol::Http,
            authority: origin.authority(),
            location: origin.place.clone(),
            peer,
            addresses: ArcSwap::default(),
            generation: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            failures: AtomicUsize::new(0),
        })
    }

    /// Resolves the name; if that fails, the known addresses are kept.
    async fn resolve(&self, limit: Duration) {
        if let Location::Host { name, port } = &self.location {
            let bare = name.trim_matches(['[', ']']);
            let found = match bare.parse() {
                Ok(ip) => vec![SocketAddr::new(ip, *port)],
                Err(_) => match timeout(limit, lookup_host((bare, *port))).await {
                    Ok(Ok(found)) => found.collect(),
                    _ => return,
                },
            };
            if !found.is_empty() && **self.addresses.load() != found {
                self.addresses.store(Arc::new(found));
            }
        }
    }

    async fn check(&self, limit: Duration) {
        let connected = match (&self.location, self.addresses.load().first()) {
            (Location::Unix(path), _) => timeout(limit, UnixStream::connect(path)).await.is_ok_and(|c| c.is_ok()),
            (_, Some(address)) => timeout(limit, TcpStream::connect(address)).await.is_ok_and(|c| c.is_ok()),
            (_, None) => false,
        };
        let failures = if connected { 0 } else { self.failures.load(Relaxed).saturating_add(1) };
        self.failures.store(failures, Relaxed);
        let healthy = failures < FAILURES;
        if self.healthy.swap(healthy, Relaxed) != healthy {
            tracing::warn!(upstream = self.name(), healthy, "the health of an upstream has changed");
        }
    }
}

/// A pool key of the connection settings that Pingora's own pool key leaves out.
fn group_key(settings: &Settings, origin: &Origin) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (
        settings.ca_file.as_deref(),
        settings.server_name.as_ref(),
        matches!(origin.protocol, Protocol::H2 | Protocol::H2c),
    )
        .hash(&mut hasher);
    hasher.finish()
}

/// # Errors
/// The file cannot be read, or holds no certificates.
pub fn read_authorities(file: &Path) -> Result<Arc<[WrappedX509]>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|e| format!("{}: {e}", file.display()))?;
    if read.is_empty() {
        return Err(format!("{}: holds no certificate; write one or more in PEM form", file.display()));
    }
    for der in &read {
        // `parse_x509` below panics on bytes that are not a certificate.
        webpki_accepts(der).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(read.into_iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect())
}

fn webpki_accepts(der: &CertificateDer<'_>) -> std::result::Result<(), rustls::Error> {
    rustls::RootCertStore::empty().add(der.clone().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(ports: &[u16]) -> Upstreams {
        let to = ports.iter().map(|port| Origin {
            protocol: Protocol::Http,
            place: Location::Host { name: "127.0.0.1".into(), port: *port },
            base_path: String::new(),
        });
        let second = Duration::from_secs(1);
        Upstreams::new(Settings {
            to: to.collect(),
            timeout: second.into(),
            stream_idle_timeout: second.into(),
            connect_timeout: second.into(),
            ..Settings::default()
        })
        .unwrap()
    }

    #[test]
    fn turns_are_taken_and_unhealthy_ones_skipped() {
        let three = upstreams(&[1, 2, 3]);
        let next = |tried| three.next(tried).unwrap().0;
        assert_eq!([next(None), next(None), next(None), next(None)], [0, 1, 2, 0]);
        assert_ne!(next(Some(1)), 1, "another than the one just tried");
        three.targets[0].healthy.store(false, Relaxed);
        assert!((0..6).all(|_| next(None) != 0));
        three.targets.iter().for_each(|t| t.healthy.store(false, Relaxed));
        assert!(three.next(None).is_some(), "where none is healthy one is tried all the same");
        assert_eq!(upstreams(&[1]).next(Some(0)).unwrap().0, 0);
    }

    #[tokio::test]
    async fn two_failed_checks_make_a_target_unhealthy_and_one_good_one_heals_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let one = upstreams(&[address.port()]);
        let target = &one.targets[0];
        target.resolve(Duration::from_secs(1)).await;
        drop(listener);
        target.check(Duration::from_secs(1)).await;
        assert!(target.healthy.load(Relaxed));
        target.check(Duration::from_secs(1)).await;
        assert!(!target.healthy.load(Relaxed));
        let _listener = tokio::net::TcpListener::bind(address).await.unwrap();
        target.check(Duration::from_secs(1)).await;
        assert!(target.healthy.load(Relaxed));
    }
}
