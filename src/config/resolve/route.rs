//! From a raw route to its settings: where it stands, who may pass, what the app is told, and where the app is.

use crate::caller::rate_limit;
use crate::config::Folder;
use crate::config::diagnostics::Problems;
use crate::config::raw::{self, Accept, Auth, Config};
use crate::config::resolve::provider::authorization_params;
use crate::config::resolve::{http_url, positive, session};
use crate::config::settings;
use crate::edge::upstream::{self, Location, Origin, Protocol};
use crate::gate::cors::{Cors, Origins};
use crate::gate::identity_headers::{IdentityHeaders, Preset};
use crate::gate::path::CanonicalPath;
use crate::gate::route::{AccessSettings, Hosts, OnUnauthenticated, Place, ProtectedSettings, Settings};
use crate::gate::rules::Rules;
use crate::gate::template::Template;
use crate::provider::claims::ClaimPath;
use http::{HeaderName, Method};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a route stands, as `from` says it.
pub(crate) struct From {
    pub(crate) https: bool,
    pub(crate) hosts: Hosts,
    pub(crate) port: Option<u16>,
    pub(crate) path: String,
}

/// Every claim that a rule or a template names, by provider; the routes' identities keep these.
pub(crate) fn claims_named(raw: &Config) -> BTreeMap<String, Vec<ClaimPath>> {
    let mut named: BTreeMap<String, Vec<ClaimPath>> = BTreeMap::new();
    for (_, route) in raw.routes.iter() {
        let Auth::Protected(auth) = &route.auth else { continue };
        let rules = route.require.claims.keys().map(|name| ClaimPath::new(name.clone()));
        let templates = route.headers.set.values().filter_map(|text| Template::parse(text).ok());
        let paths: Vec<ClaimPath> =
            rules.chain(templates.flat_map(|t| t.claims().cloned().collect::<Vec<_>>())).collect();
        for provider in providers_of(raw, auth) {
            named.entry(provider.to_string()).or_default().extend(paths.iter().cloned());
        }
    }
    for paths in named.values_mut() {
        paths.sort();
        paths.dedup();
    }
    named
}

/// The provider that people sign in at: the named one, or the only one there is.
pub(crate) fn provider_of<'a>(raw: &'a Config, auth: &'a raw::Protected) -> Option<&'a str> {
    let only = || Some(raw.providers.keys().next()?.as_str()).filter(|_| raw.providers.len() == 1);
    auth.provider.as_deref().or_else(only)
}

/// All providers whose word counts on a route.
pub(crate) fn providers_of<'a>(raw: &'a Config, auth: &'a raw::Protected) -> Vec<&'a str> {
    let mut all: Vec<&str> = provider_of(raw, auth).into_iter().chain(auth.bearer.iter().map(String::as_str)).collect();
    all.dedup();
    all
}

pub(crate) fn route(
    raw: &Config,
    i: usize,
    route: &raw::Route,
    folder: &Folder,
    problems: &mut Problems,
) -> Option<settings::Route> {
    let path = format!("routes.{i}");
    if route.name.is_empty()
        || route.name == "-"
        || !route.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    {
        problems.add(&format!("{path}.name"), "the name of a route is made of letters, digits, `.`, `-` and `_`");
    }
    let headers = headers(route, &path, problems);
    let cors = route.cors.as_ref().map(|cors| self::cors(cors, &path, problems));
    let methods = methods(route, &path, problems);
    let upstream = upstream(route, &path, folder, problems);
    for (key, span) in
        [("session.max_age", route.session.max_age), ("limits.unknown_tokens.per", route.limits.unknown_tokens.per)]
    {
        if let Some(span) = span {
            positive(span.0, &format!("{path}.{key}"), problems);
        }
    }
    let from = match from(raw, &route.from) {
        Ok(from) => from,
        Err(fault) => {
            problems.add(&format!("{path}.from"), fault);
            return None;
        }
    };
    let access = access(raw, route, &from, &path, problems);
    let upstream = upstream?;
    let mut bases: Vec<String> = upstream.to.iter().map(|origin| origin.base_path.clone()).collect();
    bases.sort();
    bases.dedup();
    let cookie = route.session.cookie.name.clone().unwrap_or_else(|| raw.session.cookie.name.clone());
    Some(settings::Route {
        from: route.from.clone(),
        gate: Settings {
            name: route.name.as_str().into(),
            place: Place {
                hosts: from.hosts,
                port: from.port,
                path: from.path,
                exact: route.r#match == raw::Match::Exact,
                methods,
            },
            https: from.https,
            access: access?,
            headers,
            cors,
            strip_prefix: route.upstream.strip_prefix,
            bases,
            cookie,
        },
        upstream,
    })
}

/// Reads `from`; bare paths stand at `public_url`.
pub(crate) fn from(raw: &Config, text: &str) -> Result<From, String> {
    const MEND: &str = "write an origin and a path, such as https://app.example.com/ or https://*.example.com/app/, or a bare path such as /api/";
    let plain = |path: &str| {
        CanonicalPath::of(path.as_bytes())
            .is_ok_and(|p| p.is_plain() && p.query().is_empty() && p.authority().is_none())
            && !path.contains('*')
    };
    if text.starts_with('/') {
        if !plain(text) {
            return Err(format!("`{text}` is no plain path; {MEND}"));
        }
        let public =
            raw.public_url.as_deref().ok_or("a bare path needs `public_url`: the origin under which it is seen")?;
        return Ok(From { https: public.starts_with("https:"), hosts: Hosts::Any, port: None, path: text.into() });
    }
    let told = || format!("`{text}` is no place of a route; {MEND}");
    let (scheme, rest) = text.split_once("://").ok_or_else(told)?;
    let https = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(told()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    // The star is no character of a host: what follows it is read as one.
    let (wild, name) = match authority.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, authority),
    };
    let url = http_url(&format!("{scheme}://{name}/")).filter(|url| url.path() == "/").ok_or_else(told)?;
    let host = url
        .host_str()
        .map(|h| h.trim_end_matches('.').to_string())
        .filter(|h| !h.is_empty() && !h.contains('*'))
        .ok_or_else(told)?;
    if !plain(path) {
        return Err(told());
    }
    let hosts = if wild { Hosts::Below(format!(".{host}")) } else { Hosts::One(host) };
    Ok(From { https, hosts, port: url.port_or_known_default(), path: path.into() })
}

fn access(
    raw: &Config,
    route: &raw::Route,
    place: &From,
    path: &str,
    problems: &mut Problems,
) -> Option<AccessSettings> {
    let Auth::Protected(auth) = &route.auth else {
        return Some(AccessSettings::Public);
    };
    let path = format!("{path}.auth");
    if auth.accept.is_empty() {
        problems
            .add_empty(&format!("{path}.accept"), "without a credential nobody passes; name one, or leave the key out");
    }
    for (i, name) in auth.bearer.iter().enumerate() {
        known_provider(raw, name, &format!("{path}.bearer.{i}"), problems);
    }
    authorization_params(&auth.authorization_params, &path, problems);
    let asks_providers = auth.accept.iter().any(|accept| *accept != Accept::ApiKey);
    let provider = match &auth.provider {
        // Keys alone are the gateway's own word.
        None if !asks_providers => String::new(),
        Some(name) => {
            known_provider(raw, name, &format!("{path}.provider"), problems);
            name.clone()
        }
        None => match provider_of(raw, auth) {
            Some(only) => only.to_string(),
            None if raw.providers.is_empty() => {
                if !problems.is_written("providers") {
                    problems.add(&path, "a protected route needs a provider; add `providers`, or write `auth: public`");
                }
                return None;
            }
            None => {
                problems.add(&path, "there are several providers; say which by `provider`");
                return None;
            }
        },
    };
    let bearer: Vec<Arc<str>> = if !asks_providers {
        Vec::new()
    } else if auth.bearer.is_empty() {
        vec![provider.as_str().into()]
    } else {
        auth.bearer.iter().map(|b| b.as_str().into()).collect()
    };
    Some(AccessSettings::Protected(Box::new(ProtectedSettings {
        bearer,
        accepts_bearer: auth.accept.contains(&Accept::Bearer),
        accepts_api_key: auth.accept.contains(&Accept::ApiKey),
        limit: limit(&raw.limits.unknown_tokens, &route.limits.unknown_tokens),
        on_unauthenticated: match auth.on_unauthenticated {
            raw::OnUnauthenticated::Auto => OnUnauthenticated::Auto,
            raw::OnUnauthenticated::Login => OnUnauthenticated::Login,
            raw::OnUnauthenticated::Reject => OnUnauthenticated::Reject,
            raw::OnUnauthenticated::Pass => OnUnauthenticated::Pass,
        },
        require: rules(&route.require),
        session: auth.accept.contains(&Accept::Session).then(|| session::session(raw, route, place, &provider)),
    })))
}

fn limit(global: &raw::UnknownTokens, over: &raw::UnknownTokensOver) -> rate_limit::Settings {
    rate_limit::Settings {
        enabled: over.enabled.unwrap_or(global.enabled),
        requests: over.requests.unwrap_or(global.requests),
        per: over.per.unwrap_or(global.per).0,
        ipv6_prefix: over.ipv6_prefix.unwrap_or(global.ipv6_prefix),
    }
}

fn known_provider(raw: &Config, name: &str, path: &str, problems: &mut Problems) {
    // One that could not be read is reported where it stands.
    if !raw.providers.contains_key(name) && !problems.is_written(&format!("providers.{name}")) {
        let known: Vec<&str> = raw.providers.keys().map(String::as_str).collect();
        problems.add(
            path,
            format!(
                "no provider is called `{name}`; there is {}",
                if known.is_empty() { "none".into() } else { known.join(", ") }
            ),
        );
    }
}

fn rules(raw: &raw::Require) -> Rules {
    let lower = |list: &[String]| list.iter().map(|text| text.to_ascii_lowercase()).collect();
    let claims = raw.claims.iter().map(|(name, any)| (ClaimPath::new(name.clone()), any.as_slice().to_vec()));
    Rules {
        groups: raw.groups.clone(),
        emails: lower(&raw.emails),
        email_domains: lower(&raw.email_domains),
        scopes: raw.scopes.clone(),
        claims: claims.filter(|(_, any)| !any.is_empty()).collect(),
    }
}

fn headers(route: &raw::Route, path: &str, problems: &mut Problems) -> IdentityHeaders {
    let mut set = Vec::new();
    for (name, text) in &route.headers.set {
        let path = format!("{path}.headers.set.{name}");
        let template = Template::parse(text).map_err(|fault| problems.add(&path, fault.to_string()));
        match name.parse::<HeaderName>() {
            Ok(name) if is_reserved(&name) => {
                problems.add(&path, "is set by the proxy itself and cannot be set here; remove it")
            }
            Ok(name) => set.extend(template.ok().map(|template| (name, template))),
            Err(_) => problems.add(&path, format!("`{name}` is no header's name")),
        }
    }
    let preset = match route.headers.preset {
        raw::Preset::Standard => Preset::Standard,
        raw::Preset::Grafana => Preset::Grafana,
        raw::Preset::Authelia => Preset::Authelia,
        raw::Preset::None => Preset::None,
    };
    IdentityHeaders::new(preset, set)
}

/// Host, Cookie, hop-by-hop and framing names.
fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [&str; 13] = [
        "host",
        "cookie",
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "expect",
    ];
    RESERVED.contains(&name.as_str())
}

fn cors(raw: &raw::Cors, path: &str, problems: &mut Problems) -> Cors {
    for (i, origin) in raw.origins.iter().enumerate().filter(|(_, o)| *o != "*") {
        let is_origin = http_url(origin).is_some_and(|url| url.origin().ascii_serialization() == *origin);
        if !is_origin {
            problems.add(
                &format!("{path}.cors.origins.{i}"),
                format!("`{origin}` is no origin; write scheme, host and port alone, such as https://app.example.com"),
            );
        }
    }
    if raw.origins.is_empty() {
        problems.add_empty(&format!("{path}.cors.origins"), "allows nobody; name an origin, or leave `cors` out");
    }
    let any = raw.origins.iter().any(|origin| origin == "*");
    if any && raw.origins.len() > 1 {
        problems.add(&format!("{path}.cors.origins"), "`*` stands alone or not at all");
    }
    let origins = if any { Origins::Any } else { Origins::OneOf(raw.origins.clone()) };
    Cors { origins, credentials: raw.credentials, max_age: raw.max_age.0 }
}

fn methods(route: &raw::Route, path: &str, problems: &mut Problems) -> Vec<Method> {
    let mut methods = Vec::new();
    for (i, text) in route.methods.iter().enumerate() {
        match text.parse::<Method>() {
            Ok(method) if !text.bytes().any(|b| b.is_ascii_lowercase()) => methods.push(method),
            _ => problems.add(
                &format!("{path}.methods.{i}"),
                format!("`{text}` is no method; write it in capitals, such as GET"),
            ),
        }
    }
    methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    methods.dedup();
    methods
}

fn upstream(route: &raw::Route, path: &str, folder: &Folder, problems: &mut Problems) -> Option<upstream::Settings> {
    let raw = &route.upstream;
    let many = matches!(route.to, crate::config::scalar::OneOrMany::Many(_));
    let mut to = Vec::new();
    for (i, text) in route.to.as_slice().iter().enumerate() {
        let path = if many { format!("{path}.to.{i}") } else { format!("{path}.to") };
        match origin(text) {
            Some(origin) => to.push(origin),
            None => problems.add(
                &path,
                format!("`{text}` is no app; write http://, https://, h2c:// or h2:// with a host, or unix:/path"),
            ),
        }
    }
    if route.to.as_slice().is_empty() {
        problems.add(&format!("{path}.to"), "names no app; add one");
    }
    for (key, span) in [
        ("timeout", raw.timeout),
        ("stream_idle_timeout", raw.stream_idle_timeout),
        ("connect_timeout", raw.connect_timeout),
    ] {
        positive(span.0, &format!("{path}.upstream.{key}"), problems);
    }
    (to.len() == route.to.as_slice().len()).then(|| upstream::Settings {
        to,
        timeout: raw.timeout.0,
        stream_idle_timeout: raw.stream_idle_timeout.0,
        connect_timeout: raw.connect_timeout.0,
        preserve_host: raw.preserve_host,
        ca_file: raw.ca_file.as_ref().map(|file| folder.join(file)),
        server_name: raw.server_name.clone(),
    })
}

fn origin(text: &str) -> Option<Origin> {
    if let Some(socket) = text.strip_prefix("unix:") {
        let place = Location::Unix(socket.into());
        return socket.starts_with('/').then_some(Origin { protocol: Protocol::Http, place, base_path: String::new() });
    }
    let (scheme, rest) = text.split_once("://")?;
    let (protocol, like) = match scheme {
        "http" => (Protocol::Http, "http"),
        "https" => (Protocol::Https, "https"),
        "h2c" => (Protocol::H2c, "http"),
        "h2" => (Protocol::H2, "https"),
        _ => return None,
    };
    let url = http_url(&format!("{like}://{rest}")).filter(|url| url.query().is_none() && url.fragment().is_none())?;
    let place = Location::Host { name: url.host_str()?.to_string(), port: url.port_or_known_default()? };
    Some(Origin { protocol, place, base_path: url.path().trim_end_matches('/').to_string() })
}
