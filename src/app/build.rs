//! Builds one configuration: the gate, the upstreams, what the admin pages show.

use crate::admin::{RouteLine, State};
use crate::app::realms::{Realms, common_secrets, secrets};
use crate::app::services::{Caches, Providers, Services};
use crate::config::settings::{Route, Settings};
use crate::credential::policy::{Issuer, Policy};
use crate::credential::verifier::Verifier;
use crate::edge::live::Live;
use crate::edge::upstream::Upstreams;
use crate::gate::authenticate::Authenticator;
use crate::gate::cookies::OwnCookies;
use crate::gate::gate::{Endpoints, Gate, Warned};
use crate::gate::identity_headers::HeaderFilter;
use crate::gate::outbound_headers::{ServiceToken, ServiceTokenSettings};
use crate::gate::refusal::Html;
use crate::gate::rewrite::Rewrite;
use crate::gate::route;
use crate::gate::table::Table;
use crate::kit::entropy::Ids;
use crate::kit::recent::Recent;
use crate::login::return_url::ReturnUrls;
use crate::outbound::service_token::Wanted;
use crate::outbound::signing_keys::Wanted as WantedKeys;
use crate::provider::Provider;
use crate::provider::remote::{OnNewKeys, RemoteProvider};
use crate::provider::settings::Scope;
use crate::telemetry::metrics::Cache;
use http::HeaderName;
use std::sync::Arc;

/// What is built from one configuration.
pub(crate) struct Built {
    pub(super) live: Live,
    pub(super) providers: Providers,
    pub(super) state: State,
}

/// Builds a configuration. Providers whose settings have not changed are kept with their state.
pub(crate) fn build(
    settings: &Settings,
    services: &Services,
    caches: &Caches,
    before: &Providers,
) -> Result<Built, String> {
    let metrics = &services.metrics;
    let refused = services.refused.clone();
    let on_new_keys: OnNewKeys = Arc::new(move |_| {
        if let Some(refused) = refused.load().as_ref() {
            refused.forget_all();
        }
    });
    let providers = build_providers(settings, services, before, &on_new_keys)?;
    let upstreams: Vec<Arc<Upstreams>> =
        settings.routes.iter().map(|r| Upstreams::new(r.upstream.clone()).map(Arc::new)).collect::<Result<_, _>>()?;
    let realms = Realms::new(settings, services, &providers);
    let routes = settings
        .routes
        .iter()
        .enumerate()
        .map(|(i, r)| build_route(i, r, &providers, &realms, settings, services))
        .collect();
    let set_names = set_names(settings);
    let branding = settings.file.pages.read().map_err(|all| {
        all.iter().map(|(key, problem)| format!("pages.{key}: {problem}")).collect::<Vec<_>>().join("; ")
    })?;
    let gate = Gate {
        clock: services.clock.clone(),
        client_ip: settings.file.client_ip.clone(),
        ids: Ids::new(services.entropy.clone()),
        routes: Table::new(routes),
        authenticator: authenticator(services, caches),
        endpoints: Endpoints {
            path: settings.file.auth_path.as_str().into(),
            sessions: services.sessions.clone(),
            entropy: services.entropy.clone(),
            return_urls: ReturnUrls {
                origins: settings.return_origins.clone(),
                auth_path: settings.file.auth_path.as_str().into(),
            },
            html: Html::new(branding),
        },
        assertions: services.assertions.clone(),
        rewrite: Rewrite {
            header_filter: HeaderFilter::new(set_names.iter()),
            cookies: OwnCookies::new(
                settings.routes.iter().map(|r| r.gate.cookie.clone()).collect(),
                settings.file.providers.keys().cloned().collect(),
            ),
        },
        unrouted: Arc::new(metrics.route("-")),
        warned: Warned::default(),
    };
    let longest_ttl = settings.routes.iter().filter_map(|route| Some(route.gate.assertion.as_ref()?.ttl)).max();
    services.assertions.keys().configure(longest_ttl.map(|longest_ttl| WantedKeys {
        rotate: settings.file.assertion.rotate.period(),
        longest_ttl,
        secrets: common_secrets(services, &providers),
    }));
    let files = settings.listeners().flat_map(|listener| listener.certificates());
    let certificates: Vec<(String, i64)> =
        files.filter_map(|files| Some((files.certificate.display().to_string(), files.expires()?))).collect();
    certificates.iter().for_each(|(name, expires)| metrics.certificate(name, *expires));
    let state = State {
        signing_keys: longest_ttl.map(|_| services.assertions.keys().clone()),
        certificates,
        verified: caches.verified.clone(),
        unknown: caches.unknown.clone(),
        introspections: caches.introspections.clone(),
        token: settings.file.admin.token.clone(),
        hosts: settings.file.admin.hosts.clone(),
        providers: providers.values().cloned().collect(),
        realms: realms.all(),
        routes: settings.routes.iter().zip(&upstreams).map(route_line).collect(),
    };
    Ok(Built { live: Live { gate, upstreams }, providers, state })
}

fn build_providers(
    settings: &Settings,
    services: &Services,
    before: &Providers,
    on_new_keys: &OnNewKeys,
) -> Result<Providers, String> {
    let mut providers = Providers::new();
    for own in settings.file.providers.values() {
        let kept = before.get(&own.name).filter(|provider| provider.settings() == own).cloned();
        let provider = match kept {
            Some(provider) => provider,
            None => {
                let metrics = services.metrics.provider(&own.name);
                RemoteProvider::new(own.clone(), services.clock.clone(), metrics, on_new_keys.clone())
                    .map_err(|e| format!("providers.{}: {e}", own.name))?
            }
        };
        providers.insert(own.name.clone(), provider);
    }
    Ok(providers)
}

fn authenticator(services: &Services, caches: &Caches) -> Authenticator {
    let metrics = &services.metrics;
    Authenticator {
        verifier: Verifier {
            clock: services.clock.clone(),
            verified: caches.verified.clone().map(|cache| (cache, metrics.cache(Cache::verified_tokens))),
            unknown: caches.unknown.clone().map(|cache| (cache, metrics.cache(Cache::unknown_tokens))),
            introspections: caches.introspections.clone(),
        },
        keyring: services.keys.clone(),
        recent: Recent::default(),
        limiter: services.limiter.clone(),
        tarpit: services.tarpit.clone(),
        sessions: services.sessions.clone(),
    }
}

fn build_route(
    index: usize,
    route: &Route,
    providers: &Providers,
    realms: &Realms,
    settings: &Settings,
    services: &Services,
) -> Arc<route::Route> {
    let metrics = &services.metrics;
    let resources = route.gate.resource.iter().map(|resource| resource.address.clone()).collect::<Vec<_>>();
    let policy = |names: &[Arc<str>]| {
        let issuers = names.iter().filter_map(|name| {
            let provider: Arc<dyn Provider> = providers.get(name)?.clone();
            Some(Issuer::new(provider, metrics.provider(name), &resources))
        });
        Policy::new(issuers.collect())
    };
    let service_token = route.gate.service_token.as_ref().and_then(|own| service_token(own, providers, services));
    let sites = realms.sites(&route.gate.access, settings.file.auth_path.as_str());
    Arc::new(route::Route::new(
        index,
        route.gate.clone(),
        policy,
        sites,
        service_token,
        metrics.route(&route.gate.name),
    ))
}

/// Every header that a route sets, beside those of the presets.
fn set_names(settings: &Settings) -> Vec<HeaderName> {
    let of_route = |route: &Route| {
        let own = &route.gate;
        let token = own.service_token.as_ref().and_then(|token| token.header.as_str().parse::<HeaderName>().ok());
        let assertion = own.assertion.iter().map(|assertion| assertion.header.clone());
        own.headers.names().cloned().chain(assertion).chain(token).collect::<Vec<_>>()
    };
    settings.routes.iter().flat_map(of_route).collect()
}

fn service_token(own: &ServiceTokenSettings, providers: &Providers, services: &Services) -> Option<ServiceToken> {
    let named = own.provider.as_deref();
    let provider = match named {
        Some(name) => providers.get(name)?,
        None => providers.values().next()?,
    };
    let secrets = secrets(services, provider.as_ref());
    let metrics = services.metrics.provider(provider.name());
    metrics.fetches_for_upstream();
    let scope = own.scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ");
    let wanted = Wanted::new(provider.clone(), metrics, secrets, own.grant, scope, own.audience.clone());
    Some(ServiceToken {
        header: own.header.as_str().parse().ok()?,
        wanted: Arc::new(wanted),
        tokens: services.service_tokens.clone(),
    })
}

fn route_line((route, upstreams): (&Route, &Arc<Upstreams>)) -> RouteLine {
    let access = match &route.gate.access {
        route::AccessSettings::Public => "public",
        route::AccessSettings::Protected(_) => "protected",
    };
    RouteLine { name: route.gate.name.to_string(), from: route.from.clone(), access, upstreams: upstreams.clone() }
}
