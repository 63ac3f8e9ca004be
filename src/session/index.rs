//! The index of sessions: which sessions a user has, a subject of a provider, or a session at the provider. It names
//! nobody: its keys are the keyed digests that stand in every record's envelope, its members the places of records.

use crate::kit::clock::Timestamp;
use crate::session::realm::Realm;
use crate::session::record::{Envelope, envelope, names};
use crate::session::session::{Limits, Session};
use crate::session::sessions::{Sessions, place_of};
use crate::session::unfinished::{By, Ending, MOST_UNFINISHED};
use crate::session::unseen::SignedOut;
use crate::store::kv::{Change, Key, Space, Unavailable};
use crate::telemetry::metrics::SessionEvent;
use crate::telemetry::requester::Requester;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// Whose sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// The claim that names the user.
    User(String),
    /// The session at the provider. Anyone may say that it has ended: during an outage few are kept.
    SessionId(String),
    /// What a logout token names: the session at the provider, or all of a subject. A session that never had an id at
    /// the provider is ended by its subject.
    Logout { session_id: Option<String>, subject: Option<String> },
}

/// A session, as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub place: String,
    pub provider: String,
    pub created: Timestamp,
    pub seen: Timestamp,
}

/// The kinds of lines, as they stand in the keys.
const USER: &str = "user";
const SUBJECT: &str = "sub";
const SESSION_ID: &str = "sid";
/// Hex digits of a place that choose its part of the index of all sessions.
const PART: usize = 2;
/// How often endings are carried out that the store does not know of, and how often they are carried out again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const REPEAT: Duration = Duration::from_secs(10);
/// Members looked at to make room in a full set.
const SAMPLE: usize = 100;
/// A refresh in flight ends sooner.
const FOR_A_REFRESH: Duration = Duration::from_secs(600);
/// The room for endings that anyone may ask for.
const MOST_OF_ANYONE: usize = MOST_UNFINISHED / 10;

fn line(provider: &str, kind: &str, name: &str) -> Key {
    Key::of(Space::Index, format!("{provider}:{kind}:{name}"))
}

pub(super) fn line_of_all(part: &str) -> Key {
    Key::of(Space::Index, format!("all:{part}"))
}

/// The lines that a stored record belongs in.
pub fn lines_of_record(place: &str, record: &[u8]) -> Vec<Key> {
    envelope(record).map(|label| lines(&label, place)).unwrap_or_default()
}

fn lines(label: &Envelope, place: &str) -> Vec<Key> {
    let mut lines = vec![line(&label.provider, USER, &label.user), line(&label.provider, SUBJECT, &label.subject)];
    lines.extend(label.session_id.as_ref().map(|sid| line(&label.provider, SESSION_ID, sid)));
    lines.push(line_of_all_with(place));
    lines
}

fn line_of_all_with(place: &str) -> Key {
    line_of_all(place.get(..PART).unwrap_or_default())
}

impl Sessions {
    /// Best effort: a session that is in no index ends by its cookie and its lifetime.
    pub(super) async fn enlist(&self, label: &Envelope, place: &str, ttl: Duration) {
        // At once: a login and a refresh wait for it.
        join_all(lines(label, place).iter().map(|line| self.enlist_in(line, place, ttl))).await;
    }

    async fn enlist_in(&self, line: &Key, place: &str, ttl: Duration) {
        if self.kv.add(line, place, ttl).await != Ok(false) {
            return;
        }
        let made = self.make_room(line, *line != line_of_all_with(place)).await;
        if made.is_err() || self.kv.add(line, place, ttl).await == Ok(false) {
            tracing::warn!("there are too many sessions; one is not in the index");
        }
    }

    /// What has ended gives way; of one user, else, another session.
    async fn make_room(&self, line: &Key, of_one_user: bool) -> Result<(), Unavailable> {
        let mut living = None;
        for place in self.kv.members(line).await?.into_iter().take(SAMPLE) {
            match self.label_at(&place).await? {
                Some(label) => living = Some((place, label)),
                None => {
                    self.kv.remove(line, &place).await?;
                    living = None;
                    break;
                }
            }
        }
        if let Some((place, label)) = living.filter(|_| of_one_user) {
            self.delete_place(&place, FOR_A_REFRESH).await?;
            self.strike(&label, &place).await;
        }
        Ok(())
    }

    pub(super) async fn strike(&self, label: &Envelope, place: &str) {
        for line in lines(label, place) {
            let _ = self.kv.remove(&line, place).await;
        }
    }

    /// The sessions of a user.
    pub async fn listed(&self, realm: &Realm, of: &Of) -> Result<Vec<Listed>, Unavailable> {
        let listed = |(place, label): (String, Envelope)| {
            let [created, seen] = [label.created, label.seen].map(Timestamp::from_millis);
            Listed { place, provider: label.provider, created, seen }
        };
        let mut found = Vec::new();
        for ending in self.endings(realm, of) {
            found.extend(self.named(&ending, false).await?.into_iter().map(listed));
        }
        Ok(found)
    }

    /// Ends sessions on all replicas; returns how many were found. Where the store is unavailable, they are ended here at once, and everywhere when it
    /// is available again.
    pub async fn end_all_of(&self, realm: &Realm, of: &Of) -> Result<usize, Unavailable> {
        let room = if matches!(of, Of::SessionId(_)) { MOST_OF_ANYONE } else { MOST_UNFINISHED };
        let mut count = 0;
        for ending in self.endings(realm, of) {
            match self.carry_out(&ending, |_| true).await {
                Ok(ended) => {
                    (0..ended).for_each(|_| realm.metrics.session(SessionEvent::ended));
                    count += ended;
                }
                Err(Unavailable) => self.unfinished.keep(ending, room)?,
            }
        }
        Ok(count)
    }

    /// Ends the session at a place; returns its provider, `None` if there is no session.
    pub async fn end_place(&self, place: &str, remember: Duration) -> Result<Option<String>, Unavailable> {
        let label = self.label_at(place).await?;
        self.delete_place(place, remember).await?;
        if let Some(label) = &label {
            self.strike(label, place).await;
        }
        Ok(label.map(|label| label.provider))
    }

    /// Calls `ended` with the provider of each session that has ended, also where it stops for want of the store.
    pub async fn end_all(&self, remember: Duration, mut ended: impl FnMut(&str)) -> Result<(), Unavailable> {
        for part in 0..=u8::MAX {
            let line = line_of_all(&format!("{part:02x}"));
            for place in self.kv.members(&line).await? {
                if let Some(provider) = self.end_place(&place, remember).await? {
                    ended(&provider);
                }
                self.kv.remove(&line, &place).await?;
            }
        }
        Ok(())
    }

    /// Tells, once, that a request found the session too old or too long unused.
    pub fn tell_expired(&self, realm: &Realm, session: &Session, limits: Limits, by: &Requester) {
        if self.told.is_first(place_of(&session.ticket)) {
            session.tell_expired(&realm.metrics, limits, self.now(), by);
        }
    }

    /// Tells the store of logouts that it has missed; runs until it is dropped.
    pub async fn finish_endings(self: Arc<Self>) {
        loop {
            if self.unfinished.is_empty() {
                self.unfinished.wait().await;
            }
            let all = self.unfinished.all();
            for ending in all {
                if self.carry_out(&ending, |label| ending.is_before(label)).await.is_ok() {
                    self.unfinished.was_carried_out(&ending, self.clock.now());
                }
            }
            tokio::time::sleep(if self.unfinished.is_behind() { TRY_AGAIN } else { REPEAT }).await;
        }
    }

    /// Ends what was signed out here before another replica wrote it into the store; runs until it is dropped.
    pub async fn end_unseen(self: Arc<Self>) {
        loop {
            self.unseen.wait().await;
            while !self.try_to_end_unseen().await {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }

    /// False if the store was unavailable.
    async fn try_to_end_unseen(&self) -> bool {
        for SignedOut { ticket, realm, .. } in self.unseen.all(self.clock.now()) {
            match self.end_of(&realm, &ticket).await {
                Ok(Some(_)) => self.unseen.forget(&ticket),
                Ok(None) => {}
                Err(Unavailable) => return false,
            }
        }
        true
    }

    /// Whether a logout that the store does not know of yet has ended this session.
    pub(super) fn has_been_ended(&self, label: &Envelope) -> bool {
        !self.unfinished.is_empty() && self.unfinished.name(label)
    }

    fn endings(&self, realm: &Realm, of: &Of) -> Vec<Ending> {
        let ending = |by, kind, name: &str| Ending {
            provider: realm.provider.settings().name.to_string(),
            by,
            names: names(&realm.secrets, kind, name),
            remember: realm.max_age,
            before: self.clock.now(),
        };
        match of {
            Of::User(user) => vec![ending(By::User, USER, user)],
            Of::SessionId(id) => vec![ending(By::SessionId, SESSION_ID, id)],
            Of::Logout { session_id: None, subject } => {
                subject.iter().map(|subject| ending(By::Subject, SUBJECT, subject)).collect()
            }
            Of::Logout { session_id: Some(id), subject } => {
                let subject = subject.iter().map(|subject| ending(By::SubjectOfSession, SUBJECT, subject));
                std::iter::once(ending(By::SessionId, SESSION_ID, id)).chain(subject).collect()
            }
        }
    }

    async fn carry_out(&self, ending: &Ending, counts: impl Fn(&Envelope) -> bool) -> Result<usize, Unavailable> {
        let mut count = 0;
        for (place, label) in self.named(ending, true).await? {
            if counts(&label) {
                self.delete_place(&place, ending.remember).await?;
                self.strike(&label, &place).await;
                count += 1;
            }
        }
        Ok(count)
    }

    /// The living sessions that an ending names. `ends`: those that have no record must not have one again, since a replica
    /// that remembers one would write it back.
    async fn named(&self, ending: &Ending, ends: bool) -> Result<Vec<(String, Envelope)>, Unavailable> {
        let kind = match ending.by {
            By::User => USER,
            By::SessionId => SESSION_ID,
            By::Subject | By::SubjectOfSession => SUBJECT,
        };
        let mut found = Vec::new();
        for name in &ending.names {
            let line = line(&ending.provider, kind, name);
            for place in self.kv.members(&line).await? {
                match self.label_at(&place).await? {
                    Some(label) => found.extend(Some((place, label)).filter(|(_, label)| ending.names(label))),
                    None if ends && ending.by != By::SubjectOfSession => {
                        self.delete_place(&place, ending.remember).await?;
                        self.kv.remove(&line, &place).await?;
                    }
                    // It has expired; one that comes back is put into its lines again.
                    None => self.kv.remove(&line, &place).await?,
                }
            }
        }
        Ok(found)
    }

    pub(super) async fn label_at(&self, place: &str) -> Result<Option<Envelope>, Unavailable> {
        let entry = self.kv.get(&Key::of(Space::Session, place)).await?;
        Ok(entry.and_then(|entry| envelope(&entry.value)))
    }

    async fn delete_place(&self, place: &str, remember: Duration) -> Result<(), Unavailable> {
        self.forget_place(place);
        let deleted = async {
            self.kv.delete(&Key::of(Space::Session, place), remember).await?;
            self.kv.announce(&Change::Session(place.into())).await;
            self.kv.delete(&Key::of(Space::Tokens, place), remember).await
        }
        .await;
        self.forget_place(place); // until it was deleted, a request may have read it
        deleted.map(drop)
    }
}
