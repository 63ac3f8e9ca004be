//! `/userinfo`: who is signed in.

use crate::gate::decision::{Audit, Reply};
use crate::gate::endpoints::parameters::Parameters;
use crate::gate::gate::Endpoints;
use crate::gate::refusal::{Refusal, own_headers};
use crate::gate::request::RequestHead;
use crate::login::relying_party::RelyingParty;
use crate::login::signed_in::any_session;
use crate::store::kv::Unavailable;
use crate::telemetry::reason::Reason;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::sync::Arc;

impl Endpoints {
    pub(super) async fn userinfo_page(
        &self,
        sites: &[Arc<RelyingParty>],
        query: &Parameters,
        head: &RequestHead<'_>,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let asked: Vec<Arc<RelyingParty>> = match query.get("provider") {
            Some(name) => sites.iter().filter(|site| site.provider() == name).cloned().collect(),
            None => sites.to_vec(),
        };
        let found = any_session(&asked, head.headers, &self.sessions).await;
        let (site, session) = found
            .ok_or(Refusal::of(Reason::LoginRequired))?
            .map_err(|Unavailable| Refusal::of(Reason::StoreUnavailable))?;
        let who = &session.hot.identity;
        let body = json!({
            "user": who.user, "email": who.email, "name": who.name, "username": who.username, "groups": who.groups,
            "expires_at": session.ends(site.limits),
        });
        audit.identity = Some(who.clone());
        let mut headers = own_headers(&audit.request_id);
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        Ok(Reply { status: StatusCode::OK, headers, body: body.to_string().into() })
    }
}
