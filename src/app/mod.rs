//! Builds everything once and connects it; builds it anew on a reload. The command line is in [`command`].

pub mod command;
mod realms;
mod reload;
mod services;

use crate::app::realms::Realms;
use crate::app::services::StoreState;
use crate::caller::rate_limit::Limiter;
use crate::caller::tarpit::Tarpit;
use crate::config::settings::{Route, Settings};
use crate::credential::api_key::keyring::Keyring;
use crate::credential::introspection::Introspections;
use crate::credential::unknown::UnknownTokens;
use crate::credential::verified::VerifiedTokens;
use crate::credential::verifier::{Issuer, Policy, Verifier};
use crate::edge::admin::{Admin, RouteLine, State};
use crate::edge::api::Api;
use crate::edge::listen::{Common, Connections};
use crate::edge::server::Work;
use crate::edge::sockets::Sockets;
use crate::edge::tls::Certificates;
use crate::edge::upstream::Upstreams;
use crate::edge::{Live, server};
use crate::gate::cookies::OwnCookies;
use crate::gate::gate::Gate;
use crate::gate::identity_headers::HeaderFilter;
use crate::gate::refusal::Pages;
use crate::gate::route::{self, Table};
use crate::kit::clock::Clock;
use crate::kit::entropy::{Entropy, Ids};
use crate::kit::secret::Secret;
use crate::login::return_url::ReturnUrls;
use crate::provider::Provider;
use crate::provider::remote::{OnNewKeys, RemoteProvider};
use crate::session::sessions::Sessions;
use crate::store::kv::Kv;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::{Cache, Metrics};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

/// What lives as long as the process, whatever a reload brings.
pub(crate) struct Services {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    caches: Caches,
    /// The cache of refused tokens in force: providers tell it of new keys.
    refused: Arc<ArcSwapOption<UnknownTokens>>,
    limiter: Arc<Limiter>,
    tarpit: Arc<Tarpit>,
    /// None: there is no secret that keys could be sealed with.
    keys: Option<Arc<Keyring>>,
    kv: Arc<dyn Kv>,
    sessions: Arc<Sessions>,
    entropy: Arc<dyn Entropy>,
    /// What looks after a shared store; taken when the process starts.
    upkeep: Option<Work>,
    /// Whether the store answers.
    store: StoreState,
    /// The store's own, as the process was started with them.
    secrets: Vec<Secret>,
    /// For providers without a secret of their own, where the file names none.
    made_secret: Secret<Vec<u8>>,
}

/// Caches of tokens. A reload replaces those whose settings it changes.
#[derive(Clone)]
pub(crate) struct Caches {
    verified: Option<Arc<VerifiedTokens>>,
    unknown: Option<Arc<UnknownTokens>>,
    introspections: Arc<Introspections>,
}

/// One configuration, built.
pub(crate) struct Built {
    live: Live,
    providers: Providers,
    state: State,
}

pub(crate) type Providers = BTreeMap<Arc<str>, Arc<RemoteProvider>>;

/// How the process was asked to run.
pub struct Invocation {
    pub config: PathBuf,
    pub upgrade: bool,
}

/// Runs the gateway to its end.
///
/// # Errors
/// What keeps it from starting, for the operator.
pub fn run(invocation: Invocation, settings: Settings, log: Arc<Log>) -> Result<(), String> {
    let mut foundation = Services::new(&settings)?;
    let built = build(&settings, &foundation, &foundation.caches, &Providers::new())?;
    let listeners = settings.listen.iter().map(|listener| {
        let certificates =
            (!listener.certificates.is_empty()).then(|| Certificates::load(&listener.certificates).map(Arc::new));
        Ok((listener.clone(), certificates.transpose()?))
    });
    let listeners: Vec<_> = listeners.collect::<Result<_, String>>()?;
    let access_log = AccessLog::start(settings.logging.of_access(), std::io::stdout())
        .map_err(|e| format!("no thread for the access log: {e}"))?;
    let last_lines = access_log.clone();
    let connections = Arc::new(Connections::default());
    connections.set_grace(settings.shutdown_grace);
    connections.set_delay(settings.shutdown_delay);
    let most_in_flight = Arc::new(AtomicUsize::new(settings.requests_in_flight));
    let live = Arc::new(ArcSwap::from_pointee(built.live));
    let admin = Arc::new(Admin {
        metrics: foundation.metrics.clone(),
        connections: connections.clone(),
        sockets: Arc::new(Sockets::new(listeners.iter().map(|(own, _)| own.address).collect(), settings.workers)),
        sessions: foundation.sessions.clone(),
        store: Box::new({
            let store = foundation.store.clone();
            move || store.now()
        }),
        api: Api { keys: foundation.keys.clone(), kv: foundation.kv.clone(), place_of: services::told_of },
        begun: Instant::now(),
        state: built.state.into(),
    });
    let upkeep_of_store = foundation.upkeep.take();
    let background = reload::background(reload::Reloader {
        config: invocation.config.clone(),
        started: settings.clone(),
        foundation,
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
    let upgrade_socket = match upgrade_socket(&invocation.config) {
        Ok(socket) => socket,
        Err(problem) if invocation.upgrade => return Err(problem),
        Err(problem) => {
            tracing::warn!(%problem, "this process cannot hand its listeners over to a next one");
            PathBuf::from("/dev/null/none") // a place where no socket can be
        }
    };
    server::run(server::Parts {
        listeners,
        common: Common { live, access_log, connections, workers: settings.workers },
        admin_address: settings.admin.address,
        admin,
        most_in_flight,
        upgrade: invocation.upgrade,
        upgrade_socket,
        background: Box::pin(async move {
            tokio::join!(background, async {
                if let Some(upkeep) = upkeep_of_store {
                    upkeep.await;
                }
            });
        }),
        at_exit: Box::new(move || {
            last_lines.finish();
            log.close();
        }),
    })
}

/// Builds a configuration. Providers whose settings have not changed are kept, with all that they know.
pub(crate) fn build(
    settings: &Settings,
    foundation: &Services,
    caches: &Caches,
    before: &Providers,
) -> Result<Built, String> {
    let metrics = &foundation.metrics;
    let refused = foundation.refused.clone();
    let on_new_keys: OnNewKeys = Arc::new(move |provider| {
        if let Some(refused) = refused.load().as_ref() {
            refused.forget_provider(provider);
        }
    });
    let mut providers = Providers::new();
    for own in &settings.providers {
        let kept = before.get(&own.name).filter(|provider| provider.settings() == own).cloned();
        let provider = match kept {
            Some(provider) => provider,
            None => RemoteProvider::new(
                own.clone(),
                foundation.clock.clone(),
                metrics.provider(&own.name),
                on_new_keys.clone(),
            )
            .map_err(|e| format!("providers.{}: {e}", own.name))?,
        };
        providers.insert(own.name.clone(), provider);
    }
    let upstreams: Vec<Arc<Upstreams>> =
        settings.routes.iter().map(|r| Upstreams::new(r.upstream.clone()).map(Arc::new)).collect::<Result<_, _>>()?;
    let realms = Realms::new(settings, foundation, &providers);
    let routes = settings
        .routes
        .iter()
        .enumerate()
        .map(|(i, r)| build_route(i, r, &providers, &realms, settings, metrics))
        .collect();
    let gate = Gate {
        clock: foundation.clock.clone(),
        entropy: foundation.entropy.clone(),
        request_ids: Ids::new(foundation.entropy.clone()),
        verifier: Verifier {
            clock: foundation.clock.clone(),
            verified: caches.verified.clone().map(|cache| (cache, metrics.cache(Cache::verified_tokens))),
            unknown: caches.unknown.clone().map(|cache| (cache, metrics.cache(Cache::unknown_tokens))),
            introspections: caches.introspections.clone(),
        },
        keys: foundation.keys.clone(),
        limiter: foundation.limiter.clone(),
        tarpit: foundation.tarpit.clone(),
        table: Table::new(routes),
        client_ip: settings.client_ip.clone(),
        auth_path: settings.auth_path.clone(),
        stripping: HeaderFilter::new(settings.routes.iter().flat_map(|r| r.gate.headers.names())),
        cookies: OwnCookies::new(
            settings.routes.iter().map(|r| r.gate.cookie.clone()).collect(),
            settings.providers.iter().map(|p| p.name.to_string()).collect(),
        ),
        pages: Pages::default(),
        sessions: foundation.sessions.clone(),
        return_urls: ReturnUrls { origins: settings.return_origins.clone(), auth_path: settings.auth_path.clone() },
        warned: std::sync::atomic::AtomicBool::new(false),
        unanswered: Default::default(),
        unrouted: Arc::new(metrics.route("-")),
    };
    let state = State {
        verified: caches.verified.clone(),
        unknown: caches.unknown.clone(),
        introspections: caches.introspections.clone(),
        token: settings.admin.token.clone(),
        hosts: settings.admin.hosts.clone(),
        providers: providers.values().cloned().collect(),
        routes: settings.routes.iter().zip(&upstreams).map(route_line).collect(),
    };
    Ok(Built { live: Live { gate, upstreams }, providers, state })
}

fn build_route(
    index: usize,
    route: &Route,
    providers: &Providers,
    realms: &Realms,
    settings: &Settings,
    metrics: &Metrics,
) -> Arc<route::Route> {
    let policy = |names: &[Arc<str>]| {
        let issuers = names.iter().filter_map(|name| {
            let provider: Arc<dyn Provider> = providers.get(name)?.clone();
            Some(Issuer::new(provider, metrics.provider(name)))
        });
        Policy::new(issuers.collect())
    };
    let site = realms.site(&route.gate.access, &settings.auth_path);
    Arc::new(route::Route::new(index, route.gate.clone(), policy, site, metrics.route(&route.gate.name)))
}

fn route_line((route, upstreams): (&Route, &Arc<Upstreams>)) -> RouteLine {
    let access = match &route.gate.access {
        route::AccessSettings::Public => "public",
        route::AccessSettings::Protected(_) => "protected",
    };
    RouteLine { name: route.gate.name.to_string(), from: route.from.clone(), access, upstreams: upstreams.clone() }
}

/// In a folder that only this user can enter; one for each configuration file. Where no such folder can be made, there is
/// no hand-over, and all else works.
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

    /// What is in force under this configuration.
    pub(crate) fn built(text: &str) -> Live {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let sources = crate::config::Sources { file: std::path::Path::new("test.yaml"), text, env: Vec::new() };
        let settings = crate::config::check(&sources).unwrap_or_else(|problems| panic!("{problems:#?}")).settings;
        let mut settings = settings;
        settings.store.backend = crate::config::settings::Backend::Memory;
        let foundation = Services::new(&settings).unwrap();
        build(&settings, &foundation, &foundation.caches, &Providers::new()).unwrap().live
    }
}
