//! Values that hold each for itself, and not together.

use crate::config::diagnostics::Problems;
use crate::config::raw::{
    Accept, Auth, Backend, ClientAuth, Config, Discovery, OnUnauthenticated, Protected, Route, SameSite,
};
use crate::config::resolve::route::{From, from, provider_of, providers_of};
use crate::config::resolve::session::shares_a_jar;
use crate::config::resolve::{http_url, positive};
use crate::gate::route::Hosts;
use crate::store::redis;
use std::collections::BTreeMap;

/// A route with what is needed of it here.
struct Seen<'a> {
    index: usize,
    raw: &'a Route,
    from: From,
}

impl Seen<'_> {
    fn path(&self, key: &str) -> String {
        format!("routes.{}{}{key}", self.index, if key.is_empty() { "" } else { "." })
    }

    fn protected(&self) -> Option<&Protected> {
        match &self.raw.auth {
            Auth::Protected(auth) => Some(auth),
            Auth::Public(_) => None,
        }
    }
}

pub(crate) fn find(raw: &Config, problems: &mut Problems) {
    let seen: Vec<Seen<'_>> = raw
        .routes
        .iter()
        .filter_map(|(index, route)| Some(Seen { index, raw: route, from: from(raw, &route.from).ok()? }))
        .collect();
    if raw.routes.is_empty() && !problems.is_written("routes.0") {
        problems.add("routes", "there is no route; add one");
    }
    same_places(&seen, problems);
    for route in &seen {
        inside_auth_path(raw, route, problems);
        access(route, problems);
        cookies(raw, route, problems);
        form_post(raw, route, problems);
        undiscovered(raw, route, problems);
    }
    cookie_names(raw, &seen, problems);
    sessions(raw, problems);
    store(raw, &seen, problems);
    public_url(raw, problems);
    api_keys(raw, problems);
}

/// Two routes with one name, or in one place.
fn same_places(seen: &[Seen<'_>], problems: &mut Problems) {
    for (i, route) in seen.iter().enumerate() {
        let earlier = || seen.iter().take(i);
        if let Some(other) = earlier().find(|other| other.raw.name == route.raw.name) {
            problems.add(
                &route.path("name"),
                format!("`{}` is the name of routes.{}, too; rename one", route.raw.name, other.index),
            );
        }
        let trimmed = |r: &Seen<'_>| {
            if r.raw.r#match == crate::config::raw::Match::Exact {
                r.from.path.clone()
            } else {
                r.from.path.trim_end_matches('/').to_string()
            }
        };
        let methods = |r: &Seen<'_>| {
            let mut methods = r.raw.methods.clone();
            methods.sort();
            methods
        };
        let default_port = |r: &Seen<'_>| r.from.port == Some(if r.from.https { 443 } else { 80 });
        let same = earlier().find(|other| {
            let port = other.from.port == route.from.port || (default_port(other) && default_port(route));
            other.from.hosts == route.from.hosts
                && port
                && trimmed(other) == trimmed(route)
                && other.raw.r#match == route.raw.r#match
                && methods(other) == methods(route)
        });
        if let Some(other) = same {
            let how = if other.from.https == route.from.https {
                "stands in the same place as"
            } else {
                "differs only in its scheme from"
            };
            problems.add(
                &route.path("from"),
                format!("{how} routes.{}; change host, port, path, match or methods of one", other.index),
            );
        }
    }
}

fn inside_auth_path(raw: &Config, route: &Seen<'_>, problems: &mut Problems) {
    let path = route.from.path.trim_end_matches('/');
    let inside = path.strip_prefix(raw.auth_path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if inside {
        problems.add(
            &route.path("from"),
            format!("lies inside `auth_path` ({}), where the gateway's own pages are; move one of them", raw.auth_path),
        );
    }
}

fn access(route: &Seen<'_>, problems: &mut Problems) {
    let require = &route.raw.require;
    let has_rules = !(require.groups.is_empty()
        && require.emails.is_empty()
        && require.email_domains.is_empty()
        && require.scopes.is_empty()
        && require.claims.is_empty());
    let Some(auth) = route.protected() else {
        if has_rules {
            problems.add(
                &route.path("require"),
                "a public route asks nobody, so that no rule can hold; remove `require`, or protect the route",
            );
        }
        return;
    };
    let accepts = |credential| auth.accept.contains(&credential);
    if auth.on_unauthenticated == OnUnauthenticated::Pass && has_rules {
        problems.add(
            &route.path("auth.on_unauthenticated"),
            "`pass` lets everyone in, `require` does not; remove one of them",
        );
    }
    if auth.on_unauthenticated == OnUnauthenticated::Login && !accepts(Accept::Session) {
        problems.add(
            &route.path("auth.on_unauthenticated"),
            "`login` ends in a session, which the route does not accept; add session to `accept`, or write reject",
        );
    }
    if !require.scopes.is_empty() && accepts(Accept::Session) {
        problems.add(
            &route.path("require.scopes"),
            "scopes belong to bearer tokens and API keys; write `accept: [bearer]`, or use groups or claims",
        );
    }
    if route.raw.headers.access_token && !accepts(Accept::Session) {
        problems
            .add(&route.path("headers.access_token"), "passes the session's token, and the route accepts no session");
    }
    if route.raw.cors.as_ref().is_some_and(|cors| cors.credentials && cors.origins.iter().any(|o| o == "*")) {
        problems.add(
            &route.path("cors.credentials"),
            "with `*` every site could read what a signed-in person can; name the origins",
        );
    }
}

/// What browsers do with a cookie under this origin.
fn cookies(raw: &Config, route: &Seen<'_>, problems: &mut Problems) {
    let Some(auth) = route.protected().filter(|auth| auth.accept.contains(&Accept::Session)) else { return };
    let over = &route.raw.session.cookie;
    let at = |key: &str, over: bool| {
        if over { route.path(&format!("session.cookie.{key}")) } else { format!("session.cookie.{key}") }
    };
    if over.same_site.unwrap_or(raw.session.cookie.same_site) == SameSite::None && !route.from.https {
        problems.add(
            &at("same_site", over.same_site.is_some()),
            format!("`none` needs https, and routes.{} is http; write lax or strict", route.index),
        );
    }
    let domain = over.domain.as_ref().or(raw.session.cookie.domain.as_ref());
    if let (Some(domain), Hosts::One(host)) = (domain, &route.from.hosts)
        && !covers(domain, host)
    {
        problems.add(
            &at("domain", over.domain.is_some()),
            format!(
                "`{domain}` does not cover {host}, the host of routes.{}; browsers would drop the cookie",
                route.index
            ),
        );
    }
    let callback =
        provider_of(raw, auth).and_then(|name| Some((name, raw.providers.get(name)?.redirect_uri.as_ref()?)));
    if let Some((name, uri)) = callback
        && shares_a_jar(raw, route.raw, name)
        && !uri.ends_with(&format!("/callback/{name}"))
    {
        problems.add(&format!("providers.{name}.redirect_uri"), format!("must end in `/callback/{name}`: where another provider's people have their cookies on the same hosts, an answer is told by its address (RFC 9700, 4.4.2)"));
    }
    if let Some((name, uri)) = callback
        && let Some(host) = http_url(uri).and_then(|url| url.host_str().map(str::to_owned))
        && route.from.hosts != Hosts::One(host.clone())
        && !domain.is_some_and(|domain| covers(domain, &host))
    {
        problems.add(&format!("providers.{name}.redirect_uri"), format!("ends logins on {host}, whose cookies routes.{} does not see; set `session.cookie.domain` to a domain of both", route.index));
    }
}

fn covers(domain: &str, host: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

/// A form that the provider has the browser post to us brings cookies only with `SameSite=None`, and that only over https.
fn form_post(raw: &Config, route: &Seen<'_>, problems: &mut Problems) {
    let Some(auth) = route.protected().filter(|auth| auth.accept.contains(&Accept::Session)) else { return };
    let Some(name) = provider_of(raw, auth) else { return };
    let Some(provider) = raw.providers.get(name) else { return };
    let (mode, path) = match auth.authorization_params.get("response_mode") {
        Some(mode) => (Some(mode), route.path("auth.authorization_params.response_mode")),
        None => (
            provider.authorization_params.get("response_mode"),
            format!("providers.{name}.authorization_params.response_mode"),
        ),
    };
    let over_http = provider.redirect_uri.as_ref().map_or(!route.from.https, |uri| uri.starts_with("http:"));
    if mode.is_some_and(|mode| mode.as_slice().iter().any(|mode| mode == "form_post")) && over_http {
        problems.add(
            &path,
            format!("form_post needs https, and the callback of routes.{} is http; write query", route.index),
        );
    }
}

/// Without discovery `endpoints` says all that a login needs.
fn undiscovered(raw: &Config, route: &Seen<'_>, problems: &mut Problems) {
    let Some(auth) = route.protected().filter(|auth| auth.accept.contains(&Accept::Session)) else { return };
    let found = provider_of(raw, auth).and_then(|name| Some((name, raw.providers.get(name)?)));
    let Some((name, provider)) = found.filter(|(_, provider)| provider.discovery == Discovery::Never) else { return };
    for endpoint in ["authorization_endpoint", "token_endpoint"] {
        if !provider.endpoints.contains_key(endpoint) {
            problems.add(
                &format!("providers.{name}.endpoints"),
                format!(
                    "needs `{endpoint}`: with `discovery: never` nobody else says where people of routes.{} sign in",
                    route.index
                ),
            );
        }
    }
}

fn cookie_names(raw: &Config, seen: &[Seen<'_>], problems: &mut Problems) {
    let mut names: BTreeMap<(String, &str), (&str, usize)> = BTreeMap::new();
    for route in seen {
        let Some(auth) = route.protected().filter(|auth| auth.accept.contains(&Accept::Session)) else { continue };
        let Some(provider) = provider_of(raw, auth) else { continue };
        let own = route.raw.session.cookie.name.as_deref();
        let name = own.unwrap_or(&raw.session.cookie.name);
        let path = own.map_or("session.cookie.name".to_string(), |_| route.path("session.cookie.name"));
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            || name.starts_with("__")
        {
            problems.add(&path, format!("`{name}` is no name for a cookie; write letters, digits, `-`, `.` and `_`; `__Host-` is added by itself"));
        }
        let (first, index) = *names.entry((format!("{:?}", route.from.hosts), provider)).or_insert((name, route.index));
        if first != name {
            problems.add(&route.path("session.cookie.name"), format!("routes.{index} has the same host and provider and calls the cookie `{first}`; one login needs one name"));
        }
    }
}

fn limits(requests: Option<u32>, ipv6_prefix: Option<u8>, path: &str, problems: &mut Problems) {
    let path = format!("{path}limits.unknown_tokens");
    if requests == Some(0) {
        problems.add(&format!("{path}.requests"), "must be at least 1; `enabled: false` switches the limiter off");
    }
    if ipv6_prefix.is_some_and(|bits| !(1..=128).contains(&bits)) {
        problems.add(&format!("{path}.ipv6_prefix"), "must be from 1 to 128");
    }
}

fn sessions(raw: &Config, problems: &mut Problems) {
    positive(raw.session.max_age.0, "session.max_age", problems);
    positive(raw.refresh_dedup.result_ttl.0, "refresh_dedup.result_ttl", problems);
    for (name, cache) in [
        ("introspection", &raw.caches.introspection),
        ("unknown_tokens", &raw.caches.unknown_tokens),
        ("sessions", &raw.caches.sessions),
        ("api_keys", &raw.caches.api_keys),
    ] {
        positive(cache.ttl.0, &format!("caches.{name}.ttl"), problems);
    }
    let limit = &raw.limits.unknown_tokens;
    positive(limit.per.0, "limits.unknown_tokens.per", problems);
    limits(Some(limit.requests), Some(limit.ipv6_prefix), "", problems);
    if raw.limits.requests_in_flight == 0 {
        problems.add("limits.requests_in_flight", "must be at least 1");
    }
    for (i, route) in raw.routes.iter() {
        let over = &route.limits.unknown_tokens;
        limits(over.requests, over.ipv6_prefix, &format!("routes.{i}."), problems);
    }
    if raw.refresh_dedup.enabled
        && let Some((name, _)) = raw.providers.iter().find(|(_, p)| p.timeout >= raw.refresh_dedup.lease)
    {
        problems.add(
            "refresh_dedup.lease",
            format!("must be longer than the timeout of every provider, and is not longer than that of {name}"),
        );
    }
}

fn store(raw: &Config, seen: &[Seen<'_>], problems: &mut Problems) {
    // The part in braces decides on the node of a cluster; that is the key's own.
    if raw.store.redis.key_prefix.contains(['{', '}']) {
        problems.add("store.redis.key_prefix", "must have no braces");
    }
    if let Some(secrets) = &raw.store.secret {
        if secrets.as_slice().is_empty() {
            problems.add("store.secret", "the list is empty; add a secret, or leave the key out");
        }
        for secret in secrets.as_slice().iter().filter(|secret| secret.len() < 32) {
            problems.add(
                "store.secret",
                format!("must have 32 bytes or more, and has {}; `openssl rand -base64 32` makes one", secret.len()),
            );
        }
    }
    let own = &raw.store.redis;
    for (key, span) in [
        ("connect_timeout", own.connect_timeout),
        ("command_timeout", own.command_timeout),
        ("breaker.cooldown", own.breaker.cooldown),
    ] {
        positive(span.0, &format!("store.redis.{key}"), problems);
    }
    if own.breaker.failures == 0 {
        problems.add("store.redis.breaker.failures", "must be at least 1");
    }
    if own.urls.is_empty() {
        problems.add("store.redis.urls", "names no server; add one");
    }
    for (i, url) in own.urls.iter().enumerate() {
        let known = url::Url::parse(url).is_ok_and(|u| matches!(u.scheme(), "redis" | "rediss") && u.has_host());
        if !known || !redis::is_address(url) {
            problems.add(
                &format!("store.redis.urls.{i}"),
                "is no address of a Redis; write redis://user:password@host:6379/0, or rediss:// for TLS, with what is special in a name or a password in percent encoding (`/` is %2F, `@` is %40)",
            );
        }
    }
    if own.mode == crate::config::raw::RedisMode::Sentinel && own.master_name.is_none() {
        problems
            .add("store.redis.master_name", "is required with `mode: sentinel`; add the name that the sentinels watch");
    }
    for (one, other, missing) in
        [(&own.certificate, &own.private_key, "private_key"), (&own.private_key, &own.certificate, "certificate")]
    {
        if one.is_some() && other.is_none() {
            problems.add(&format!("store.redis.{missing}"), "is missing; a client certificate needs both");
        }
    }
    if raw.store.backend != Backend::Redis || raw.store.secret.is_some() {
        return;
    }
    if seen.iter().any(|route| route.protected().is_some_and(|auth| auth.accept.contains(&Accept::Session))) {
        problems.warn(
            "store.redis",
            "seals sessions with the client_secret alone, and whoever guesses that may forge them; set `store.secret`",
        );
    }
    for route in seen {
        let Some(auth) = route.protected() else { continue };
        if auth.accept.contains(&Accept::ApiKey) {
            problems.add(
                "store.secret",
                format!(
                    "is required: routes.{} accepts API keys, and replicas that share a Redis must share a secret",
                    route.index
                ),
            );
        }
        let secretless = providers_of(raw, auth).into_iter().find(|name| {
            raw.providers.get(*name).is_some_and(|p| {
                p.client_secret.is_none() || matches!(p.client_auth, ClientAuth::None | ClientAuth::PrivateKeyJwt)
            })
        });
        if let Some(name) = secretless.filter(|_| auth.accept.contains(&Accept::Session)) {
            problems.add("store.secret", format!("is required: the client of {name} has no secret to derive a key from, and replicas that share a Redis must share one"));
        }
    }
}

fn public_url(raw: &Config, problems: &mut Problems) {
    if let Some(text) = &raw.public_url
        && http_url(text).is_none_or(|url| url.path() != "/" || url.query().is_some() || url.fragment().is_some())
    {
        problems.add(
            "public_url",
            format!("`{text}` is no origin; write scheme, host and port alone, such as https://app.example.com"),
        );
    }
}

fn api_keys(raw: &Config, problems: &mut Problems) {
    let names: Vec<&str> = raw.routes.iter().map(|(_, route)| route.name.as_str()).collect();
    for (i, key) in raw.api_keys.iter() {
        let path = format!("api_keys.{i}");
        if raw.api_keys.iter().take_while(|(earlier, _)| *earlier < i).any(|(_, other)| other.id == key.id) {
            problems.add(&format!("{path}.id"), "is the id of an earlier key, too");
        }
        if key.user.is_empty() {
            problems.add(&format!("{path}.user"), "is empty; say whose key it is");
        }
        let texts = [("user", &key.user)].into_iter().chain(key.email.iter().map(|email| ("email", email)));
        let lists = key.groups.iter().map(|group| ("groups", group)).chain(key.scopes.iter().map(|s| ("scopes", s)));
        for (field, _) in texts.chain(lists).filter(|(_, text)| text.chars().any(char::is_control)) {
            problems.add(&format!("{path}.{field}"), "must have no control characters");
        }
        for (r, route) in key.routes.iter().flatten().enumerate().filter(|(_, route)| !names.contains(&route.as_str()))
        {
            problems.add(&format!("{path}.routes.{r}"), format!("no route is called `{route}`"));
        }
    }
}
