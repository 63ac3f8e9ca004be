//! The gateway's own endpoints.

pub(super) mod forward_auth;
pub(super) mod login;
pub(super) mod logout;
mod metadata;
pub(super) mod parameters;
mod userinfo;

use crate::gate::case::Case;
use crate::gate::cors::is_preflight;
use crate::gate::decision::Answer;
use crate::gate::endpoint::{Endpoint, MAX_BODY};
use crate::gate::endpoints::login::Undecided;
use crate::gate::endpoints::parameters::Parameters;
use crate::gate::gate::{Gate, METHODS};
use crate::gate::path::CanonicalPath;
use crate::gate::refusal::Refusal;
use crate::gate::request::{Body, RequestHead};
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use http::{HeaderMap, StatusCode, header};

impl Gate {
    pub(super) async fn own_page<'g>(
        &'g self,
        page: Endpoint,
        head: &RequestHead<'_>,
        path: &CanonicalPath<'_>,
        case: &mut Case<'g>,
    ) -> Result<Answer, Refusal> {
        if page.is_public() && is_preflight(head.method, head.headers) {
            case.audit.outcome = Outcome::own_page;
            return Ok(Answer::Reply(Box::new(metadata::preflight(head, &case.audit))));
        }
        if !page.knows(head.method) {
            return Err(Refusal::method_not_allowed(page.allow().unwrap_or(METHODS)));
        }
        if content_length(head.headers) > MAX_BODY || head.body == Body::TooLarge {
            return Err(Refusal::form(StatusCode::PAYLOAD_TOO_LARGE));
        }
        if head.body == Body::Broken {
            return Err(Refusal::of(Reason::BadRequest));
        }
        case.audit.outcome = Outcome::own_page;
        let sites = self.routes.sites(case.audit.host.as_ref());
        let query = Parameters::of(path.query());
        let audit = &mut case.audit;
        let reply = match page {
            Endpoint::Auth => match self.judge_for_auth_request(&query, head, case).await {
                Ok(reply) => reply,
                Err(refusal) => forward_auth::for_auth_request(self.refuse(refusal, head, &mut case.audit, case.route)),
            },
            Endpoint::Forward => self.judge_for_forward_auth(head, case).await?,
            Endpoint::Start => self.start_page(&sites, &query, head, audit, Undecided::First).await?,
            Endpoint::SignIn => self.start_page(&sites, &query, head, audit, Undecided::Asked).await?,
            Endpoint::Callback(_) => self.callback_page(&sites, head, path, audit).await?,
            Endpoint::SignOut => self.endpoints.sign_out_page(&sites, &query, head, audit).await?,
            Endpoint::SignedOut => self.endpoints.signed_out_page(&sites, &query, audit),
            Endpoint::Userinfo => self.endpoints.userinfo_page(&sites, &query, head, audit).await?,
            Endpoint::BackchannelLogout => self.endpoints.backchannel_logout(&sites, head, audit).await?,
            Endpoint::FrontchannelLogout => self.endpoints.frontchannel_logout(&sites, &query, head, audit).await?,
            Endpoint::Jwks => self.jwks(audit).await?,
            Endpoint::ResourceMetadata(path) => self.resource_metadata(&path, audit)?,
        };
        Ok(Answer::Reply(Box::new(reply)))
    }
}

fn content_length(headers: &HeaderMap) -> usize {
    headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0)
}
