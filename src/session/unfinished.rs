//! Ends of sessions by their names, and those among them that the store could not be told of yet.

use crate::kit::clock::Timestamp;
use crate::session::record::Envelope;
use crate::store::kv::Unavailable;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// What names the sessions of an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum By {
    User,
    SessionId,
    Subject,
    /// The subject of a logout that names a session, too: only sessions for which the provider gave no id.
    SubjectOfSession,
}

/// The sessions of a provider that have a name.
pub(super) struct Ending {
    pub(super) provider: String,
    pub(super) by: By,
    /// Its digests, one for each secret.
    pub(super) names: Vec<String>,
    pub(super) remember: Duration,
    /// When it was asked for: it must not end later sessions when it is carried out later.
    pub(super) before: Timestamp,
}

/// Endings that the store could not be told of. The sessions that they name do not count here. One is kept for a while
/// after it was carried out, too: other replicas may write sessions again that they began or held during an outage.
#[derive(Default)]
pub(super) struct Unfinished {
    all: Mutex<HashMap<Name, Kept>>,
    /// How many there are: requests look at no lock while there are none.
    count: AtomicUsize,
    news: Notify,
}

type Name = (By, String, String);

struct Kept {
    ending: Arc<Ending>,
    carried_out: Option<Timestamp>,
}

/// A provider is told that a logout cannot be kept beyond so many.
pub(super) const MOST_UNFINISHED: usize = 10_000;
const KEPT_AFTER: Duration = Duration::from_secs(60);

impl Ending {
    pub(super) fn names(&self, label: &Envelope) -> bool {
        let is_named = match self.by {
            By::User => self.names.contains(&label.user),
            By::SessionId => label.session_id.as_ref().is_some_and(|id| self.names.contains(id)),
            By::Subject => self.names.contains(&label.subject),
            By::SubjectOfSession => label.session_id.is_none() && self.names.contains(&label.subject),
        };
        is_named && label.provider == self.provider
    }

    /// A session at the provider has one id, which no later session has.
    pub(super) fn is_before(&self, label: &Envelope) -> bool {
        self.by == By::SessionId || label.created <= self.before.millis()
    }
}

impl Unfinished {
    /// `room`: there may be so many.
    pub(super) fn keep(&self, ending: Ending, room: usize) -> Result<(), Unavailable> {
        let ending = Arc::new(ending);
        let mut all = self.all.lock();
        for name in &ending.names {
            let name = (ending.by, ending.provider.clone(), name.clone());
            if all.len() >= room && !all.contains_key(&name) {
                return Err(Unavailable);
            }
            all.insert(name, Kept { ending: ending.clone(), carried_out: None });
        }
        self.count.store(all.len(), Ordering::Release);
        self.news.notify_one();
        Ok(())
    }

    pub(super) fn was_carried_out(&self, ending: &Arc<Ending>, now: Timestamp) {
        let mut all = self.all.lock();
        all.retain(|_, kept| {
            if !Arc::ptr_eq(&kept.ending, ending) {
                return true;
            }
            kept.carried_out.get_or_insert(now).until(now) < KEPT_AFTER
        });
        self.count.store(all.len(), Ordering::Release);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether one was never carried out.
    pub(super) fn is_behind(&self) -> bool {
        self.all.lock().values().any(|kept| kept.carried_out.is_none())
    }

    pub(super) fn all(&self) -> Vec<Arc<Ending>> {
        let mut all: Vec<_> = self.all.lock().values().map(|kept| kept.ending.clone()).collect();
        all.sort_by_key(Arc::as_ptr);
        all.dedup_by(|a, b| Arc::ptr_eq(a, b));
        all
    }

    /// Whether one of them names this session.
    pub(super) fn name(&self, label: &Envelope) -> bool {
        let mut names = vec![(By::User, &label.user), (By::Subject, &label.subject)];
        match &label.session_id {
            Some(id) => names.push((By::SessionId, id)),
            None => names.push((By::SubjectOfSession, &label.subject)),
        }
        let all = self.all.lock();
        names.into_iter().any(|(by, name)| {
            all.get(&(by, label.provider.clone(), name.clone())).is_some_and(|kept| kept.ending.is_before(label))
        })
    }

    pub(super) async fn wait(&self) {
        self.news.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: i64 = 1_000;

    fn ending(by: By, name: &str) -> Ending {
        let before = Timestamp::from_millis(BEFORE);
        let names = vec![name.to_string(), format!("old-{name}")];
        Ending { provider: "corp".into(), by, names, remember: Duration::ZERO, before }
    }

    fn label(provider: &str, created: i64, session_id: Option<&str>) -> Envelope {
        let text = str::to_string;
        let (user, subject) = (text("user"), text("subject"));
        let (provider, session_id) = (text(provider), session_id.map(text));
        Envelope { version: 1, provider, created, seen: created, user, subject, session_id }
    }

    #[test]
    fn sessions_are_named_by_what_they_have() {
        let with = |created| label("corp", created, Some("id"));
        let without = label("corp", BEFORE, None);
        for (by, name, expected) in [
            (By::User, "user", [true, false, true, false]),
            (By::Subject, "subject", [true, false, true, false]),
            (By::SubjectOfSession, "subject", [false, false, true, false]),
            // A later session cannot have the id of one that has ended.
            (By::SessionId, "id", [true, true, false, false]),
            (By::User, "subject", [false; 4]),
        ] {
            let unfinished = Unfinished::default();
            unfinished.keep(ending(by, name), 2).unwrap();
            let other = label("other", BEFORE, Some("id"));
            let named = [&with(BEFORE), &with(BEFORE + 1), &without, &other].map(|label| unfinished.name(label));
            assert_eq!(named, expected, "{by:?} {name}");
        }
    }

    #[test]
    fn as_many_are_kept_as_there_is_room_for_until_they_are_over() {
        let unfinished = Unfinished::default();
        for n in 0..5 {
            unfinished.keep(ending(By::User, &n.to_string()), 10).unwrap();
        }
        assert_eq!(unfinished.keep(ending(By::User, "5"), 10), Err(Unavailable));
        assert_eq!(unfinished.keep(ending(By::User, "4"), 10), Ok(()), "the same again");
        let at = |seconds| Timestamp::from_seconds(seconds);
        assert!(unfinished.is_behind());
        for ending in unfinished.all() {
            unfinished.was_carried_out(&ending, at(0));
        }
        assert!(!unfinished.is_behind() && !unfinished.is_empty());
        for ending in unfinished.all() {
            unfinished.was_carried_out(&ending, at(59));
        }
        assert_eq!(unfinished.all().len(), 5);
        for ending in unfinished.all() {
            unfinished.was_carried_out(&ending, at(60));
        }
        assert!(unfinished.is_empty());
    }
}
