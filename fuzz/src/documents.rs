//! What a provider answers: metadata, keys, introspection.

use doorward::kit::clock::Timestamp;
use doorward::provider::discovery::Metadata;
use doorward::provider::introspection;
use doorward::provider::keys::KeySet;
use doorward::provider::settings::Settings;
use serde_json::{Value, json};
use std::sync::LazyLock;

const NOW: i64 = 1_800_000_000;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let json = json!({"issuer": "https://id.test", "client_id": "gate", "client_auth": "none", "audiences": ["api"]});
    Settings { name: "corp".into(), ..serde_json::from_value(json).unwrap() }
});

/// Metadata counts for its own issuer alone; keys read twice are the same; an introspected token that is accepted is active, in
/// time and for this audience.
pub fn documents(data: &[u8]) {
    if let Ok(metadata) = Metadata::read(data, &SETTINGS) {
        assert_eq!(metadata.issuer.as_str(), "https://id.test");
    }
    if let Ok(keys) = KeySet::parse(data, None) {
        let again = KeySet::parse(data, Some(&keys)).expect("the same bytes");
        assert!(keys.is_same(&again) && keys.len() == again.len());
    }
    let Ok(Value::Object(claims)) = serde_json::from_slice::<Value>(data) else { return };
    let told = Value::Object(claims.clone());
    let Ok(claims) = serde_json::from_value(told.clone()) else { return };
    if introspection::judge(claims, &SETTINGS, &[], Timestamp::from_seconds(NOW)).is_ok() {
        let is_for_us = match &told["aud"] {
            Value::String(one) => one == "api",
            Value::Array(all) => all.iter().any(|one| one == "api"),
            _ => false,
        };
        let is_late = told["exp"].as_f64().is_some_and(|exp| exp < (NOW - 600) as f64);
        assert!(told["active"] == true && !is_late, "{told}");
        assert!(is_for_us || told["client_id"] == "api" || told["aud"].is_null(), "{told}");
    }
}
