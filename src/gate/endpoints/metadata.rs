//! What the gateway publishes of itself to anyone: metadata of protected resources (RFC 9728), and the keys that sign its
//! assertions (RFC 7517).

use crate::gate::cors::{Cors, Origins};
use crate::gate::decision::{Audit, Reply};
use crate::gate::endpoint::JWKS_KEPT;
use crate::gate::gate::Gate;
use crate::gate::refusal::{Refusal, own_headers};
use crate::gate::request::RequestHead;
use crate::kit::setting::Span;
use crate::store::kv::Unavailable;
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

impl Gate {
    /// RFC 9728, 3.2. A member without a value is left out.
    pub(super) fn resource_metadata(&self, path: &str, audit: &Audit) -> Result<Reply, Refusal> {
        let resource = self.routes.resource(audit.host.as_ref(), path).ok_or(Refusal::of(Reason::NoRoute))?;
        let mut metadata = Map::new();
        metadata.insert("resource".into(), json!(resource.address));
        let lists = [
            ("authorization_servers", json!(resource.authorization_servers)),
            ("scopes_supported", json!(resource.scopes)),
            ("bearer_methods_supported", json!(["header"])),
        ];
        let has_value = |(_, list): &(&str, Value)| list.as_array().is_some_and(|list| !list.is_empty());
        metadata.extend(lists.into_iter().filter(has_value).map(|(name, list)| (name.to_owned(), list)));
        let mut headers = own_headers(&audit.request_id);
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        headers.push(FOR_EVERY_ORIGIN);
        Ok(Reply { status: StatusCode::OK, headers, body: Value::Object(metadata).to_string().into() })
    }
}

impl Gate {
    pub(super) async fn jwks(&self, audit: &Audit) -> Result<Reply, Refusal> {
        let keys = self.assertions.keys().current().await;
        let keys = keys.map_err(|Unavailable| Refusal::of(Reason::StoreUnavailable))?;
        let mut headers = own_headers(&audit.request_id);
        headers.retain(|(name, _)| name != header::CACHE_CONTROL);
        headers.push((header::CACHE_CONTROL, HeaderValue::from_static(JWKS_KEPT)));
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        headers.push(FOR_EVERY_ORIGIN);
        Ok(Reply { status: StatusCode::OK, headers, body: keys.jwks.clone().into() })
    }
}

/// The answer to a preflight of a public document.
pub(super) fn preflight(head: &RequestHead<'_>, audit: &Audit) -> Reply {
    let cors = Cors { origins: Origins::Any, credentials: false, max_age: Span::seconds(600) };
    let mut headers = own_headers(&audit.request_id);
    headers.extend(cors.preflight(head.headers));
    Reply { status: StatusCode::NO_CONTENT, headers, body: Bytes::new() }
}

const FOR_EVERY_ORIGIN: (HeaderName, HeaderValue) =
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
