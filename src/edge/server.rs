//! Start and stop: every address is probed before anything starts, a signal stops the listening at once and waits for
//! what is in flight, for no longer than the grace.

use crate::edge::LiveConfig;
use crate::edge::admin::Admin;
use crate::edge::listen::{self, Traffic};
use crate::edge::tls::Certificates;
use crate::watch::access::AccessLog;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::l4::stream::Stream as L4Stream;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{
    ExecutionPhase, ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora_core::services::Service as PingoraService;
use pingora_core::services::background::{BackgroundService, background_service};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::watch;
use tokio::time::Instant;

/// Everything that a server is made of.
pub struct Parts {
    /// Each listener with its certificates, where it has any.
    pub listeners: Vec<(listen::Settings, Option<Arc<Certificates>>)>,
    pub workers: usize,
    pub admin_address: SocketAddr,
    pub admin: Arc<Admin>,
    pub live: LiveConfig,
    pub access_log: AccessLog,
    pub traffic: Arc<Traffic>,
    /// Takes the listening sockets over from a running process.
    pub upgrade: bool,
    /// Where that is arranged; its folder is private.
    pub upgrade_socket: PathBuf,
    /// What goes on beside requests, on a runtime of its own.
    pub background: Work,
    /// Writes what the logs still hold.
    pub at_exit: Box<dyn FnOnce() + Send>,
}

pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Idle connections that each shard keeps to the apps.
const UPSTREAM_POOL: usize = 256;
/// How often the drain looks whether the last request has ended.
const LOOK: Duration = Duration::from_millis(20);
/// What connections are given to close after they were cut.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Runs until the process is told to stop, and ends it.
///
/// # Errors
/// An address is taken, or the upgrade's socket has no place.
pub fn run(parts: Parts) -> Result<(), String> {
    if !parts.upgrade {
        for address in parts.listeners.iter().map(|(l, _)| l.address).chain([parts.admin_address]) {
            // Pingora shares ports and retries for half a minute; a taken port is to be told at once.
            drop(TcpListener::bind(address).map_err(|e| format!("cannot listen on {address}: {e}"))?);
        }
    }
    end_on_lost_listeners();
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        max_retries: 2,
        upgrade_sock: parts.upgrade_socket.to_string_lossy().into_owned(),
        // Longer than ours: the drain ends the process before.
        grace_period_seconds: Some(u64::from(u32::MAX)),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    if parts.upgrade {
        tracing::info!(socket = %parts.upgrade_socket.display(), "waiting for the running process; send it SIGQUIT now");
    }
    let opt = Opt { upgrade: parts.upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(opt, conf);
    server.bootstrap();
    let conf = server.configuration.clone();
    for (settings, certificates) in &parts.listeners {
        for service in listen::services(
            settings,
            certificates.as_ref(),
            parts.workers,
            &parts.live,
            &parts.access_log,
            &parts.traffic,
            &conf,
        ) {
            server.add_service(service);
        }
    }
    server.add_service(AdminService { address: parts.admin_address, admin: parts.admin });
    let steps = parts.listeners.iter().map(|(settings, _)| settings.limits.step());
    let sweep = parts.traffic.clone().keep_swept(steps.min().unwrap_or(Duration::MAX));
    let work: Work = Box::pin(async {
        tokio::spawn(sweep); // by itself: whatever happens to the rest, deadlines hold
        parts.background.await;
    });
    let mut background = background_service("background", Background(Mutex::new(Some(work))));
    background.threads = Some(1);
    server.add_service(background);
    let (phases, traffic, at_exit) = (server.watch_execution_phase(), parts.traffic.clone(), parts.at_exit);
    std::thread::Builder::new()
        .name("drain".into())
        .spawn(move || drain(phases, &traffic, at_exit))
        .map_err(|e| format!("no thread: {e}"))?;
    server.run(RunArgs { shutdown_signal: Box::new(Signals { traffic: parts.traffic }) });
    Ok(())
}

/// A panic in a service's task must not leave a process without a listener.
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

/// Waits for the end of what is in flight once the listeners are told to close, and then ends the process; a second
/// signal ends it at once.
fn drain(mut phases: Receiver<ExecutionPhase>, traffic: &Traffic, at_exit: Box<dyn FnOnce() + Send>) {
    loop {
        match phases.blocking_recv() {
            Ok(ExecutionPhase::ShutdownStarted | ExecutionPhase::ShutdownGracePeriod) => break,
            Ok(_) => {}
            Err(_) => return,
        }
    }
    traffic.draining.store(true, Ordering::SeqCst);
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        runtime.block_on(async {
            tokio::select! {
                () = emptied(traffic) => {}
                () = told_again() => {}
            }
        });
    }
    at_exit();
    std::process::exit(0);
}

async fn emptied(traffic: &Traffic) {
    let end = Instant::now() + Duration::from_millis(traffic.grace.load(Ordering::Relaxed));
    while traffic.in_flight.load(Ordering::SeqCst) > 0 && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
    let left = traffic.in_flight.load(Ordering::SeqCst);
    tracing::info!(cut = left, "stopping");
    traffic.cut_all();
    let end = Instant::now() + LAST_WORDS;
    while traffic.connections() > 0 && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
}

async fn told_again() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

struct Signals {
    traffic: Arc<Traffic>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut quit), Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::quit()), signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return ShutdownSignal::FastShutdown; // without signals nobody could stop us
        };
        tokio::select! {
            _ = quit.recv() => return ShutdownSignal::GracefulUpgrade,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        self.traffic.draining.store(true, Ordering::SeqCst);
        ShutdownSignal::GracefulTerminate
    }
}

struct Background(Mutex<Option<Work>>);

#[async_trait]
impl BackgroundService for Background {
    /// It ends with the process: while requests are still served, the store is still looked after.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let work = self.0.lock().take();
        if let Some(work) = work {
            work.await;
        }
    }
}

fn socket_for(address: SocketAddr) -> std::io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// The admin listener. It outlives the public ones: while the process drains it says so.
struct AdminService {
    address: SocketAddr,
    admin: Arc<Admin>,
}

#[async_trait]
impl PingoraService for AdminService {
    async fn start_service(&mut self, _fds: Option<ListenFds>, _shutdown: ShutdownWatch, _listeners_per_fd: usize) {
        // Shared, so that at an upgrade the new process can have it beside the old one.
        let bound = socket_for(self.address).and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(true)?;
            socket.bind(self.address)?;
            socket.listen(128)
        });
        let listener = match bound {
            Ok(listener) => listener,
            Err(problem) => {
                tracing::error!(address = %self.address, %problem, "cannot listen");
                std::process::exit(1);
            }
        };
        // Never told of the shutdown: its connections end with the process.
        let (_stays, shutdown) = watch::channel(false);
        let app = Arc::new(SharedAdmin(self.admin.clone()));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (app, shutdown) = (app.clone(), shutdown.clone());
                    tokio::spawn(async move { app.process_new(Box::new(L4Stream::from(stream)), &shutdown).await });
                }
                Err(_) => tokio::time::sleep(LOOK).await, // no file descriptors are left
            }
        }
    }

    fn name(&self) -> &str {
        "admin"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// Pingora takes its application by value.
struct SharedAdmin(Arc<Admin>);

#[async_trait]
impl pingora_core::apps::http_app::ServeHttp for SharedAdmin {
    async fn response(&self, session: &mut pingora_core::protocols::http::ServerSession) -> http::Response<Vec<u8>> {
        self.0.respond(session).await
    }
}
