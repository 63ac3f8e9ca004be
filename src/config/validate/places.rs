//! Routes that stand in one place, or that only a port tells apart.

use crate::config::diagnostics::Problems;
use crate::config::file::{Accept, Auth, Match, Route};
use crate::config::validate::Seen;
use crate::gate::route::OnUnauthenticated;
use crate::gate::rules::Rules;
use std::collections::{BTreeSet, HashMap};

pub(super) fn find(seen: &[Seen<'_>], problems: &mut Problems) {
    same(seen, problems);
    told_apart_by_port(seen, problems);
}

/// Two routes with one name, or in one place.
fn same(seen: &[Seen<'_>], problems: &mut Problems) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut taken: HashMap<_, (usize, bool)> = HashMap::new();
    for Seen { index, route, position } in seen {
        let name = route.name.as_str();
        match names.get(name) {
            Some(other) => problems.add(
                &format!("routes.{index}.name"),
                format!("`{name}` is the name of routes.{other}, too; rename one"),
            ),
            None => drop(names.insert(name, *index)),
        }
        let path = own_path(route);
        let methods: BTreeSet<&str> = route.methods.iter().map(|method| method.method().as_str()).collect();
        let is_default = route.from.origin.as_ref().is_some_and(|origin| origin.has_default_port());
        // The default ports of both schemes count as one.
        let ports = [Some(position.port), is_default.then_some(Some(0))];
        for port in ports.into_iter().flatten() {
            let place = (position.hosts.clone(), port, path, route.r#match, methods.clone());
            match taken.get(&place) {
                Some((other, https)) => {
                    let how = match *https == position.https {
                        true => "stands in the same place as",
                        false => "differs only in its scheme from",
                    };
                    let told = format!("{how} routes.{other}; change host, port, path, match or methods of one");
                    problems.add(&format!("routes.{index}.from"), told);
                }
                None => drop(taken.insert(place, (*index, position.https))),
            }
        }
    }
}

/// The client chooses the port that its `Host` names: behind a proxy that takes any, it chooses who may pass, too.
fn told_apart_by_port(seen: &[Seen<'_>], problems: &mut Problems) {
    let mut first: HashMap<_, &Seen<'_>> = HashMap::new();
    for one in seen {
        let methods: BTreeSet<&str> = one.route.methods.iter().map(|method| method.method().as_str()).collect();
        let place = (&one.position.hosts, own_path(one.route), one.route.r#match, methods);
        let other = *first.entry(place).or_insert(one);
        if other.position.port != one.position.port && who(other.route) != who(one.route) {
            let told = format!(
                "differs from routes.{} by its port alone and in who may pass: the client says which port it means; give one of them another host or path",
                other.index
            );
            problems.warn(&one.path("from"), &told);
        }
    }
}

/// All that decides who may pass; none: everybody.
#[derive(PartialEq)]
struct Who<'a> {
    providers: &'a [String],
    bearer: BTreeSet<&'a str>,
    kinds: [bool; 3],
    passes_all: bool,
    require: &'a Rules,
}

fn who(route: &Route) -> Option<Who<'_>> {
    let Auth::Protected(auth) = &route.auth else { return None };
    Some(Who {
        providers: auth.provider.as_slice(),
        bearer: auth.bearer.iter().map(String::as_str).collect(),
        kinds: [Accept::Session, Accept::Bearer, Accept::ApiKey].map(|kind| auth.accepts(kind)),
        passes_all: auth.on_unauthenticated == OnUnauthenticated::Pass,
        require: &route.require,
    })
}

fn own_path(route: &Route) -> &str {
    match route.r#match {
        Match::Exact => route.from.path.as_str(),
        Match::Prefix => route.from.path.trim_end_matches('/'),
    }
}
