//! The path that is judged is the path that is served (P1 to P3). Thousands of targets are sent as they are; a reader
//! of this module's own, more lenient than any app, says what each might mean.

use crate::client::{Connection, Request, get};
use crate::gateway::{Config, Gateway};
use crate::world::World;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{self, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeSet;

/// What is sent in pieces: names, dots, slashes and everything that somewhere is read as one of them.
const PIECES: [&str; 44] = [
    "/",
    "/",
    "/",
    "//",
    "/./",
    "/../",
    "public",
    "public",
    "public",
    "admin",
    "admin",
    "x",
    ".",
    "..",
    "%2e",
    "%2E%2e",
    ".%2e",
    "%2f",
    "%2F",
    "%5c",
    "%5C",
    "%25",
    "%252e",
    "%252e%252e",
    "%252f",
    "%255c",
    "%25252e",
    ";",
    ";x",
    ";x=1",
    "..;",
    "%3b",
    "%253b",
    "..%2f",
    "..%5c",
    "%2e%2e%2f",
    "%61dmin",
    "%2561dmin",
    "%70ublic",
    "PUBLIC",
    "a",
    "?p=/public/",
    "?/../admin",
    "%",
];
const CASES: usize = 6000;
const CONNECTIONS: usize = 4;

/// What an app does to a path before it looks at it.
type Step = fn(&[u8]) -> Vec<u8>;

/// Every way to read a path: each step that some app takes, in any order, with at most two decodings in all.
fn readings(path: &str) -> BTreeSet<Vec<u8>> {
    let mut seen = BTreeSet::from([(path.as_bytes().to_vec(), 0)]);
    let mut open: Vec<(Vec<u8>, usize)> = seen.iter().cloned().collect();
    while let Some((path, decoded)) = open.pop() {
        let plain: [Step; 7] =
            [backslashes, without_parameters, merged, resolved, resolved_by_names, resolved_as_browsers, without_host];
        let mut next: Vec<_> = plain.iter().map(|step| (step(&path), decoded)).collect();
        if decoded < 2 {
            next.push((unescaped(&path, b""), decoded + 1));
            next.push((unescaped(&path, b"/"), decoded + 1));
        }
        open.extend(next.into_iter().filter(|reading| seen.insert(reading.clone())));
    }
    seen.into_iter().map(|(path, _)| path).collect()
}

fn backslashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let cut = |segment: &[u8]| segment.split(|b| *b == b';').next().unwrap_or_default().to_vec();
    path.split(|b| *b == b'/').map(cut).collect::<Vec<_>>().join(&b'/')
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|one, other| *one == b'/' && *other == b'/');
    out
}

/// `new URL(target, base)` of Node and of browsers.
fn resolved_as_browsers(path: &[u8]) -> Vec<u8> {
    let dots = |segment: &[u8]| match segment.to_ascii_lowercase().as_slice() {
        b"%2e" => b".".to_vec(),
        b".%2e" | b"%2e." | b"%2e%2e" => b"..".to_vec(),
        _ => segment.to_vec(),
    };
    resolved(&path.split(|b| *b == b'/').map(dots).collect::<Vec<_>>().join(&b'/'))
}

/// The same of a path that begins as a reference to another host.
fn without_host(path: &[u8]) -> Vec<u8> {
    if !path.starts_with(b"//") {
        return path.to_vec();
    }
    let rest = &path[path.iter().take_while(|b| **b == b'/').count()..];
    let at = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
    if at == rest.len() { b"/".to_vec() } else { rest[at..].to_vec() }
}

/// An empty segment is a segment (RFC 3986).
fn resolved(path: &[u8]) -> Vec<u8> {
    resolve(path, false)
}

/// An empty segment is none, as in a file system.
fn resolved_by_names(path: &[u8]) -> Vec<u8> {
    resolve(path, true)
}

fn resolve(path: &[u8], skip_empty: bool) -> Vec<u8> {
    let segments: Vec<&[u8]> = path.split(|b| *b == b'/').skip(1).collect();
    let mut kept: Vec<&[u8]> = Vec::new();
    for (i, segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        match *segment {
            b".." => drop(kept.pop()),
            b"." => {}
            b"" if skip_empty && !last => continue,
            name => {
                kept.push(name);
                continue;
            }
        }
        if last {
            kept.push(b"");
        }
    }
    [b"/", kept.join(&b'/').as_slice()].concat()
}

/// But for escapes of what is `kept`: some servers leave an escaped slash as it is.
fn unescaped(path: &[u8], kept: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), path);
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok()).filter(|_| *first == b'%');
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()).filter(|byte| !kept.contains(byte)) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn is_public(path: &[u8]) -> bool {
    path == b"/public" || path.starts_with(b"/public/")
}

/// A reading of the target that is not public, if there is one.
fn escape(target: &str) -> Option<String> {
    let path = target.split('?').next().unwrap();
    readings(path)
        .into_iter()
        .find(|reading| !is_public(reading))
        .map(|reading| String::from_utf8_lossy(&reading).into_owned())
}

#[test]
fn the_lenient_reader_reads_leniently() {
    let check =
        |target: &str, expected: bool| assert_eq!(escape(target).is_some(), expected, "{target}: {:?}", escape(target));
    for inside in [
        "/public/",
        "/public",
        "/public/a/../b",
        "/public/%2e/x",
        "/public/a;x/b",
        "/public/a%2fb",
        "/public//x",
        "/public/x?p=/../admin",
    ] {
        check(inside, false);
    }
    for outside in [
        "/admin",
        "/publicadmin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public/..%5cadmin",
        "/public/%252e%252e/admin",
        "/public/..;/admin",
        "/public/a/../../admin",
        "/public//../../x",
        "/public;x",
        "//public/",
        "/%70ublic/",
        "/public/%2e%2e;%2fpublic/admin",
        "/public/a%2fb/../%2e%2e/x",
        "/public%2f..",
        "/public/a%2fb/%2e%2e/%2e%2e/admin",
        "///x/admin",
        "/public/a%2fb/%252e%252e/%252e%252e/admin",
        "/public/a%252fb/%2e%2e/%252e%252e/%252e%252e/x",
    ] {
        check(outside, true);
    }
    assert!(readings("/public/a%2fb/../%2e%2e/admin").contains(b"/admin".as_slice()));
}

/// The same targets at every run.
fn targets() -> Vec<String> {
    let config = test_runner::Config { failure_persistence: None, ..test_runner::Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let pieces = proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 1..9);
    let begin = proptest::sample::select(vec!["/public/", "/public/", "/public/", "/public", "/"]);
    let target = (begin, pieces).prop_map(|(begin, pieces)| format!("{begin}{}", pieces.concat()));
    let mut generated: Vec<String> = (0..CASES).map(|_| target.new_tree(&mut runner).unwrap().current()).collect();
    generated.sort();
    generated.dedup();
    generated
}

/// Sends targets one after the other, on one connection as long as it lasts.
async fn statuses(gateway: &Gateway, requests: Vec<(String, Request)>) -> Vec<(String, u16)> {
    let mut connection: Option<Connection> = None;
    let mut all = Vec::new();
    for (target, request) in requests {
        let mut open = match connection.take() {
            Some(open) => open,
            None => gateway.connect().await,
        };
        let reply = open.ask(&request).await;
        let stays = !reply.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
        connection = stays.then_some(open);
        all.push((target, reply.status));
    }
    all
}

async fn ask_all(world: &World, targets: &[String], token: Option<&str>) -> Vec<(String, u16)> {
    let request = |target: &String| {
        let request = get(target);
        (target.clone(), token.map_or(request.clone(), |token| request.bearer(token)))
    };
    let share = |i: usize| targets.iter().skip(i).step_by(CONNECTIONS).map(request).collect::<Vec<_>>();
    let (a, b, c, d) = tokio::join!(
        statuses(&world.gateway, share(0)),
        statuses(&world.gateway, share(1)),
        statuses(&world.gateway, share(2)),
        statuses(&world.gateway, share(3)),
    );
    [a, b, c, d].concat()
}

/// The targets that the app received, in the order of the alphabet.
fn arrived(world: &World) -> Vec<String> {
    let mut arrived: Vec<String> = world.app.received().into_iter().map(|received| received.target).collect();
    arrived.sort();
    arrived
}

fn passed(statuses: &[(String, u16)]) -> Vec<String> {
    let mut passed: Vec<String> =
        statuses.iter().filter(|(_, status)| *status == 200).map(|(target, _)| target.clone()).collect();
    passed.sort();
    passed
}

async fn world() -> World {
    let admin = "auth: {accept: [bearer]}, require: {groups: [admins]}";
    World::with(|config, app| {
        let quiet = Config { logging: "{format: json, level: warn}".to_owned(), ..config };
        quiet.route("admin", "http://app.test/admin/", &app.origin, admin)
    })
    .await
}

#[tokio::test]
async fn whatever_passes_without_a_token_arrives_as_it_was_sent() {
    let world = world().await;
    let targets = targets();
    let statuses = ask_all(&world, &targets, None).await;
    let passed = passed(&statuses);
    assert_eq!(arrived(&world), passed, "what passes arrives as it was sent, and nothing else arrives");
    let count = |status: u16| statuses.iter().filter(|(_, s)| *s == status).count();
    assert!(
        passed.len() > 300 && count(401) > 300 && count(400) > 300,
        "{} {} {}",
        passed.len(),
        count(401),
        count(400)
    );
    assert_eq!(passed.len() + count(401) + count(400), targets.len());
    // Nothing that everybody reads in one way is refused.
    for (target, status) in &statuses {
        let path = target.split('?').next().unwrap();
        if !path.contains('%') && readings(path).len() == 1 {
            assert_eq!(*status, if is_public(path.as_bytes()) { 200 } else { 401 }, "{target}");
        }
    }
}

#[tokio::test]
async fn whatever_passes_without_a_token_is_public_in_every_reading() {
    let world = world().await;
    let mut targets = targets();
    targets.extend(["/public/%2e%2e;%2fpublic/admin", "/public/a%2fb/../%2e%2e/admin"].map(str::to_owned));
    let passed = passed(&ask_all(&world, &targets, None).await);
    let escaped: Vec<_> = passed.iter().filter_map(|target| Some((target, escape(target)?))).collect();
    assert!(
        escaped.is_empty(),
        "{} of {} might be read as protected: {:#?}",
        escaped.len(),
        passed.len(),
        &escaped[..escaped.len().min(10)]
    );
}

/// With a token that may go everywhere the bytes are still the client's own.
#[tokio::test]
async fn whatever_passes_with_a_token_arrives_as_it_was_sent() {
    let world = world().await;
    let targets: Vec<String> = targets().into_iter().step_by(4).collect();
    let statuses = ask_all(&world, &targets, Some(&world.token())).await;
    assert_eq!(arrived(&world), passed(&statuses));
    assert!(statuses.iter().all(|(_, status)| matches!(status, 200 | 400)));
}

/// What WebDAV writes to is judged as what is asked for.
#[tokio::test]
async fn a_destination_stays_in_the_route() {
    let world = world().await;
    for (method, destination, status) in [
        ("COPY", "/public/b", 200),
        ("COPY", "http://app.test/public/b%20c", 200),
        ("MOVE", "/admin/b", 400),
        ("COPY", "http://other.test/admin/b", 400),
        ("COPY", "/public/a%2fb/%2e%2e/%2e%2e/admin/b", 400),
        ("COPY", "/public/..%2fadmin/b", 400),
        ("COPY", "admin/b", 400),
        ("GET", "Paris", 200),
    ] {
        let request = crate::client::ask(method, "/public/a").with("Destination", destination);
        assert_eq!(world.ask(&request).await.status, status, "{method} {destination}");
    }
    let twice =
        crate::client::ask("COPY", "/public/a").with("Destination", "/public/b").with("Destination", "/admin/b");
    assert_eq!(world.ask(&twice).await.status, 400);
}
