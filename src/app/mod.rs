//! Builds everything once and connects it; rebuilds it on a reload. The command line is in [`command`].

mod build;
pub mod command;
pub mod explain;
mod manual;
mod realms;
mod reload;
mod services;

use crate::admin::api::Api;
use crate::admin::{Admin, State};
use crate::app::build::build;
use crate::app::services::{Providers, Services};
use crate::config::settings::Settings;
use crate::edge::connections::Connections;
use crate::edge::sockets::Sockets;
use crate::edge::tls::Certificates;
use crate::edge::traces::Traces;
use crate::edge::{self, Common, server};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

/// How the process was asked to run.
pub struct Invocation {
    pub config: PathBuf,
    pub upgrade: bool,
}

/// Runs the gateway to its end.
///
/// # Errors
/// Why it cannot start, as text for the operator.
pub fn run(invocation: Invocation, settings: Settings, log: Arc<Log>) -> Result<(), String> {
    let mut services = Services::new(&settings)?;
    let built = build(&settings, &services, &services.caches, &Providers::new())?;
    let listeners = settings.listeners().map(|listener| {
        let certificates = listener.tls.as_ref().map(|_| Certificates::load(listener.certificates()).map(Arc::new));
        Ok((listener.clone(), certificates.transpose()?))
    });
    let listeners: Vec<_> = listeners.collect::<Result<_, String>>()?;
    let access_log = AccessLog::start(settings.file.logging.of_access(), std::io::stdout())
        .map_err(|e| format!("no thread for the access log: {e}"))?;
    let last_lines = access_log.clone();
    let traces = Traces::start(&settings.file.tracing)?.map(Arc::new);
    let connections = Arc::new(Connections::default());
    connections.set_grace(*settings.file.shutdown_grace);
    connections.set_delay(*settings.file.shutdown_delay);
    let most_in_flight = Arc::new(AtomicUsize::new(settings.file.limits.requests_in_flight.size()));
    let live = Arc::new(ArcSwap::from_pointee(built.live));
    let admin = Arc::new(admin(&settings, &services, &listeners, &connections, &access_log, built.state));
    let upkeep_of_store = services.upkeep.take();
    let background = reload::background(reload::Reloader {
        config: invocation.config.clone(),
        started: settings.clone(),
        services,
        providers: built.providers,
        live: live.clone(),
        admin: admin.clone(),
        listeners: listeners.clone(),
        in_force: settings.clone(),
        log: log.clone(),
        access_log: access_log.clone(),
        connections: connections.clone(),
        most_in_flight: most_in_flight.clone(),
    });
    let upgrade_socket = upgrade_socket_of(&invocation)?;
    let (sockets, metrics) = (admin.sockets.clone(), admin.metrics.clone());
    server::run(server::Parts {
        listeners,
        common: Common { live, access_log, traces: traces.clone(), connections, workers: settings.workers() },
        admin_address: *settings.file.admin.address,
        sockets: admin.sockets.clone(),
        can_serve: Box::new({
            let admin = admin.clone();
            move || admin.waits_for_no_provider()
        }),
        admin: Arc::new(move |request| {
            let admin = admin.clone();
            Box::pin(async move { admin.respond(request).await })
        }),
        most_in_flight,
        upgrade: invocation.upgrade,
        upgrade_socket,
        background: Box::pin(async move {
            tokio::join!(background, every_minute(&metrics), say_when_started(&sockets, &settings), async {
                if let Some(upkeep) = upkeep_of_store {
                    upkeep.await;
                }
            });
        }),
        at_exit: Box::new(move || {
            last_lines.finish();
            traces.iter().for_each(|traces| traces.finish());
            log.close();
        }),
    })
}

/// What the admin listener reports on.
fn admin(
    settings: &Settings,
    services: &Services,
    listeners: &[(edge::Settings, Option<Arc<Certificates>>)],
    connections: &Arc<Connections>,
    access_log: &AccessLog,
    state: State,
) -> Admin {
    Admin {
        metrics: services.metrics.clone(),
        connections: connections.clone(),
        sockets: Arc::new(Sockets::new(listeners.iter().map(|(own, _)| *own.address).collect(), settings.workers())),
        sessions: services.sessions.clone(),
        store: Box::new({
            let store = services.store.clone();
            move || store.now()
        }),
        api: Api { keys: services.keys.clone(), kv: services.kv.clone() },
        access_log: access_log.clone(),
        begun: Instant::now(),
        clock: services.clock.clone(),
        store_kind: settings.file.store.backend.word(),
        tls_listeners: listeners
            .iter()
            .filter(|(_, tls)| tls.is_some())
            .map(|(own, _)| own.address.to_string())
            .collect(),
        reload: Default::default(),
        census: Default::default(),
        state: state.into(),
    }
}

async fn every_minute(metrics: &Metrics) {
    let mut minutes = tokio::time::interval(Duration::from_secs(60));
    minutes.tick().await; // at once
    loop {
        minutes.tick().await;
        metrics.history.minute_passed();
    }
}

/// One line, once every listener accepts.
async fn say_when_started(sockets: &Sockets, settings: &Settings) {
    const LOOK: Duration = Duration::from_millis(20);
    while !sockets.missing().is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    let joined = |all: Vec<String>| all.join(", ");
    tracing::info!(
        event = "started",
        version = env!("CARGO_PKG_VERSION"),
        listeners = joined(settings.listeners().map(|listener| listener.address.to_string()).collect()),
        admin = %*settings.file.admin.address,
        store = settings.file.store.backend.word(),
        providers = joined(settings.file.providers.keys().cloned().collect()),
        routes = settings.routes.len(),
        "the gateway serves"
    );
}

/// A socket for a hand-over to a next process, or a path that no socket can have where there is no place for one.
fn upgrade_socket_of(invocation: &Invocation) -> Result<PathBuf, String> {
    match upgrade_socket(&invocation.config) {
        Ok(socket) => Ok(socket),
        Err(problem) if invocation.upgrade => Err(problem),
        Err(problem) => {
            tracing::warn!(%problem, "this process cannot hand its listeners over to a next one");
            Ok(PathBuf::from("/dev/null/none"))
        }
    }
}

/// The path of the upgrade socket: one per configuration file, in a directory that only this user can enter. Without
/// such a directory there is no hand-over, and everything else works.
fn upgrade_socket(config: &std::path::Path) -> Result<PathBuf, String> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let config = std::fs::canonicalize(config).unwrap_or_else(|_| config.to_path_buf());
    let id = crate::kit::digest::TokenDigest::of(config.to_string_lossy().as_bytes()).short();
    let told = |folder: &std::path::Path, e: std::io::Error| format!("{}: {e}", folder.display());
    let own = std::fs::metadata("/proc/self").map_err(|e| told("/proc/self".as_ref(), e))?.uid();
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = base.join(format!("doorward-{own}"));
    let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&folder);
    let found = made.and_then(|()| std::fs::symlink_metadata(&folder)).map_err(|e| told(&folder, e))?;
    if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
        return Err(format!("{} is not a folder of this user alone", folder.display()));
    }
    Ok(folder.join(format!("{id}.sock")))
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;

    /// The live state built from this configuration.
    pub(crate) fn built(text: &str) -> edge::live::Live {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let sources = crate::config::Sources { file: std::path::Path::new("test.yaml"), text, env: Vec::new() };
        let settings = crate::config::check(&sources).unwrap_or_else(|problems| panic!("{problems:#?}")).settings;
        let mut settings = settings;
        settings.file.store.backend = crate::store::settings::Backend::Memory;
        let services = Services::new(&settings).unwrap();
        build(&settings, &services, &services.caches, &Providers::new()).unwrap().live
    }
}
