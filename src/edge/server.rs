//! Startup: every address is probed before any listener opens, services start in order, and a process that takes over
//! from a running one (an upgrade) does so only once it can serve.

mod admin_listener;
mod stop;

use crate::edge::connections::Capacity;
use crate::edge::server::admin_listener::AdminService;
pub use crate::edge::server::admin_listener::AnswerAdmin;
use crate::edge::server::stop::{Signals, drain};
use crate::edge::sockets::Sockets;
use crate::edge::tls::Certificates;
use crate::edge::{self, descriptors};
use crate::edge::{Common, listen};
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{RunArgs, Server, ShutdownWatch};
use pingora_core::services::ServiceReadyNotifier;
use pingora_core::services::background::{BackgroundService, background_service};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Everything that a server is made of.
pub struct Parts {
    /// Each listener with its certificates, if it has any.
    pub listeners: Vec<(edge::Settings, Option<Arc<Certificates>>)>,
    pub common: Common,
    pub admin_address: SocketAddr,
    pub admin: AnswerAdmin,
    pub sockets: Arc<Sockets>,
    /// Whether a process that takes over can serve: every provider has answered, or the grace period for it is over.
    pub can_serve: Box<dyn Fn() -> bool + Send + Sync>,
    /// A listener refuses requests above this number in flight.
    pub most_in_flight: Arc<AtomicUsize>,
    /// Takes the listening sockets over from a running process.
    pub upgrade: bool,
    /// The Unix socket for that hand-over; its directory is private to this user.
    pub upgrade_socket: PathBuf,
    /// Background work, on a runtime of its own.
    pub background: Work,
    /// Flushes the logs.
    pub at_exit: Box<dyn FnOnce() + Send>,
}

pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Idle upstream connections that each shard keeps at most.
const UPSTREAM_POOL: usize = 256;
const FEWEST_POOLED: usize = 8;
/// How often to poll whether the providers have answered.
const LOOK: Duration = Duration::from_millis(20);

/// Runs until the process is signalled to stop, then ends the process.
///
/// # Errors
/// An address cannot be bound, or a thread cannot be started.
pub fn run(parts: Parts) -> Result<(), String> {
    if !parts.upgrade {
        for address in parts.listeners.iter().map(|(l, _)| *l.address).chain([parts.admin_address]) {
            // Pingora shares ports and retries for half a minute; a port in use must be reported at once.
            drop(TcpListener::bind(address).map_err(|e| format!("cannot listen on {address}: {e}"))?);
        }
    }
    let limit = descriptors::raise();
    let wanted: Vec<usize> = parts.listeners.iter().map(|(settings, _)| settings.max_connections.size()).collect();
    let shares = descriptors::shares(limit, &wanted);
    if shares != wanted {
        tracing::warn!(
            limit, connections = ?shares,
            "the limit of open files does not hold max_connections twice over; fewer connections are taken"
        );
    }
    end_on_lost_listeners();
    let conf = configuration(&parts, &shares);
    let opt = Opt { upgrade: parts.upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(opt, conf);
    let inherited = if parts.upgrade {
        let keys = server.add_service(background_service("keys", AwaitKeys(parts.can_serve)));
        let inherited = server.bootstrap_as_a_service();
        inherited.add_dependency(&keys);
        Some(inherited)
    } else {
        server.bootstrap();
        None
    };
    let conf = server.configuration.clone();
    let mut services = Vec::new();
    for ((settings, certificates), share) in parts.listeners.iter().zip(shares) {
        let (address, most) = (settings.address.to_string(), settings.max_connections.size());
        let capacity = Capacity::new(address, most, share, parts.most_in_flight.clone());
        parts.common.connections.listeners.lock().push(capacity.clone());
        for service in listen::services(settings, certificates.as_ref(), &capacity, &parts.common, &conf) {
            services.push(server.add_service(service));
        }
    }
    let admin = AdminService { address: parts.admin_address, sockets: parts.sockets.clone(), answer: parts.admin };
    services.push(server.add_service(admin));
    if let Some(inherited) = inherited {
        services.iter().for_each(|service| service.add_dependency(&inherited));
    }
    let steps = parts.listeners.iter().map(|(settings, _)| settings.limits().step());
    let streams = parts.common.connections.streams.clone();
    let (step, connections) = (steps.min().unwrap_or(Duration::MAX), parts.common.connections.clone());
    let work: Work = Box::pin(async move {
        // In a task of its own, so that deadlines hold whatever happens to the other work.
        tokio::spawn(async move { connections.open.keep_swept(step).await });
        tokio::join!(parts.background, streams.keep_swept());
    });
    let mut background = background_service("background", Background(Mutex::new(Some(work))));
    background.threads = Some(1);
    server.add_service(background);
    let (phases, connections, at_exit) =
        (server.watch_execution_phase(), parts.common.connections.clone(), parts.at_exit);
    std::thread::Builder::new()
        .name("drain".into())
        .spawn(move || drain(phases, &connections, at_exit))
        .map_err(|e| format!("no thread: {e}"))?;
    server.run(RunArgs {
        shutdown_signal: Box::new(Signals {
            connections: parts.common.connections,
            sockets: parts.sockets,
            upgrade_socket: parts.upgrade_socket,
        }),
    });
    Ok(())
}

fn configuration(parts: &Parts, shares: &[usize]) -> ServerConf {
    ServerConf {
        threads: 1,
        work_stealing: false,
        // Each shard has its own pools, one per HTTP version.
        upstream_keepalive_pool_size: UPSTREAM_POOL
            .min(shares.iter().sum::<usize>() / (4 * parts.common.workers * parts.listeners.len()).max(1))
            .max(FEWEST_POOLED),
        max_retries: 3,
        upgrade_sock: parts.upgrade_socket.to_string_lossy().into_owned(),
        // Longer than our own grace period: the drain thread ends the process first.
        grace_period_seconds: Some(u64::from(u32::MAX)),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

/// Exits if a service's task panics on building its listeners: the process must not run on without them.
fn end_on_lost_listeners() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        let text = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        if text.contains("Failed to build listeners") {
            std::process::exit(1);
        }
    }));
}

/// Delays the hand-over until this process can serve; the old one serves until then.
struct AwaitKeys(Box<dyn Fn() -> bool + Send + Sync>);

#[async_trait]
impl BackgroundService for AwaitKeys {
    async fn start_with_ready_notifier(&self, _shutdown: ShutdownWatch, ready: ServiceReadyNotifier) {
        while !(self.0)() {
            tokio::time::sleep(LOOK).await;
        }
        tracing::info!("waiting for the running process; send it SIGQUIT now");
        ready.notify_ready();
    }
}

struct Background(Mutex<Option<Work>>);

#[async_trait]
impl BackgroundService for Background {
    /// Ignores the shutdown signal: while requests are still served, the store must be maintained too.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let work = self.0.lock().take();
        if let Some(work) = work {
            work.await;
        }
    }
}
