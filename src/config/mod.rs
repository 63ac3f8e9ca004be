//! The configuration file: read into a tree that knows where everything stands, completed from the environment, read
//! into raw structs and then into each room's own settings. Every mistake is reported at once, with its place. This
//! room alone sees contradictions between rooms; it touches nothing but the files that the configuration names.

pub mod diagnostics;
mod overrides;
pub mod raw;
mod reader;
mod resolve;
mod scalar;
pub mod schema;
pub mod settings;
mod tree;
mod validate;

use crate::config::diagnostics::{Problem, Problems};
use crate::config::raw::Config;
use crate::config::settings::{Backend, Settings};
use crate::config::tree::{Node, Tree};
use crate::store::redis;
use std::path::{Path, PathBuf};

/// Everything that the reading needs from outside.
pub struct Sources<'a> {
    /// As it is named in reports.
    pub file: &'a Path,
    pub text: &'a str,
    pub env: Vec<(String, String)>,
}

/// A configuration that holds for itself, with what the operator should hear about it.
pub struct Checked {
    pub settings: Settings,
    pub warnings: Vec<Problem>,
}

/// Reads the file and the process's environment.
///
/// # Errors
/// Every problem that was found, in the order of the file.
pub fn load(file: &Path) -> Result<Checked, Vec<Problem>> {
    let text = std::fs::read_to_string(file).map_err(|e| vec![Problem::of_file(file, &e.to_string())])?;
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    check(&Sources { file, text: &text, env: env.collect() })
}

/// # Errors
/// Every problem that was found, in the order of the file.
pub fn check(sources: &Sources<'_>) -> Result<Checked, Vec<Problem>> {
    let folder = sources.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
    let mut root = tree::parse(sources.text).map_err(|e| vec![Problem::at(sources.file, e.position, "", e.message)])?;
    let mut problems = Problems::new(sources.file, root.clone());
    scalar::interpolate(&mut root, &sources.env, &folder, &mut problems);
    overrides::apply(&mut root, &sources.env, &mut problems);
    problems.known(root.clone());
    let raw = read_raw(root, &mut problems);
    let Some(raw) = raw else {
        return Err(problems.sorted());
    };
    let resolved = resolve::resolve(&raw, &Folder(folder), &sources.env, &mut problems);
    validate::find(&raw, &mut problems);
    if let Backend::Redis(shared) = &resolved.store.backend
        && problems.is_empty()
        && let Err(problem) = redis::check(&shared.redis)
    {
        problems.add("store.redis", problem);
    }
    problems.finish(resolved)
}

/// Paths in the file start where the file stands.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

/// Reads the tree into raw structs. What cannot be read is reported, taken out of the tree, and the rest is read again,
/// so that one mistake hides no other.
fn read_raw(root: Node, problems: &mut Problems) -> Option<Config> {
    const MOST: usize = 100;
    let mut tree = Tree::new(root);
    for _ in 0..MOST {
        match reader::read(tree.root()) {
            Ok(config) => return Some(config),
            Err(error) => {
                let goes_on = tree.repair(&error, problems);
                if !goes_on {
                    return None;
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
