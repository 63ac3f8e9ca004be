//! The effective configuration as YAML: every value with where it comes from. Secrets are `***`.

use crate::config::diagnostics::Written;
use crate::config::file::File;
use crate::config::tree::join;
use serde_json::Value;
use std::fmt::Write;
use url::Url;

/// In place of a secret.
const HIDDEN: &str = "***";

/// The whole configuration in force.
pub fn yaml(file: &File, written: &Written) -> String {
    let mut value = serde_json::to_value(file).unwrap_or_default(); // derived: it cannot fail
    readable(&mut value, "", written);
    render(&value, &|path, value| Some(written.source(path, value)))
}

/// Of these any text may be a secret, which only whoever wrote it knows.
const ANYTHING: [&str; 3] = ["set", "authorization_params", "end_session_params"];

/// URLs that anybody may see. In any other a reference may stand for a token.
const PUBLIC: [&str; 5] = ["issuer", "from", "public_url", "redirect_uri", "origins"];

/// A text as the reader takes it again, and without secrets: where it may be one, a reference stands as it was written, and
/// what the environment sets is hidden, as are queries, users and passwords of URLs.
fn readable(value: &mut Value, path: &str, written: &Written) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { join(path, name) };
    match value {
        Value::Object(entries) => entries.iter_mut().for_each(|(name, value)| readable(value, &below(name), written)),
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(i, item)| readable(item, &below(&i.to_string()), written));
        }
        Value::String(text) if text != HIDDEN => {
            let is_anything = path.split('.').any(|part| ANYTHING.contains(&part));
            let is_public = path.split('.').any(|part| PUBLIC.contains(&part));
            let may_hide = is_anything || !is_public && text.contains("://");
            *text = match written.reference(path).filter(|_| may_hide) {
                Some(reference) => without_literals(reference),
                None if is_anything && written.is_from_env(path) => HIDDEN.to_owned(),
                None => without_secrets(text).replace("$$", "$$$$").replace("${", "$${"),
            };
        }
        _ => {}
    }
}

/// A text with references, as written; of a URL without what a parser would take for its query and its user.
fn without_literals(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let user = if host == authority { String::new() } else { format!("{HIDDEN}@") };
    format!("{scheme}://{user}{host}{path}{}", query.map_or(String::new(), |_| format!("?{HIDDEN}")))
}

fn without_secrets(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    if !url.has_host() || url.query().is_none() && url.password().is_none() && url.username().is_empty() {
        return text.to_owned();
    }
    if url.query().is_some() {
        url.set_query(Some(HIDDEN));
    }
    if url.password().is_some() {
        let _ = url.set_password(Some(HIDDEN)); // a URL with a password can have one
    } else if !url.username().is_empty() {
        let _ = url.set_username(HIDDEN); // alone it may be a token
    }
    url.into()
}

/// What stands behind the value at a path.
pub type Comment<'a> = &'a dyn Fn(&str, &Value) -> Option<String>;

/// A mapping as YAML.
pub fn render(value: &Value, comment: Comment<'_>) -> String {
    let mut out = String::new();
    if let Value::Object(entries) = value {
        entries.iter().for_each(|(name, value)| entry(&mut out, comment, name, name, value, 0));
    }
    out
}

fn entry(out: &mut String, comment: Comment<'_>, name: &str, path: &str, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let name = scalar(&Value::from(name));
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            let _ = writeln!(out, "{indent}{name}:");
            entries.iter().for_each(|(key, value)| entry(out, comment, key, &join(path, key), value, depth + 1));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let _ = writeln!(out, "{indent}{name}:");
            for (i, item) in items.iter().enumerate() {
                list_item(out, comment, &join(path, &i.to_string()), item, depth + 1);
            }
        }
        value => {
            let comment = comment(path, value).map(|comment| format!("  # {comment}")).unwrap_or_default();
            let _ = writeln!(out, "{indent}{name}: {}{comment}", flow(value));
        }
    }
}

fn list_item(out: &mut String, comment: Comment<'_>, path: &str, item: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let Value::Object(entries) = item else {
        let comment = comment(path, item).map(|comment| format!("  # {comment}")).unwrap_or_default();
        let _ = writeln!(out, "{indent}- {}{comment}", flow(item));
        return;
    };
    let mut own = String::new();
    entries.iter().for_each(|(key, value)| entry(&mut own, comment, key, &join(path, key), value, depth + 1));
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
    if is_plain && !is_reserved { text.clone() } else { quoted(value) }
}

/// As JSON, with what YAML has only escaped (YAML 1.2, 5.1).
fn quoted(value: &Value) -> String {
    let is_escaped = |c: char| c.is_control() || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    let mut out = String::new();
    for c in value.to_string().chars() {
        match is_escaped(c) {
            true => _ = write!(out, "\\u{:04x}", u32::from(c)), // writing into a string cannot fail
            false => out.push(c),
        }
    }
    out
}
