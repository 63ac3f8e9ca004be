//! Background work: keeps providers fresh, checks upstreams, and reloads the configuration on SIGHUP.

use crate::admin::Admin;
use crate::app::build::{Built, build};
use crate::app::services::{Providers, Services, copies, own_keys};
use crate::config::settings::Settings;
use crate::edge::connections::Connections;
use crate::edge::live::{Live, LiveConfig};
use crate::edge::tls::Certificates;
use crate::provider::remote::RemoteProvider;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Reload;
use crate::{config, edge};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

pub(super) struct Reloader {
    pub(super) config: PathBuf,
    /// What the listeners, the workers and the store were started with.
    pub(super) started: Settings,
    /// The settings of the last accepted reload, for those that a reload can change.
    pub(super) in_force: Settings,
    pub(super) log: Arc<Log>,
    pub(super) access_log: AccessLog,
    pub(super) connections: Arc<Connections>,
    pub(super) most_in_flight: Arc<AtomicUsize>,
    pub(super) services: Services,
    pub(super) providers: Providers,
    pub(super) live: LiveConfig,
    pub(super) admin: Arc<Admin>,
    pub(super) listeners: Vec<(edge::Settings, Option<Arc<Certificates>>)>,
}

/// The background tasks of the current configuration.
#[derive(Default)]
struct Upkeep {
    providers: Vec<(Arc<RemoteProvider>, Task)>,
    upstreams: Vec<Task>,
}

/// A task that is aborted on drop.
struct Task(JoinHandle<()>);

pub(super) async fn background(mut reloader: Reloader) {
    let mut upkeep = Upkeep::default();
    upkeep.follow(&reloader.providers, &reloader.live.load());
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!("no handler for SIGHUP: the configuration cannot be reloaded");
        return std::future::pending().await;
    };
    while hangup.recv().await.is_some() {
        // Elsewhere: reading thousands of certificates takes seconds, and deadlines are kept on this thread.
        let reloading = tokio::task::spawn_blocking(move || {
            reloader.reload();
            reloader
        });
        reloader = match reloading.await {
            Ok(reloader) => reloader,
            Err(problem) => {
                tracing::error!(%problem, "a reload failed: the configuration cannot be reloaded any more");
                return std::future::pending().await;
            }
        };
        // Also if the file is refused: operators send this signal after a provider's keys have changed, too.
        reloader.providers.values().for_each(|provider| provider.look_again());
        upkeep.follow(&reloader.providers, &reloader.live.load());
    }
}

impl Reloader {
    fn reload(&mut self) {
        let outcome = match self.read() {
            Ok((settings, built)) => {
                self.put_in_force(&settings, built);
                tracing::info!(event = "config_reloaded", config = %self.config.display(), "the configuration was reloaded");
                Reload::ok
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!(event = "config_refused", %problem, "the configuration is refused; the old one stays in force");
                }
                Reload::refused
            }
        };
        self.services.metrics.reloaded(outcome);
        *self.admin.reload.lock() = Some((self.services.clock.now(), outcome == Reload::ok));
    }

    /// Everything is read and built before anything changes.
    fn read(&mut self) -> Result<(Settings, Built), Vec<String>> {
        if self.config == Path::new(config::STANDARD_INPUT) {
            return Err(vec!["standard input cannot be read again; name a file by -c".into()]);
        }
        let told = |all: Vec<config::Problem>| {
            all.iter().filter(|problem| !problem.is_warning()).map(ToString::to_string).collect::<Vec<_>>()
        };
        let checked = config::load(&self.config).map_err(told)?;
        for listener in checked.settings.listeners() {
            if listener.tls.is_some() {
                Certificates::load(listener.certificates()).map_err(|e| vec![e])?;
            }
        }
        let settings = &checked.settings;
        let caches = self.services.caches.after(&self.in_force, &self.services, settings);
        let built = build(settings, &self.services, &caches, &self.providers).map_err(|problem| vec![problem])?;
        self.services.caches = caches;
        Ok((checked.settings, built))
    }

    fn put_in_force(&mut self, settings: &Settings, built: Built) {
        let waits = self.started.changed_until_restart(settings);
        if !waits.is_empty() {
            tracing::warn!(keys = waits.join(", "), "changed keys take effect after a restart");
        }
        for (started, certificates) in &self.listeners {
            let files = settings.listeners().find(|l| l.address == started.address).map(edge::Settings::certificates);
            if let (Some(certificates), Some(files)) = (certificates, files.filter(|files| !files.is_empty()))
                && let Err(problem) = certificates.reload(files)
            {
                tracing::error!(%problem, "the certificate cannot be read; the old one stays in use");
            }
        }
        if settings.file.caches.sessions != self.in_force.file.caches.sessions {
            self.services.sessions.set_cache(copies(settings, &self.services.metrics));
        }
        let (old, new) = (&self.in_force, settings);
        if let Some(keys) = &self.services.keys
            && (own_keys(old), &old.file.caches.api_keys) != (own_keys(new), &new.file.caches.api_keys)
        {
            keys.configure(own_keys(new), &new.file.caches.api_keys);
        }
        self.services.refused.store(self.services.caches.unknown.clone());
        self.log.apply(settings.file.logging);
        self.access_log.apply(settings.file.logging.of_access());
        self.connections.set_grace(*settings.file.shutdown_grace);
        self.connections.set_delay(*settings.file.shutdown_delay);
        self.most_in_flight.store(settings.file.limits.requests_in_flight.size(), Ordering::Relaxed);
        let is_kept = |name: &str| name == "-" || settings.routes.iter().any(|route| *route.gate.name == *name);
        self.services.metrics.history.keep(is_kept);
        self.in_force = settings.clone();
        for gone in self.providers.keys().filter(|name| !built.providers.contains_key(*name)) {
            self.services.metrics.forget_provider(gone);
        }
        self.providers = built.providers;
        let mut state = self.admin.state.write();
        let before = std::mem::replace(&mut *state, built.state);
        let is_gone = |file: &str| !state.certificates.iter().any(|(kept, _)| kept == file);
        // A changed listener serves its old certificate until a restart.
        for (file, _) in before.certificates.iter().filter(|(file, _)| waits.is_empty() && is_gone(file)) {
            self.services.metrics.forget_certificate(file);
        }
        drop(state);
        self.live.store(Arc::new(built.live));
    }
}

impl Upkeep {
    fn follow(&mut self, providers: &Providers, live: &Live) {
        self.providers.retain(|(kept, _)| providers.values().any(|provider| Arc::ptr_eq(provider, kept)));
        for provider in providers.values() {
            if !self.providers.iter().any(|(kept, _)| Arc::ptr_eq(provider, kept)) {
                let task = Task(tokio::spawn(provider.clone().keep_fresh()));
                self.providers.push((provider.clone(), task));
            }
        }
        self.upstreams =
            live.upstreams.iter().map(|upstreams| Task(tokio::spawn(upstreams.clone().keep_checked()))).collect();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
