//! From raw values to what sessions need: cookies by origin, limits, and the store behind them.

use crate::config::Folder;
use crate::config::raw::{self, Accept, Auth, Config};
use crate::config::resolve::route::{From, from, provider_of};
use crate::config::settings::{Backend, SessionCache, SharedStore, Store};
use crate::gate::route::{Hosts, SessionSettings};
use crate::kit::secret::Secret;
use crate::login::cookie::{CookieSpec, SameSite};
use crate::login::relying_party::Origin;
use crate::login::return_url::{HostPattern, Pattern};
use crate::session::outcome::Dedup;
use crate::session::session::{Limits, RefreshLimits};
use crate::store::{fallback, redis};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) fn session(raw: &Config, route: &raw::Route, place: &From, provider: &str) -> SessionSettings {
    let (global, over) = (&raw.session, &route.session);
    let none_at_zero = |span: Duration| Some(span).filter(|span| !span.is_zero());
    let same_site = match over.cookie.same_site.unwrap_or(global.cookie.same_site) {
        raw::SameSite::Lax => SameSite::Lax,
        raw::SameSite::Strict => SameSite::Strict,
        raw::SameSite::None => SameSite::None,
    };
    let mut base = cookie_name(raw, route).to_string();
    let shares_jar = shares_a_jar(raw, route, provider);
    if shares_jar {
        base = format!("{base}_{provider}");
    }
    let settings = raw.providers.get(provider);
    let mut params = settings.map(|p| p.authorization_params.clone()).unwrap_or_default();
    if let Auth::Protected(auth) = &route.auth {
        params.extend(auth.authorization_params.clone());
    }
    SessionSettings {
        provider: provider.into(),
        cookie: CookieSpec::new(&base, domain(raw, route).cloned(), same_site, place.https),
        limits: Limits {
            max_age: over.max_age.unwrap_or(global.max_age).0,
            idle_timeout: none_at_zero(over.idle_timeout.unwrap_or(global.idle_timeout).0),
        },
        refresh: RefreshLimits {
            before_expiry: over.refresh.before_expiry.unwrap_or(global.refresh.before_expiry).0,
            max_token_age: none_at_zero(over.refresh.max_token_age.unwrap_or(global.refresh.max_token_age).0),
        },
        origin: match (&place.hosts, &raw.public_url) {
            (Hosts::Any, Some(public)) => Origin::Fixed(public.trim_end_matches('/').to_string()),
            _ => Origin::OfHost { https: place.https, port: place.port },
        },
        redirect_uri: settings.and_then(|p| p.redirect_uri.clone()),
        shares_jar,
        params: params
            .iter()
            .flat_map(|(name, values)| values.as_slice().iter().map(|value| (name.clone(), value.clone())))
            .collect(),
        access_token: route.headers.access_token,
    }
}

fn cookie_name<'a>(raw: &'a Config, route: &'a raw::Route) -> &'a str {
    route.session.cookie.name.as_deref().unwrap_or(&raw.session.cookie.name)
}

fn domain<'a>(raw: &'a Config, route: &'a raw::Route) -> Option<&'a String> {
    route.session.cookie.domain.as_ref().or(raw.session.cookie.domain.as_ref())
}

/// Another provider's people come to the same host (cookies know no ports) or the same cookie domain: each provider then
/// has a cookie of its own.
pub(crate) fn shares_a_jar(raw: &Config, route: &raw::Route, provider: &str) -> bool {
    let own = from(raw, &route.from).ok();
    raw.routes.iter().any(|(_, other)| {
        let Auth::Protected(auth) = &other.auth else { return false };
        let foreign =
            auth.accept.contains(&Accept::Session) && provider_of(raw, auth).is_some_and(|name| name != provider);
        let one_domain = domain(raw, route).is_some() && domain(raw, route) == domain(raw, other);
        let one_host = || match (&own, from(raw, &other.from)) {
            (Some(one), Ok(two)) => overlap(&one.hosts, &two.hosts),
            _ => false,
        };
        foreign && cookie_name(raw, route) == cookie_name(raw, other) && (one_domain || one_host())
    })
}

fn overlap(one: &Hosts, two: &Hosts) -> bool {
    match (one, two) {
        (Hosts::Any, _) | (_, Hosts::Any) => true,
        (Hosts::One(a), Hosts::One(b)) => a == b,
        (Hosts::One(name), Hosts::Below(suffix)) | (Hosts::Below(suffix), Hosts::One(name)) => name.ends_with(suffix),
        (Hosts::Below(a), Hosts::Below(b)) => a.ends_with(b) || b.ends_with(a),
    }
}

/// The origins that a browser may be sent on to.
pub(crate) fn return_origins(raw: &Config) -> Vec<Pattern> {
    let places = raw.routes.iter().filter_map(|(_, route)| from(raw, &route.from).ok());
    let mut patterns: Vec<Pattern> = places
        .filter_map(|place| {
            let host = match place.hosts {
                Hosts::One(name) => HostPattern::One(name),
                Hosts::Below(suffix) => HostPattern::Below(suffix),
                Hosts::Any => return None,
            };
            Some(Pattern { https: place.https, host, port: place.port? })
        })
        .collect();
    let public = raw.public_url.as_deref().and_then(crate::config::resolve::http_url);
    patterns.extend(public.and_then(|url| {
        Some(Pattern {
            https: url.scheme() == "https",
            host: HostPattern::One(url.host_str()?.into()),
            port: url.port_or_known_default()?,
        })
    }));
    patterns
}

pub(crate) fn store(raw: &Config, folder: &Folder, env: &[(String, String)]) -> Store {
    let state = env.iter().find(|(name, value)| name == "STATE_DIRECTORY" && !value.is_empty());
    let path = match state {
        // systemd may name several, with colons between.
        Some((_, folder)) => PathBuf::from(folder.split(':').next().unwrap_or_default()).join(&raw.store.path),
        None => folder.join(&raw.store.path),
    };
    Store {
        backend: match raw.store.backend {
            raw::Backend::File => Backend::File(path),
            raw::Backend::Memory => Backend::Memory,
            raw::Backend::Redis => Backend::Redis(Box::new(shared(&raw.store.redis, folder))),
        },
        secrets: raw.store.secret.iter().flat_map(|s| s.as_slice()).map(|secret| secret.clone().into()).collect(),
        told: format!("{:?} {:?} {:?}", raw.store.backend, raw.store.path, raw.store.redis),
    }
}

pub(crate) fn copies(raw: &Config) -> Option<SessionCache> {
    let cache = &raw.caches.sessions;
    cache.enabled.then_some(SessionCache { max_entries: cache.max_entries, ttl: cache.ttl.0 })
}

fn shared(raw: &raw::Redis, folder: &Folder) -> SharedStore {
    SharedStore {
        redis: redis::Settings {
            urls: raw.urls.clone(),
            mode: match raw.mode {
                raw::RedisMode::Standalone => redis::Mode::Standalone,
                raw::RedisMode::Cluster => redis::Mode::Cluster,
                raw::RedisMode::Sentinel => redis::Mode::Sentinel {
                    master_name: raw.master_name.clone().unwrap_or_default(),
                    user: raw.sentinel_user.clone(),
                    password: raw.sentinel_password.clone().map(Secret::from),
                },
            },
            key_prefix: raw.key_prefix.clone(),
            ca_file: raw.ca_file.as_ref().map(|file| folder.join(file)),
            client: raw.certificate.as_ref().zip(raw.private_key.as_ref()).map(|(certificate, key)| {
                redis::ClientFiles { certificate: folder.join(certificate), private_key: folder.join(key) }
            }),
            connect_timeout: raw.connect_timeout.0,
            command_timeout: raw.command_timeout.0,
        },
        fallback: fallback::Settings {
            failures: raw.breaker.failures,
            cooldown: raw.breaker.cooldown.0,
            enabled: raw.fallback.enabled,
            max_entries: raw.fallback.max_entries,
        },
    }
}

pub(crate) fn dedup(raw: &Config) -> Dedup {
    let own = &raw.refresh_dedup;
    Dedup {
        enabled: own.enabled,
        result_ttl: own.result_ttl.0,
        lease: own.lease.0,
        grace: raw.store.redis.fallback.grace.0,
    }
}
