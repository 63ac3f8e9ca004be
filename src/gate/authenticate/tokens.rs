//! The tokens that a route passes to the app.

use crate::gate::authenticate::{Authenticator, Presented, presented, token68};
use crate::gate::decision::SignedIn;
use crate::gate::passed_tokens::Tokens;
use crate::gate::refusal::Refusal;
use crate::gate::route::Route;
use crate::kit::secret::Secret;
use crate::session::sessions::Sessions;
use crate::store::kv::Unavailable;
use crate::telemetry::metrics::Credential;
use crate::telemetry::reason::Reason;
use http::HeaderMap;
use std::sync::Arc;

impl Authenticator {
    /// The tokens that a route passes. Of a session they cost a read of the store; an access token that has expired is
    /// not passed.
    pub(in crate::gate) async fn tokens(
        &self,
        route: &Route,
        signed_in: Option<&SignedIn>,
        credential: Credential,
        headers: &HeaderMap,
    ) -> Result<Tokens, Refusal> {
        let (wants_access, wants_id) = route.headers.wants_tokens();
        if credential == Credential::bearer && wants_access {
            return Ok(Tokens { access: presented_token(headers), id: None });
        }
        let Some(SignedIn { site, session }) = signed_in else { return Ok(Tokens::default()) };
        let wants_access = wants_access && !session.hot.has_expired(self.sessions.now());
        if !wants_access && !wants_id {
            return Ok(Tokens::default());
        }
        let cold = self.sessions.cold(&site.realm, session).await;
        let Some(cold) = cold.map_err(|Unavailable| Refusal::of(Reason::StoreUnavailable))? else {
            return Ok(Tokens::default());
        };
        Ok(Tokens {
            access: wants_access.then(|| cold.access.into()),
            id: cold.id.filter(|_| wants_id).map(Into::into),
        })
    }

    /// Who is calling, for work that outlives the request.
    pub(in crate::gate) fn caller(
        &self,
        signed_in: Option<&SignedIn>,
        credential: Credential,
        headers: &HeaderMap,
    ) -> Caller {
        let bearer = if credential == Credential::bearer { presented_token(headers) } else { None };
        Caller { sessions: self.sessions.clone(), signed_in: signed_in.cloned(), bearer }
    }
}

/// Whose access token may be wanted.
pub(in crate::gate) struct Caller {
    sessions: Arc<Sessions>,
    pub(in crate::gate) signed_in: Option<SignedIn>,
    bearer: Option<Secret>,
}

impl Caller {
    /// The caller's access token, if it has one that has not expired.
    pub(in crate::gate) async fn access_token(self) -> Result<Option<Secret>, Refusal> {
        if self.bearer.is_some() {
            return Ok(self.bearer);
        }
        let Some(SignedIn { site, session }) = self.signed_in else { return Ok(None) };
        if session.hot.has_expired(self.sessions.now()) {
            return Ok(None);
        }
        let cold = self.sessions.cold(&site.realm, &session).await;
        let cold = cold.map_err(|Unavailable| Refusal::of(Reason::StoreUnavailable))?;
        Ok(cold.map(|cold| cold.access.into()))
    }
}

fn presented_token(headers: &HeaderMap) -> Option<Secret> {
    match presented(headers) {
        Presented::Token(token) => token68(token).map(|token| token.to_string().into()),
        Presented::Nothing | Presented::Unusable => None,
    }
}
