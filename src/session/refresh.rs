//! Keeps a session alive past its access token, and logs nobody out: of many requests with one session, one spends the
//! refresh token, in a task of its own that no client can cancel; what the provider rotated is stored before anybody goes
//! on; and "no" is told from "could not tell".

use crate::kit::digest::TokenDigest;
use crate::kit::flights::{Flights, Lost, Part};
use crate::kit::secret::Secret;
use crate::provider::identity::Identity;
use crate::provider::jwt::Unverified;
use crate::provider::keys::KeySet;
use crate::provider::{GrantError, NotVerified, Tokens, verify_with};
use crate::session::record::{Cold, Hot};
use crate::session::vault::{Realm, Session, Sessions};
use crate::store::kv::Away;
use crate::watch::metrics::Refresh;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The refreshes under way in this process, by the digest of the session's place.
pub type Refreshes = Flights<TokenDigest, Outcome>;

/// What a request with a session whose access token is over can do.
#[derive(Clone)]
pub enum Outcome {
    /// Go on with this.
    Live(Arc<Session>),
    /// The session is over: the provider says so.
    Ended,
    /// Nobody could tell; the session stays.
    Unavailable(Unavailable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    Provider,
    Store,
}

/// An access token whose life nobody tells is taken to live this long.
const UNTOLD_LIFE: Duration = Duration::from_secs(300);
/// Writes that lose against a touch are tried again; more touches than this do not come in the time of one refresh.
const TRIES: u64 = 5;

impl Sessions {
    /// Refreshes once for all who ask. A request that goes away leaves the work to the others.
    pub async fn refresh(self: &Arc<Self>, realm: &Arc<Realm>, session: &Arc<Session>) -> Outcome {
        let place = TokenDigest::of(session.ticket.place().as_bytes());
        let (sessions, realm_, session_) = (self.clone(), realm.clone(), session.clone());
        let work = move || async move { sessions.refresh_once(&realm_, &session_).await };
        match self.refreshes.join(place, work).await {
            Ok((outcome, part)) => {
                if part == Part::Joined {
                    realm.metrics.refreshed(Refresh::joined);
                }
                outcome
            }
            Err(Lost) => Outcome::Unavailable(Unavailable::Provider),
        }
    }

    /// The same beside a request that can go on without it.
    pub fn refresh_beside(self: &Arc<Self>, realm: &Arc<Realm>, session: &Arc<Session>) {
        let (sessions, realm, session) = (self.clone(), realm.clone(), session.clone());
        tokio::spawn(async move { drop(sessions.refresh(&realm, &session).await) });
    }

    async fn refresh_once(&self, realm: &Realm, session: &Session) -> Outcome {
        let outcome = match self.spend(realm, session).await {
            Ok(outcome) => outcome,
            Err(Away) => Outcome::Unavailable(Unavailable::Store),
        };
        if let Outcome::Live(session) = &outcome {
            self.keep_copy(realm, session.clone());
        }
        outcome
    }

    async fn spend(&self, realm: &Realm, session: &Session) -> Result<Outcome, Away> {
        let now = self.clock.now();
        let Some(stored) = self.load(realm, &session.ticket).await? else { return Ok(Outcome::Ended) };
        if !stored.hot.is_due(realm.refresh.before_expiry, now) {
            realm.metrics.refreshed(Refresh::reused);
            return Ok(Outcome::Live(stored)); // somebody was quicker
        }
        let Some((cold, generation)) = self.load_cold(realm, &session.ticket).await? else {
            return Ok(Outcome::Live(stored)); // without tokens it lives to its own limits
        };
        let Some(token) = cold.refresh.clone().map(Secret::from) else { return Ok(Outcome::Live(stored)) };
        if realm
            .refresh
            .max_token_age
            .is_some_and(|age| now >= crate::kit::clock::Timestamp::from_millis(cold.refreshed).plus(age))
        {
            realm.metrics.refreshed(Refresh::denied);
            self.delete(realm, &session.ticket).await?;
            return Ok(Outcome::Ended);
        }
        match realm.provider.refresh(&token).await {
            Ok(tokens) => self.renew(realm, stored, cold, generation, tokens).await,
            Err(GrantError::Denied) => self.denied(realm, session, &token).await,
            Err(GrantError::Refused | GrantError::Unavailable) => Ok(self.unavailable(realm, stored)),
        }
    }

    /// Stores what the provider rotated before anybody goes on with it.
    async fn renew(
        &self,
        realm: &Realm,
        stored: Arc<Session>,
        cold: Cold,
        generation: u64,
        tokens: Tokens,
    ) -> Result<Outcome, Away> {
        let renewed = renewed_cold(&cold, &tokens, self.clock.now().millis());
        if !self.replace_cold(realm, &stored.ticket, &stored.label, &renewed, generation + 1).await? {
            // Signed out meanwhile: the new refresh token is nobody's.
            if let Some(token) = &tokens.refresh {
                realm.provider.revoke(token).await;
            }
            return Ok(Outcome::Ended);
        }
        let identity = match self.identity(realm, &stored.hot, &tokens).await {
            Ok(identity) => identity,
            Err(Judged::Forged) => {
                realm.metrics.refreshed(Refresh::denied);
                tracing::warn!(provider = %realm.provider.settings().name, "a refreshed ID token is forged or of somebody else; the session ends");
                self.delete(realm, &stored.ticket).await?;
                return Ok(Outcome::Ended);
            }
            Err(Judged::Untold) => return Ok(self.unavailable(realm, stored)),
        };
        realm.metrics.refreshed(Refresh::exchanged);
        self.put_in_force(realm, &stored, identity, &tokens).await
    }

    async fn put_in_force(
        &self,
        realm: &Realm,
        stored: &Session,
        identity: Option<Identity>,
        tokens: &Tokens,
    ) -> Result<Outcome, Away> {
        let mut identity = identity;
        for _ in 0..TRIES {
            let Some(mut current) = self.load(realm, &stored.ticket).await?.and_then(Arc::into_inner) else {
                return Ok(Outcome::Ended);
            };
            let life = life_of(tokens, self.clock.now());
            current.hot.access_expires = self.clock.now().plus(life).millis();
            current.hot.access_life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
            if let Some(identity) = identity.take() {
                current.hot.identity = Arc::new(identity);
            }
            let generation = current.generation + 1;
            if self.replace_hot(realm, &current.ticket, &current.label, &current.hot, generation).await? {
                return Ok(Outcome::Live(Arc::new(Session::new(
                    current.hot,
                    current.ticket,
                    current.label,
                    generation,
                ))));
            }
            identity = Arc::into_inner(current.hot.identity); // a touch came between
        }
        Ok(Outcome::Unavailable(Unavailable::Store))
    }

    /// The provider denies the token. Unless somebody else has rotated it, the session is over.
    async fn denied(&self, realm: &Realm, session: &Session, spent: &Secret) -> Result<Outcome, Away> {
        let now = self.load_cold(realm, &session.ticket).await?;
        if now.is_some_and(|(cold, _)| cold.refresh.as_ref() != Some(spent.expose())) {
            realm.metrics.refreshed(Refresh::reused);
            return Ok(self.load(realm, &session.ticket).await?.map_or(Outcome::Ended, Outcome::Live));
        }
        realm.metrics.refreshed(Refresh::denied);
        self.delete(realm, &session.ticket).await?;
        Ok(Outcome::Ended)
    }

    fn unavailable(&self, realm: &Realm, stored: Arc<Session>) -> Outcome {
        realm.metrics.refreshed(Refresh::unavailable);
        // While its access token lives, nobody need notice.
        if stored.hot.has_expired(self.clock.now()) {
            Outcome::Unavailable(Unavailable::Provider)
        } else {
            Outcome::Live(stored)
        }
    }

    /// Who the refreshed ID token names; `None` where the provider sent none.
    async fn identity(&self, realm: &Realm, hot: &Hot, tokens: &Tokens) -> Result<Option<Identity>, Judged> {
        let Some(token) = &tokens.id else { return Ok(None) };
        let (provider, now) = (realm.provider.as_ref(), self.clock.now());
        let settings = provider.settings();
        let read = |keys: &KeySet| Unverified::read(token.expose())?.verify_id_token(keys, settings, None, now);
        let verified = match verify_with(provider, read).await {
            Ok(verified) if verified.claims().get("sub").and_then(Value::as_str) == Some(&hot.subject) => verified,
            Ok(_) | Err(NotVerified::Refused(_)) => return Err(Judged::Forged),
            Err(NotVerified::Unavailable) => return Err(Judged::Untold),
        };
        let mut userinfo = None;
        if settings.userinfo && Identity::lacks_claims(&verified, settings) {
            userinfo = match provider.userinfo(&tokens.access).await {
                Ok(claims) if claims.get("sub") == verified.claims().get("sub") => Some(claims),
                Ok(_) => return Err(Judged::Forged),
                Err(_) => None, // what is known stays; it is asked again with the next refresh
            };
            if userinfo.is_none() {
                return Ok(None);
            }
        }
        Identity::of_login(&verified, userinfo.as_ref(), settings).map(Some).map_err(|_| Judged::Forged)
    }
}

/// Why a refreshed identity is not taken.
enum Judged {
    Forged,
    Untold,
}

fn renewed_cold(cold: &Cold, tokens: &Tokens, now: i64) -> Cold {
    let text = |secret: &Secret| secret.expose().clone();
    Cold {
        access: text(&tokens.access),
        id: tokens.id.as_ref().map(text).or_else(|| cold.id.clone()),
        refresh: tokens.refresh.as_ref().map(text).or_else(|| cold.refresh.clone()),
        refreshed: if tokens.refresh.is_some() { now } else { cold.refreshed },
        session_id: cold.session_id.clone(),
    }
}

/// `expires_in`, else the access token's own `exp`, else five minutes.
pub fn life_of(tokens: &Tokens, now: crate::kit::clock::Timestamp) -> Duration {
    let own = || Unverified::read(tokens.access.expose()).ok()?.expires();
    tokens.lives.or_else(|| own().map(|exp| now.until(exp))).unwrap_or(UNTOLD_LIFE)
}
