//! The tokens that a route passes to the app.

use crate::gate::authenticate::{Authenticator, Presented, presented, token68};
use crate::gate::decision::SignedIn;
use crate::gate::passed_tokens::Tokens;
use crate::gate::refusal::Refusal;
use crate::gate::route::Route;
use crate::store::kv::Unavailable;
use crate::telemetry::metrics::Credential;
use crate::telemetry::reason::Reason;
use http::HeaderMap;

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
            let token = match presented(headers) {
                Presented::Token(token) => token68(token),
                Presented::Nothing | Presented::Unusable => None,
            };
            return Ok(Tokens { access: token.map(|token| token.to_string().into()), id: None });
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
}
