//! Tests of the module structure: a top-level module ("room") imports lower layers ("floors") only, and Pingora stays
//! inside `edge`. Files named `tests.rs` are exempt: they may build a module with those above it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FLOORS: [&[&str]; 10] = [
    &["kit"],
    &["telemetry"],
    &["store", "provider", "caller"],
    &["credential", "outbound", "session"],
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

/// The top-level modules that a source names after `crate::` or `doorward::`.
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

/// The module of a source, as its path has it: `["gate", "route"]`.
fn module(path: &Path) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let name = path.strip_prefix(&root).unwrap().with_extension("");
    let parts = name.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// The paths after `use crate::`, groups laid open, and those within the code. Comments and tests do not count.
fn paths(text: &str) -> Vec<String> {
    fn open(path: &str, found: &mut Vec<String>) {
        let Some((lead, rest)) = path.split_once('{') else {
            return found.push(path.to_string());
        };
        let (mut depth, mut one) = (0, String::new());
        for c in rest.strip_suffix('}').unwrap_or(rest).chars().chain([',']) {
            match c {
                ',' if depth == 0 => open(&format!("{lead}{}", std::mem::take(&mut one)), found),
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if c != ',' || depth > 0 {
                one.push(c);
            }
        }
    }
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, lead) in code.match_indices("crate::") {
        let rest = &code[at + lead.len()..];
        let is_import = code[..at].ends_with("use ");
        let end = |c: char| if is_import { c == ';' } else { !(c.is_alphanumeric() || c == '_' || c == ':') };
        open(&rest[..rest.find(end).unwrap_or(rest.len())].replace([' ', '\n'], ""), &mut found);
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let all = sources().into_iter().filter(|(room, path)| {
        !["demo", "main"].contains(&room.as_str()) && !path.components().any(|part| part.as_os_str() == "tests")
    });
    let modules: BTreeMap<Vec<String>, PathBuf> = all.map(|(_, path)| (module(&path), path)).collect();
    let file_of = |path: &str| {
        let parts: Vec<String> = path.split("::").map(str::to_string).collect();
        (1..=parts.len()).rev().map(|n| parts[..n].to_vec()).find(|module| modules.contains_key(module))
    };
    let imports: BTreeMap<&Vec<String>, Vec<Vec<String>>> = modules
        .iter()
        .map(|(own, path)| {
            let text = std::fs::read_to_string(path).unwrap();
            (own, paths(&text).iter().filter_map(|path| file_of(path)).filter(|other| other != own).collect())
        })
        .collect();
    assert!(imports.values().map(Vec::len).sum::<usize>() > 300, "the imports are seen");
    // What imports only files that are out of the circle is out of it, too.
    let mut left: BTreeMap<_, _> = imports;
    while let Some(free) =
        left.iter().find(|(_, needs)| !needs.iter().any(|n| left.contains_key(n))).map(|(own, _)| *own)
    {
        left.remove(free);
    }
    let circle: Vec<String> = left.keys().map(|module| module.join("::")).collect();
    assert!(circle.is_empty(), "in a circle, or above one: {circle:#?}");
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
    let text = "use crate::gate::{a::B, c::{D, E}};\nlet x = crate::kit::f(); // crate::no\n";
    assert_eq!(paths(text), ["gate::a::B", "gate::c::D", "gate::c::E", "kit::f"]);
}
