//! The JSON Schema of the file, for editors; overrides and the search for unknown keys find their way by it, too.

use crate::config::file::File;
use crate::config::overrides::is_scalar;
use serde_json::{Map, Value, json};

/// JSON Schema 2020-12 of `config.yaml` once the environment has been filled in.
pub(crate) fn plain() -> Value {
    let mut schema = schemars::schema_for!(File).to_value();
    let definitions = schema.get_mut("$defs").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    definitions.for_each(require);
    schema
}

/// A required key has no default, whatever stands in for one that cannot be read.
fn require(structure: &mut Value) {
    let required = structure.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(keys) = structure.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for name in required.iter().filter_map(Value::as_str) {
        if let Some(key) = keys.get_mut(name).and_then(Value::as_object_mut) {
            key.remove("default");
        }
    }
}

/// JSON Schema 2020-12 of `config.yaml` as it is written: `${...}` may stand for any single value, `x-` keys at the top.
pub fn json() -> Value {
    let mut schema = plain();
    allow_references(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("patternProperties".into(), json!({"^x-": {}}));
    }
    schema
}

/// A value other than any text may be a reference to one.
fn allow_references(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(allow_references);
            let is_any_text =
                map.get("type") == Some(&json!("string")) && !map.contains_key("enum") && !map.contains_key("pattern");
            let own = Value::Object(map.clone());
            if is_scalar(&own) && !is_any_text && !map.contains_key("const") {
                let mut outer = Map::new();
                for kept in ["description", "default"] {
                    outer.extend(map.remove(kept).map(|value| (kept.to_string(), value)));
                }
                let reference = json!({"type": "string", "pattern": "\\$\\{(env|file):"});
                outer.insert("anyOf".into(), json!([Value::Object(map.clone()), reference]));
                *map = outer;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(allow_references),
        _ => {}
    }
}
