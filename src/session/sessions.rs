//! Creates sessions, finds them by ticket, touches them and ends them. A cache hit requires the digest of the whole
//! ticket, so that a stolen id alone finds nothing.

use crate::kit::cache::Begun;
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::digest::{Fingerprint, TokenDigest};
use crate::kit::entropy::Entropy;
use crate::kit::recent::Recent;
use crate::kit::secret::Secret;
use crate::session::cache::SessionCache;
use crate::session::outcome::{Dedup, Refreshes};
use crate::session::realm::Realm;
use crate::session::record::{Cold, Envelope, Hot, Part, open};
use crate::session::session::{Limits, Session};
use crate::session::ticket::Ticket;
use crate::session::told::Told;
use crate::session::tries::Tries;
use crate::session::unfinished::Unfinished;
use crate::session::unseen::Unseen;
use crate::store::kv::{Change, Entry, Invalidation, Key, Kv, Space, Unavailable};
use crate::telemetry::metrics::SessionEvent;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// A store read in progress: the cache in use when it began, and that cache's invalidation counter.
pub struct Reading(Option<(Begun, Arc<SessionCache>)>);

pub enum Found {
    Live(Arc<Session>),
    Absent,
    Unavailable,
}

pub struct Sessions {
    pub kv: Arc<dyn Kv>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    cache: ArcSwapOption<SessionCache>,
    /// Of cookies whose session was cached.
    recent: Recent<Derived>,
    pub(crate) refreshes: Refreshes,
    pub(crate) tries: Tries,
    pub(super) unfinished: Unfinished,
    pub(super) unseen: Unseen,
    pub(super) told: Told,
    pub(crate) dedup: Dedup,
}

/// What the cache is asked with for a cookie.
#[derive(Clone, Copy)]
struct Derived {
    realm: Fingerprint,
    place: TokenDigest,
    proof: TokenDigest,
}

/// The content of a new session.
pub struct Login {
    pub hot: Hot,
    pub cold: Cold,
}

/// Minimum interval between touches of a session; a tenth of the idle time-out where that is less.
const TOUCH: Duration = Duration::from_secs(60);

/// Drops a session's cache entry when it is dropped itself, also where its task is cancelled.
struct ForgetLater<'a> {
    sessions: &'a Sessions,
    ticket: &'a Ticket,
}

impl Drop for ForgetLater<'_> {
    fn drop(&mut self) {
        self.sessions.forget_cached(self.ticket);
    }
}

impl Sessions {
    /// Without a cache every request reads the store.
    pub fn new(
        kv: Arc<dyn Kv>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        dedup: Dedup,
        cache: Option<SessionCache>,
    ) -> Self {
        let cache = ArcSwapOption::from(cache.map(Arc::new));
        Sessions {
            kv,
            clock,
            entropy,
            cache,
            recent: Recent::default(),
            refreshes: Refreshes::default(),
            tries: Tries::new(),
            unfinished: Unfinished::default(),
            unseen: Unseen::default(),
            told: Told::default(),
            dedup,
        }
    }

    /// Replaces the cache with another one, or none.
    pub fn set_cache(&self, cache: Option<SessionCache>) {
        self.cache.store(cache.map(Arc::new));
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Applies the invalidations that other replicas announce; runs until it is dropped.
    pub async fn subscribe(self: Arc<Self>) {
        let Some(mut invalidations) = self.kv.announcements() else { return };
        loop {
            let received = invalidations.recv().await;
            let cache = self.cache.load_full();
            match received {
                Ok(Invalidation::Key(Change::Session(place))) => {
                    cache.inspect(|cache| cache.forget(TokenDigest::of(place.as_bytes())));
                    // No place: a replica has written what it held.
                    if place.is_empty() || self.unseen.holds_place(&place) {
                        self.unseen.look();
                    }
                }
                Ok(Invalidation::Key(Change::ApiKey(_))) => {}
                Ok(Invalidation::All) | Err(RecvError::Lagged(_)) => {
                    cache.inspect(|cache| cache.forget_all());
                    self.unseen.look();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    pub fn cached(&self) -> u64 {
        self.cache.load().as_ref().map_or(0, |cache| cache.len())
    }

    /// Stores a new session under a new ticket; returns the cookie's value.
    pub async fn create(&self, realm: &Realm, login: Login) -> Result<Secret, Unavailable> {
        let reading = self.begin_reading();
        let ticket = Ticket::new(self.entropy.as_ref());
        let label = realm.label(&login.hot, login.cold.session_id.as_deref());
        let ttl = realm.ttl(login.hot.created, self.clock.now());
        let cold = realm.seal(&ticket, Part::Cold, &label, &login.cold)?;
        self.kv.put(&cold_key(&ticket), Entry { generation: 1, value: cold }, ttl).await?;
        let hot = realm.seal(&ticket, Part::Hot, &label, &login.hot)?;
        self.kv.put(&hot_key(&ticket), Entry { generation: 1, value: hot }, ttl).await?;
        self.enlist(&label, &ticket.place(), ttl).await;
        realm.metrics.session(SessionEvent::begun);
        let cookie = ticket.cookie();
        self.keep_cached(realm, Arc::new(Session::new(login.hot, ticket, label, 1)), &reading);
        Ok(cookie)
    }

    /// Finds the session for a cookie's value, in the cache or in the store.
    pub async fn find(&self, realm: &Realm, cookie: &str) -> Found {
        if let Some(session) = self.find_cached(realm, cookie) {
            return self.unless_ended(session);
        }
        match Ticket::parse(cookie) {
            Some(ticket) => self.find_stored(realm, &ticket).await,
            None => Found::Absent,
        }
    }

    fn find_cached(&self, realm: &Realm, cookie: &str) -> Option<Arc<Session>> {
        let cache = self.cache.load();
        let cache = cache.as_ref()?;
        let recent = self.recent.find(cookie.as_bytes()).filter(|known| known.realm == realm.key);
        let derived = match recent {
            Some(derived) => derived,
            None => {
                let ticket = Ticket::parse(cookie)?;
                Derived { realm: realm.key, place: place_of(&ticket), proof: realm.cache_key(&ticket) }
            }
        };
        let found = cache.find(derived.place, derived.proof, self.clock.now());
        match (&found, recent) {
            (Some(_), None) => self.recent.keep(cookie.as_bytes(), derived),
            (None, Some(_)) => self.recent.forget(cookie.as_bytes()),
            _ => {}
        }
        found
    }

    async fn find_stored(&self, realm: &Realm, ticket: &Ticket) -> Found {
        let reading = self.begin_reading();
        match self.load(realm, ticket).await {
            Ok(Some(session)) => {
                self.keep_cached(realm, session.clone(), &reading);
                self.unless_ended(session)
            }
            Ok(None) => Found::Absent,
            Err(Unavailable) => Found::Unavailable,
        }
    }

    fn unless_ended(&self, session: Arc<Session>) -> Found {
        if self.has_been_ended(&session.label) { Found::Absent } else { Found::Live(session) }
    }

    /// Reads a known session from the store, bypassing the cache.
    pub async fn look_again(&self, realm: &Realm, session: &Session) -> Found {
        self.forget_cached(&session.ticket);
        self.find_stored(realm, &session.ticket).await
    }

    /// Reads a known session from the store. Unlike [`Self::look_again`] it leaves the copy to other requests.
    pub async fn read_again(&self, realm: &Realm, session: &Session) -> Found {
        self.find_stored(realm, &session.ticket).await
    }

    /// Whether no change of the session was announced since it was read; never without a cache.
    pub fn is_unchanged(&self, session: &Session, reading: &Reading) -> bool {
        let (now, Some((begun, cache))) = (self.cache.load(), &reading.0) else { return false };
        now.as_ref().is_some_and(|now| Arc::ptr_eq(now, cache))
            && !cache.is_forgotten(place_of(&session.ticket), *begun)
    }

    /// Whether this replica knows that the session was ended, even where the store does not know it yet.
    pub fn has_ended(&self, session: &Session) -> bool {
        self.has_been_ended(&session.label)
    }

    /// Records that the session was used, at most once per touch interval, in a background task.
    pub fn touch(self: &Arc<Self>, realm: &Arc<Realm>, session: &Arc<Session>, limits: Limits) {
        let now = self.clock.now();
        let every = limits.idle_timeout.map_or(TOUCH, |idle| TOUCH.min(idle / 10));
        let seen = session.seen.load(Ordering::Relaxed);
        let due = Timestamp::from_millis(seen).plus(every) <= now;
        // Of many concurrent requests, only one writes the touch.
        if !due || session.seen.compare_exchange(seen, now.millis(), Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let (sessions, realm, session) = (self.clone(), realm.clone(), session.clone());
        tokio::spawn(async move {
            // A write that loses a race, or an unavailable store, only makes the session look a little less used.
            let _ = sessions.write_seen(&realm, &session, now, every).await;
        });
    }

    /// Ends a session in the cache and in the store; returns its tokens, so that the caller can revoke them.
    pub async fn end(&self, realm: &Arc<Realm>, cookie: &str) -> Result<Option<Cold>, Unavailable> {
        let Some(ticket) = Ticket::parse(cookie) else { return Ok(None) };
        let ended = self.end_of(realm, &ticket).await?;
        if ended.is_none() && self.kv.is_shared() {
            self.unseen.keep(realm, &ticket, self.clock.now());
        }
        Ok(ended.flatten())
    }

    /// `None`: there is no such session. A made-up ticket must not leave a tombstone in the store.
    pub(super) async fn end_of(&self, realm: &Realm, ticket: &Ticket) -> Result<Option<Option<Cold>>, Unavailable> {
        let Some(session) = self.load(realm, ticket).await? else {
            self.forget_cached(ticket);
            return Ok(None);
        };
        // End the session even if its tokens cannot be read: during an outage the fallback may hold only the hot part.
        let cold = self.load_cold(realm, ticket).await.unwrap_or(None).map(|(cold, _)| cold);
        self.delete(realm, ticket).await?;
        self.strike(&session.label, &ticket.place()).await;
        Ok(Some(cold))
    }

    /// The session's tokens.
    pub async fn cold(&self, realm: &Realm, session: &Session) -> Result<Option<Cold>, Unavailable> {
        Ok(self.load_cold(realm, &session.ticket).await?.map(|(cold, _)| cold))
    }

    pub(crate) async fn load(&self, realm: &Realm, ticket: &Ticket) -> Result<Option<Arc<Session>>, Unavailable> {
        let Some(entry) = self.kv.get(&hot_key(ticket)).await? else { return Ok(None) };
        // A record that does not open is someone else's, of another realm, or of another version: it is absent.
        let Ok((label, hot)) = open(&realm.secrets, ticket, &realm.id, Part::Hot, &entry.value) else {
            self.kv.count_unreadable();
            return Ok(None);
        };
        Ok(Some(Arc::new(Session::new(hot, ticket.clone(), label, entry.generation))))
    }

    pub(crate) async fn load_cold(&self, realm: &Realm, ticket: &Ticket) -> Result<Option<(Cold, u64)>, Unavailable> {
        let Some(entry) = self.kv.get(&cold_key(ticket)).await? else { return Ok(None) };
        let Ok((_, cold)) = open::<Cold>(&realm.secrets, ticket, &realm.id, Part::Cold, &entry.value) else {
            self.kv.count_unreadable();
            return Ok(None);
        };
        Ok(Some((cold, entry.generation)))
    }

    pub(crate) async fn delete(&self, realm: &Realm, ticket: &Ticket) -> Result<(), Unavailable> {
        self.forget_cached(ticket);
        // Once more at the end: until the store has deleted it, a request may read it there.
        let _again = ForgetLater { sessions: self, ticket };
        if self.kv.delete(&hot_key(ticket), realm.max_age).await? {
            realm.metrics.session(SessionEvent::ended);
        }
        self.kv.announce(&Change::Session(ticket.place())).await; // other replicas cache the hot part only
        self.kv.delete(&cold_key(ticket), realm.max_age).await?;
        Ok(())
    }

    /// Call before reading from the store what is to be cached.
    pub fn begin_reading(&self) -> Reading {
        Reading(self.cache.load_full().map(|cache| (cache.begin(), cache)))
    }

    pub(crate) fn keep_cached(&self, realm: &Realm, session: Arc<Session>, reading: &Reading) {
        // During an outage the fallback does not know which sessions other replicas ended: do not cache its answers.
        if let Some((begun, cache)) = &reading.0
            && !self.kv.is_unavailable()
        {
            let (place, proof) = (place_of(&session.ticket), realm.cache_key(&session.ticket));
            cache.keep(place, proof, session, *begun, self.clock.now());
        }
    }

    fn forget_cached(&self, ticket: &Ticket) {
        self.forget_place(&ticket.place());
    }

    pub(super) fn forget_place(&self, place: &str) {
        if let Some(cache) = self.cache.load().as_ref() {
            cache.forget(TokenDigest::of(place.as_bytes()));
        }
    }

    /// Writes the hot part under `generation`; false if the session was ended, or written concurrently.
    pub(crate) async fn replace_hot(
        &self,
        realm: &Realm,
        ticket: &Ticket,
        label: &Envelope,
        hot: &Hot,
        generation: u64,
    ) -> Result<bool, Unavailable> {
        let value = realm.seal(ticket, Part::Hot, label, hot)?;
        let ttl = realm.ttl(hot.created, self.clock.now());
        self.kv.replace(&hot_key(ticket), Entry { generation, value }, ttl).await
    }

    pub(crate) async fn replace_cold(
        &self,
        realm: &Realm,
        ticket: &Ticket,
        label: &Envelope,
        cold: &Cold,
        generation: u64,
    ) -> Result<bool, Unavailable> {
        let value = realm.seal(ticket, Part::Cold, label, cold)?;
        let ttl = realm.ttl(label.created, self.clock.now());
        self.kv.replace(&cold_key(ticket), Entry { generation, value }, ttl).await
    }

    async fn write_seen(
        &self,
        realm: &Realm,
        session: &Session,
        now: Timestamp,
        every: Duration,
    ) -> Result<(), Unavailable> {
        let reading = self.begin_reading();
        let Some(stored) = self.load(realm, &session.ticket).await? else { return Ok(()) };
        // Another copy of it was used a moment ago: that of another stream, or on another replica.
        if Timestamp::from_millis(stored.hot.seen).plus(every) > now {
            return Ok(());
        }
        let generation = stored.generation + 1;
        let Some(mut stored) = Arc::into_inner(stored) else { return Ok(()) };
        stored.hot.seen = now.millis();
        stored.label.seen = now.millis();
        if self.replace_hot(realm, &session.ticket, &stored.label, &stored.hot, generation).await? {
            // Again, as after a refresh: there may be none.
            self.enlist(&stored.label, &session.ticket.place(), realm.ttl(stored.hot.created, now)).await;
            let session = Session::new(stored.hot, stored.ticket, stored.label, generation);
            self.keep_cached(realm, Arc::new(session), &reading);
        }
        Ok(())
    }
}

pub(crate) fn place_of(ticket: &Ticket) -> TokenDigest {
    TokenDigest::of(ticket.place().as_bytes())
}

pub(crate) fn hot_key(ticket: &Ticket) -> Key {
    Key::of(Space::Session, ticket.place())
}

pub(crate) fn cold_key(ticket: &Ticket) -> Key {
    Key::of(Space::Tokens, ticket.place())
}

#[cfg(test)]
mod tests;
