//! The effective configuration as YAML: every value with where it comes from. Secrets are `***`.

use crate::config::diagnostics::Written;
use crate::config::file::File;
use crate::config::tree::join;
use serde_json::Value;
use std::fmt::Write;

/// The whole configuration in force.
pub fn yaml(file: &File, written: &Written) -> String {
    let mut out = String::new();
    let value = serde_json::to_value(file).unwrap_or_default(); // derived: it cannot fail
    if let Value::Object(entries) = &value {
        for (name, value) in entries {
            entry(&mut out, written, name, name, value, 0);
        }
    }
    out
}

fn entry(out: &mut String, written: &Written, name: &str, path: &str, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            let _ = writeln!(out, "{indent}{}:", scalar(&Value::from(name)));
            entries.iter().for_each(|(key, value)| entry(out, written, key, &join(path, key), value, depth + 1));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let _ = writeln!(out, "{indent}{}:", scalar(&Value::from(name)));
            for (i, item) in items.iter().enumerate() {
                list_item(out, written, &join(path, &i.to_string()), item, depth + 1);
            }
        }
        value => {
            let (name, source) = (scalar(&Value::from(name)), written.source(path, value));
            let _ = writeln!(out, "{indent}{name}: {}  # {source}", flow(value));
        }
    }
}

fn list_item(out: &mut String, written: &Written, path: &str, item: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let Value::Object(entries) = item else {
        let _ = writeln!(out, "{indent}- {}  # {}", flow(item), written.source(path, item));
        return;
    };
    let mut own = String::new();
    entries.iter().for_each(|(key, value)| entry(&mut own, written, key, &join(path, key), value, depth + 1));
    // The first line of a mapping stands beside the dash.
    let _ = write!(out, "{indent}- {}", own.trim_start());
}

fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(_) => "{}".into(),
        value => scalar(value),
    }
}

/// Without quotes where YAML reads it as the same text.
fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"_-./".contains(&b);
    let is_reserved =
        ["true", "false", "null", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let is_plain = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && text.bytes().all(is_word);
    if is_plain && !is_reserved { text.clone() } else { value.to_string() }
}
