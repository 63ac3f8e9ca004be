//! From the file to settings: what follows from several keys is worked out here. Nothing is judged; see `validate`.

use crate::config::file::{Accept, File, Match, Protected, Route};
use crate::config::settings::{self, Settings};
use crate::gate::outbound_headers::Assertion;
use crate::gate::place::{From, Hosts, Place};
use crate::gate::resource::Resource;
use crate::gate::route::{self, AccessSettings, ProtectedSettings, SessionSettings};
use crate::kit::setting::http_url;
use crate::login::cookie::CookieSpec;
use crate::login::relying_party::Origin;
use crate::login::return_url::{HostPattern, Pattern};
use crate::provider::claims::ClaimPath;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a route stands, once `public_url` is known.
pub(crate) struct Position {
    pub(crate) https: bool,
    pub(crate) hosts: Hosts,
    /// `None` for bare paths.
    pub(crate) port: Option<u16>,
}

/// Which providers set a session cookie of one name, and where: two that meet in one cookie jar (browsers know no ports) need
/// cookies of their own.
pub(crate) struct Jars<'a> {
    /// By cookie name, a blank and a place; see [`places`].
    providers: HashMap<String, BTreeSet<&'a str>>,
}

pub(crate) fn assemble(mut file: File, folder: &Path, env: &[(String, String)]) -> Settings {
    let mut kept = claims_named(&file);
    for (name, provider) in &mut file.providers {
        provider.name = name.as_str().into();
        provider.kept = kept.remove(name).unwrap_or_default().into_iter().collect();
    }
    file.refresh_dedup.grace = file.store.redis.fallback.grace;
    let jars = Jars::of(&file);
    Settings {
        routes: file.routes.iter().filter_map(|(_, route)| assemble_route(&file, route, &jars)).collect(),
        return_origins: return_origins(&file),
        store_path: store_path(&file, folder, env),
        file,
    }
}

/// Every claim that a rule or a template names, by provider; the routes' identities keep these.
fn claims_named(file: &File) -> BTreeMap<String, BTreeSet<ClaimPath>> {
    let mut named: BTreeMap<String, BTreeSet<ClaimPath>> = BTreeMap::new();
    for (_, route) in file.routes.iter() {
        let Some(auth) = route.auth.protected() else { continue };
        let in_templates = route.headers.set.values().flat_map(|template| template.claims());
        let paths: Vec<&ClaimPath> = route.require.claims.keys().chain(in_templates).collect();
        for provider in file.providers_of(auth) {
            named.entry(provider.to_string()).or_default().extend(paths.iter().map(|path| (*path).clone()));
        }
    }
    named
}

pub(crate) fn position(file: &File, from: &From) -> Option<Position> {
    match &from.origin {
        Some(origin) => Some(Position { https: origin.https, hosts: origin.hosts.clone(), port: Some(origin.port) }),
        None => {
            let public = file.public_url.as_ref()?;
            Some(Position { https: public.as_str().starts_with("https:"), hosts: Hosts::Any, port: None })
        }
    }
}

fn assemble_route(file: &File, route: &Route, jars: &Jars<'_>) -> Option<settings::Route> {
    let Position { https, hosts, port } = position(file, &route.from)?;
    let access = match route.auth.protected() {
        Some(auth) => AccessSettings::Protected(Box::new(protected(file, route, auth, jars)?)),
        None => AccessSettings::Public,
    };
    let mut upstream = route.upstream.clone();
    upstream.to = route.to.as_slice().to_vec();
    let bases: BTreeSet<String> = upstream.to.iter().map(|origin| origin.base_path.clone()).collect();
    let methods: BTreeMap<&str, _> = route.methods.iter().map(|m| (m.method().as_str(), m.method().clone())).collect();
    Some(settings::Route {
        from: route.from.text.clone(),
        gate: route::Settings {
            name: route.name.as_str().into(),
            place: Place {
                hosts,
                port,
                path: route.from.path.clone(),
                exact: route.r#match == Match::Exact,
                methods: methods.into_values().collect(),
            },
            https,
            resource: resource(file, route, &access),
            assertion: assertion(file, route),
            service_token: route.upstream.token.clone(),
            access,
            headers: route.headers.identity_headers(),
            cors: route.cors.clone(),
            strip_prefix: upstream.strip_prefix,
            bases: bases.into_iter().collect(),
            cookie: route.session.cookie.name.as_str().into(),
        },
        upstream,
    })
}

fn origin(file: &File, place: &Position) -> Origin {
    match (&place.hosts, &file.public_url) {
        (Hosts::Any, Some(public)) => Origin::Fixed(public.as_str().trim_end_matches('/').to_string()),
        _ => Origin::OfHost { https: place.https, port: place.port },
    }
}

fn assertion(file: &File, route: &Route) -> Option<Assertion> {
    let own = route.headers.assertion.as_ref()?;
    Some(Assertion {
        header: own.header.as_str().parse().ok()?,
        issuer: file.assertion.issuer.clone(),
        audience: own.audience.clone(),
        ttl: *own.ttl,
        origin: origin(file, &position(file, &route.from)?),
    })
}

/// What is published of a route as a protected resource.
fn resource(file: &File, route: &Route, access: &AccessSettings) -> Option<Resource> {
    route.auth.protected().filter(|auth| auth.resource_metadata)?;
    let AccessSettings::Protected(protected) = access else { return None };
    let (path, text) = (route.from.path.as_str(), route.from.text.as_str());
    let (origin, address) = match (&route.from.origin, &file.public_url) {
        (Some(_), _) => (text.strip_suffix(path).unwrap_or(text).to_string(), text.to_string()),
        (None, Some(public)) => {
            let origin = public.as_str().trim_end_matches('/');
            (origin.to_string(), format!("{origin}{path}"))
        }
        (None, None) => return None,
    };
    let servers = protected.bearer.iter().filter_map(|name| file.providers.get(&**name));
    let servers = servers.map(|provider| provider.issuer.as_str().to_string()).collect();
    Some(Resource::new(&origin, path, address, servers, route.require.scopes.clone()))
}

fn protected(file: &File, route: &Route, auth: &Protected, jars: &Jars<'_>) -> Option<ProtectedSettings> {
    let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
    // API keys alone are the gateway's own word.
    let bearer: Vec<Arc<str>> = match auth.accepts(Accept::Session) || auth.accepts(Accept::Bearer) {
        false => Vec::new(),
        true if auth.bearer.is_empty() => names(&file.own_providers(auth)),
        true => names(&auth.bearer.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    let sign_ins = file.sign_ins(route).into_iter();
    let sessions =
        sign_ins.map(|(provider, auth)| session(file, route, provider, auth, jars)).collect::<Option<_>>()?;
    Some(ProtectedSettings {
        bearer,
        accepts_bearer: auth.accepts(Accept::Bearer),
        accepts_api_key: auth.accepts(Accept::ApiKey),
        limit: route.limits.unknown_tokens,
        on_unauthenticated: auth.on_unauthenticated,
        require: route.require.clone(),
        sessions,
    })
}

fn session(file: &File, route: &Route, provider: &str, auth: &Protected, jars: &Jars<'_>) -> Option<SessionSettings> {
    let place = position(file, &route.from)?;
    let cookie = &route.session.cookie;
    let shares_jar = jars.are_shared(file, route, provider);
    let name = match shares_jar {
        true => format!("{}_{provider}", cookie.name.as_str()),
        false => cookie.name.as_str().to_string(),
    };
    let settings = file.providers.get(provider)?;
    Some(SessionSettings {
        provider: provider.into(),
        cookie: CookieSpec::new(&name, cookie.domain.clone(), cookie.same_site, place.https),
        limits: route.session.limits(),
        refresh: route.session.refresh_limits(),
        origin: origin(file, &place),
        redirect_uri: settings.redirect_uri.as_ref().map(|uri| uri.as_str().to_string()),
        shares_jar,
        params: settings.authorization_params.with(&auth.authorization_params),
    })
}

impl<'a> Jars<'a> {
    pub(crate) fn of(file: &'a File) -> Self {
        let mut providers: HashMap<String, BTreeSet<&str>> = HashMap::new();
        for (_, route) in file.routes.iter() {
            let names: Vec<&str> = file.sign_ins(route).into_iter().map(|(name, _)| name).collect();
            for key in keys(file, route, Side::Set).into_iter().filter(|_| !names.is_empty()) {
                providers.entry(key).or_default().extend(&names);
            }
        }
        Jars { providers }
    }

    /// Whether users of another provider have their cookies on the same hosts, or below the same cookie domain.
    pub(crate) fn are_shared(&self, file: &File, route: &Route, provider: &str) -> bool {
        let found =
            |key: String| self.providers.get(&key).is_some_and(|all| all.iter().any(|other| *other != provider));
        keys(file, route, Side::Look).into_iter().any(found)
    }
}

fn keys(file: &File, route: &Route, side: Side) -> Vec<String> {
    let Some(place) = position(file, &route.from) else { return Vec::new() };
    let cookie = &route.session.cookie;
    let domain = cookie.domain.iter().map(|domain| format!("domain {domain}"));
    let all = places(&place.hosts, side).chain(domain);
    all.map(|place| format!("{} {place}", cookie.name.as_str())).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Set,
    Look,
}

/// Texts of which two sets of hosts have one in common where they overlap: one of those that are set with one of those that are
/// looked for.
fn places(hosts: &Hosts, side: Side) -> Box<dyn Iterator<Item = String> + '_> {
    // `.a.b.c`, `.b.c`, `.c`
    let above =
        |name: &str| name.match_indices('.').map(|(dot, _)| name.split_at(dot).1.to_string()).collect::<Vec<_>>();
    let below = |suffixes: Vec<String>| suffixes.into_iter().map(|suffix| format!("below {suffix}"));
    let holds = |suffixes: Vec<String>| suffixes.into_iter().map(|suffix| format!("holds {suffix}"));
    let all = std::iter::once("all".to_string());
    match (hosts, side) {
        (Hosts::One(name), Side::Set) => {
            Box::new(all.chain([format!("one {name}")]).chain(holds(above(&format!(".{name}")).split_off(1))))
        }
        (Hosts::One(name), Side::Look) => {
            Box::new([format!("one {name}"), "any".into()].into_iter().chain(below(above(name))))
        }
        (Hosts::Below(suffix), Side::Set) => {
            Box::new(all.chain([format!("below {suffix}")]).chain(holds(above(suffix))))
        }
        (Hosts::Below(suffix), Side::Look) => {
            Box::new([format!("holds {suffix}"), "any".into()].into_iter().chain(below(above(suffix))))
        }
        (Hosts::Any, Side::Set) => Box::new(all.chain(["any".to_string()])),
        (Hosts::Any, Side::Look) => Box::new(all),
    }
}

/// The origins that a browser may be sent on to.
fn return_origins(file: &File) -> Vec<Pattern> {
    let of_routes = file.routes.iter().filter_map(|(_, route)| {
        let origin = route.from.origin.as_ref()?;
        let host = match &origin.hosts {
            Hosts::One(name) => HostPattern::One(name.clone()),
            Hosts::Below(suffix) => HostPattern::Below(suffix.clone()),
            Hosts::Any => return None,
        };
        Some(Pattern { https: origin.https, host, port: origin.port })
    });
    let public = file.public_url.as_ref().and_then(|public| http_url(public.as_str())).and_then(|url| {
        let host = HostPattern::One(url.host_str()?.into());
        Some(Pattern { https: url.scheme() == "https", host, port: url.port_or_known_default()? })
    });
    of_routes.chain(public).collect()
}

fn store_path(file: &File, folder: &Path, env: &[(String, String)]) -> PathBuf {
    let state = env.iter().find(|(name, value)| name == "STATE_DIRECTORY" && !value.is_empty());
    match state {
        // systemd may name several, with colons between.
        Some((_, state)) => Path::new(state.split(':').next().unwrap_or_default()).join(&file.store.path),
        None => folder.join(&file.store.path),
    }
}
