//! Who a session is of after a refresh: the refreshed ID token says it, UserInfo where the provider sends none or leaves claims
//! out of it. What cannot be had now is told, and tried again a little later.

use crate::kit::digest::TokenDigest;
use crate::kit::secret::Secret;
use crate::provider::identity::Identity;
use crate::provider::jwt::Unverified;
use crate::provider::keys::KeySet;
use crate::provider::{NoUserInfo, NotVerified, Provider, Tokens, userinfo_about, verify_own};
use crate::session::outcome::Outcome;
use crate::session::realm::Realm;
use crate::session::record::{Cold, Hot};
use crate::session::session::Session;
use crate::session::sessions::Sessions;
use crate::store::kv::Away;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// What a refresh says of who it is.
pub(super) enum Renewed {
    Told(Box<Identity>),
    /// Nothing: what is known stays.
    Same,
    /// It could not be had now.
    Untold,
}

/// Why a refreshed identity is not taken.
pub(super) enum Renewal {
    Forged,
    /// Nobody can tell whether the ID token is good.
    Untold,
}

/// Until UserInfo is asked again.
const AGAIN: Duration = Duration::from_secs(5);

impl Sessions {
    pub(super) async fn identity(
        &self,
        realm: &Realm,
        hot: &Hot,
        before: &Cold,
        tokens: &Tokens,
    ) -> Result<Renewed, Renewal> {
        let (provider, now) = (realm.provider.as_ref(), self.clock.now());
        let settings = provider.settings();
        let Some(token) = &tokens.id else {
            return self.identity_by_userinfo(provider, hot, before.id.as_deref(), &tokens.access).await;
        };
        let read = |keys: &KeySet| Unverified::read(token.expose())?.verify_id_token(keys, settings, None, now);
        let verified = match verify_own(provider, read).await {
            Ok(verified) if verified.claims().get("sub").and_then(Value::as_str) == Some(&hot.subject) => verified,
            Ok(_) | Err(NotVerified::Refused(_)) => return Err(Renewal::Forged),
            Err(NotVerified::Unavailable) => return Err(Renewal::Untold),
        };
        let (mut userinfo, mut is_refused) = (None, false);
        if asks_userinfo(provider) && Identity::lacks_claims(&verified, settings) {
            userinfo = match userinfo_about(provider, &tokens.access, &hot.subject).await {
                Ok(claims) => Some(claims),
                Err(NoUserInfo::Forged) => return Err(Renewal::Forged),
                Err(NoUserInfo::Refused) => {
                    is_refused = true;
                    None
                }
                Err(NoUserInfo::Unavailable) => return Ok(Renewed::Untold),
            };
        }
        let mut identity = Identity::of_login(&verified, userinfo.as_ref(), settings).map_err(|_| Renewal::Forged)?;
        if is_refused {
            // What the ID token says is new; what it does not say stays.
            identity.complete(&hot.identity, verified.claims(), settings);
        }
        Ok(Renewed::Told(Box::new(identity)))
    }

    /// `id`: the last ID token; what it said and UserInfo does not say stays.
    async fn identity_by_userinfo(
        &self,
        provider: &dyn Provider,
        hot: &Hot,
        id: Option<&str>,
        access: &Secret,
    ) -> Result<Renewed, Renewal> {
        if !asks_userinfo(provider) {
            return Ok(Renewed::Same);
        }
        let told = match userinfo_about(provider, access, &hot.subject).await {
            Ok(told) => told,
            Err(NoUserInfo::Forged) => return Err(Renewal::Forged),
            Err(NoUserInfo::Refused) => return Ok(Renewed::Same),
            Err(NoUserInfo::Unavailable) => return Ok(Renewed::Untold),
        };
        let before = id.and_then(|id| Unverified::read(id).ok()).map(|id| id.claims().clone()).unwrap_or_default();
        let identity = Identity::renewed(before, told, provider.settings()).map_err(|_| Renewal::Forged)?;
        Ok(Renewed::Told(Box::new(identity)))
    }

    /// UserInfo could not be had when the session was refreshed: asks again, beside the request, once for all.
    pub fn renew_identity_beside(self: &Arc<Self>, realm: &Arc<Realm>, session: &Arc<Session>) {
        let due = session.hot.stale.is_some_and(|since| self.clock.now().millis() >= since + AGAIN.as_millis() as i64);
        if !due || session.hot.has_expired(self.clock.now()) {
            return;
        }
        let place = TokenDigest::of(format!("identity of {}", session.ticket.place()).as_bytes());
        let (sessions, realm, session) = (self.clone(), realm.clone(), session.clone());
        tokio::spawn(async move {
            let (own, realm_) = (sessions.clone(), realm.clone());
            let work = move || async move {
                match own.renew_identity(&realm_, &session).await {
                    Ok(outcome) => outcome,
                    Err(Away) => Outcome::Live(session),
                }
            };
            let _ = sessions.refreshes.join(place, work).await; // beside the request: nobody waits for it
        });
    }

    async fn renew_identity(&self, realm: &Realm, session: &Session) -> Result<Outcome, Away> {
        let reading = self.begin_reading();
        let Some(stored) = self.load(realm, &session.ticket).await? else { return Ok(Outcome::Ended) };
        let Some((cold, _)) = self.load_cold(realm, &session.ticket).await? else { return Ok(Outcome::Live(stored)) };
        if stored.hot.stale.is_none() {
            return Ok(Outcome::Live(stored)); // somebody was quicker
        }
        let access = Secret::from(cold.access.clone());
        let provider = realm.provider.as_ref();
        let outcome = match self.identity_by_userinfo(provider, &stored.hot, cold.id.as_deref(), &access).await {
            Ok(renewed) => self.put_in_force(realm, &stored, renewed, None).await?,
            Err(Renewal::Forged) => {
                self.delete(realm, &session.ticket).await?;
                Outcome::Ended
            }
            Err(Renewal::Untold) => Outcome::Live(stored),
        };
        if let Outcome::Live(session) = &outcome {
            self.keep_copy(realm, session.clone(), &reading);
        }
        self.kv.announce(&session.ticket.place()).await;
        Ok(outcome)
    }
}

pub(super) fn asks_userinfo(provider: &dyn Provider) -> bool {
    provider.settings().userinfo && provider.metadata().is_some_and(|metadata| metadata.userinfo_endpoint.is_some())
}
