//! What may stand in a value: `${env:NAME}`, `${env:NAME:-default}`, `${file:path}`, `$$`.

use crate::config::diagnostics::Problems;
use crate::config::reference::replace;
use crate::config::tree::{Node, Value, join};
use std::io::Read;
use std::path::Path;

/// Of a file that is read into a value; a chain of certificates has some kilobytes.
const LONGEST: u64 = 1 << 20;

/// Replaces what stands in `${...}` of every scalar, once.
pub(crate) fn interpolate(root: &mut Node, env: &[(String, String)], folder: &Path, problems: &mut Problems) {
    walk(root, "", &mut |text, path| {
        let (filled, faults) = fill(text, env, folder);
        for fault in faults {
            problems.add(path, fault);
        }
        if let Some(name) = without_source(text) {
            problems.warn(path, &format!("`${{{name}}}` stays as it is; for the environment write `${{env:{name}}}`"));
        }
        filled
    });
}

fn walk(node: &mut Node, path: &str, fill: &mut impl FnMut(&str, &str) -> String) {
    match &mut node.value {
        Value::Scalar { text, .. } if text.contains('$') => *text = fill(text, path),
        Value::Scalar { .. } => {}
        Value::List(items) => {
            items.iter_mut().enumerate().for_each(|(i, item)| walk(item, &join(path, &i.to_string()), fill))
        }
        Value::Map(entries) => entries.iter_mut().for_each(|(key, node)| walk(node, &join(path, &key.name), fill)),
    }
}

fn fill(text: &str, env: &[(String, String)], folder: &Path) -> (String, Vec<String>) {
    let mut faults = Vec::new();
    let filled = replace(text, |reference| {
        resolve(reference, env, folder).unwrap_or_else(|fault| {
            faults.push(fault);
            String::new()
        })
    });
    (filled, faults)
}

fn resolve(reference: &str, env: &[(String, String)], folder: &Path) -> Result<String, String> {
    if let Some(path) = reference.strip_prefix("file:") {
        let text = read(&folder.join(path)).map_err(|e| format!("the file {path} cannot be read: {e}"))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(text.strip_suffix('\r').unwrap_or(text).to_string());
    }
    let reference = reference.strip_prefix("env:").unwrap_or(reference);
    let (name, default) = reference.split_once(":-").map_or((reference, None), |(name, default)| (name, Some(default)));
    let value = env.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str());
    match (value, default) {
        (Some(value), _) if !value.is_empty() => Ok(value.into()),
        (_, Some(default)) => Ok(default.into()),
        (Some(empty), None) => Ok(empty.into()),
        (None, None) => Err(format!("the environment has no {name}; set it, or write ${{env:{name}:-default}}")),
    }
}

/// At most [`LONGEST`]: a wrong path may lead to anything.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(std::io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

/// A name in braces as shells have it, which is not replaced here.
fn without_source(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let name = from.get(2..)?.split_once('}')?.0;
        let is_name =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if is_name && !before.ends_with('$') {
            return Some(name);
        }
        rest = from.get(2..)?;
    }
    None
}
