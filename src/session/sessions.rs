//! Keeps sessions: makes them, finds them by their ticket, touches them, ends them. This replica's copies are kept by the
//! digest of the whole ticket, so that a stolen id alone finds none.

use crate::kit::clock::{Clock, Timestamp};
use crate::kit::digest::TokenDigest;
use crate::kit::entropy::Entropy;
use crate::kit::secret::Secret;
use crate::session::cache::{Begun, SessionCache};
use crate::session::outcome::{Dedup, Refreshes};
use crate::session::realm::Realm;
use crate::session::record::{Cold, Envelope, Hot, Part, open};
use crate::session::session::Limits;
use crate::session::session::Session;
use crate::session::ticket::Ticket;
use crate::session::tries::Tries;
use crate::store::kv::{Away, Entry, Invalidation, Kv};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// A look into the store, and the copies that were in force when it began.
pub(crate) struct Reading(Option<(Begun, Arc<SessionCache>)>);

pub enum Found {
    Live(Arc<Session>),
    Absent,
    Away,
}

pub struct Sessions {
    pub kv: Arc<dyn Kv>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    copies: ArcSwapOption<SessionCache>,
    pub(crate) refreshes: Refreshes,
    pub(crate) tries: Tries,
    pub(crate) dedup: Dedup,
}

/// What begins a session.
pub struct Login {
    pub hot: Hot,
    pub cold: Cold,
}

/// A session is touched at most this often, or a tenth of its idle time-out where that is less.
const TOUCH: Duration = Duration::from_secs(60);

impl Sessions {
    /// Without copies every request reads the store.
    pub fn new(
        kv: Arc<dyn Kv>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        dedup: Dedup,
        copies: Option<SessionCache>,
    ) -> Self {
        let copies = ArcSwapOption::from(copies.map(Arc::new));
        Sessions { kv, clock, entropy, copies, refreshes: Refreshes::default(), tries: Tries::new(), dedup }
    }

    /// Begins with other copies, or none.
    pub fn set_copies(&self, copies: Option<SessionCache>) {
        self.copies.store(copies.map(Arc::new));
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Follows what other replicas announce; runs until it is dropped.
    pub async fn subscribe(self: Arc<Self>) {
        let Some(mut heard) = self.kv.announcements() else { return };
        loop {
            let told = heard.recv().await;
            let copies = self.copies.load();
            let Some(copies) = copies.as_ref() else { continue };
            match told {
                Ok(Invalidation::Key(place)) => copies.forget(TokenDigest::of(place.as_bytes())),
                Ok(Invalidation::All) | Err(RecvError::Lagged(_)) => copies.forget_all(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    pub fn copies(&self) -> u64 {
        self.copies.load().as_ref().map_or(0, |copies| copies.len())
    }

    /// A new session under a new ticket; the cookie's value.
    pub async fn create(&self, realm: &Realm, login: Login) -> Result<Secret, Away> {
        let reading = self.begin_reading();
        let ticket = Ticket::new(self.entropy.as_ref());
        let label = realm.label(&login.hot, login.cold.session_id.as_deref());
        let ttl = realm.ttl(login.hot.created, self.clock.now());
        let cold = realm.seal(&ticket, Part::Cold, &label, &login.cold)?;
        self.kv.put(&cold_place(&ticket), Entry { generation: 1, value: cold }, ttl).await?;
        let hot = realm.seal(&ticket, Part::Hot, &label, &login.hot)?;
        self.kv.put(&hot_place(&ticket), Entry { generation: 1, value: hot }, ttl).await?;
        let cookie = ticket.cookie();
        self.keep_copy(realm, Arc::new(Session::new(login.hot, ticket, label, 1)), &reading);
        Ok(cookie)
    }

    /// Finds the session of a cookie's value, in this replica's copies or in the store.
    pub async fn find(&self, realm: &Realm, cookie: &str) -> Found {
        let Some(ticket) = Ticket::parse(cookie) else { return Found::Absent };
        if let Some(copies) = self.copies.load().as_ref()
            && let Some(session) = copies.find(place_of(&ticket), realm.copy_key(&ticket), self.clock.now())
        {
            return Found::Live(session);
        }
        self.find_stored(realm, &ticket).await
    }

    async fn find_stored(&self, realm: &Realm, ticket: &Ticket) -> Found {
        let reading = self.begin_reading();
        match self.load(realm, ticket).await {
            Ok(Some(session)) => {
                self.keep_copy(realm, session.clone(), &reading);
                Found::Live(session)
            }
            Ok(None) => Found::Absent,
            Err(Away) => Found::Away,
        }
    }

    /// Finds a session that is known, past this replica's copy of it.
    pub async fn look_again(&self, realm: &Realm, session: &Session) -> Found {
        self.forget_copy(&session.ticket);
        self.find_stored(realm, &session.ticket).await
    }

    /// Notes that it was used, now and then; beside the request.
    pub fn touch(self: &Arc<Self>, realm: &Arc<Realm>, session: &Arc<Session>, limits: Limits) {
        let now = self.clock.now();
        let every = limits.idle_timeout.map_or(TOUCH, |idle| TOUCH.min(idle / 10));
        let seen = session.seen.load(Ordering::Relaxed);
        let due = Timestamp::from_millis(seen).plus(every) <= now;
        // Of many requests at once, one touches.
        if !due || session.seen.compare_exchange(seen, now.millis(), Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let (sessions, realm, session) = (self.clone(), realm.clone(), session.clone());
        tokio::spawn(async move {
            // A write that comes too late, or a store that is away, only makes the session look a little less used.
            let _ = sessions.write_seen(&realm, &session, now).await;
        });
    }

    /// Ends a session here and in the store; its tokens, for whoever revokes them.
    pub async fn end(&self, realm: &Realm, cookie: &str) -> Result<Option<Cold>, Away> {
        let Some(ticket) = Ticket::parse(cookie) else { return Ok(None) };
        // A ticket that somebody made up leaves no mark in the store.
        if self.load(realm, &ticket).await?.is_none() {
            self.forget_copy(&ticket);
            return Ok(None);
        }
        // It ends also where its tokens are not at hand: a store that is away may have been asked for its hot part alone.
        let cold = self.load_cold(realm, &ticket).await.unwrap_or(None).map(|(cold, _)| cold);
        self.delete(realm, &ticket).await?;
        Ok(cold)
    }

    /// The session's tokens.
    pub async fn cold(&self, realm: &Realm, session: &Session) -> Result<Option<Cold>, Away> {
        Ok(self.load_cold(realm, &session.ticket).await?.map(|(cold, _)| cold))
    }

    pub(crate) async fn load(&self, realm: &Realm, ticket: &Ticket) -> Result<Option<Arc<Session>>, Away> {
        let Some(entry) = self.kv.get(&hot_place(ticket)).await? else { return Ok(None) };
        // What does not open was made by somebody else, for another realm, or by another version: it is absent.
        let Ok((label, hot)) = open(&realm.secrets, ticket, &realm.id, Part::Hot, &entry.value) else {
            self.kv.count_unreadable();
            return Ok(None);
        };
        Ok(Some(Arc::new(Session::new(hot, ticket.clone(), label, entry.generation))))
    }

    pub(crate) async fn load_cold(&self, realm: &Realm, ticket: &Ticket) -> Result<Option<(Cold, u64)>, Away> {
        let Some(entry) = self.kv.get(&cold_place(ticket)).await? else { return Ok(None) };
        let Ok((_, cold)) = open::<Cold>(&realm.secrets, ticket, &realm.id, Part::Cold, &entry.value) else {
            self.kv.count_unreadable();
            return Ok(None);
        };
        Ok(Some((cold, entry.generation)))
    }

    pub(crate) async fn delete(&self, realm: &Realm, ticket: &Ticket) -> Result<(), Away> {
        if let Some(copies) = self.copies.load().as_ref() {
            copies.end(place_of(ticket));
        }
        self.kv.delete(&hot_place(ticket), realm.max_age).await?;
        self.kv.announce(&ticket.place()).await; // the hot part is what others look at
        self.kv.delete(&cold_place(ticket), realm.max_age).await?;
        Ok(())
    }

    /// Before the store is asked for what is to be copied.
    pub(crate) fn begin_reading(&self) -> Reading {
        Reading(self.copies.load_full().map(|copies| (copies.begin(), copies)))
    }

    pub(crate) fn keep_copy(&self, realm: &Realm, session: Arc<Session>, reading: &Reading) {
        // What stands in for a store that is away knows nothing of what others have ended since.
        if let Some((begun, copies)) = &reading.0
            && !self.kv.is_away()
        {
            let (place, proof) = (place_of(&session.ticket), realm.copy_key(&session.ticket));
            copies.keep(place, proof, session, *begun, self.clock.now());
        }
    }

    fn forget_copy(&self, ticket: &Ticket) {
        if let Some(copies) = self.copies.load().as_ref() {
            copies.forget(place_of(ticket));
        }
    }

    /// Writes the hot part under the next generation; false where the session was ended, or written by somebody else.
    pub(crate) async fn replace_hot(
        &self,
        realm: &Realm,
        ticket: &Ticket,
        label: &Envelope,
        hot: &Hot,
        generation: u64,
    ) -> Result<bool, Away> {
        let value = realm.seal(ticket, Part::Hot, label, hot)?;
        let ttl = realm.ttl(hot.created, self.clock.now());
        self.kv.replace(&hot_place(ticket), Entry { generation, value }, ttl).await
    }

    pub(crate) async fn replace_cold(
        &self,
        realm: &Realm,
        ticket: &Ticket,
        label: &Envelope,
        cold: &Cold,
        generation: u64,
    ) -> Result<bool, Away> {
        let value = realm.seal(ticket, Part::Cold, label, cold)?;
        let ttl = realm.ttl(label.created, self.clock.now());
        self.kv.replace(&cold_place(ticket), Entry { generation, value }, ttl).await
    }

    async fn write_seen(&self, realm: &Realm, session: &Session, now: Timestamp) -> Result<(), Away> {
        let reading = self.begin_reading();
        let Some(stored) = self.load(realm, &session.ticket).await? else { return Ok(()) };
        let generation = stored.generation + 1;
        let Some(mut stored) = Arc::into_inner(stored) else { return Ok(()) };
        stored.hot.seen = now.millis();
        stored.label.seen = now.millis();
        if self.replace_hot(realm, &session.ticket, &stored.label, &stored.hot, generation).await? {
            self.keep_copy(
                realm,
                Arc::new(Session::new(stored.hot, stored.ticket, stored.label, generation)),
                &reading,
            );
        }
        Ok(())
    }
}

pub(crate) fn place_of(ticket: &Ticket) -> TokenDigest {
    TokenDigest::of(ticket.place().as_bytes())
}

pub(crate) fn hot_place(ticket: &Ticket) -> String {
    format!("session:{}", ticket.place())
}

pub(crate) fn cold_place(ticket: &Ticket) -> String {
    format!("tokens:{}", ticket.place())
}

#[cfg(test)]
mod tests;
