//! The routes of one configuration, and which of them a request is for.

use crate::gate::host::Host;
use crate::gate::place::{Hosts, Place};
use crate::gate::resource::Resource;
use crate::gate::route::{Access, Route};
use crate::login::relying_party::RelyingParty;
use http::{HeaderValue, Method};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use url::Url;

/// All routes, found by host and path: what a look-up costs hardly depends on how many there are.
pub struct Table {
    one: HashMap<String, Index>,
    /// By the suffix, with its leading dot.
    below: HashMap<String, Index>,
    /// How many dots such a suffix has, each number once, the most first.
    depths: Vec<usize>,
    any: Index,
    /// Some route is chosen by method.
    by_method: bool,
    /// The relying parties whose `redirect_uri` has this host.
    callbacks: HashMap<String, Vec<Arc<RelyingParty>>>,
}

/// The routes of one host pattern.
#[derive(Default)]
struct Index {
    /// The more specific first; those of one path stand together.
    groups: Vec<Group>,
    runs: Vec<Run>,
    /// Each realm once, the most specific first.
    sites: Vec<Arc<RelyingParty>>,
    is_protected: bool,
    signs: bool,
}

/// The groups of paths of one length, in the order of their paths.
struct Run {
    exact: bool,
    length: usize,
    groups: Range<usize>,
}

/// Routes that differ in nothing but the port.
struct Group {
    path: String,
    exact: bool,
    methods: Vec<Method>,
    members: Vec<(Option<u16>, Arc<Route>)>,
}

impl Table {
    pub fn new(routes: Vec<Arc<Route>>) -> Table {
        let by_method = routes.iter().any(|route| !route.place.methods.is_empty());
        let (mut one, mut below, mut any) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new(), Vec::new());
        let mut callbacks: HashMap<String, Vec<Arc<RelyingParty>>> = HashMap::new();
        for route in routes {
            for site in route.access.sites() {
                let uri = site.redirect_uri.as_deref().and_then(|uri| Url::parse(uri).ok());
                let host = uri.as_ref().and_then(Url::host_str);
                host.into_iter().for_each(|host| add(callbacks.entry(host.to_owned()).or_default(), site));
            }
            match &route.place.hosts {
                Hosts::One(name) => one.entry(name.clone()).or_default().push(route),
                Hosts::Below(suffix) => below.entry(suffix.clone()).or_default().push(route),
                Hosts::Any => any.push(route),
            }
        }
        let indexed =
            |all: HashMap<String, Vec<_>>| all.into_iter().map(|(host, own)| (host, Index::new(own))).collect();
        let mut depths: Vec<usize> = below.keys().map(|suffix: &String| suffix.matches('.').count()).collect();
        depths.sort_by_key(|depth| Reverse(*depth));
        depths.dedup();
        Table { one: indexed(one), below: indexed(below), depths, any: Index::new(any), by_method, callbacks }
    }

    /// The route for one reading of a path. The port counts only between routes that differ in nothing else.
    pub fn find(&self, host: Option<&Host>, method: &Method, path: &[u8]) -> Option<&Arc<Route>> {
        let port = host.and_then(Host::port);
        let group = self.over(host, path).find(|group| group.takes(method))?;
        match group.members.as_slice() {
            [(_, only)] => Some(only),
            several => {
                several.iter().find(|(own, route)| *own == port.or(default_port(&route.scheme))).map(|(_, route)| route)
            }
        }
    }

    /// The routes that are more specific than the one that matches.
    pub fn passed_over(&self, host: Option<&Host>, method: &Method, path: &[u8]) -> impl Iterator<Item = &Arc<Route>> {
        let groups = self.indices(host).flat_map(|index| &index.groups);
        let groups = groups.take_while(move |group| !(group.stands_over(path) && group.takes(method)));
        groups.flat_map(|group| &group.members).map(|(_, route)| route)
    }

    /// Whether another method could select another route.
    pub fn chooses_by_method(&self, host: Option<&Host>, path: &[u8]) -> bool {
        self.by_method && self.over(host, path).any(|group| !group.methods.is_empty())
    }

    /// The https port for a path of this host, whatever port the request named.
    pub fn https_port(&self, host: &Host, method: &Method, path: &[u8]) -> Option<u16> {
        let mut groups = self.over(Some(host), path).filter(|group| group.takes(method));
        groups.find_map(|group| group.members.iter().find(|(_, route)| route.scheme == "https")?.0)
    }

    /// The relying parties of this host, each realm once, the most specific first.
    pub fn sites(&self, host: Option<&Host>) -> Vec<Arc<RelyingParty>> {
        let callbacks = host.and_then(|host| self.callbacks.get(host.name()));
        let mut sites = Vec::new();
        let all = self.indices(host).flat_map(|index| &index.sites).chain(callbacks.into_iter().flatten());
        all.for_each(|site| add(&mut sites, site));
        sites
    }

    /// The protected resource of this host with that path.
    pub fn resource(&self, host: Option<&Host>, path: &str) -> Option<&Resource> {
        let own = if path.is_empty() { "/" } else { path };
        let port = host.and_then(Host::port);
        // The routes that serve the path, whatever the method.
        let first = self.over(host, own.as_bytes()).next()?;
        let same = self.indices(host).flat_map(|index| index.of_path(&first.path));
        let is_here =
            |(own, route): &&(Option<u16>, Arc<Route>)| own.is_none() || *own == port.or(default_port(&route.scheme));
        let mut here = same.flat_map(|group| match group.members.as_slice() {
            only @ [_] => only.iter().collect::<Vec<_>>(),
            several => several.iter().filter(is_here).collect(),
        });
        here.find_map(|(_, route)| route.resource.as_ref().filter(|resource| resource.is_at(path)))
    }

    /// Whether a route of this host signs assertions.
    pub fn signs(&self, host: Option<&Host>) -> bool {
        self.indices(host).any(|index| index.signs)
    }

    /// Whether this host serves the gateway's own endpoints: one of its routes is protected, or logins end there.
    pub fn has_own_pages(&self, host: Option<&Host>) -> bool {
        host.is_some_and(|host| self.callbacks.contains_key(host.name()))
            || self.indices(host).any(|index| index.is_protected)
    }

    /// The groups that stand over a path, the more specific first.
    fn over<'t>(&'t self, host: Option<&Host>, path: &[u8]) -> impl Iterator<Item = &'t Group> {
        self.indices(host).flat_map(move |index| index.over(path))
    }

    /// Of every pattern that covers the host, the most specific first.
    fn indices<'t>(&'t self, host: Option<&Host>) -> impl Iterator<Item = &'t Index> {
        let name = host.map(Host::name).unwrap_or_default();
        let starts = self.depths.iter().filter_map(|depth| name.rmatch_indices('.').nth(depth - 1)).map(|(at, _)| at);
        let below = starts.filter(|at| *at > 0).filter_map(|at| self.below.get(name.get(at..)?));
        self.one.get(name).into_iter().chain(below).chain([&self.any])
    }
}

impl Index {
    fn new(routes: Vec<Arc<Route>>) -> Index {
        let mut index = Index::default();
        let mut places: HashMap<(String, bool, Vec<Method>), usize> = HashMap::new();
        for route in routes {
            let Place { port, exact, methods, .. } = &route.place;
            let (path, port) = (own_path(&route.place).to_owned(), *port);
            let (exact, methods) = (*exact, methods.clone());
            let at = *places.entry((path.clone(), exact, methods.clone())).or_insert(index.groups.len());
            if at == index.groups.len() {
                index.groups.push(Group { path, exact, methods, members: Vec::new() });
            }
            if let Some(group) = index.groups.get_mut(at) {
                group.members.push((port, route));
            }
        }
        index.let_head_follow_get();
        // Stable, and so is the order of the file between groups that share a path and a method.
        index.groups.sort_by(|one, other| one.rank().cmp(&other.rank()));
        for (at, group) in index.groups.iter().enumerate() {
            match index.runs.last_mut() {
                Some(run) if run.exact == group.exact && run.length == group.path.len() => run.groups.end = at + 1,
                _ => index.runs.push(Run { exact: group.exact, length: group.path.len(), groups: at..at + 1 }),
            }
        }
        let mut members: Vec<_> = index.groups.iter().flat_map(|group| &group.members).collect();
        members.sort_by_key(|(_, route)| (!route.place.exact, Reverse(own_path(&route.place).len()), route.index));
        for (_, route) in members {
            route.access.sites().iter().for_each(|site| add(&mut index.sites, site));
            index.is_protected |= matches!(route.access, Access::Protected(_));
            index.signs |= route.assertion.is_some();
        }
        index
    }

    /// Apps serve HEAD as GET (RFC 9110, 9.3.2): it belongs to the route of GET, unless another of the same path names it.
    fn let_head_follow_get(&mut self) {
        let names_head = |group: &&Group| group.methods.contains(&Method::HEAD);
        let named: HashSet<String> = self.groups.iter().filter(names_head).map(|group| group.path.clone()).collect();
        for group in &mut self.groups {
            if group.methods.contains(&Method::GET) && !named.contains(&group.path) {
                group.methods.push(Method::HEAD);
            }
        }
    }

    fn over<'t>(&'t self, path: &[u8]) -> impl Iterator<Item = &'t Group> {
        let runs = self.runs.iter().filter(|run| match path.get(run.length) {
            Some(next) => !run.exact && *next == b'/',
            None => path.len() == run.length,
        });
        runs.flat_map(|run| self.of_run(run, path.get(..run.length).unwrap_or_default()))
    }

    fn of_path<'t>(&'t self, path: &str) -> impl Iterator<Item = &'t Group> {
        self.runs.iter().filter(|run| run.length == path.len()).flat_map(|run| self.of_run(run, path.as_bytes()))
    }

    fn of_run<'t>(&'t self, run: &Run, path: &[u8]) -> impl Iterator<Item = &'t Group> {
        let groups = self.groups.get(run.groups.clone()).unwrap_or_default();
        let from = groups.partition_point(|group| group.path.as_bytes() < path);
        groups.iter().skip(from).take_while(move |group| group.path.as_bytes() == path)
    }
}

/// What a path is compared with.
fn own_path(place: &Place) -> &str {
    if place.exact { &place.path } else { place.path.trim_end_matches('/') }
}

/// Adds a relying party whose realm is not there yet.
fn add(sites: &mut Vec<Arc<RelyingParty>>, site: &Arc<RelyingParty>) {
    if !sites.iter().any(|known| Arc::ptr_eq(&known.realm, &site.realm)) {
        sites.push(site.clone());
    }
}

fn default_port(scheme: &HeaderValue) -> Option<u16> {
    Some(if scheme == "https" { 443 } else { 80 })
}

impl Group {
    /// Sort key: the more specific first, those of one path together.
    fn rank(&self) -> (bool, Reverse<usize>, &str, bool) {
        (!self.exact, Reverse(self.path.len()), &self.path, self.methods.is_empty())
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    fn stands_over(&self, path: &[u8]) -> bool {
        match path.strip_prefix(self.path.as_bytes()) {
            Some(rest) => rest.is_empty() || (!self.exact && rest.starts_with(b"/")),
            None => false,
        }
    }
}
