//! The routes of one configuration, and which of them a request is for.

use crate::gate::host::Host;
use crate::gate::place::{Hosts, Place};
use crate::gate::resource::Resource;
use crate::gate::route::{Access, Route};
use crate::login::relying_party::RelyingParty;
use http::{HeaderValue, Method};
use std::collections::HashMap;
use std::sync::Arc;
use url::Url;

/// All routes, ordered by how specific they are.
pub struct Table {
    routes: Vec<Arc<Route>>,
    one: HashMap<String, Vec<Group>>,
    /// Longest first.
    below: Vec<(String, Vec<Group>)>,
    any: Vec<Group>,
    /// Some route is chosen by method.
    by_method: bool,
    /// Each `redirect_uri`'s host, with its relying party.
    callbacks: Vec<(String, Arc<RelyingParty>)>,
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
        let mut table =
            Table { routes, one: HashMap::new(), below: Vec::new(), any: Vec::new(), by_method, callbacks: Vec::new() };
        for route in table.routes.clone() {
            let groups = match &route.place.hosts {
                Hosts::One(name) => table.one.entry(name.clone()).or_default(),
                Hosts::Any => &mut table.any,
                Hosts::Below(suffix) => {
                    let known = table.below.iter().position(|(s, _)| s == suffix);
                    let at = known.unwrap_or_else(|| {
                        table.below.push((suffix.clone(), Vec::new()));
                        table.below.len() - 1
                    });
                    match table.below.get_mut(at) {
                        Some((_, groups)) => groups,
                        None => continue, // it was pushed just above
                    }
                }
            };
            place(groups, route);
        }
        for route in &table.routes {
            for site in route.access.sites() {
                let host =
                    site.redirect_uri.as_deref().and_then(|uri| Some(Url::parse(uri).ok()?.host_str()?.to_owned()));
                table.callbacks.extend(host.map(|host| (host, site.clone())));
            }
        }
        table.below.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let below = table.below.iter_mut().map(|(_, groups)| groups);
        for groups in table.one.values_mut().chain(below).chain([&mut table.any]) {
            groups.sort_by_key(Group::rank);
        }
        table
    }

    /// The route for one reading of a path. The port counts only between routes that differ in nothing else.
    pub fn find(&self, host: Option<&Host>, method: &Method, path: &[u8]) -> Option<&Arc<Route>> {
        let port = host.and_then(Host::port);
        let group = self.groups(host).find_map(|groups| groups.iter().find(|group| group.covers(method, path)))?;
        match group.members.as_slice() {
            [(_, only)] => Some(only),
            several => {
                several.iter().find(|(own, route)| *own == port.or(default_port(&route.scheme))).map(|(_, route)| route)
            }
        }
    }

    /// The routes that are looked at before the one that matches.
    pub fn passed_over(&self, host: Option<&Host>, method: &Method, path: &[u8]) -> impl Iterator<Item = &Arc<Route>> {
        let groups = self.groups(host).flatten().take_while(move |group| !group.covers(method, path));
        groups.flat_map(|group| &group.members).map(|(_, route)| route)
    }

    /// Whether another method could select another route.
    pub fn chooses_by_method(&self, host: Option<&Host>, path: &[u8]) -> bool {
        self.by_method && self.groups(host).flatten().any(|group| !group.methods.is_empty() && group.stands_over(path))
    }

    /// The https port for a path of this host, whatever port the request named.
    pub fn https_port(&self, host: &Host, method: &Method, path: &[u8]) -> Option<u16> {
        let mut groups = self.groups(Some(host)).flatten().filter(|group| group.covers(method, path));
        groups.find_map(|group| group.members.iter().find(|(_, route)| route.scheme == "https")?.0)
    }

    /// The relying parties of this host, each realm once, the most specific first.
    pub fn sites(&self, host: Option<&Host>) -> Vec<Arc<RelyingParty>> {
        let routes = self.groups(host).flatten().flat_map(|group| &group.members).map(|(_, route)| route);
        let own = routes.flat_map(|route| route.access.sites());
        let name = host.map(Host::name).unwrap_or_default();
        let callbacks = self.callbacks.iter().filter(|(host, _)| host == name).map(|(_, site)| site);
        let mut sites: Vec<Arc<RelyingParty>> = Vec::new();
        for site in own.chain(callbacks) {
            if !sites.iter().any(|known| Arc::ptr_eq(&known.realm, &site.realm)) {
                sites.push(site.clone());
            }
        }
        sites
    }

    /// The protected resource of this host with that path.
    pub fn resource(&self, host: Option<&Host>, path: &str) -> Option<&Resource> {
        let own = if path.is_empty() { "/" } else { path };
        let port = host.and_then(Host::port);
        // The routes that serve the path, whatever the method.
        let first =
            self.groups(host).find_map(|groups| groups.iter().find(|group| group.stands_over(own.as_bytes())))?;
        let same = self.groups(host).flatten().filter(|group| group.path == first.path);
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
        self.groups(host).flatten().flat_map(|group| &group.members).any(|(_, route)| route.assertion.is_some())
    }

    /// Whether this host serves the gateway's own endpoints: one of its routes is protected, or logins end there.
    pub fn has_own_pages(&self, host: Option<&Host>) -> bool {
        let name = host.map(Host::name).unwrap_or_default();
        if self.callbacks.iter().any(|(host, _)| host == name) {
            return true;
        }
        self.groups(host)
            .flatten()
            .flat_map(|group| &group.members)
            .any(|(_, route)| matches!(route.access, Access::Protected(_)))
    }

    /// The groups of every pattern that covers the host, the most specific pattern first.
    fn groups(&self, host: Option<&Host>) -> impl Iterator<Item = &Vec<Group>> {
        let name = host.map(Host::name).unwrap_or_default();
        let below =
            self.below.iter().filter(move |(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix.as_str()));
        self.one.get(name).into_iter().chain(below.map(|(_, groups)| groups)).chain([&self.any])
    }
}

fn place(groups: &mut Vec<Group>, route: Arc<Route>) {
    let Place { port, path, exact, methods, .. } = &route.place;
    let path = if *exact { path.as_str() } else { path.trim_end_matches('/') };
    let member = (*port, route.clone());
    match groups.iter_mut().find(|g| g.path == path && g.exact == *exact && g.methods == *methods) {
        Some(group) => group.members.push(member),
        None => {
            groups.push(Group { path: path.into(), exact: *exact, methods: methods.clone(), members: vec![member] })
        }
    }
}

fn default_port(scheme: &HeaderValue) -> Option<u16> {
    Some(if scheme == "https" { 443 } else { 80 })
}

impl Group {
    /// Sort key: the more specific first.
    fn rank(&self) -> (bool, std::cmp::Reverse<usize>, bool) {
        (!self.exact, std::cmp::Reverse(self.path.len()), self.methods.is_empty())
    }

    fn covers(&self, method: &Method, path: &[u8]) -> bool {
        self.stands_over(path) && (self.methods.is_empty() || self.methods.contains(method))
    }

    fn stands_over(&self, path: &[u8]) -> bool {
        match path.strip_prefix(self.path.as_bytes()) {
            Some(rest) => rest.is_empty() || (!self.exact && rest.starts_with(b"/")),
            None => false,
        }
    }
}
