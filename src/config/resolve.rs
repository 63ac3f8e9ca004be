//! From raw values to settings: each value is judged for itself, and what it means is worked out. A part that cannot be
//! read is reported and left out, so that the others are judged all the same.

mod provider;
pub(super) mod route;
pub(super) mod session;

use crate::caller::address::{ClientIp, ForwardingHeader};
use crate::config::Folder;
use crate::config::diagnostics::Problems;
use crate::config::raw::{self, Config};
use crate::config::settings::Settings;
use crate::credential::api_key::{KeyDigest, KeyId, Record};
use crate::edge::connection::Limits;
use crate::edge::tls::CertificateFiles;
use crate::gate::host::Host;
use crate::gate::path::CanonicalPath;
use crate::telemetry::access_log::Format;
use crate::telemetry::log::Logging;
use crate::{credential, edge};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};
use tracing::Level;
use url::Url;

pub(crate) fn resolve(raw: &Config, folder: &Folder, env: &[(String, String)], problems: &mut Problems) -> Settings {
    let kept = route::claims_named(raw);
    Settings {
        listen: listeners(raw, folder, problems),
        admin: admin(&raw.admin, problems),
        auth_path: auth_path(&raw.auth_path, problems),
        shutdown_grace: raw.shutdown_grace.0,
        shutdown_delay: raw.shutdown_delay.0,
        requests_in_flight: usize::try_from(raw.limits.requests_in_flight).unwrap_or(usize::MAX),
        workers: match raw.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => usize::from(n),
        },
        logging: logging(&raw.logging),
        client_ip: client_ip(&raw.client_ip, problems),
        providers: raw
            .providers
            .iter()
            .filter_map(|(name, p)| provider::provider(name, p, &kept, folder, problems))
            .collect(),
        routes: raw.routes.iter().filter_map(|(i, r)| route::route(raw, i, r, folder, problems)).collect(),
        verified_tokens: verified_tokens(&raw.caches.verified_tokens, problems),
        introspection: introspection(&raw.caches.introspection),
        unknown_tokens: unknown_tokens(&raw.caches.unknown_tokens),
        api_keys: key_cache(&raw.caches.api_keys),
        own_keys: raw.api_keys.iter().filter_map(|(i, key)| own_key(i, key, problems)).collect(),
        return_origins: session::return_origins(raw),
        store: session::store(raw, folder, env),
        dedup: session::dedup(raw),
        copies: session::copies(raw),
    }
}

fn listeners(raw: &Config, folder: &Folder, problems: &mut Problems) -> Vec<edge::Settings> {
    if raw.listen.is_empty() && !problems.is_written("listen.0") {
        problems.add("listen", "names no address; add one, or leave the key out");
    }
    let mut taken: Vec<(String, SocketAddr)> =
        raw.admin.address.parse().ok().map(|a| ("admin.address".to_string(), a)).into_iter().collect();
    let mut all = Vec::new();
    for (i, raw) in raw.listen.iter() {
        let Some(settings) = listener(i, raw, folder, problems) else { continue };
        let path = format!("listen.{i}");
        if let Some((other, _)) = taken.iter().find(|(_, address)| *address == settings.address) {
            problems.add(&path, format!("{} is the address of {other}, too; change one", settings.address));
        }
        taken.push((path, settings.address));
        all.push(settings);
    }
    all
}

fn listener(i: usize, raw: &raw::Listener, folder: &Folder, problems: &mut Problems) -> Option<edge::Settings> {
    let path = format!("listen.{i}");
    let (full, address_path) = match raw {
        raw::Listener::Address(address) => (
            raw::Listen {
                address: address.clone(),
                redirect_to_https: false,
                max_head: raw::default_max_head(),
                head_timeout: raw::default_head_timeout(),
                idle_timeout: raw::default_idle_timeout(),
                max_connections: raw::default_max_connections(),
                tls: None,
            },
            path.clone(),
        ),
        raw::Listener::Full(full) => ((**full).clone(), format!("{path}.address")),
    };
    for (key, span) in [("head_timeout", full.head_timeout), ("idle_timeout", full.idle_timeout)] {
        positive(span.0, &format!("{path}.{key}"), problems);
    }
    if full.max_head.0 < 1024 || full.max_head.0 > 1 << 20 {
        problems.add(&format!("{path}.max_head"), "must be from 1KiB to 1MiB");
    }
    if full.max_connections == 0 {
        problems.add(&format!("{path}.max_connections"), "must be at least 1");
    }
    let pairs = full.tls.as_ref().map(|tls| tls.as_slice()).unwrap_or_default();
    if full.tls.is_some() && pairs.is_empty() {
        problems.add(&format!("{path}.tls"), "names no certificate; add one, or leave `tls` out");
    }
    if full.redirect_to_https && !pairs.is_empty() {
        problems.add(
            &format!("{path}.redirect_to_https"),
            "a listener with `tls` cannot redirect to https; remove one of them",
        );
    }
    Some(edge::Settings {
        address: address(&full.address, &address_path, problems)?,
        redirect_to_https: full.redirect_to_https,
        max_head: full.max_head.0,
        limits: Limits { head: full.head_timeout.0, idle: full.idle_timeout.0 },
        max_connections: usize::try_from(full.max_connections).unwrap_or(usize::MAX),
        certificates: pairs
            .iter()
            .map(|tls| CertificateFiles {
                certificate: folder.join(&tls.certificate),
                private_key: folder.join(&tls.private_key),
            })
            .collect(),
    })
}

/// `ip:port`; `:8080` and names are refused: what is listened on is not left to a resolver.
fn address(text: &str, path: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let parsed = text.parse::<SocketAddr>().ok().filter(|a| a.port() != 0);
    if parsed.is_none() {
        problems.add(path, format!("`{text}` is no address; write ip:port, such as 127.0.0.1:8080 or [::]:8080"));
    }
    parsed
}

fn admin(raw: &raw::Admin, problems: &mut Problems) -> crate::admin::Settings {
    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);
    crate::admin::Settings {
        address: address(&raw.address, "admin.address", problems).unwrap_or(ANY),
        token: Some(raw.token.clone()).filter(|token| !token.is_empty()).map(Into::into),
        hosts: hosts(raw, problems),
    }
}

/// The longest token that somebody could guess by trying.
const SHORTEST_TOKEN: usize = 16;

fn hosts(raw: &raw::Admin, problems: &mut Problems) -> Vec<String> {
    if (1..SHORTEST_TOKEN).contains(&raw.token.len()) {
        problems
            .add("admin.token", format!("must have at least {SHORTEST_TOKEN} bytes; `openssl rand -hex 32` makes one"));
    }
    let mut hosts = Vec::new();
    for (i, text) in raw.hosts.iter().enumerate() {
        match Host::parse(text) {
            Ok(host) if host.port().is_none() => hosts.push(host.name().to_string()),
            _ => {
                problems.add(&format!("admin.hosts.{i}"), format!("`{text}` is not the name of a host, without a port"))
            }
        }
    }
    hosts
}

fn auth_path(text: &str, problems: &mut Problems) -> String {
    let plain = CanonicalPath::of(text.as_bytes())
        .is_ok_and(|p| p.is_plain() && p.query().is_empty() && p.authority().is_none());
    if !plain || text.len() < 2 || text.ends_with('/') {
        problems.add(
            "auth_path",
            format!("`{text}` is no path of its own; write one such as /oauth2, without a slash at its end"),
        );
    }
    text.to_string()
}

fn logging(raw: &raw::Logging) -> Logging {
    Logging {
        format: match raw.format {
            raw::LogFormat::Json => Format::Json,
            raw::LogFormat::Text => Format::Text,
        },
        level: match raw.level {
            raw::LogLevel::Error => Level::ERROR,
            raw::LogLevel::Warn => Level::WARN,
            raw::LogLevel::Info => Level::INFO,
            raw::LogLevel::Debug => Level::DEBUG,
            raw::LogLevel::Trace => Level::TRACE,
        },
    }
}

fn client_ip(raw: &raw::ClientIp, problems: &mut Problems) -> ClientIp {
    let mut trusted_proxies = Vec::new();
    for (i, text) in raw.trusted_proxies.iter().enumerate() {
        let path = format!("client_ip.trusted_proxies.{i}");
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match net.map(|net| as_v4(net.trunc())) {
            Ok(net) if net.prefix_len() == 0 => {
                problems.add(&path, "trusts everyone, so that anyone may say who they are; name the proxies")
            }
            Ok(net) => trusted_proxies.push(net),
            Err(_) => problems.add(&path, format!("`{text}` is no network; write one such as 10.0.0.0/8 or fd00::/8")),
        }
    }
    let header = match raw.header {
        raw::ForwardingHeader::XForwardedFor => ForwardingHeader::XForwardedFor,
        raw::ForwardingHeader::Forwarded => ForwardingHeader::Forwarded,
        raw::ForwardingHeader::XRealIp => ForwardingHeader::XRealIp,
        raw::ForwardingHeader::CfConnectingIp => ForwardingHeader::CfConnectingIp,
        raw::ForwardingHeader::TrueClientIp => ForwardingHeader::TrueClientIp,
    };
    ClientIp { trusted_proxies, header }
}

/// Peers are taken as IPv4 where their address is a mapped one.
fn as_v4(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(v6) => v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(v4, prefix)| IpNet::new(v4.into(), prefix).ok()).unwrap_or(net)
}

fn verified_tokens(raw: &raw::Cache, problems: &mut Problems) -> credential::verified::Settings {
    positive(raw.ttl.0, "caches.verified_tokens.ttl", problems);
    credential::verified::Settings { enabled: raw.enabled, max_entries: raw.max_entries, ttl: raw.ttl.0 }
}

fn introspection(raw: &raw::Cache) -> credential::introspection::Settings {
    credential::introspection::Settings { enabled: raw.enabled, max_entries: raw.max_entries, ttl: raw.ttl.0 }
}

fn unknown_tokens(raw: &raw::Cache) -> credential::unknown::Settings {
    credential::unknown::Settings { enabled: raw.enabled, max_entries: raw.max_entries, ttl: raw.ttl.0 }
}

fn key_cache(raw: &raw::Cache) -> credential::api_key::keyring::Settings {
    credential::api_key::keyring::Settings { enabled: raw.enabled, max_entries: raw.max_entries, ttl: raw.ttl.0 }
}

fn own_key(i: usize, raw: &raw::ApiKey, problems: &mut Problems) -> Option<Record> {
    const MEND: &str = "write it as `doorward api-key` prints it";
    let path = format!("api_keys.{i}");
    let id = KeyId::parse(&raw.id);
    if id.is_none() {
        problems.add(&format!("{path}.id"), format!("is no id of a key; {MEND}"));
    }
    let digest = KeyDigest::parse(&raw.digest);
    if digest.is_none() {
        problems.add(&format!("{path}.digest"), format!("is no SHA-256 in hex; {MEND}"));
    }
    if raw.user.trim().is_empty() {
        problems.add(&format!("{path}.user"), "must be a text that is not empty");
    }
    let mut expires_at = None;
    if let Some(text) = &raw.expires_at {
        let since_epoch = humantime::parse_rfc3339_weak(text).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        expires_at = since_epoch.and_then(|since| i64::try_from(since.as_secs()).ok());
        if expires_at.is_none() {
            problems.add(
                &format!("{path}.expires_at"),
                format!("`{text}` is no time; write one such as 2030-01-31T12:00:00Z"),
            );
        }
    }
    Some(Record {
        id: id?,
        digest: digest?,
        name: None,
        user: raw.user.clone(),
        email: raw.email.clone(),
        groups: raw.groups.clone(),
        scopes: raw.scopes.clone(),
        routes: raw.routes.clone(),
        created: None,
        expires_at,
        last_used: None,
    })
}

/// An absolute http or https URL without credentials in it.
pub(crate) fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

/// `0s` means none only where the contract says so.
pub(crate) fn positive(span: Duration, path: &str, problems: &mut Problems) {
    if span.is_zero() {
        problems.add(path, "must be more than nothing");
    }
}
