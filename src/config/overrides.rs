//! `DOORWARD__CACHES__UNKNOWN_TOKENS__ENABLED=false`: any scalar of the file can be set by an environment variable whose
//! name is its path. The schema tells which paths lead somewhere.

use crate::config::diagnostics::Problems;
use crate::config::tree::{Key, Node, Position, Value, join};
use serde_json::Value as Json;

const PREFIX: &str = "doorward__";

pub(crate) fn apply(root: &mut Node, schema: &Json, env: &[(String, String)], problems: &mut Problems) {
    let mut named: Vec<(&str, &str)> =
        env.iter().filter(|(name, _)| has_prefix(name)).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    named.sort_unstable();
    let mut set: Vec<(String, &str)> = Vec::new();
    for (name, value) in named {
        let segments: Vec<String> = name.get(PREFIX.len()..).unwrap_or_default().split("__").map(fold).collect();
        match place(root, schema, &segments) {
            Ok(path) => match set.iter().find(|(other, _)| meet(other, &path)) {
                Some((_, other)) => {
                    problems.add_env(name, &path, format!("{other} sets the same value; keep one of them"))
                }
                None => {
                    lay_open(root, &path);
                    put(root, &path, name, value);
                    set.push((path, name));
                }
            },
            Err((path, fault)) => problems.add_env(name, &path, fault),
        }
    }
}

/// Whether two paths set one value. The address of a listener stands for the whole of it, and leaves room for the rest.
fn meet(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let is_listener = short.strip_prefix("listen.").is_some_and(|item| !item.contains('.'));
    match is_listener && short != long {
        true => long.strip_prefix(short) == Some(".address"),
        false => begins(long, short),
    }
}

fn has_prefix(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Case, `-` and `.` make no difference.
fn fold(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}

/// The path that the segments name, or how far they lead and why no further.
fn place(root: &Node, schema: &Json, segments: &[String]) -> Result<String, (String, String)> {
    let mut path = String::new();
    let mut at = vec![schema];
    for segment in segments {
        let node = root.at(&path);
        let (name, next) = step(schema, &at, node, segment).map_err(|fault| (join(&path, segment), fault))?;
        path = join(&path, &name);
        at = next;
    }
    let takes_scalar = at.iter().any(|s| is_scalar(s));
    if segments.is_empty() || !takes_scalar {
        return Err((path, "leads to no single value; name one of the keys below it".into()));
    }
    Ok(path)
}

/// One segment further: the name as the file or the schema has it, and the schemas that hold there.
fn step<'s>(
    root: &'s Json,
    at: &[&'s Json],
    node: Option<&Node>,
    segment: &str,
) -> Result<(String, Vec<&'s Json>), String> {
    let at = variants(root, at);
    if let Some(items) = at.iter().find_map(|s| s.get("items")) {
        let known = match node.map(|n| &n.value) {
            Some(Value::List(list)) => list.len(),
            _ => 0,
        };
        if let Ok(index) = segment.parse::<usize>() {
            return if index < known {
                Ok((index.to_string(), variants(root, &[items])))
            } else {
                Err(format!("the list has {known} items in the file; an index must be one of them, from 0 on"))
            };
        }
    }
    let keys = at.iter().filter_map(|s| s.get("properties")?.as_object()).flatten();
    let known: Vec<(&String, &Json)> = keys.filter(|(name, _)| fold(name) == segment).collect();
    if let Some((name, next)) = known.first() {
        return Ok((name.to_string(), variants(root, &[next])));
    }
    let Some(values) = at.iter().find_map(|s| s.get("additionalProperties").filter(|v| v.is_object())) else {
        return Err("leads nowhere; no key of that name is known here".into());
    };
    let written: Vec<String> = match node.map(|n| &n.value) {
        Some(Value::Map(entries)) => {
            entries.iter().map(|(key, _)| key.name.clone()).filter(|name| fold(name) == segment).collect()
        }
        _ => Vec::new(),
    };
    match written.as_slice() {
        [one] => Ok((one.clone(), variants(root, &[values]))),
        [] if variants(root, &[values]).iter().any(|s| is_scalar(s)) => {
            Ok((segment.to_string(), variants(root, &[values])))
        }
        [] => Err("leads nowhere; the file must have an entry of that name".into()),
        several => Err(format!("could be any of {}; rename all but one", several.join(", "))),
    }
}

/// A schema with its references and alternatives laid open.
pub(crate) fn variants<'s>(root: &'s Json, at: &[&'s Json]) -> Vec<&'s Json> {
    let mut out: Vec<&Json> = Vec::new();
    let mut rest: Vec<&Json> = at.to_vec();
    while let Some(schema) = rest.pop() {
        if let Some(definition) =
            schema.get("$ref").and_then(Json::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')))
        {
            rest.push(definition);
        }
        for list in ["anyOf", "oneOf", "allOf"] {
            rest.extend(schema.get(list).and_then(Json::as_array).into_iter().flatten());
        }
        out.push(schema);
    }
    out
}

pub(crate) fn is_scalar(schema: &Json) -> bool {
    let is = |kind: &Json| matches!(kind.as_str(), Some("string" | "integer" | "number" | "boolean"));
    let typed = match schema.get("type") {
        Some(Json::Array(kinds)) => kinds.iter().any(is),
        Some(kind) => is(kind),
        None => false,
    };
    typed || schema.get("const").is_some() || schema.get("enum").is_some()
}

/// A listener that is written as its address alone keeps it beside what is set of it.
fn lay_open(root: &mut Node, path: &str) {
    let item = path.strip_prefix("listen.").and_then(|rest| rest.split_once('.')).map(|(item, _)| item);
    if let Some(node) = item.and_then(|item| root.at_mut(&join("listen", item)))
        && matches!(node.value, Value::Scalar { .. })
    {
        let key = Key { name: "address".into(), position: node.position };
        let address = node.clone();
        node.value = Value::Map(vec![(key, address)]);
    }
}

/// Sets the value, making the mappings on the way to it.
fn put(node: &mut Node, path: &str, name: &str, value: &str) {
    if path.is_empty() {
        node.value = Value::Scalar { text: value.to_string(), plain: true };
        node.from_env = Some(name.to_string());
        return;
    }
    let existing = match &node.value {
        Value::Map(entries) => {
            entries.iter().map(|(key, _)| key.name.clone()).filter(|key| begins(path, key)).max_by_key(String::len)
        }
        _ => None,
    };
    let key = existing.unwrap_or_else(|| path.split('.').next().unwrap_or(path).to_string());
    let rest = path.get(key.len() + 1..).unwrap_or_default();
    match &mut node.value {
        Value::List(items) => {
            if let Some(item) = key.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                put(item, rest, name, value);
            }
        }
        Value::Map(entries) => put_in(entries, node.position, &key, rest, name, value),
        Value::Scalar { .. } => {
            // A short form (`auth: public`, `listen: [address]`) gives way to the mapping that the path goes into.
            let mut entries = Vec::new();
            put_in(&mut entries, node.position, &key, rest, name, value);
            node.value = Value::Map(entries);
        }
    }
}

fn put_in(entries: &mut Vec<(Key, Node)>, position: Position, key: &str, rest: &str, name: &str, value: &str) {
    if !entries.iter().any(|(known, _)| known.name == key) {
        let node = Node { position, value: Value::Map(Vec::new()), from_env: None };
        entries.push((Key { name: key.to_string(), position }, node));
    }
    if let Some((_, node)) = entries.iter_mut().find(|(known, _)| known.name == key) {
        put(node, rest, name, value);
    }
}

fn begins(path: &str, key: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
