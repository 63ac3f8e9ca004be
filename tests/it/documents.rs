//! The documents: every link and anchor leads somewhere, and every test that they name exists.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "node_modules") {
            files_below(&path, ending, found);
        } else if path.extension().is_some_and(|own| own == ending) {
            found.push(path);
        }
    }
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files_below(&root().join("docs"), "md", &mut found);
    found.extend(
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(|n| root().join(n)),
    );
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// As they are written, without code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// As Markdown viewers make them of headings.
fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text);
    let headings = headings
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for document in documents() {
        let text = prose(&read(&document));
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().trim()) {
            if link.starts_with("http") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", document.display());
            if !anchor.is_empty() {
                let known = anchors(&read(&target));
                assert!(known.contains(anchor), "{}: {link}; there are {known:?}", document.display());
            }
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn every_test_that_is_named_exists() {
    let mut sources = Vec::new();
    ["src", "tests"].iter().for_each(|folder| files_below(&root().join(folder), "rs", &mut sources));
    let all: Vec<String> = sources.iter().map(|path| read(path)).collect();
    let mut count = 0;
    for name in ["docs/security.md", "docs/reliability.md"] {
        let text = read(&root().join(name));
        let is_path =
            |word: &&str| word.contains("::") && word.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c));
        for test in text.split('`').skip(1).step_by(2).filter(is_path) {
            let last = test.rsplit("::").next().unwrap();
            let (function, module) = (format!("fn {last}("), format!("mod {last}"));
            let exists = all.iter().any(|source| source.contains(&function) || source.contains(&module));
            let is_file = sources.iter().any(|path| path.file_stem().is_some_and(|stem| stem == last));
            assert!(exists || is_file, "{name}: {test}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn every_dependency_is_listed_with_its_version() {
    let (manifest, document) = (read(&root().join("Cargo.toml")), read(&root().join("docs/dependencies.md")));
    let rows: Vec<Vec<&str>> = document.lines().map(|line| line.split(" | ").collect()).collect();
    let quoted = |text: &str, key: &str| Some(text.split_once(key)?.1.split('"').next()?.to_owned());
    let (mut section, mut count) = ("", 0);
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let Some((name, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
        if ["[dependencies]", "[dev-dependencies]"].contains(&section) {
            let name = format!("`{}`", quoted(value, "package = \"").unwrap_or_else(|| name.to_owned()));
            let version = quoted(value, "version = \"").unwrap_or_else(|| value.trim_matches('"').to_owned());
            let has_row = rows.iter().any(|row| row.len() == 5 && row[0].contains(&name) && row[1] == version);
            assert!(has_row, "docs/dependencies.md lacks {name} {version}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}
