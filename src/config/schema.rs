//! The JSON Schema of the file, for editors; the overrides find their way by it, too.

use crate::config::raw::Config;
use serde_json::Value;

/// JSON Schema 2020-12 of `config.yaml`.
pub fn json() -> Value {
    schemars::schema_for!(Config).to_value()
}
