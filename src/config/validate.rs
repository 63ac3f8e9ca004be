//! Contradictions: values each of which is good, and that are not good together. Also what is legal and dangerous.

mod places;
mod provider;
mod rules;
mod sign_in;
mod store;

use crate::config::assemble::{Jars, Position, position};
use crate::config::diagnostics::Problems;
use crate::config::file::{Accept, Auth, File, Protected, Route};
use crate::edge::{tls, upstream};
use crate::gate::cors::Origins;
use crate::gate::place::Hosts;
use crate::gate::route::OnUnauthenticated;
use crate::kit::setting::OneOrMany;
use crate::outbound::service_token::Grant;
use crate::provider::settings::{Automatic, ClientAuth};
use http::HeaderName;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

/// A route whose place is known.
struct Seen<'a> {
    index: usize,
    route: &'a Route,
    position: Position,
}

impl Seen<'_> {
    fn path(&self, key: &str) -> String {
        format!("routes.{}.{key}", self.index)
    }
}

pub(crate) fn find(file: &File, problems: &mut Problems) {
    listeners(file, problems);
    let bad_files = file.pages.read().err().unwrap_or_default();
    bad_files.into_iter().for_each(|(key, problem)| problems.add(&format!("pages.{key}"), problem));
    for (name, provider) in &file.providers {
        provider::find(name, provider, problems);
    }
    if file.routes.is_empty() && !problems.is_written("routes.0") {
        problems.add("routes", "there is no route; add one");
    }
    let mut seen = Vec::new();
    for (index, route) in file.routes.iter() {
        match position(file, &route.from) {
            Some(position) => seen.push(Seen { index, route, position }),
            None => problems.add(
                &format!("routes.{index}.from"),
                "a bare path needs `public_url`: the origin under which browsers see it",
            ),
        }
    }
    let jars = Jars::of(file);
    places::find(&seen, problems);
    for route in &seen {
        inside_auth_path(file, route, problems);
        access(file, route, problems);
        rules::find(route, problems);
        outbound(file, route, problems);
        sign_in::sign_in(file, route, &jars, problems);
    }
    sign_in::cookie_names(file, &seen, problems);
    limits(file, problems);
    store::find(file, &seen, problems);
    api_keys(file, problems);
    unused_providers(file, problems);
}

fn listeners(file: &File, problems: &mut Problems) {
    if file.listen.is_empty() && !problems.is_written("listen.0") {
        problems.add("listen", "names no address; add one, or leave the key out");
    }
    if !file.admin.address.ip().is_loopback() && file.admin.token.get().is_none() {
        problems.warn("admin.address", "other machines can reach it and read the status page and the metrics, which are open with and without `admin.token`; keep it on loopback, or let a network policy guard it");
    }
    let mut taken: HashMap<SocketAddr, String> = HashMap::from([(*file.admin.address, "admin.address".to_string())]);
    for (i, listener) in file.listen.iter() {
        let (path, listener) = (format!("listen.{i}"), &listener.0);
        if let Some(other) = taken.get(&*listener.address) {
            problems.add(&path, format!("{} is the address of {other}, too; change one", *listener.address));
        }
        taken.insert(*listener.address, path.clone());
        if listener.tls.is_some() && listener.certificates().is_empty() {
            problems.add(&format!("{path}.tls"), "names no certificate; add one, or leave `tls` out");
        }
        if listener.redirect_to_https && listener.tls.is_some() {
            let told = "a listener with `tls` cannot redirect to https; remove one of them";
            problems.add(&format!("{path}.redirect_to_https"), told);
        }
        let is_list = matches!(listener.tls, Some(OneOrMany::Many(_)));
        for (n, files) in listener.certificates().iter().enumerate() {
            if let Err(problem) = tls::Certificates::load(std::slice::from_ref(files)) {
                let at = if is_list { format!("{path}.tls.{n}") } else { format!("{path}.tls") };
                problems.add(&at, problem);
            }
        }
    }
}

fn response_mode(mode: Option<&OneOrMany<String>>, path: &str, problems: &mut Problems) {
    let known =
        |mode: &OneOrMany<String>| matches!(mode.as_slice(), [mode] if matches!(mode.as_str(), "query" | "form_post"));
    if mode.is_some_and(|mode| !known(mode)) {
        let told = "such a mode cannot be answered here; write query or form_post";
        problems.add(&format!("{path}.authorization_params.response_mode"), told);
    }
}

fn inside_auth_path(file: &File, route: &Seen<'_>, problems: &mut Problems) {
    let (path, auth_path) = (route.route.from.path.trim_end_matches('/'), file.auth_path.as_str());
    let inside = path.strip_prefix(auth_path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if inside {
        let told =
            format!("lies inside `auth_path` ({auth_path}), where the gateway's own pages are; move one of them");
        problems.add(&route.path("from"), told);
    }
}

fn access(file: &File, seen: &Seen<'_>, problems: &mut Problems) {
    let route = seen.route;
    if let Some(cors) = &route.cors
        && cors.credentials
        && cors.origins == Origins::Any
    {
        let told = "with `*` every site could read what a signed-in user can; name the origins";
        problems.add(&seen.path("cors.credentials"), told);
    }
    if let Some(file) = &route.upstream.ca_file
        && let Err(problem) = upstream::read_authorities(file)
    {
        problems.add(&seen.path("upstream.ca_file"), problem);
    }
    if route.to.as_slice().is_empty() {
        problems.add_below(&seen.path("to"), "names no app; add one");
    }
    let has_rules = !route.require.is_empty();
    let Auth::Protected(auth) = &route.auth else {
        if has_rules {
            let told =
                "a public route identifies nobody, so that no rule can hold; remove `require`, or protect the route";
            problems.add(&seen.path("require"), told);
        }
        return;
    };
    providers(file, seen, auth, problems);
    response_mode(auth.authorization_params.get("response_mode"), &seen.path("auth"), problems);
    if auth.on_unauthenticated == OnUnauthenticated::Pass && has_rules {
        let told = "`pass` lets everyone in, `require` does not; remove one of them";
        problems.add(&seen.path("auth.on_unauthenticated"), told);
    }
    if auth.on_unauthenticated == OnUnauthenticated::Login && !auth.accepts(Accept::Session) {
        let told =
            "`login` ends in a session, which the route does not accept; add session to `accept`, or write reject";
        problems.add(&seen.path("auth.on_unauthenticated"), told);
    }
    if !route.require.scopes.is_empty() && auth.accepts(Accept::Session) {
        let told = "scopes belong to bearer tokens and API keys; write `accept: [bearer]`, or use groups or claims";
        problems.add(&seen.path("require.scopes"), told);
    }
    if auth.resource_metadata && !auth.accepts(Accept::Bearer) {
        let told = "tells whose bearer tokens count, and the route accepts none; add bearer to `accept`, or remove it";
        problems.add(&seen.path("auth.resource_metadata"), told);
    }
    if auth.resource_metadata && matches!(seen.position.hosts, Hosts::Below(_)) {
        let told = "needs one address, and `from` is a wildcard; give each host a route of its own";
        problems.add(&seen.path("auth.resource_metadata"), told);
    }
    tokens(route, seen, auth, problems);
}

const SHORTEST_ASSERTION: Duration = Duration::from_secs(2);

/// What the app is given beside the identity has a header of its own, and somebody to give it.
fn outbound(file: &File, seen: &Seen<'_>, problems: &mut Problems) {
    let (headers, token) = (&seen.route.headers, seen.route.upstream.token.as_ref());
    if headers.assertion.as_ref().is_some_and(|own| *own.ttl < SHORTEST_ASSERTION) {
        problems.add(&seen.path("headers.assertion.ttl"), "must be at least 2s: its times are whole seconds");
    }
    let assertion = headers.assertion.iter().map(|own| ("headers.assertion.header", own.header.as_str()));
    let own = assertion.chain(token.map(|own| ("upstream.token.header", own.header.as_str())));
    let passed = [("headers.access_token", &headers.access_token), ("headers.id_token", &headers.id_token)];
    let passed = passed.iter().filter_map(|(key, pass)| Some((*key, pass.name()?.as_str())));
    let set = headers.set.keys().map(|name| ("headers.set", name.as_str()));
    let mut taken: Vec<(&str, &str)> = passed.chain(set).collect();
    for (key, name) in own {
        let is_own = |known: &str| known.eq_ignore_ascii_case(name);
        let is_identity = headers.preset.names().into_iter().any(is_own)
            || name.get(..15).is_some_and(|start| start.eq_ignore_ascii_case("x-auth-request-"));
        if let Some((other, _)) = taken.iter().find(|(_, known)| is_own(known)) {
            problems.add(&seen.path(key), format!("`{name}` is the header of `{other}`, too; write another name"));
        } else if is_identity {
            problems.add(&seen.path(key), format!("`{name}` holds the identity; write another name"));
        }
        taken.push((key, name));
    }
    let Some(token) = token else { return };
    match &token.provider {
        Some(name) if !file.providers.contains_key(name) && !problems.is_written(&format!("providers.{name}")) => {
            problems.add(&seen.path("upstream.token.provider"), format!("no provider is called `{name}`"));
        }
        None if file.providers.len() != 1 => {
            problems.add(&seen.path("upstream.token"), "does not say of which provider; add `provider`");
        }
        _ => {}
    }
    let named = token.provider.as_ref().and_then(|name| file.providers.get(name));
    if let Some(provider) = named.or(file.providers.values().next().filter(|_| token.provider.is_none())) {
        if provider.discovery == Automatic::Never && provider.endpoint("token_endpoint").is_none() {
            let told = "asks a provider with `discovery: never` that names no `token_endpoint` in `endpoints`; add it";
            problems.add(&seen.path("upstream.token"), told);
        }
        if token.grant == Grant::ClientCredentials && provider.client_auth == ClientAuth::None {
            let told =
                "client_credentials needs a client that proves who it is, and `client_auth` is none (RFC 6749, 4.4)";
            problems.add(&seen.path("upstream.token"), told);
        }
    }
    let auth = seen.route.auth.protected();
    let has_token = |auth: &Protected| auth.accepts(Accept::Session) || auth.accepts(Accept::Bearer);
    if token.grant == Grant::TokenExchange && !auth.is_some_and(has_token) {
        let told = "exchanges the caller's access token, and no caller of the route has one; write client_credentials";
        problems.add(&seen.path("upstream.token.grant"), told);
    }
}

/// The tokens that the app is to get are there, each in a header of its own.
fn tokens(route: &Route, seen: &Seen<'_>, auth: &Protected, problems: &mut Problems) {
    let own = route.headers.identity_headers();
    let (access, id) = own.wants_tokens();
    if access && !auth.accepts(Accept::Session) && !auth.accepts(Accept::Bearer) {
        problems.add(
            &seen.path("headers.access_token"),
            "passes a token, and the route accepts neither session nor bearer",
        );
    }
    if id && !auth.accepts(Accept::Session) {
        problems.add(&seen.path("headers.id_token"), "passes the session's token, and the route accepts no session");
    }
    if route.headers.id_token.name().is_some_and(|name| route.headers.access_token.name() == Some(name)) {
        let told = "is passed in the same header as `access_token`; write the name of another header";
        problems.add(&seen.path("headers.id_token"), told);
    }
    let set = route.headers.set.keys().map(|name| name.as_str());
    let both = [("access_token", &route.headers.access_token), ("id_token", &route.headers.id_token)];
    for (key, name) in both.into_iter().filter_map(|(key, pass)| Some((key, pass.name()?))) {
        if set.clone().any(|own| own.eq_ignore_ascii_case(name.as_str())) {
            let told = format!("is passed in the header `{name}`, which `headers.set` sets, too; write another name");
            problems.add(&seen.path(&format!("headers.{key}")), &told);
        }
    }
    // The preset's value would stand in the place of a token that is absent.
    let preset = route.headers.preset.names();
    let is_taken = |name: &str| {
        preset.contains(&name) || (name.starts_with("x-auth-request-") && name != "x-auth-request-access-token")
    };
    for name in own.names_with_tokens().map(HeaderName::as_str).filter(|name| is_taken(name)) {
        let told = format!("pass a token in the header `{name}`, which holds the identity; write another name");
        problems.add(&seen.path("headers"), &told);
    }
    if access && route.headers.id_token.name().is_some_and(|name| name == "x-auth-request-access-token") {
        problems.add(&seen.path("headers.id_token"), "is passed in the header of the access token; write another name");
    }
}

/// Each provider that a route names is there, and it names one where there are several.
fn providers(file: &File, seen: &Seen<'_>, auth: &Protected, problems: &mut Problems) {
    let bearer = auth.bearer.iter().enumerate().map(|(i, name)| (format!("auth.bearer.{i}"), name));
    let key = |i: usize| match auth.provider {
        OneOrMany::One(_) => "auth.provider".to_string(),
        OneOrMany::Many(_) => format!("auth.provider.{i}"),
    };
    let named = auth.provider.as_slice();
    for (i, name) in named.iter().enumerate().filter(|(i, name)| named.iter().take(*i).any(|other| other == *name)) {
        problems.add(&seen.path(&key(i)), format!("`{name}` is named twice; remove one"));
    }
    for (key, name) in named.iter().enumerate().map(|(i, name)| (key(i), name)).chain(bearer) {
        // One that could not be read is reported where it stands.
        if !file.providers.contains_key(name) && !problems.is_written(&format!("providers.{name}")) {
            let known: Vec<&str> = file.providers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            problems.add(&seen.path(&key), format!("no provider is called `{name}`; there is {known}"));
        }
    }
    let asks_provider = auth.accepts(Accept::Session) || auth.accepts(Accept::Bearer);
    if !file.own_providers(auth).is_empty() || !asks_provider {
        return;
    }
    match file.providers.is_empty() {
        false => problems.add(&seen.path("auth"), "there are several providers; say which by `provider`"),
        true if problems.has_below("providers") => {} // what comes of that is no second mistake
        true => problems
            .add(&seen.path("auth"), "a protected route needs a provider; add `providers`, or write `auth: public`"),
    }
}

fn limits(file: &File, problems: &mut Problems) {
    let lease = file.refresh_dedup.lease;
    let slowest = file.providers.iter().find(|(_, provider)| *provider.timeout >= *lease);
    if let Some((name, _)) = slowest.filter(|_| file.refresh_dedup.enabled) {
        let told = format!("must be longer than the timeout of every provider, and is not longer than that of {name}");
        problems.add("refresh_dedup.lease", told);
    }
}

fn api_keys(file: &File, problems: &mut Problems) {
    let names: BTreeSet<&str> = file.routes.iter().map(|(_, route)| route.name.as_str()).collect();
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for (i, key) in file.api_keys.iter() {
        if ids.insert(key.id.to_string(), i).is_some() {
            problems.add(&format!("api_keys.{i}.id"), "is the id of an earlier key, too");
        }
        for (r, route) in key.routes.iter().flatten().enumerate().filter(|(_, route)| !names.contains(route.as_str())) {
            problems.add(&format!("api_keys.{i}.routes.{r}"), format!("no route is called `{route}`"));
        }
    }
}

fn unused_providers(file: &File, problems: &mut Problems) {
    if file.routes.is_empty() || problems.has_below("routes") {
        return; // what comes of that is no second mistake
    }
    let routes = file.routes.iter().filter_map(|(_, route)| route.auth.protected());
    let tokens = file.routes.iter().filter_map(|(_, route)| route.upstream.token.as_ref()?.provider.as_deref());
    let used: BTreeSet<&str> = routes.flat_map(|auth| file.providers_of(auth)).chain(tokens).collect();
    for name in file.providers.keys().filter(|name| !used.contains(name.as_str())) {
        problems.warn(&format!("providers.{name}"), "no route names it");
    }
}
