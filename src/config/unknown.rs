//! Keys that the schema does not know, and required ones that are missing: all of them in one pass over the tree.

use crate::config::diagnostics::Problems;
use crate::config::overrides::{is_scalar, variants};
use crate::config::tree::{Node, Value, join};
use serde_json::Value as Json;
use strsim::osa_distance;

/// Reports keys that are unknown, and takes them out. One that is like a known key, and has a value such as that key takes,
/// gets its name, so that the value is judged, too.
pub(crate) fn find(root: &mut Node, schema: &Json, problems: &mut Problems) {
    if let Value::Map(entries) = &mut root.value {
        entries.retain(|(key, _)| !key.name.starts_with("x-"));
    }
    walk(root, "", &[schema], schema, problems);
}

fn walk(node: &mut Node, path: &str, at: &[&Json], root: &Json, problems: &mut Problems) {
    let at = variants(root, at);
    match &mut node.value {
        Value::Scalar { .. } => {}
        Value::List(items) => {
            let schemas: Vec<&Json> = at.iter().filter_map(|schema| schema.get("items")).collect();
            for (i, item) in items.iter_mut().enumerate() {
                walk(item, &join(path, &i.to_string()), &schemas, root, problems);
            }
        }
        Value::Map(_) => walk_map(node, path, &at, root, problems),
    }
}

fn walk_map(node: &mut Node, path: &str, at: &[&Json], root: &Json, problems: &mut Problems) {
    let known =
        |name: &str| -> Vec<&Json> { at.iter().filter_map(|schema| schema.get("properties")?.get(name)).collect() };
    let free: Vec<&Json> = at.iter().filter_map(|s| s.get("additionalProperties").filter(|v| v.is_object())).collect();
    let names: Vec<&str> =
        at.iter().filter_map(|s| s.get("properties")?.as_object()).flat_map(|p| p.keys()).map(String::as_str).collect();
    if names.is_empty() && free.is_empty() {
        return; // no mapping belongs here; the reader says so
    }
    let Value::Map(entries) = &mut node.value else { return };
    let mut unknown = Vec::new();
    for i in 0..entries.len() {
        let Some((key, value)) = entries.get(i) else { break };
        if !free.is_empty() || names.contains(&key.name.as_str()) {
            continue;
        }
        let near = names.iter().copied().min_by_key(|name| osa_distance(&key.name, name));
        let near = near.filter(|name| osa_distance(&key.name, name) * 3 <= key.name.chars().count());
        let path = join(path, &key.name);
        match near {
            Some(near) => problems.add(&path, format!("unknown key; did you mean `{near}`?")),
            None => problems.add(&path, format!("unknown key; known here: {}", names.join(", "))),
        }
        let near = near.filter(|near| {
            !entries.iter().any(|(other, _)| other.name == *near) && fits(value, &variants(root, &known(near)))
        });
        match (near.map(str::to_owned), entries.get_mut(i)) {
            (Some(near), Some((key, _))) => key.name = near,
            _ => unknown.push(i),
        }
    }
    let mut i = 0;
    entries.retain(|_| {
        i += 1;
        !unknown.contains(&(i - 1))
    });
    missing(entries.iter().map(|(key, _)| key.name.as_str()).collect(), path, at, problems);
    for (key, value) in entries {
        let schemas = known(&key.name);
        let schemas = if schemas.is_empty() { free.clone() } else { schemas };
        walk(value, &join(path, &key.name), &schemas, root, problems);
    }
}

fn missing(written: Vec<&str>, path: &str, at: &[&Json], problems: &mut Problems) {
    let required = at.iter().filter_map(|schema| schema.get("required")?.as_array()).flatten().filter_map(Json::as_str);
    for name in required.filter(|name| !written.contains(name)) {
        problems.add(&join(path, name), "is required and missing; add it");
    }
}

/// Whether a value is of a kind that these schemas take.
fn fits(value: &Node, at: &[&Json]) -> bool {
    at.iter().any(|schema| match &value.value {
        Value::Scalar { .. } => is_scalar(schema),
        Value::List(_) => schema.get("items").is_some(),
        Value::Map(_) => {
            schema.get("properties").is_some() || schema.get("additionalProperties").is_some_and(Json::is_object)
        }
    })
}
