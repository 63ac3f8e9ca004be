//! The admin API: creates, lists and revokes API keys. Requires the admin token.

use crate::admin::pages::{JSON, Page, not_found, only, problem, time, unavailable};
use crate::credential::api_key::keyring::{Keyring, NewKey, NotCreated};
use crate::credential::api_key::{KeyId, Record};
use crate::store::kv::{Change, Kv, Unavailable};
use crate::telemetry::requester::Requester;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What the API works on.
pub struct Api {
    /// None: there is no secret that keys could be sealed with.
    pub keys: Option<Arc<Keyring>>,
    pub kv: Arc<dyn Kv>,
}

/// A field of a body, and what is wrong with it.
type Wrong = (String, &'static str);

const KEYS: &str = "/api/v1/api-keys";
const FIELDS: [&str; 7] = ["name", "user", "email", "groups", "scopes", "routes", "expires_in"];
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Api {
    /// `routes`: the names of the configured routes.
    pub(super) async fn page(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
        routes: &[String],
        requester: &Requester,
    ) -> Page {
        let Some(rest) = path.strip_prefix(KEYS) else { return not_found() };
        let Some(keys) = &self.keys else {
            return problem(StatusCode::CONFLICT, "API keys need `store.secret` in the configuration");
        };
        match (method, rest) {
            (&Method::GET, "") => list(keys).await,
            (&Method::POST, "") => match read(body, routes) {
                Ok(new) => self.create(keys, new, requester).await,
                Err((field, problem)) => {
                    (StatusCode::BAD_REQUEST, JSON, json!({"field": field, "problem": problem}).to_string())
                }
            },
            (&Method::DELETE, id) if id.starts_with('/') => self.end(keys, id.trim_start_matches('/'), requester).await,
            (_, "") => only("GET, POST"),
            _ if rest.starts_with('/') => only("DELETE"),
            _ => not_found(),
        }
    }

    async fn create(&self, keys: &Arc<Keyring>, new: NewKey, requester: &Requester) -> Page {
        match keys.create(new).await {
            Ok(created) => {
                // Another replica may have cached that this key does not exist.
                self.kv.announce(&Change::ApiKey(created.record.id.to_string())).await;
                let (key, user) = (&created.record.id, &created.record.user);
                let Requester { client, request_id } = requester;
                tracing::info!(event = "api_key_made", request_id, %key, user, %client, "an API key was made");
                let mut shown = shown(&created.record);
                shown.insert("key".into(), created.key.expose().into());
                (StatusCode::CREATED, JSON, Value::Object(shown).to_string())
            }
            Err(NotCreated::Full) => problem(StatusCode::CONFLICT, "there are as many keys as may be"),
            Err(NotCreated::Unavailable) => unavailable(),
        }
    }

    async fn end(&self, keys: &Arc<Keyring>, id: &str, requester: &Requester) -> Page {
        let Some(id) = KeyId::parse(id) else { return not_found() };
        let user = keys.user_of(id).await;
        let ended = keys.revoke(id).await;
        // Also if the store did not answer: it may have deleted the key all the same.
        self.kv.announce(&Change::ApiKey(id.to_string())).await;
        match ended {
            Ok(true) => {
                let Requester { client, request_id } = requester;
                tracing::info!(event = "api_key_ended", request_id, key = %id, user, %client, "an API key was ended");
                (StatusCode::NO_CONTENT, JSON, String::new())
            }
            Ok(false) => not_found(),
            Err(Unavailable) => unavailable(),
        }
    }
}

async fn list(keys: &Keyring) -> Page {
    let Ok(stored) = keys.list().await else { return unavailable() };
    let all: Vec<Value> = stored.iter().chain(&keys.configured()).map(|record| Value::Object(shown(record))).collect();
    (StatusCode::OK, JSON, Value::Array(all).to_string())
}

/// The visible fields of a key. A key without `created` comes from the configuration.
fn shown(record: &Record) -> Map<String, Value> {
    let all = json!({
        "id": record.id, "name": record.name, "user": record.user, "email": record.email, "groups": record.groups,
        "scopes": record.scopes, "routes": record.routes, "created": time(record.created),
        "expires_at": time(record.expires_at), "last_used": time(record.last_used),
    });
    match all {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn read(body: &[u8], routes: &[String]) -> Result<NewKey, Wrong> {
    let wrong = |field: &str, problem| Err((field.to_string(), problem));
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return wrong("", "the body is no JSON object") };
    if let Some(unknown) = body.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return wrong(unknown, "is unknown: known are name, user, email, groups, scopes, routes, expires_in");
    }
    let text = |name: &'static str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() && is_plain(text) => Ok(Some(text.clone())),
        Some(Value::String(text)) if !is_plain(text) => Err((name.to_string(), "must have no control characters")),
        _ => Err((name.to_string(), "must be a text that is not empty")),
    };
    let texts = |name: &'static str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => {
            let good = |one: &&str| !one.is_empty() && is_plain(one);
            let texts = list.iter().map(|one| one.as_str().filter(good).map(str::to_owned));
            let wrong = (name.to_string(), "must be a list of texts without control characters");
            texts.collect::<Option<Vec<String>>>().map(Some).ok_or(wrong)
        }
        _ => Err((name.to_string(), "must be a list of texts")),
    };
    let allowed = texts("routes")?;
    if allowed.iter().flatten().any(|route| !routes.contains(route)) {
        return wrong("routes", "there is no route of that name");
    }
    let expires_in = text("expires_in")?.map(|text| {
        let span = humantime::parse_duration(&text).ok().filter(|span| !span.is_zero() && *span <= LONGEST);
        span.ok_or(("expires_in".to_string(), "must be a duration such as 90d, of at most 100 years"))
    });
    Ok(NewKey {
        name: Some(required("name", text("name")?)?),
        user: required("user", text("user")?)?,
        email: text("email")?,
        groups: texts("groups")?.unwrap_or_default(),
        scopes: texts("scopes")?.unwrap_or_default(),
        routes: allowed,
        expires_in: expires_in.transpose()?,
    })
}

/// Whether the text has no control characters, which a terminal or a header parser could act on.
fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn required(name: &str, text: Option<String>) -> Result<String, Wrong> {
    text.ok_or_else(|| (name.to_string(), "is required"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_body_is_told_by_its_field() {
        let field = |body: &str| {
            read(body.as_bytes(), &["main".into()]).map(|_| "good".into()).unwrap_or_else(|(field, _)| field)
        };
        let good = r#"{"name": "ci", "user": "robot", "groups": ["ops"], "routes": ["main"], "expires_in": "90d"}"#;
        assert_eq!(field(good), "good");
        assert_eq!(field(r#"{"name": "ci", "user": "robot", "email": null}"#), "good");
        for (body, expected) in [
            ("", ""),
            ("[]", ""),
            (r#"{"name": "ci", "user": "robot", "admin": true}"#, "admin"),
            (r#"{"user": "robot"}"#, "name"),
            (r#"{"name": "ci"}"#, "user"),
            (r#"{"name": "ci", "user": " "}"#, "user"),
            (r#"{"name": "ci", "user": 1}"#, "user"),
            (r#"{"name": "x", "user": "a\r\nb"}"#, "user"),
            (r#"{"name": "x\u0000", "user": "a"}"#, "name"),
            (r#"{"name": "x", "user": "a", "email": "a\u0085b"}"#, "email"),
            (r#"{"name": "x", "user": "a", "groups": ["ok", "a\tb"]}"#, "groups"),
            (r#"{"name": "x", "user": "a", "scopes": ["\u007f"]}"#, "scopes"),
            (r#"{"name": "ci", "user": "robot", "groups": "ops"}"#, "groups"),
            (r#"{"name": "ci", "user": "robot", "scopes": [1]}"#, "scopes"),
            (r#"{"name": "ci", "user": "robot", "routes": ["other"]}"#, "routes"),
            (r#"{"name": "ci", "user": "robot", "expires_in": "soon"}"#, "expires_in"),
            (r#"{"name": "ci", "user": "robot", "expires_in": "0s"}"#, "expires_in"),
            (r#"{"name": "ci", "user": "robot", "expires_in": 5}"#, "expires_in"),
        ] {
            assert_eq!(field(body), expected, "{body}");
        }
    }
}
