//! From raw values to settings: each value is judged for itself, and what it means is worked out. A part that cannot be
//! read is reported and left out, so that the others are judged all the same.

use crate::bearer::api_key::{KeyDigest, KeyId, Record};
use crate::client::forwarded::{ClientIp, ForwardingHeader};
use crate::config::Folder;
use crate::config::raw::{self, Algorithm, Config};
use crate::config::report::Problems;
use crate::config::resolve_route;
use crate::config::resolve_session;
use crate::config::settings::Settings;
use crate::edge::connection::Limits;
use crate::edge::tls::CertificateFiles;
use crate::gate::path::CanonicalPath;
use crate::provider::claims::ClaimPath;
use crate::provider::discovery::ENDPOINT_NAMES;
use crate::provider::{Audiences, ClientAuth, Mapping};
use crate::watch::access::Format;
use crate::watch::log::Logging;
use crate::{bearer, edge, provider};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};
use tracing::Level;
use url::Url;

pub(crate) fn resolve(raw: &Config, folder: &Folder, env: &[(String, String)], problems: &mut Problems) -> Settings {
    let kept = resolve_route::claims_named(raw);
    Settings {
        listen: listeners(raw, folder, problems),
        admin: admin(&raw.admin, problems),
        auth_path: auth_path(&raw.auth_path, problems),
        shutdown_grace: raw.shutdown_grace.0,
        workers: match raw.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => usize::from(n),
        },
        logging: logging(&raw.logging),
        client_ip: client_ip(&raw.client_ip, problems),
        providers: raw.providers.iter().filter_map(|(name, p)| provider(name, p, &kept, folder, problems)).collect(),
        routes: raw.routes.iter().filter_map(|(i, r)| resolve_route::route(raw, i, r, folder, problems)).collect(),
        verified_tokens: verified_tokens(&raw.caches.verified_tokens, problems),
        introspection: introspection(&raw.caches.introspection),
        unknown_tokens: unknown_tokens(&raw.caches.unknown_tokens),
        api_keys: key_cache(&raw.caches.api_keys),
        own_keys: raw.api_keys.iter().filter_map(|(i, key)| own_key(i, key, problems)).collect(),
        return_origins: resolve_session::return_origins(raw),
        store: resolve_session::store(raw, folder, env),
        dedup: resolve_session::dedup(raw),
        copies: resolve_session::copies(raw),
    }
}

fn listeners(raw: &Config, folder: &Folder, problems: &mut Problems) -> Vec<edge::listen::Settings> {
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

fn listener(i: usize, raw: &raw::Listener, folder: &Folder, problems: &mut Problems) -> Option<edge::listen::Settings> {
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
    Some(edge::listen::Settings {
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

fn admin(raw: &raw::Admin, problems: &mut Problems) -> edge::admin::Settings {
    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);
    edge::admin::Settings {
        address: address(&raw.address, "admin.address", problems).unwrap_or(ANY),
        token: Some(raw.token.clone()).filter(|token| !token.is_empty()).map(Into::into),
    }
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
        match net {
            Ok(net) if net.prefix_len() == 0 => {
                problems.add(&path, "trusts everyone, so that anyone may say who they are; name the proxies")
            }
            Ok(net) => trusted_proxies.push(net.trunc()),
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

fn verified_tokens(raw: &raw::Cache, problems: &mut Problems) -> bearer::verified::Settings {
    positive(raw.ttl.0, "caches.verified_tokens.ttl", problems);
    bearer::verified::Settings { enabled: raw.enabled, max_entries: raw.max_entries, ttl: raw.ttl.0 }
}

fn introspection(raw: &raw::Cache) -> bearer::introspections::Settings {
    bearer::introspections::Settings { enabled: raw.enabled, max_entries: raw.max_entries, ttl: raw.ttl.0 }
}

fn unknown_tokens(raw: &raw::Cache) -> bearer::unknown::Settings {
    bearer::unknown::Settings { enabled: raw.enabled, max_entries: raw.max_entries, ttl: raw.ttl.0 }
}

fn key_cache(raw: &raw::Cache) -> bearer::api_key::keys::Settings {
    bearer::api_key::keys::Settings { enabled: raw.enabled, max_entries: raw.max_entries, ttl: raw.ttl.0 }
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

fn provider(
    name: &str,
    raw: &raw::Provider,
    kept: &BTreeMap<String, Vec<ClaimPath>>,
    folder: &Folder,
    problems: &mut Problems,
) -> Option<provider::Settings> {
    let path = format!("providers.{name}");
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        problems.add(
            &path,
            "the name of a provider is made of letters, digits, `-` and `_`: it becomes part of a cookie's name",
        );
    }
    if raw.client_id.is_empty() {
        problems.add(&format!("{path}.client_id"), "is empty; write the id under which the provider knows the gateway");
    }
    client_auth(raw, &path, problems);
    positive(raw.timeout.0, &format!("{path}.timeout"), problems);
    if raw.algorithms.is_empty() {
        problems.add_empty(
            &format!("{path}.algorithms"),
            "without an algorithm no token verifies; name one, or leave the key out",
        );
    }
    login_values(raw, &path, problems);
    let claim = |key: &str, claim: &String, problems: &mut Problems| {
        if claim.is_empty() {
            problems.add(&format!("{path}.claims.{key}"), "is empty; write the name of a claim");
        }
        ClaimPath::new(claim.clone())
    };
    let claims = Mapping {
        user: claim("user", &raw.claims.user, problems),
        email: claim("email", &raw.claims.email, problems),
        name: claim("name", &raw.claims.name, problems),
        username: claim("username", &raw.claims.username, problems),
        groups: claim("groups", &raw.claims.groups, problems),
    };
    let endpoints = endpoints(raw, &path, problems);
    issuer(&raw.issuer, &format!("{path}.issuer"), problems)?;
    Some(provider::Settings {
        name: name.into(),
        issuer: raw.issuer.clone(),
        client_id: raw.client_id.clone(),
        client_auth: proof(raw),
        scopes: raw.scopes.clone(),
        userinfo: raw.userinfo == raw::Userinfo::Auto,
        audiences: audiences(raw, &path, problems),
        bearer_id_tokens: raw.bearer_id_tokens,
        introspection: raw.introspection,
        algorithms: raw.algorithms.iter().map(|a| algorithm(*a)).collect(),
        clock_skew: raw.clock_skew.0,
        timeout: raw.timeout.0,
        ca_file: raw.ca_file.as_ref().map(|file| folder.join(file)),
        claims,
        kept: kept.get(name).cloned().unwrap_or_default(),
        endpoints,
    })
}

fn issuer(text: &str, path: &str, problems: &mut Problems) -> Option<Url> {
    let url = http_url(text).filter(|url| url.query().is_none() && url.fragment().is_none());
    if url.is_none() {
        problems.add(path, format!("`{text}` is no issuer; write the URL that the provider names itself by, such as https://id.example.com/realms/corp"));
    }
    url
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

fn client_auth(raw: &raw::Provider, path: &str, problems: &mut Problems) {
    let has = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    match raw.client_auth {
        raw::ClientAuth::ClientSecretBasic | raw::ClientAuth::ClientSecretPost if !has(&raw.client_secret) => {
            problems.add(
                &format!("{path}.client_secret"),
                "is required for this client_auth; add it, or write `client_auth: none` for a public client",
            );
        }
        raw::ClientAuth::PrivateKeyJwt if !has(&raw.private_key) => {
            problems.add(
                &format!("{path}.private_key"),
                "is required for private_key_jwt; add it as PEM text, such as ${file:key.pem}",
            );
        }
        raw::ClientAuth::PrivateKeyJwt => {
            let pem = raw.private_key.as_deref().unwrap_or_default().as_bytes();
            let is_key = jsonwebtoken::EncodingKey::from_rsa_pem(pem).is_ok()
                || jsonwebtoken::EncodingKey::from_ec_pem(pem).is_ok()
                || jsonwebtoken::EncodingKey::from_ed_pem(pem).is_ok();
            if !is_key {
                problems.add(&format!("{path}.private_key"), "is no private key in PEM form (RSA, EC or Ed25519)");
            }
        }
        _ => {}
    }
}

fn proof(raw: &raw::Provider) -> ClientAuth {
    let secret = || raw.client_secret.clone().unwrap_or_default().into();
    match raw.client_auth {
        raw::ClientAuth::ClientSecretBasic => ClientAuth::Basic(secret()),
        raw::ClientAuth::ClientSecretPost => ClientAuth::Post(secret()),
        raw::ClientAuth::None => ClientAuth::None,
        raw::ClientAuth::PrivateKeyJwt => ClientAuth::PrivateKeyJwt(raw.private_key.clone().unwrap_or_default().into()),
    }
}

/// What a login will use of a provider.
fn login_values(raw: &raw::Provider, path: &str, problems: &mut Problems) {
    if let Some(uri) = &raw.redirect_uri
        && http_url(uri).is_none_or(|url| url.query().is_some() || url.fragment().is_some())
    {
        problems.add(
            &format!("{path}.redirect_uri"),
            format!("`{uri}` is no URL of a callback; write one such as https://login.example.com/oauth2/callback"),
        );
    }
    for (i, scope) in raw.scopes.iter().enumerate() {
        // RFC 6749, 3.3
        if scope.is_empty() || !scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            problems.add(&format!("{path}.scopes.{i}"), format!("`{scope}` is no scope; write one word for each"));
        }
    }
    authorization_params(&raw.authorization_params, path, problems);
}

/// Parameters that the gateway itself decides on cannot be set from outside.
pub(crate) fn authorization_params(params: &BTreeMap<String, String>, path: &str, problems: &mut Problems) {
    const OURS: [&str; 10] = [
        "client_id",
        "redirect_uri",
        "response_type",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "request",
        "request_uri",
    ];
    for (name, value) in params {
        let path = format!("{path}.authorization_params.{name}");
        if OURS.contains(&name.as_str()) {
            problems.add(&path, "is set by the gateway itself; remove it");
        }
        if name == "response_mode" && !matches!(value.as_str(), "query" | "form_post") {
            problems.add(&path, format!("`{value}` cannot be answered here; write query or form_post"));
        }
    }
}

fn endpoints(raw: &raw::Provider, path: &str, problems: &mut Problems) -> BTreeMap<String, Url> {
    let mut endpoints = BTreeMap::new();
    for (name, text) in &raw.endpoints {
        let path = format!("{path}.endpoints.{name}");
        if !ENDPOINT_NAMES.contains(&name.as_str()) {
            problems.add(&path, format!("is no endpoint that is used; known are {}", ENDPOINT_NAMES.join(", ")));
            continue;
        }
        match http_url(text) {
            Some(url) => drop(endpoints.insert(name.clone(), url)),
            None => problems.add(&path, format!("`{text}` is no URL; write one with http:// or https://")),
        }
    }
    endpoints
}

fn audiences(raw: &raw::Provider, path: &str, problems: &mut Problems) -> Audiences {
    match raw.audiences.as_slice() {
        [] => Audiences::OneOf(vec![raw.client_id.clone()]),
        [star] if star == "*" => {
            problems.warn(&format!("{path}.audiences"), "the audience of bearer tokens is not checked: a token that the provider made for any other service is good here");
            Audiences::Any
        }
        list => {
            if let Some(i) = list.iter().position(|a| a == "*" || a.is_empty()) {
                problems.add(
                    &format!("{path}.audiences.{i}"),
                    "`*` stands alone or not at all, and an audience is not empty",
                );
            }
            Audiences::OneOf(list.to_vec())
        }
    }
}

fn algorithm(raw: Algorithm) -> jsonwebtoken::Algorithm {
    match raw {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// `0s` means none only where the contract says so.
pub(crate) fn positive(span: Duration, path: &str, problems: &mut Problems) {
    if span.is_zero() {
        problems.add(path, "must be more than nothing");
    }
}
