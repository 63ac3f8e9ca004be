//! What contradicts itself, or is dangerous, in the store and what routes need of it.

use crate::config::diagnostics::Problems;
use crate::config::file::{Accept, File};
use crate::config::validate::Seen;
use crate::edge::{tls, upstream};
use crate::kit::setting::is_loopback;
use crate::provider::{self, settings::ClientAuth};
use crate::store::redis::{self, Mode};
use crate::store::settings::Backend;

pub(super) fn find(file: &File, seen: &[Seen<'_>], problems: &mut Problems) {
    let (store, redis) = (&file.store, &file.store.redis);
    if store.secret.as_ref().is_some_and(|secrets| secrets.as_slice().is_empty()) {
        problems.add_below("store.secret", "the list is empty; add a secret, or leave the key out");
    }
    if redis.urls.is_empty() {
        problems.add_below("store.redis.urls", "names no server; add one");
    }
    if redis.mode == Mode::Sentinel && redis.master_name.is_none() {
        let told = "is required with `mode: sentinel`; add the name that the sentinels watch";
        problems.add("store.redis.master_name", told);
    }
    for (missing, other, key) in [
        (&redis.private_key, &redis.certificate, "private_key"),
        (&redis.certificate, &redis.private_key, "certificate"),
    ] {
        if missing.is_none() && other.is_some() {
            problems.add(&format!("store.redis.{key}"), "is missing; a client certificate needs both");
        }
    }
    if store.backend != Backend::Redis {
        return;
    }
    for (i, url) in redis.urls.iter().enumerate() {
        if url.parsed().is_some_and(|url| url.scheme() == "redis" && !is_loopback(&url)) {
            problems.warn(
                &format!("store.redis.urls.{i}"),
                "is without TLS: whoever is on the way can read the password; write rediss://",
            );
        }
    }
    if store.secret.is_none() {
        store_secret(file, seen, problems);
    }
    redis_files(redis, problems);
    if !problems.has_below("store.redis")
        && let Err(problem) = redis::check(redis)
    {
        problems.add("store.redis", problem);
    }
}

fn redis_files(redis: &redis::Settings, problems: &mut Problems) {
    if let Some(file) = &redis.ca_file
        && let Err(problem) = upstream::read_authorities(file)
    {
        problems.add("store.redis.ca_file", problem);
    }
    if let (Some(certificate), Some(private_key)) = (&redis.certificate, &redis.private_key) {
        let files = tls::CertificateFiles { certificate: certificate.clone(), private_key: private_key.clone() };
        if let Err(problem) = tls::Certificates::load(&[files]) {
            problems.add("store.redis.certificate", problem);
        }
    }
}

/// Replicas that share a Redis must share a secret.
fn store_secret(file: &File, seen: &[Seen<'_>], problems: &mut Problems) {
    if seen.iter().any(|seen| !file.sign_ins(seen.route).is_empty()) {
        problems.warn(
            "store.redis",
            "seals sessions with the client_secret alone, and whoever guesses that may forge them; set `store.secret`",
        );
    }
    for seen in seen {
        if seen.route.auth.protected().is_some_and(|auth| auth.accepts(Accept::ApiKey)) {
            problems.add(
                "store.secret",
                format!(
                    "is required: routes.{} accepts API keys, and replicas that share a Redis must share a secret",
                    seen.index
                ),
            );
        }
        let is_secretless = |provider: &provider::settings::Settings| {
            provider.client_secret.is_none()
                || matches!(provider.client_auth, ClientAuth::None | ClientAuth::PrivateKeyJwt)
        };
        let signs = seen.route.headers.assertion.is_some() && file.providers.values().all(is_secretless);
        let fetches = seen.route.upstream.token.as_ref().is_some_and(|token| {
            let named = token.provider.as_ref().and_then(|name| file.providers.get(name));
            named.or(file.providers.values().next()).is_some_and(is_secretless)
        });
        if signs || fetches {
            let told = format!(
                "is required: routes.{} keeps keys or tokens in the store, and there is no client secret to seal them with",
                seen.index
            );
            problems.add("store.secret", told);
        }
        let sign_ins = file.sign_ins(seen.route);
        let Some((_, auth)) = sign_ins.first() else { continue };
        let secretless =
            file.providers_of(auth).into_iter().find(|name| file.providers.get(*name).is_some_and(is_secretless));
        if let Some(name) = secretless {
            problems.add("store.secret", format!("is required: the client of {name} has no secret to derive a key from, and replicas that share a Redis must share one"));
        }
    }
}
