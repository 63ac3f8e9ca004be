//! The JSON Schema of the file, for editors; overrides and the search for unknown keys find their way by it, too.

use crate::config::file::File;
use crate::config::overrides::is_scalar;
use serde_json::{Value, json};

/// JSON Schema 2020-12 of `config.yaml` once the environment has been filled in.
pub(crate) fn plain() -> Value {
    schemars::schema_for!(File).to_value()
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
                let mut outer = serde_json::Map::new();
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
