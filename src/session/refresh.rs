//! Keeps a session alive past its access token without logging users out: of many requests with one session, one spends
//! the refresh token, in a task that no client can cancel; rotated tokens are stored before any request continues; and
//! a refusal is distinguished from an unavailable provider. Across replicas a lease decides which one spends the token,
//! and a sealed result gives the others its outcome.

mod identity;
mod shared;

use crate::kit::clock::Timestamp;
use crate::kit::digest::TokenDigest;
use crate::kit::secret::Secret;
use crate::kit::singleflight::{LeaderLost, Role};
use crate::provider::{CallFailed, GrantError, Tokens};
use crate::session::outcome::{Dependency, Outcome};
use crate::session::realm::Realm;
use crate::session::record::Cold;
use crate::session::session::{RefreshLimits, Session};
use crate::session::sessions::Sessions;
use crate::store::kv::{Change, Unavailable};
use crate::store::lease::{Lease, Taken};
use crate::telemetry::metrics::Refresh;
use crate::telemetry::requester::Requester;
use identity::{Renewal, Renewed, say_denied, say_distrusted};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Attempts at a write that loses against touches; one refresh does not meet more touches than this.
const TRIES: u64 = 5;
/// Pauses between polls while another replica refreshes; they double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// A request waits for its provider's time-out plus this, however many replicas there are.
const SPARE: Duration = Duration::from_secs(1);
/// Maximum number of longest pauses to wait for a store that settles after an outage.
const SETTLES: u32 = 10;

impl Sessions {
    /// Refreshes once for all concurrent requests. The work continues if a request is cancelled or times out.
    pub async fn refresh(
        self: &Arc<Self>,
        realm: &Arc<Realm>,
        session: &Arc<Session>,
        limits: RefreshLimits,
        by: Requester,
    ) -> Outcome {
        let place = TokenDigest::of(session.ticket.place().as_bytes());
        let (sessions, realm_, session_) = (self.clone(), realm.clone(), session.clone());
        let work = move || by.causes(async move { sessions.refresh_once(&realm_, &session_, limits).await });
        match timeout(patience(realm), self.refreshes.join(place, work)).await {
            Ok(Ok((outcome, role))) => {
                if role == Role::Follower {
                    realm.metrics.refreshed(Refresh::joined);
                }
                outcome
            }
            Ok(Err(LeaderLost)) | Err(_) => Outcome::Unavailable(Dependency::Provider),
        }
    }

    /// Refreshes in the background, for a request that need not wait.
    pub fn refresh_beside(
        self: &Arc<Self>,
        realm: &Arc<Realm>,
        session: &Arc<Session>,
        limits: RefreshLimits,
        by: Requester,
    ) {
        let (sessions, realm, session) = (self.clone(), realm.clone(), session.clone());
        tokio::spawn(async move { drop(sessions.refresh(&realm, &session, limits, by).await) });
    }

    async fn refresh_once(&self, realm: &Realm, session: &Session, limits: RefreshLimits) -> Outcome {
        let reading = self.begin_reading();
        let outcome = match self.spend(realm, session, limits).await {
            Ok(outcome) => outcome,
            Err(Unavailable) if self.kv.is_shared() => self.without_store(session), // it became unavailable meanwhile
            Err(Unavailable) => Outcome::Unavailable(Dependency::Store),
        };
        if let Outcome::Live(session) = &outcome {
            self.keep_cached(realm, session.clone(), &reading);
        }
        outcome
    }

    async fn spend(&self, realm: &Realm, session: &Session, limits: RefreshLimits) -> Result<Outcome, Unavailable> {
        if self.kv.is_unavailable() {
            return Ok(self.without_store(session)); // otherwise two replicas could spend the same token
        }
        // After an outage another replica may hold the rotated token and not have written it back yet.
        for _ in 0..SETTLES {
            if !self.kv.is_settling() {
                break;
            }
            sleep(LONGEST_PAUSE).await;
        }
        let ends = Instant::now() + patience(realm);
        let (mut pause, mut waited) = (FIRST_PAUSE, None);
        loop {
            let grant = match self.due(realm, session, limits).await? {
                Due::Grant(grant) => *grant,
                Due::Nothing(outcome) => return Ok(outcome),
            };
            // The read in `due` may have been the first to fail, and been answered from this replica's memory.
            if self.kv.is_unavailable() {
                return Ok(self.without_store(session));
            }
            if self.tries.are_paused(&session.ticket.place()) {
                return Ok(self.meanwhile(grant.stored));
            }
            if !self.dedup.enabled || !self.kv.is_shared() {
                return self.exchange(realm, grant, None, limits).await;
            }
            if let Some(tokens) = self.shared_result(&grant).await? {
                realm.metrics.refreshed(Refresh::reused);
                return self.renew(realm, grant, tokens, limits).await;
            }
            let place = session.ticket.place();
            // Per session, not per token: the new token is stored before the hot part, and must not be spent in between.
            match Lease::take(&self.kv, self.entropy.as_ref(), &place, *self.dedup.lease).await? {
                Taken::Ours(lease) => {
                    // A lease that we waited for and that has not expired was released: its holder's try failed.
                    let failed = waited.is_some_and(|until| Instant::now() < until);
                    let outcome = self.spend_under(realm, session, &grant, &lease, failed, limits).await;
                    lease.let_go().await;
                    if let Some(outcome) = outcome? {
                        return Ok(outcome);
                    }
                }
                Taken::Until(ends) => waited = Some(ends),
                Taken::Unknown => {}
            }
            if Instant::now() >= ends {
                realm.metrics.refreshed(Refresh::unavailable);
                return Ok(self.meanwhile(grant.stored)); // no try was made here: the next request may make one
            }
            // Do not sleep past the expiry of a lease that is not renewed.
            let over = waited.map_or(pause, |until| until.saturating_duration_since(Instant::now()));
            sleep(pause.min(over.max(FIRST_PAUSE))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Called with the lease held. The previous holder may have refreshed the session, or have failed.
    async fn spend_under(
        &self,
        realm: &Realm,
        session: &Session,
        before: &Grant,
        lease: &Lease,
        failed: bool,
        limits: RefreshLimits,
    ) -> Result<Option<Outcome>, Unavailable> {
        let grant = match self.due(realm, session, limits).await? {
            Due::Grant(grant) => *grant,
            Due::Nothing(outcome) => return Ok(Some(outcome)),
        };
        // Rotated meanwhile: a result published for the earlier token must not replace the newer tokens.
        if grant.token.expose() != before.token.expose() {
            return Ok(None);
        }
        if let Some(tokens) = self.shared_result(&grant).await? {
            realm.metrics.refreshed(Refresh::reused);
            return self.renew(realm, grant, tokens, limits).await.map(Some);
        }
        if failed {
            return Ok(Some(self.unavailable(realm, grant.stored)));
        }
        self.exchange(realm, grant, Some(lease), limits).await.map(Some)
    }

    /// Whether a refresh token is to be spent now.
    async fn due(&self, realm: &Realm, session: &Session, limits: RefreshLimits) -> Result<Due, Unavailable> {
        let now = self.clock.now();
        let Some(stored) = self.load(realm, &session.ticket).await? else { return Ok(Due::Nothing(Outcome::Ended)) };
        if !stored.hot.is_due(limits.before_expiry, now) {
            realm.metrics.refreshed(Refresh::reused);
            return Ok(Due::Nothing(Outcome::Live(stored))); // already refreshed by another request
        }
        let Some((cold, generation)) = self.load_cold(realm, &session.ticket).await? else {
            // The session was written back without its tokens: it ends with its access token.
            let over = stored.hot.has_refresh && stored.hot.has_expired(now);
            return Ok(Due::Nothing(if over { Outcome::Ended } else { Outcome::Live(stored) }));
        };
        let Some(token) = cold.refresh.clone().map(Secret::from) else {
            return Ok(Due::Nothing(Outcome::Live(stored)));
        };
        // Too old for this route. The token is kept: another route may allow a greater age.
        if limits.max_token_age.is_some_and(|age| now >= Timestamp::from_millis(cold.refreshed).plus(age)) {
            let over = stored.hot.has_expired(now);
            return Ok(Due::Nothing(if over { Outcome::Ended } else { Outcome::Live(stored) }));
        }
        Ok(Due::Grant(Box::new(Grant { stored, cold, generation, token })))
    }

    /// The result another replica published for this token; not one that the session has already (no rotation).
    async fn shared_result(&self, grant: &Grant) -> Result<Option<Tokens>, Unavailable> {
        let result = shared::find(self.kv.as_ref(), &grant.token, self.clock.now()).await?;
        Ok(result.filter(|tokens| *tokens.access.expose() != grant.cold.access))
    }

    async fn exchange(
        &self,
        realm: &Realm,
        grant: Grant,
        lease: Option<&Lease>,
        limits: RefreshLimits,
    ) -> Result<Outcome, Unavailable> {
        let place = grant.stored.ticket.place();
        match realm.provider.refresh(&grant.token).await {
            Ok(tokens) => {
                realm.metrics.refreshed(Refresh::exchanged);
                if lease.is_some() {
                    shared::publish(self.kv.as_ref(), &grant.token, &tokens, self.clock.now(), *self.dedup.result_ttl)
                        .await;
                }
                self.renew(realm, grant, tokens, limits).await
            }
            Err(CallFailed { error, why }) => match error {
                GrantError::Denied | GrantError::InvalidRequest | GrantError::NeedsPerson => {
                    self.denied(realm, grant, limits, &why).await
                }
                // Some providers refuse a dead token without an error code; a single such refusal may have any cause.
                GrantError::Unnamed if self.tries.was_unnamed_before(&place) => {
                    self.denied(realm, grant, limits, &why).await
                }
                GrantError::Unnamed => {
                    self.tries.unnamed(&place);
                    Ok(self.unavailable(realm, grant.stored))
                }
                GrantError::Refused | GrantError::Unavailable => Ok(self.unavailable(realm, grant.stored)),
            },
        }
    }

    /// Stores the new tokens before any request continues with them.
    async fn renew(
        &self,
        realm: &Realm,
        grant: Grant,
        tokens: Tokens,
        limits: RefreshLimits,
    ) -> Result<Outcome, Unavailable> {
        let Grant { stored, cold, generation, .. } = grant;
        let renewed = cold.renewed(&tokens, self.clock.now().millis());
        if !self.replace_cold(realm, &stored.ticket, &stored.label, &renewed, generation + 1).await? {
            if self.load_cold(realm, &stored.ticket).await?.is_none() {
                // Signed out meanwhile: no session holds the new refresh token.
                if let Some(token) = &tokens.refresh {
                    realm.provider.revoke(token).await;
                }
                return Ok(Outcome::Ended);
            }
            // Another task stored the same result, and may not have updated the hot part yet.
            match self.load(realm, &stored.ticket).await? {
                None => return Ok(Outcome::Ended),
                Some(current) if !current.hot.is_due(limits.before_expiry, self.clock.now()) => {
                    return Ok(Outcome::Live(current));
                }
                Some(_) => {}
            }
        }
        let renewed = match self.identity(realm, &stored.hot, &cold, &tokens).await {
            Ok(renewed) => renewed,
            Err(Renewal::Forged(why)) => {
                realm.metrics.refreshed(Refresh::denied);
                say_distrusted(realm, &stored.hot, &why);
                self.delete(realm, &stored.ticket).await?;
                self.strike(&stored.label, &stored.ticket.place()).await;
                return Ok(Outcome::Ended);
            }
            Err(Renewal::Untold) => return Ok(self.unavailable(realm, stored)),
        };
        let outcome = self.put_in_force(realm, &stored, renewed, Some(&tokens)).await;
        self.tries.succeeded(&stored.ticket.place());
        self.kv.announce(&Change::Session(stored.ticket.place())).await;
        outcome
    }

    /// Updates the hot part. `tokens` is None if only the identity is new.
    async fn put_in_force(
        &self,
        realm: &Realm,
        stored: &Session,
        renewed: Renewed,
        tokens: Option<&Tokens>,
    ) -> Result<Outcome, Unavailable> {
        let stale = matches!(renewed, Renewed::Untold).then(|| self.clock.now().millis());
        let mut identity = match renewed {
            Renewed::Told(identity) => Some(*identity),
            Renewed::Same | Renewed::Untold => None,
        };
        for _ in 0..TRIES {
            let Some(mut current) = self.load(realm, &stored.ticket).await?.and_then(Arc::into_inner) else {
                return Ok(Outcome::Ended);
            };
            if let Some(tokens) = tokens {
                let life = tokens.life(self.clock.now());
                current.hot.access_expires = self.clock.now().plus(life).millis();
                current.hot.access_life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
            }
            current.hot.stale = stale;
            if let Some(identity) = identity.take() {
                current.hot.identity = Arc::new(identity);
            }
            let generation = current.generation + 1;
            if self.replace_hot(realm, &current.ticket, &current.label, &current.hot, generation).await? {
                // Again: a store that lost its data has an empty index, and its keys may end before the session.
                let ttl = realm.ttl(current.hot.created, self.clock.now());
                self.enlist(&current.label, &current.ticket.place(), ttl).await;
                return Ok(Outcome::Live(Arc::new(Session::new(
                    current.hot,
                    current.ticket,
                    current.label,
                    generation,
                ))));
            }
            identity = Arc::into_inner(current.hot.identity); // lost against a touch
        }
        Ok(Outcome::Unavailable(Dependency::Store))
    }

    /// The provider denied the token: the session ends, unless the token was rotated meanwhile.
    async fn denied(
        &self,
        realm: &Realm,
        grant: Grant,
        limits: RefreshLimits,
        why: &str,
    ) -> Result<Outcome, Unavailable> {
        if self.kv.is_shared()
            && let Some(tokens) = self.shared_result(&grant).await?
        {
            realm.metrics.refreshed(Refresh::reused);
            return self.renew(realm, grant, tokens, limits).await;
        }
        let ticket = &grant.stored.ticket;
        for _ in 0..TRIES {
            let Some((cold, generation)) = self.load_cold(realm, ticket).await? else { break };
            if cold.refresh.as_ref() != Some(grant.token.expose()) {
                realm.metrics.refreshed(Refresh::reused);
                return Ok(self.load(realm, ticket).await?.map_or(Outcome::Ended, Outcome::Live));
            }
            // A replica that was frozen for longer than its lease may be about to write the rotated token. After this it
            // cannot: the session that is deleted below is the one that was looked at.
            if self.replace_cold(realm, ticket, &grant.stored.label, &cold, generation + 1).await? {
                break;
            }
        }
        realm.metrics.refreshed(Refresh::denied);
        say_denied(realm, &grant.stored.hot, why);
        self.delete(realm, ticket).await?;
        self.strike(&grant.stored.label, &ticket.place()).await;
        Ok(Outcome::Ended)
    }

    /// While a shared store is unavailable, a session continues as known here until `grace` past its access token.
    fn without_store(&self, session: &Session) -> Outcome {
        let ends = Timestamp::from_millis(session.hot.access_expires).plus(*self.dedup.grace);
        if self.clock.now() < ends {
            Outcome::Live(Arc::new(session.again()))
        } else {
            Outcome::Unavailable(Dependency::Store)
        }
    }

    /// Records a failed try.
    fn unavailable(&self, realm: &Realm, stored: Arc<Session>) -> Outcome {
        realm.metrics.refreshed(Refresh::unavailable);
        self.tries.failed(&stored.ticket.place());
        self.meanwhile(stored)
    }

    fn meanwhile(&self, stored: Arc<Session>) -> Outcome {
        // The failure only matters once the access token has expired.
        if stored.hot.has_expired(self.clock.now()) {
            Outcome::Unavailable(Dependency::Provider)
        } else {
            Outcome::Live(stored)
        }
    }
}

/// A refresh token to be spent, and its session.
struct Grant {
    stored: Arc<Session>,
    cold: Cold,
    generation: u64,
    token: Secret,
}

enum Due {
    Grant(Box<Grant>),
    Nothing(Outcome),
}

/// The longest a request waits for a refresh.
fn patience(realm: &Realm) -> Duration {
    *realm.provider.settings().timeout + SPARE
}
