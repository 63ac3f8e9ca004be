//! The index of sessions: which sessions a user has, a subject of a provider, or a session at the provider. It names nobody: its
//! keys are the keyed digests that stand in every record's envelope, its members the places of records.

use crate::kit::clock::Timestamp;
use crate::session::realm::Realm;
use crate::session::record::{Envelope, envelope, names};
use crate::session::sessions::Sessions;
use crate::session::unfinished::Ending;
use crate::store::kv::{Change, Key, Space, Unavailable};
use std::sync::Arc;
use std::time::Duration;

/// Whose sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// The claim that names the user.
    User(String),
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
const TRY_AGAIN: Duration = Duration::from_secs(1);

fn line(provider: &str, kind: &str, name: &str) -> Key {
    Key::of(Space::Index, format!("{provider}:{kind}:{name}"))
}

fn line_of_all(part: &str) -> Key {
    Key::of(Space::Index, format!("all:{part}"))
}

fn lines(label: &Envelope, place: &str) -> Vec<Key> {
    let mut lines = vec![line(&label.provider, USER, &label.user), line(&label.provider, SUBJECT, &label.subject)];
    lines.extend(label.session_id.as_ref().map(|sid| line(&label.provider, SESSION_ID, sid)));
    lines.push(line_of_all(place.get(..PART).unwrap_or_default()));
    lines
}

impl Sessions {
    /// Best effort: a session that is in no index ends by its cookie and its lifetime.
    pub(super) async fn enlist(&self, label: &Envelope, place: &str, ttl: Duration) {
        for line in lines(label, place) {
            if self.kv.add(&line, place, ttl).await == Ok(false) {
                // Full: what has ended gives way.
                let _ = self.living(&line).await;
                if self.kv.add(&line, place, ttl).await == Ok(false) {
                    tracing::warn!("a user has too many sessions; one is not in the index");
                }
            }
        }
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
        Ok(self.named(&self.ending(realm, of)).await?.into_iter().map(listed).collect())
    }

    /// Ends sessions on all replicas. Where the store is unavailable, they are ended here at once, and everywhere when it is
    /// back.
    pub async fn end_all_of(&self, realm: &Realm, of: &Of) -> Result<usize, Unavailable> {
        let ending = Arc::new(self.ending(realm, of));
        if let Ok(ended) = self.carry_out(&ending).await {
            return Ok(ended);
        }
        self.unfinished.keep(ending)?;
        Ok(0)
    }

    /// Ends the session at a place; false if there is none.
    pub async fn end_place(&self, place: &str, remember: Duration) -> Result<bool, Unavailable> {
        let label = self.label_at(place).await?;
        self.delete_place(place, remember).await?;
        if let Some(label) = &label {
            self.strike(label, place).await;
        }
        Ok(label.is_some())
    }

    pub async fn end_all(&self, remember: Duration) -> Result<usize, Unavailable> {
        let mut ended = 0;
        for part in 0..=u8::MAX {
            let line = line_of_all(&format!("{part:02x}"));
            for place in self.kv.members(&line).await? {
                ended += usize::from(self.end_place(&place, remember).await?);
                self.kv.remove(&line, &place).await?;
            }
        }
        Ok(ended)
    }

    /// Tells the store of logouts that it has missed; runs until it is dropped.
    pub async fn finish_endings(self: Arc<Self>) {
        loop {
            if self.unfinished.is_empty() {
                self.unfinished.wait().await;
            }
            let all = self.unfinished.all();
            for ending in all {
                if self.carry_out(&ending).await.is_ok() {
                    self.unfinished.forget(&ending);
                }
            }
            if !self.unfinished.is_empty() {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }

    /// Whether a logout that the store does not know of yet has ended this session.
    pub(super) fn has_been_ended(&self, label: &Envelope) -> bool {
        !self.unfinished.is_empty() && self.unfinished.name(label)
    }

    fn ending(&self, realm: &Realm, of: &Of) -> Ending {
        let (user, session_id, subject) = match of {
            Of::User(user) => (Some(user), None, None),
            Of::Logout { session_id, subject } => (None, session_id.as_ref(), subject.as_ref()),
        };
        let named =
            |kind, text: Option<&String>| text.map(|text| names(&realm.secrets, kind, text)).unwrap_or_default();
        Ending {
            provider: realm.provider.settings().name.to_string(),
            by_user: named(USER, user),
            by_session_id: named(SESSION_ID, session_id),
            by_subject: named(SUBJECT, subject),
            subject_ends_all: session_id.is_none(),
            remember: realm.max_age,
            before: self.clock.now(),
        }
    }

    async fn carry_out(&self, ending: &Ending) -> Result<usize, Unavailable> {
        let mut ended = 0;
        for (place, label) in self.named(ending).await? {
            self.delete_place(&place, ending.remember).await?;
            self.strike(&label, &place).await;
            ended += 1;
        }
        Ok(ended)
    }

    /// The living sessions that an ending names.
    async fn named(&self, ending: &Ending) -> Result<Vec<(String, Envelope)>, Unavailable> {
        let by = [(USER, &ending.by_user), (SESSION_ID, &ending.by_session_id), (SUBJECT, &ending.by_subject)];
        let lines: Vec<Key> =
            by.iter().flat_map(|(kind, names)| names.iter().map(|name| line(&ending.provider, kind, name))).collect();
        let mut found: Vec<(String, Envelope)> = Vec::new();
        for line in lines {
            for (place, label) in self.living(&line).await? {
                if ending.names(&label) && !found.iter().any(|(known, _)| *known == place) {
                    found.push((place, label));
                }
            }
        }
        Ok(found)
    }

    /// The members of a line whose records are there; the others are removed.
    async fn living(&self, line: &Key) -> Result<Vec<(String, Envelope)>, Unavailable> {
        let mut living = Vec::new();
        for place in self.kv.members(line).await? {
            match self.label_at(&place).await? {
                Some(label) => living.push((place, label)),
                None => self.kv.remove(line, &place).await?,
            }
        }
        Ok(living)
    }

    async fn label_at(&self, place: &str) -> Result<Option<Envelope>, Unavailable> {
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
