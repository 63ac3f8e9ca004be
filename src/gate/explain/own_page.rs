//! What the gateway's own endpoints would answer, as far as it can be said without asking anybody.

use crate::gate::case::{Case, Place};
use crate::gate::cors::is_preflight;
use crate::gate::endpoint::Endpoint;
use crate::gate::endpoints::forward_auth::{narrowed, status_for_auth_request};
use crate::gate::endpoints::login::{Login, Undecided};
use crate::gate::endpoints::logout::{is_from, is_unasked};
use crate::gate::endpoints::parameters::{Parameters, origin_of};
use crate::gate::explain::Explanation;
use crate::gate::gate::{Gate, METHODS};
use crate::gate::path::CanonicalPath;
use crate::gate::refusal::Refusal;
use crate::gate::request::RequestHead;
use crate::gate::rules::Rules;
use crate::gate::subject::{QUESTION, Subject};
use crate::provider::claims::Claims;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use http::{HeaderValue, Method, StatusCode, header};

impl Gate {
    pub(super) fn explain_page(
        &self,
        page: &Endpoint,
        head: &RequestHead<'_>,
        who: Option<&Claims>,
        case: &mut Case<'_>,
        mut told: Explanation,
    ) -> Explanation {
        told.access = "a page of the gateway itself".into();
        if page.is_public() && is_preflight(head.method, head.headers) {
            told.status = StatusCode::NO_CONTENT;
            return told;
        }
        if !page.knows(head.method) {
            return told.refused(&Refusal::method_not_allowed(page.allow().unwrap_or(METHODS)));
        }
        let Ok(path) = CanonicalPath::of(head.target) else { return told.refused(&Refusal::of(Reason::BadRequest)) };
        let query = Parameters::of(path.query());
        let sites = self.routes.sites(case.audit.host.as_ref());
        let login = |undecided, told: Explanation| match self.login_for(&sites, &query, head, &case.audit, undecided) {
            Ok(Login::Of { .. }) => told.sent_to_login(),
            Ok(Login::Choice { .. }) => told,
            Err(refusal) => told.refused(&refusal),
        };
        match page {
            Endpoint::Start => login(Undecided::First, told),
            Endpoint::SignIn => login(Undecided::Asked, told),
            // Its cookie and its code are those of one login alone.
            Endpoint::Callback(_) => told.refused(&Refusal::of(Reason::StateMismatch)),
            Endpoint::SignOut => {
                let origin = sites.first().map(|site| origin_of(site, &case.audit)).unwrap_or_default();
                if *head.method == Method::POST && !is_from(head.headers, &origin) {
                    return told.refused(&Refusal::form(StatusCode::FORBIDDEN));
                }
                let asks =
                    *head.method == Method::HEAD || *head.method != Method::POST && is_unasked(head.headers, &origin);
                told.status = if asks { StatusCode::OK } else { StatusCode::FOUND };
                told
            }
            Endpoint::Userinfo if who.is_none() => told.refused(&Refusal::of(Reason::LoginRequired)),
            Endpoint::BackchannelLogout => told.refused(&Refusal::of(Reason::BadRequest)),
            Endpoint::FrontchannelLogout if query.only("iss").is_none() || query.only("sid").is_none() => {
                told.refused(&Refusal::of(Reason::BadRequest))
            }
            Endpoint::Auth | Endpoint::Forward => self.explain_question(page, &query, head, who, case, told),
            _ => told,
        }
    }

    /// The request that another proxy asks about.
    fn explain_question(
        &self,
        page: &Endpoint,
        query: &Parameters,
        head: &RequestHead<'_>,
        who: Option<&Claims>,
        case: &Case<'_>,
        told: Explanation,
    ) -> Explanation {
        let refused = Refusal::form(StatusCode::FORBIDDEN);
        let Ok(subject) = Subject::of(head.headers, case.is_through_trusted()) else { return told.refused(&refused) };
        let mut headers = head.headers.clone();
        let Ok(host) = HeaderValue::from_str(subject.host.as_str()) else { return told.refused(&refused) };
        headers.insert(header::HOST, host);
        // The question is answered once, and about a preflight as about any request.
        QUESTION.iter().for_each(|name| _ = headers.remove(*name));
        headers.remove(header::ACCESS_CONTROL_REQUEST_METHOD);
        let asked = RequestHead {
            method: &subject.method,
            target: subject.target.as_bytes(),
            authority: None,
            headers: &headers,
            ..*head
        };
        let is_own = matches!(self.open(&asked).place, Ok(Place::Own(_)));
        let mut told = self.explain(&asked, who);
        told.access = format!("a question of another proxy, about: {}", told.access);
        let narrowed = if *page == Endpoint::Auth { narrowed(query) } else { Some(Rules::default()) };
        let Some(narrowed) = narrowed else { return told.refused(&refused) };
        if told.outcome == Outcome::forwarded
            && !narrowed.is_empty()
            && told.identity.as_ref().is_none_or(|identity| narrowed.check(identity).is_err())
        {
            told = told.refused(&Refusal::of(Reason::Forbidden));
        } else if told.outcome == Outcome::forwarded {
            (told.status, told.outcome) = (StatusCode::ACCEPTED, Outcome::own_page);
        } else if *page == Endpoint::Auth && is_own {
            told = told.refused(&refused);
        } else if *page == Endpoint::Forward && told.status.is_success() {
            told.status = StatusCode::UNAUTHORIZED;
        } else if *page == Endpoint::Auth {
            if told.outcome == Outcome::login {
                told = told.refused(&Refusal::of(Reason::LoginRequired));
            }
            told.status = status_for_auth_request(told.status);
        }
        told
    }
}
