//! The identity of a session after a refresh: from the refreshed ID token, and from UserInfo if there is none or it
//! lacks claims. If UserInfo is unavailable, the identity is marked stale and requested again a little later.

use crate::kit::digest::TokenDigest;
use crate::kit::secret::Secret;
use crate::provider::identity::Identity;
use crate::provider::jwt::Unverified;
use crate::provider::keys::KeySet;
use crate::provider::settings::{Automatic, Settings};
use crate::provider::{NoUserInfo, NotVerified, Provider, Tokens, userinfo_about, verify_own};
use crate::session::outcome::Outcome;
use crate::session::realm::Realm;
use crate::session::record::{Cold, Hot};
use crate::session::session::Session;
use crate::session::sessions::Sessions;
use crate::store::kv::{Change, Unavailable};
use crate::telemetry::requester::Requester;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The identity after a refresh.
pub(super) enum Renewed {
    Told(Box<Identity>),
    /// No new claims: the known identity stays.
    Same,
    /// UserInfo is unavailable: the known identity stays and is marked stale.
    Untold,
}

/// Why a refreshed identity is rejected.
pub(super) enum Renewal {
    /// It is forged or of another user; which of these, in words.
    Forged(String),
    /// The keys to verify it are unavailable.
    Untold,
}

const OTHER_USERINFO: &str = "UserInfo is about another `sub`, or is forged";
/// Minimum time before UserInfo is requested again.
const AGAIN: Duration = Duration::from_secs(5);

fn no_user(settings: &Settings) -> Renewal {
    Renewal::Forged(format!("{}: the mapped `user` claim is absent or no text", settings.claims.user.as_str()))
}

/// The session ends: the provider has refused its refresh token.
pub(super) fn say_denied(realm: &Realm, hot: &Hot, why: &str) {
    let (provider, user) = (&realm.provider.settings().name, &hot.identity.user);
    let (client, request_id) = Requester::current();
    tracing::warn!(
        event = "refresh_denied", %provider, %user, client, request_id, why,
        "the provider refused a refresh; the session ends"
    );
}

/// The session ends: what the provider said after a refresh is of somebody else, or cannot be verified.
pub(super) fn say_distrusted(realm: &Realm, hot: &Hot, why: &str) {
    let (provider, user) = (&realm.provider.settings().name, &hot.identity.user);
    let (client, request_id) = Requester::current();
    tracing::warn!(
        event = "session_ended", %provider, %user, client, request_id, why, "what came of a refresh cannot be trusted"
    );
}

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
            Ok(_) => return Err(Renewal::Forged("the refreshed ID token is of another `sub`".into())),
            Err(NotVerified::Refused(refusal)) => {
                let why = Unverified::read(token.expose())
                    .map_or("it is no JWT".into(), |token| token.why_no_own_token(settings, None, refusal, now));
                return Err(Renewal::Forged(format!("the refreshed ID token: {why}")));
            }
            Err(NotVerified::Unavailable) => return Err(Renewal::Untold),
        };
        let (mut userinfo, mut is_refused) = (None, false);
        if asks_userinfo(provider) && Identity::lacks_claims(&verified, settings) {
            userinfo = match userinfo_about(provider, &tokens.access, &hot.subject).await {
                Ok(claims) => Some(claims),
                Err(NoUserInfo::Forged) => return Err(Renewal::Forged(OTHER_USERINFO.into())),
                Err(NoUserInfo::Refused) => {
                    is_refused = true;
                    None
                }
                Err(NoUserInfo::Unavailable) => return Ok(Renewed::Untold),
            };
        }
        let mut identity = Identity::of_login(&verified, userinfo.as_ref(), settings).map_err(|_| no_user(settings))?;
        if is_refused {
            // Claims in the ID token are new; the others keep their known values.
            identity.complete(&hot.identity, verified.claims(), settings);
        }
        Ok(Renewed::Told(Box::new(identity)))
    }

    /// `id`: the last ID token; its claims stay where UserInfo has none.
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
        let claims = match userinfo_about(provider, access, &hot.subject).await {
            Ok(claims) => claims,
            Err(NoUserInfo::Forged) => return Err(Renewal::Forged(OTHER_USERINFO.into())),
            Err(NoUserInfo::Refused) => return Ok(Renewed::Same),
            Err(NoUserInfo::Unavailable) => return Ok(Renewed::Untold),
        };
        let before = id.and_then(|id| Unverified::read(id).ok()).map(|id| id.claims().clone()).unwrap_or_default();
        let identity =
            Identity::renewed(before, claims, provider.settings()).map_err(|_| no_user(provider.settings()))?;
        Ok(Renewed::Told(Box::new(identity)))
    }

    /// Requests UserInfo again if it was unavailable; in the background, once for all concurrent requests.
    pub fn renew_identity_beside(
        self: &Arc<Self>,
        realm: &Arc<Realm>,
        session: &Arc<Session>,
        by: impl FnOnce() -> Requester,
    ) {
        let due = session.hot.stale.is_some_and(|since| self.clock.now().millis() >= since + AGAIN.as_millis() as i64);
        if !due || session.hot.has_expired(self.clock.now()) {
            return;
        }
        let place = TokenDigest::of(format!("identity of {}", session.ticket.place()).as_bytes());
        let (sessions, realm, session, by) = (self.clone(), realm.clone(), session.clone(), by());
        tokio::spawn(async move {
            let (own, realm_) = (sessions.clone(), realm.clone());
            let work = move || {
                by.causes(async move {
                    match own.renew_identity(&realm_, &session).await {
                        Ok(outcome) => outcome,
                        Err(Unavailable) => Outcome::Live(session),
                    }
                })
            };
            let _ = sessions.refreshes.join(place, work).await; // in the background: no request waits for it
        });
    }

    async fn renew_identity(&self, realm: &Realm, session: &Session) -> Result<Outcome, Unavailable> {
        let reading = self.begin_reading();
        let Some(stored) = self.load(realm, &session.ticket).await? else { return Ok(Outcome::Ended) };
        let Some((cold, _)) = self.load_cold(realm, &session.ticket).await? else { return Ok(Outcome::Live(stored)) };
        if stored.hot.stale.is_none() {
            return Ok(Outcome::Live(stored)); // already renewed by another request
        }
        let access = Secret::from(cold.access.clone());
        let provider = realm.provider.as_ref();
        let outcome = match self.identity_by_userinfo(provider, &stored.hot, cold.id.as_deref(), &access).await {
            Ok(renewed) => self.put_in_force(realm, &stored, renewed, None).await?,
            Err(Renewal::Forged(why)) => {
                say_distrusted(realm, &stored.hot, &why);
                self.delete(realm, &session.ticket).await?;
                Outcome::Ended
            }
            Err(Renewal::Untold) => Outcome::Live(stored),
        };
        if let Outcome::Live(session) = &outcome {
            self.keep_cached(realm, session.clone(), &reading);
        }
        self.kv.announce(&Change::Session(session.ticket.place())).await;
        Ok(outcome)
    }
}

pub(super) fn asks_userinfo(provider: &dyn Provider) -> bool {
    provider.settings().userinfo == Automatic::Auto
        && provider.metadata().is_some_and(|metadata| metadata.userinfo_endpoint.is_some())
}
