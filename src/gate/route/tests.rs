use super::*;
use crate::credential::policy::Policy;
use crate::gate::host::Host;
use crate::gate::identity_headers::Preset;
use crate::gate::identity_headers::tests::of_preset;
use crate::gate::place::Hosts;
use crate::gate::table::Table;
use crate::telemetry::metrics::Metrics;
use http::Method;

/// A public route at `host[:port] path`, `*` for any host; `=` before the path for an exact one.
fn route(index: usize, name: &str, place: &str, methods: &[&str], https: bool) -> Arc<Route> {
    let (host, path) = place.split_once(' ').unwrap();
    let (host, port) = match host.split_once(':').filter(|_| !host.starts_with('[')) {
        Some((host, port)) => (host, Some(port.parse().unwrap())),
        None => (host, None),
    };
    let hosts = match host.strip_prefix("*.") {
        Some(suffix) => Hosts::Below(format!(".{suffix}")),
        None if host == "*" => Hosts::Any,
        None => Hosts::One(host.into()),
    };
    let exact = path.starts_with('=');
    let settings = Settings {
        name: name.into(),
        place: Place {
            hosts,
            port: port.or(Some(if https { 443 } else { 80 })),
            path: path.trim_start_matches('=').into(),
            exact,
            methods: methods.iter().map(|m| m.parse().unwrap()).collect(),
        },
        https,
        access: AccessSettings::Public,
        headers: of_preset(Preset::Standard),
        resource: None,
        assertion: None,
        service_token: None,
        cors: None,
        strip_prefix: true,
        bases: Vec::new(),
        cookie: "doorward".into(),
    };
    Arc::new(Route::new(index, settings, |_| Policy::new(Vec::new()), Vec::new(), None, Metrics::default().route(name)))
}

fn table() -> Table {
    let places: [(&str, &str, &[&str]); 17] = [
        ("bare", "* /", &[]),
        ("wild", "*.maze.test /", &[]),
        ("wilder", "*.b.maze.test /", &[]),
        ("host", "a.b.maze.test /in/", &[]),
        ("deep", "a.b.maze.test /in/deep", &[]),
        ("exact", "a.b.maze.test =/in/deep", &[]),
        ("puts", "a.b.maze.test /in/deep/", &["PUT", "DELETE"]),
        ("posts", "a.b.maze.test /in/", &["POST"]),
        ("one", "ports.test:8001 /", &[]),
        ("two", "ports.test:8002 /", &[]),
        ("usual", "usual.test /", &[]),
        ("unusual", "usual.test:8443 /", &[]),
        ("six", "[::1] /", &[]),
        ("gets", "heads.test /a/", &["GET"]),
        ("others", "heads.test /", &[]),
        ("gets-b", "heads.test /b/", &["GET"]),
        ("heads", "heads.test /b/", &["HEAD", "OPTIONS"]),
    ];
    Table::new(
        places.iter().enumerate().map(|(i, (name, place, methods))| route(i, name, place, methods, false)).collect(),
    )
}

fn check(method: &str, host: &str, path: &str, expected: Option<&str>) {
    let host = Host::parse(host).unwrap();
    let table = table();
    let found = table.find(Some(&host), &method.parse().unwrap(), path.as_bytes());
    assert_eq!(found.map(|route| &*route.name), expected, "{method} {} {path}", host.as_str());
}

#[test]
fn the_most_specific_route_wins() {
    for (method, host, path, expected) in [
        ("GET", "a.b.maze.test", "/in/x", "host"),
        ("GET", "a.b.maze.test", "/in", "host"),
        ("GET", "a.b.maze.test", "/inx", "wilder"),
        ("GET", "a.b.maze.test", "/", "wilder"),
        ("GET", "a.b.maze.test", "/in/deep", "exact"),
        ("GET", "a.b.maze.test", "/in/deep/", "deep"),
        ("GET", "a.b.maze.test", "/in/deeper", "host"),
        ("PUT", "a.b.maze.test", "/in/deep/x", "puts"),
        ("HEAD", "heads.test", "/a/x", "gets"),
        ("HEAD", "heads.test", "/b/x", "heads"),
        ("GET", "heads.test", "/b/x", "gets-b"),
        ("POST", "heads.test", "/a/x", "others"),
        ("POST", "a.b.maze.test", "/in/x", "posts"),
        ("POST", "a.b.maze.test", "/in/deep/x", "deep"),
        ("GET", "A.B.Maze.TEST.", "/in/x", "host"),
        ("GET", "a.b.maze.test:99", "/in/x", "host"),
        ("GET", "y.x.b.maze.test", "/", "wilder"),
        ("GET", "b.maze.test", "/", "wild"),
        ("GET", "maze.test", "/", "bare"),
        ("GET", "elsewhere.test", "/x", "bare"),
        ("GET", "[::1]:8080", "/", "six"),
    ] {
        check(method, host, path, Some(expected));
    }
}

#[test]
fn the_port_counts_only_between_routes_that_differ_by_nothing_else() {
    check("GET", "ports.test:8001", "/", Some("one"));
    check("GET", "ports.test:8002", "/x", Some("two"));
    check("GET", "ports.test:8003", "/", None);
    check("GET", "ports.test", "/", None);
    check("GET", "usual.test", "/", Some("usual"));
    check("GET", "usual.test:80", "/", Some("usual"));
    check("GET", "usual.test:8443", "/", Some("unusual"));
}

#[test]
fn a_stripped_path_begins_with_exactly_one_slash() {
    let route = route(0, "r", "a.test /in/", &[], false);
    for (path, expected) in [("/in/x", "/x"), ("/in", "/"), ("/in/", "/"), ("/in//evil.test/x", "/evil.test/x")] {
        assert_eq!(route.path_for_app(path), expected);
    }
}

#[test]
fn https_is_found_under_its_own_port() {
    let table =
        Table::new(vec![route(0, "plain", "a.test /", &[], false), route(1, "tls", "b.test:8443 /", &[], true)]);
    let port = |host: &str| table.https_port(&Host::parse(host).unwrap(), &Method::GET, b"/");
    assert_eq!((port("a.test"), port("b.test"), port("c.test")), (None, Some(8443), None));
}

/// Many routes are found as a look at each of them would find them.
#[test]
fn a_large_table_is_as_a_look_at_each_route() {
    let hosts = ["x.b.test", "y.test", "*.b.test", "*.test", "*"];
    let paths = ["/", "/a", "/c/", "/a/b", "=/a/b", "/ab", "/a/b/c/", "=/", "/b/a", "=/a"];
    let methods: [&[&str]; 4] = [&[], &["GET"], &["PUT", "POST"], &["DELETE", "GET"]];
    let all = hosts.iter().flat_map(|host| paths.iter().flat_map(move |path| methods.map(|own| (host, path, own))));
    let order = |route: &Route| std::cmp::Reverse(route.index);
    // Neither all of them nor in an order of theirs.
    let places: Vec<_> = all.enumerate().filter(|(i, _)| i * 7 % 11 > 3).map(|(_, place)| place).collect();
    let mut routes: Vec<_> = places
        .iter()
        .enumerate()
        .map(|(i, (host, path, own))| {
            route(i, &format!("{host} {path} {own:?}"), &format!("{host} {path}"), own, false)
        })
        .collect();
    let table = Table::new(routes.clone());
    let of_host = |route: &Route| match &route.place.hosts {
        Hosts::One(_) => usize::MAX,
        Hosts::Below(suffix) => suffix.len(),
        Hosts::Any => 0,
    };
    let own = |route: &Route| match route.place.exact {
        true => route.place.path.clone(),
        false => route.place.path.trim_end_matches('/').to_owned(),
    };
    routes.sort_by_key(|route| {
        let place = &route.place;
        (of_host(route), place.exact, own(route).len(), !place.methods.is_empty(), order(route))
    });
    let covers = |route: &Route, host: &str, method: &Method, path: &str| {
        let is_host = match &route.place.hosts {
            Hosts::One(name) => name == host,
            Hosts::Below(suffix) => host.ends_with(suffix.as_str()) && host.len() > suffix.len(),
            Hosts::Any => true,
        };
        let rest = path.strip_prefix(own(route).as_str());
        let is_path = rest.is_some_and(|rest| rest.is_empty() || !route.place.exact && rest.starts_with('/'));
        is_host && is_path && (route.place.methods.is_empty() || route.place.methods.contains(method))
    };
    let mut found = 0;
    for host in ["x.b.test", "z.b.test", "y.test", "b.test", "q.y.test", "test", "other"] {
        for path in
            ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a/b/c/d", "/ab", "/abc", "/b", "/b/a/x", "//", "/a//b"]
        {
            for method in [Method::GET, Method::PUT, Method::DELETE] {
                let expected = routes.iter().rev().find(|route| covers(route, host, &method, path));
                let got = table.find(Some(&Host::parse(host).unwrap()), &method, path.as_bytes());
                assert_eq!(got.map(|r| &r.name), expected.map(|r| &r.name), "{method} {host} {path}");
                found += usize::from(got.is_some());
            }
        }
    }
    assert!(found > 200, "{found}");
}
