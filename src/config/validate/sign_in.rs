//! Whether logins on a route can end, and their cookies.

use super::Seen;
use crate::config::assemble::Jars;
use crate::config::diagnostics::Problems;
use crate::config::file::{File, Match, Protected};
use crate::gate::place::Hosts;
use crate::kit::setting::http_url;
use crate::login::cookie::{CookieSpec, SameSite};
use crate::provider::settings::{Automatic, Settings as Provider};
use std::collections::{HashMap, HashSet};

/// What browsers do with a cookie under this origin, and whether a login there can end.
pub(super) fn sign_in(file: &File, seen: &Seen<'_>, jars: &Jars<'_>, problems: &mut Problems) {
    let sign_ins = file.sign_ins(seen.route);
    if sign_ins.is_empty() {
        return;
    }
    let (index, position) = (seen.index, &seen.position);
    let cookie = &seen.route.session.cookie;
    // Where the operator wrote it: in the route, or for all.
    let at = |key: &str, problems: &Problems| {
        let own = seen.path(&format!("session.cookie.{key}"));
        if problems.is_written(&own) { own } else { format!("session.cookie.{key}") }
    };
    if cookie.same_site == SameSite::None && !position.https {
        let told = format!("`none` needs https, and routes.{index} is http; write lax or strict");
        problems.add(&at("same_site", problems), told);
    }
    if let (Some(domain), Hosts::One(host)) = (&cookie.domain, &position.hosts)
        && !covers(domain, host)
    {
        let told =
            format!("`{domain}` does not cover {host}, the host of routes.{index}; browsers would drop the cookie");
        problems.add(&at("domain", problems), told);
    }
    for (name, auth) in sign_ins {
        if let Some(provider) = file.providers.get(name) {
            ends(file, seen, jars, (name, provider, auth), problems);
        }
    }
}

/// Whether a login at this provider can end on the route's hosts.
fn ends(
    file: &File,
    seen: &Seen<'_>,
    jars: &Jars<'_>,
    (name, provider, auth): (&str, &Provider, &Protected),
    problems: &mut Problems,
) {
    let (index, position, cookie) = (seen.index, &seen.position, &seen.route.session.cookie);
    if let Some(uri) = &provider.redirect_uri {
        let path = format!("providers.{name}.redirect_uri");
        if jars.are_shared(file, seen.route, name) && !uri.as_str().ends_with(&format!("/callback/{name}")) {
            problems.add(&path, format!("must end in `/callback/{name}`: where users of another provider have their cookies on the same hosts, an answer is told by its address (RFC 9700, 4.4.2)"));
        }
        callback(file, seen, (name, uri.as_str()), problems);
        if let Some(host) = http_url(uri.as_str()).and_then(|url| url.host_str().map(str::to_owned))
            && position.hosts != Hosts::One(host.clone())
            && !cookie.domain.as_ref().is_some_and(|domain| covers(domain, &host))
        {
            problems.add(&path, format!("ends logins on {host}, whose cookies routes.{index} does not see; set `session.cookie.domain` to a domain of both"));
        }
    }
    form_post(seen, name, provider, auth, problems);
    for endpoint in ["authorization_endpoint", "token_endpoint"] {
        if provider.discovery == Automatic::Never && provider.endpoint(endpoint).is_none() {
            let told = format!(
                "needs `{endpoint}`: with `discovery: never` nothing else says where users of routes.{index} sign in"
            );
            problems.add(&format!("providers.{name}.endpoints"), told);
        }
    }
}

/// The gateway must serve the address, and the browser send the login's cookies there.
fn callback(file: &File, seen: &Seen<'_>, (name, uri): (&str, &str), problems: &mut Problems) {
    let path = format!("providers.{name}.redirect_uri");
    let Some(url) = http_url(uri) else { return };
    let own = format!("{}/callback", file.auth_path.as_str());
    if url.path() != own && url.path() != format!("{own}/{name}") {
        problems.add(&path, format!("ends no login: the callback is `{own}`, below `auth_path`"));
    }
    if url.scheme() == "http" && seen.position.https {
        let told = format!(
            "is http, and routes.{} is https: browsers would not send the login's cookies; write https",
            seen.index
        );
        problems.add(&path, told);
    }
}

fn covers(domain: &str, host: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

/// A form that the provider lets the browser post to the callback brings cookies only with `SameSite=None`, which needs https.
fn form_post(seen: &Seen<'_>, name: &str, provider: &Provider, auth: &Protected, problems: &mut Problems) {
    let (mode, path) = match auth.authorization_params.get("response_mode") {
        Some(mode) => (Some(mode), seen.path("auth.authorization_params.response_mode")),
        None => (
            provider.authorization_params.get("response_mode"),
            format!("providers.{name}.authorization_params.response_mode"),
        ),
    };
    let over_http = match &provider.redirect_uri {
        Some(uri) => uri.as_str().starts_with("http:"),
        None => !seen.position.https,
    };
    if mode.is_some_and(|mode| mode.as_slice().iter().any(|mode| mode == "form_post")) && over_http {
        let told = format!("form_post needs https, and the callback of routes.{} is http; write query", seen.index);
        problems.add(&path, told);
    }
}

pub(super) fn cookie_names(file: &File, seen: &[Seen<'_>], problems: &mut Problems) {
    // By provider and by name: the hosts, each with its first route.
    let mut all: HashMap<&str, HashMap<String, HashMap<&Hosts, usize>>> = HashMap::new();
    // Hosts of which a wildcard serves nothing.
    let is_whole = |seen: &&Seen<'_>| {
        let route = seen.route;
        route.from.path == "/" && route.r#match == Match::Prefix && route.methods.is_empty()
    };
    let whole: HashSet<&Hosts> = seen.iter().filter(is_whole).map(|seen| &seen.position.hosts).collect();
    let share =
        |one: &Hosts, other: &Hosts| one == other || one.overlap(other) && !whole.contains(narrower(one, other));
    for Seen { index, route, position } in seen {
        let cookie = &route.session.cookie;
        // One host may have routes of both schemes: their names differ by the prefix that browsers enforce, and must.
        let name = CookieSpec::new(cookie.name.as_str(), cookie.domain.clone(), cookie.same_site, true).name;
        for (provider, _) in file.sign_ins(route) {
            let known = all.entry(provider).or_default();
            let others = known.iter().filter(|(other, _)| **other != name);
            let mut others = others.flat_map(|(other, places)| places.iter().map(move |place| (other, place)));
            if let Some((other, (_, first))) = others.find(|(_, (hosts, _))| share(hosts, &position.hosts)) {
                let told = format!(
                    "routes.{first} has the same host and provider and calls the cookie `{other}`, this one `{name}`; one login needs one name"
                );
                problems.add(&format!("routes.{index}.session.cookie.name"), told);
                break;
            }
            known.entry(name.clone()).or_default().entry(&position.hosts).or_insert(*index);
        }
    }
}

/// The more specific of two that overlap.
fn narrower<'h>(one: &'h Hosts, other: &'h Hosts) -> &'h Hosts {
    match (one, other) {
        (Hosts::One(_), _) | (_, Hosts::Any) => one,
        (Hosts::Below(own), Hosts::Below(suffix)) if own.len() > suffix.len() => one,
        _ => other,
    }
}
