//! Keeps a session alive past its access token, and logs nobody out: of many requests with one session, one spends the
//! refresh token, in a task of its own that no client can cancel; what the provider rotated is stored before anybody goes
//! on; and "no" is told from "could not tell". Across replicas a lease decides who spends the token, and a sealed result
//! tells the others what it brought.

mod identity;
mod lease;
mod shared;

use crate::kit::clock::Timestamp;
use crate::kit::digest::TokenDigest;
use crate::kit::secret::Secret;
use crate::kit::singleflight::{LeaderLost, Role};
use crate::provider::jwt::Unverified;
use crate::provider::{GrantError, Tokens};
use crate::session::outcome::Dependency;
use crate::session::outcome::Outcome;
use crate::session::realm::Realm;
use crate::session::record::Cold;
use crate::session::session::{RefreshLimits, Session};
use crate::session::sessions::Sessions;
use crate::store::kv::Away;
use crate::telemetry::metrics::Refresh;
use identity::{Renewal, Renewed};
use lease::{Lease, Taken};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// An access token whose life nobody tells is taken to live this long.
const UNTOLD_LIFE: Duration = Duration::from_secs(300);
/// Writes that lose against a touch are tried again; more touches than this do not come in the time of one refresh.
const TRIES: u64 = 5;
/// Those who wait for another replica look again after a pause that grows.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// A request waits for its provider's time-out and so much longer, however many replicas there are.
const SPARE: Duration = Duration::from_secs(1);
/// Such pauses that a store is given after an outage, however often it comes and goes.
const SETTLES: u32 = 10;

impl Sessions {
    /// Refreshes once for all who ask. A request that goes away leaves the work to the others; one whose time is over leaves
    /// it to the next.
    pub async fn refresh(
        self: &Arc<Self>,
        realm: &Arc<Realm>,
        session: &Arc<Session>,
        limits: RefreshLimits,
    ) -> Outcome {
        let place = TokenDigest::of(session.ticket.place().as_bytes());
        let (sessions, realm_, session_) = (self.clone(), realm.clone(), session.clone());
        let work = move || async move { sessions.refresh_once(&realm_, &session_, limits).await };
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

    /// The same beside a request that can go on without it.
    pub fn refresh_beside(self: &Arc<Self>, realm: &Arc<Realm>, session: &Arc<Session>, limits: RefreshLimits) {
        let (sessions, realm, session) = (self.clone(), realm.clone(), session.clone());
        tokio::spawn(async move { drop(sessions.refresh(&realm, &session, limits).await) });
    }

    async fn refresh_once(&self, realm: &Realm, session: &Session, limits: RefreshLimits) -> Outcome {
        let reading = self.begin_reading();
        let outcome = match self.spend(realm, session, limits).await {
            Ok(outcome) => outcome,
            Err(Away) if self.kv.is_shared() => self.without_store(session), // it went away meanwhile
            Err(Away) => Outcome::Unavailable(Dependency::Store),
        };
        if let Outcome::Live(session) = &outcome {
            self.keep_copy(realm, session.clone(), &reading);
        }
        outcome
    }

    async fn spend(&self, realm: &Realm, session: &Session, limits: RefreshLimits) -> Result<Outcome, Away> {
        if self.kv.is_away() {
            return Ok(self.without_store(session)); // two replicas would spend the same token
        }
        // Another replica may hold the token that this one was rotated to, and not yet have written it back.
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
            // That look may have been the first to fail: what it found is then this replica's own memory.
            if self.kv.is_away() {
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
            match Lease::take(&self.kv, self.entropy.as_ref(), &place, self.dedup.lease).await? {
                Taken::Ours(lease) => {
                    // A lease that we waited for and that has not run out was let go: that try brought nothing.
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
                return Ok(self.meanwhile(grant.stored)); // no try of ours: the next request may make one
            }
            // Not beyond the moment at which a lease that nobody renews runs out.
            let over = waited.map_or(pause, |until| until.saturating_duration_since(Instant::now()));
            sleep(pause.min(over.max(FIRST_PAUSE))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// With the lease in hand: whoever held it before may have done the work, or have tried in vain.
    async fn spend_under(
        &self,
        realm: &Realm,
        session: &Session,
        before: &Grant,
        lease: &Lease,
        failed: bool,
        limits: RefreshLimits,
    ) -> Result<Option<Outcome>, Away> {
        let grant = match self.due(realm, session, limits).await? {
            Due::Grant(grant) => *grant,
            Due::Nothing(outcome) => return Ok(Some(outcome)),
        };
        // Rotated meanwhile: what was published for the token of before must not replace what came after it.
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

    /// Whether there is a token to be spent now.
    async fn due(&self, realm: &Realm, session: &Session, limits: RefreshLimits) -> Result<Due, Away> {
        let now = self.clock.now();
        let Some(stored) = self.load(realm, &session.ticket).await? else { return Ok(Due::Nothing(Outcome::Ended)) };
        if !stored.hot.is_due(limits.before_expiry, now) {
            realm.metrics.refreshed(Refresh::reused);
            return Ok(Due::Nothing(Outcome::Live(stored))); // somebody was quicker
        }
        let Some((cold, generation)) = self.load_cold(realm, &session.ticket).await? else {
            // Written back without its tokens: it ends when its access token does.
            let over = stored.hot.has_refresh && stored.hot.has_expired(now);
            return Ok(Due::Nothing(if over { Outcome::Ended } else { Outcome::Live(stored) }));
        };
        let Some(token) = cold.refresh.clone().map(Secret::from) else {
            return Ok(Due::Nothing(Outcome::Live(stored)));
        };
        // By this route's limits. It stays where it is: another route may be more patient.
        if limits.max_token_age.is_some_and(|age| now >= Timestamp::from_millis(cold.refreshed).plus(age)) {
            let over = stored.hot.has_expired(now);
            return Ok(Due::Nothing(if over { Outcome::Ended } else { Outcome::Live(stored) }));
        }
        Ok(Due::Grant(Box::new(Grant { stored, cold, generation, token })))
    }

    /// What another replica brought for this token; not what the session has already, from a provider that does not rotate.
    async fn shared_result(&self, grant: &Grant) -> Result<Option<Tokens>, Away> {
        let told = shared::find(self.kv.as_ref(), &grant.token, self.clock.now()).await?;
        Ok(told.filter(|tokens| *tokens.access.expose() != grant.cold.access))
    }

    async fn exchange(
        &self,
        realm: &Realm,
        grant: Grant,
        lease: Option<&Lease>,
        limits: RefreshLimits,
    ) -> Result<Outcome, Away> {
        let place = grant.stored.ticket.place();
        match realm.provider.refresh(&grant.token).await {
            Ok(tokens) => {
                realm.metrics.refreshed(Refresh::exchanged);
                if lease.is_some() {
                    shared::publish(self.kv.as_ref(), &grant.token, &tokens, self.clock.now(), self.dedup.result_ttl)
                        .await;
                }
                self.renew(realm, grant, tokens, limits).await
            }
            Err(GrantError::Denied | GrantError::InvalidRequest | GrantError::NeedsPerson) => {
                self.denied(realm, grant, limits).await
            }
            // Some providers say no more than that of a token that is dead; once it may be anything.
            Err(GrantError::Unnamed) if self.tries.was_unnamed_before(&place) => {
                self.denied(realm, grant, limits).await
            }
            Err(GrantError::Unnamed) => {
                self.tries.unnamed(&place);
                Ok(self.unavailable(realm, grant.stored))
            }
            Err(GrantError::Refused | GrantError::Unavailable) => Ok(self.unavailable(realm, grant.stored)),
        }
    }

    /// Stores what the provider rotated before anybody goes on with it.
    async fn renew(&self, realm: &Realm, grant: Grant, tokens: Tokens, limits: RefreshLimits) -> Result<Outcome, Away> {
        let Grant { stored, cold, generation, .. } = grant;
        let renewed = renewed_cold(&cold, &tokens, self.clock.now().millis());
        if !self.replace_cold(realm, &stored.ticket, &stored.label, &renewed, generation + 1).await? {
            if self.load_cold(realm, &stored.ticket).await?.is_none() {
                // Signed out meanwhile: the new refresh token is nobody's.
                if let Some(token) = &tokens.refresh {
                    realm.provider.revoke(token).await;
                }
                return Ok(Outcome::Ended);
            }
            // Somebody else has stored the same result, and may not yet have put it in force.
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
            Err(Renewal::Forged) => {
                realm.metrics.refreshed(Refresh::denied);
                tracing::warn!(provider = %realm.provider.settings().name, "a refreshed ID token is forged or of somebody else; the session ends");
                self.delete(realm, &stored.ticket).await?;
                return Ok(Outcome::Ended);
            }
            Err(Renewal::Untold) => return Ok(self.unavailable(realm, stored)),
        };
        let outcome = self.put_in_force(realm, &stored, renewed, Some(&tokens)).await;
        self.tries.succeeded(&stored.ticket.place());
        self.kv.announce(&stored.ticket.place()).await;
        outcome
    }

    /// `tokens`: none where the identity alone is new.
    async fn put_in_force(
        &self,
        realm: &Realm,
        stored: &Session,
        renewed: Renewed,
        tokens: Option<&Tokens>,
    ) -> Result<Outcome, Away> {
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
                let life = life_of(tokens, self.clock.now());
                current.hot.access_expires = self.clock.now().plus(life).millis();
                current.hot.access_life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
            }
            current.hot.stale = stale;
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
        Ok(Outcome::Unavailable(Dependency::Store))
    }

    /// The provider denies the token. Unless somebody else has rotated it, the session is over.
    async fn denied(&self, realm: &Realm, grant: Grant, limits: RefreshLimits) -> Result<Outcome, Away> {
        if self.kv.is_shared()
            && let Some(tokens) = self.shared_result(&grant).await?
        {
            realm.metrics.refreshed(Refresh::reused);
            return self.renew(realm, grant, tokens, limits).await;
        }
        let ticket = &grant.stored.ticket;
        let now = self.load_cold(realm, ticket).await?;
        if now.is_some_and(|(cold, _)| cold.refresh.as_ref() != Some(grant.token.expose())) {
            realm.metrics.refreshed(Refresh::reused);
            return Ok(self.load(realm, ticket).await?.map_or(Outcome::Ended, Outcome::Live));
        }
        realm.metrics.refreshed(Refresh::denied);
        self.delete(realm, ticket).await?;
        Ok(Outcome::Ended)
    }

    /// While a shared store is away a session goes on with what is known of it, for a while past its access token.
    fn without_store(&self, session: &Session) -> Outcome {
        let ends = Timestamp::from_millis(session.hot.access_expires).plus(self.dedup.grace);
        if self.clock.now() < ends {
            Outcome::Live(Arc::new(session.again()))
        } else {
            Outcome::Unavailable(Dependency::Store)
        }
    }

    /// A try brought nothing.
    fn unavailable(&self, realm: &Realm, stored: Arc<Session>) -> Outcome {
        realm.metrics.refreshed(Refresh::unavailable);
        self.tries.failed(&stored.ticket.place());
        self.meanwhile(stored)
    }

    fn meanwhile(&self, stored: Arc<Session>) -> Outcome {
        // While its access token lives, nobody need notice.
        if stored.hot.has_expired(self.clock.now()) {
            Outcome::Unavailable(Dependency::Provider)
        } else {
            Outcome::Live(stored)
        }
    }
}

/// A token to be spent, and the session that it is of.
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

/// How long a request waits, whatever is done for it.
fn patience(realm: &Realm) -> Duration {
    realm.provider.settings().timeout + SPARE
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
pub fn life_of(tokens: &Tokens, now: Timestamp) -> Duration {
    let own = || Unverified::read(tokens.access.expose()).ok()?.expires();
    tokens.lives.filter(|lives| !lives.is_zero()).or_else(|| own().map(|exp| now.until(exp))).unwrap_or(UNTOLD_LIFE)
}
