//! The configuration file: read into a tree that knows where everything stands, completed from the environment, and read into
//! each room's own settings. Every mistake is reported at once, with its place. This room alone sees contradictions between
//! rooms; it touches nothing but the files that the configuration names. It also prints a configuration, and makes one of
//! another gateway's.

mod assemble;
pub mod diagnostics;
pub mod effective;
pub mod file;
pub mod import;
mod interpolate;
mod overrides;
mod reader;
mod reference;
pub mod schema;
pub mod settings;
mod tree;
mod unknown;
mod validate;

use crate::config::diagnostics::Problems;
pub use crate::config::diagnostics::{Checked, Problem};
use crate::config::file::File;
use crate::config::tree::{Node, Value, join};
use crate::kit::setting::Items;
use serde::de::DeserializeOwned;
use std::path::Path;

/// In place of a file's name.
pub const STANDARD_INPUT: &str = "-";

/// Everything that the reading needs from outside.
pub struct Sources<'a> {
    /// As it is named in reports.
    pub file: &'a Path,
    pub text: &'a str,
    pub env: Vec<(String, String)>,
}

/// Reads the file and the process's environment.
///
/// # Errors
/// Every problem that was found, in the order of the file.
pub fn load(file: &Path) -> Result<Checked, Vec<Problem>> {
    let read = if file == Path::new(STANDARD_INPUT) {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = read.map_err(|e| vec![Problem::of_file(file, &format!("cannot be read: {e}; name the file by -c"))])?;
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    check(&Sources { file, text: &text, env: env.collect() })
}

/// # Errors
/// Every problem that was found, in the order of the file.
pub fn check(sources: &Sources<'_>) -> Result<Checked, Vec<Problem>> {
    let folder = sources.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut root = tree::parse(sources.text).map_err(|e| vec![Problem::at(sources.file, e.position, "", e.message)])?;
    let mut problems = Problems::new(sources.file, root.clone());
    let schema = schema::plain();
    interpolate::interpolate(&mut root, &sources.env, folder, &mut problems);
    overrides::apply(&mut root, &schema, &sources.env, &mut problems);
    problems.known(root.clone());
    unknown::find(&mut root, &schema, &mut problems);
    let Some(file) = read(root, folder, &mut problems) else {
        return Err(problems.sorted());
    };
    validate::find(&file, &mut problems);
    problems.finish(assemble::assemble(file, folder, &sources.env))
}

/// Reads what many may be of each by itself, so that a mistake costs only its own item a second reading. Routes come last: they
/// inherit what could be read of the global `session` and `limits`.
fn read(mut root: Node, folder: &Path, problems: &mut Problems) -> Option<File> {
    let [listen, providers, routes, api_keys] =
        ["listen", "providers", "routes", "api_keys"].map(|name| take_items(&mut root, name));
    let mut file: File = reader::read(&mut root, "", folder, problems)?;
    let mut own_routes = routes;
    for (_, route) in own_routes.iter_mut().flatten() {
        for path in ["session", "limits.unknown_tokens"] {
            inherit(route, &root, path);
        }
    }
    if let Some(items) = listen {
        file.listen = read_items("listen", items, folder, problems);
    }
    if let Some(items) = providers {
        for (name, mut node) in items {
            let read = reader::read(&mut node, &join("providers", &name), folder, problems);
            file.providers.extend(read.map(|provider| (name, provider)));
        }
    }
    file.routes = read_items("routes", own_routes.unwrap_or_default(), folder, problems);
    file.api_keys = read_items("api_keys", api_keys.unwrap_or_default(), folder, problems);
    Some(file)
}

/// The items of a list or mapping, which is left there empty; `None` where there is neither.
fn take_items(root: &mut Node, name: &str) -> Option<Vec<(String, Node)>> {
    match &mut root.at_mut(name)?.value {
        Value::List(items) => {
            Some(std::mem::take(items).into_iter().enumerate().map(|(i, n)| (i.to_string(), n)).collect())
        }
        Value::Map(entries) if name == "providers" => {
            Some(std::mem::take(entries).into_iter().map(|(key, node)| (key.name, node)).collect())
        }
        _ => None,
    }
}

fn read_items<T: DeserializeOwned>(
    name: &str,
    items: Vec<(String, Node)>,
    folder: &Path,
    problems: &mut Problems,
) -> Items<T> {
    let items = items.into_iter().enumerate();
    Items(
        items
            .filter_map(|(i, (key, mut node))| Some((i, reader::read(&mut node, &join(name, &key), folder, problems)?)))
            .collect(),
    )
}

/// Lays the mapping at a path of a route over the global one.
fn inherit(route: &mut Node, root: &Node, path: &str) {
    let Some(global) = root.at(path) else { return };
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let mut own = route.take(name).filter(|own| !own.is_null());
    let under = match rest {
        None => global.clone(),
        Some(rest) => {
            let mut around = Node { position: global.position, value: Value::Map(Vec::new()), from_env: None };
            around.put(rest, global.clone());
            around
        }
    };
    match &mut own {
        Some(own) => own.overlay(&under),
        None => own = Some(under),
    }
    if let Some(own) = own {
        route.put(name, own);
    }
}

#[cfg(test)]
mod tests;
