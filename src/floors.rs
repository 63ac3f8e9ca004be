//! The structure itself, held to by tests: a room imports lower floors only, and Pingora stays inside `edge`. The tests
//! of a room may build it with the rooms above.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FLOORS: [&[&str]; 10] = [
    &["kit"],
    &["telemetry"],
    &["store", "provider", "caller"],
    &["credential", "session"],
    &["login"],
    &["gate"],
    &["edge"],
    &["admin"],
    &["config"],
    &["app", "demo", "main"],
];

fn sources() -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                false => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let room = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_string()
    };
    found
        .into_iter()
        .map(|path| (room(&path), path))
        .filter(|(room, path)| room != "lib" && room != "floors" && !path.ends_with("tests.rs"))
        .collect()
}

/// The rooms that a source names after `crate::` or `doorward::`.
fn imports(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, lead) in ["crate::", "doorward::"].iter().flat_map(|lead| text.match_indices(lead)) {
        let rest = &text[at + lead.len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list
                .split(['}', ','])
                .map(str::trim)
                .take_while(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
                .collect(),
            None => vec![rest],
        };
        rooms.extend(
            names
                .iter()
                .map(|name| name.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap().to_string()),
        );
    }
    rooms
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn a_room_imports_lower_floors_only() {
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let sources = sources();
    assert!(sources.len() > 30, "the rooms are there to be read");
    for (room, path) in sources {
        let own = floor(&room).unwrap_or_else(|| panic!("{room} stands on no floor"));
        let text = std::fs::read_to_string(&path).unwrap();
        for other in imports(&text).into_iter().filter(|other| *other != room) {
            let lower = floor(&other).is_some_and(|floor| floor < own || (own == FLOORS.len() - 1 && floor == own));
            if !lower {
                wrong.entry(path.display().to_string()).or_default().push(other);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_proxy_framework_stays_inside_the_edge() {
    let outside = sources().into_iter().filter(|(room, _)| room != "edge");
    let wrong: Vec<_> =
        outside.filter(|(_, path)| std::fs::read_to_string(path).unwrap().contains("pingora_")).collect();
    let allowed = |path: &Path| path.ends_with("telemetry/log.rs"); // it names Pingora's log targets, not its types
    let wrong: Vec<_> = wrong.into_iter().filter(|(_, path)| !allowed(path)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_imports_sees_them() {
    let text =
        "use crate::gate::x;\nuse crate::{edge, kit::clock};\nlet a = crate::config::b; use doorward::app::command;";
    assert_eq!(imports(text), ["gate", "edge", "kit", "config", "app"]);
}
