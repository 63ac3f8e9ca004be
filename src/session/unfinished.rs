//! Ends of sessions by their names, and those among them that the store could not be told of yet.

use crate::kit::clock::Timestamp;
use crate::session::record::Envelope;
use crate::store::kv::Unavailable;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Logouts that the store could not be told of yet. Until it is, the sessions that they name do not count here.
#[derive(Default)]
pub(super) struct Unfinished {
    all: Mutex<Vec<Arc<Ending>>>,
    /// How many there are: requests look at no lock while there are none.
    count: AtomicUsize,
    news: Notify,
}

/// Sessions of a provider that were begun before a moment and have one of these names.
pub(super) struct Ending {
    pub(super) provider: String,
    pub(super) by_user: Vec<String>,
    pub(super) by_session_id: Vec<String>,
    pub(super) by_subject: Vec<String>,
    /// A subject alone ends all; beside a session's id only sessions without one.
    pub(super) subject_ends_all: bool,
    pub(super) remember: Duration,
    pub(super) before: Timestamp,
}

/// A provider is told that a logout cannot be kept beyond so many.
const MOST_UNFINISHED: usize = 10_000;

impl Ending {
    pub(super) fn names(&self, label: &Envelope) -> bool {
        let by_id = label.session_id.as_ref().is_some_and(|sid| self.by_session_id.contains(sid));
        let by_subject =
            self.by_subject.contains(&label.subject) && (self.subject_ends_all || label.session_id.is_none());
        let by_user = self.by_user.contains(&label.user);
        label.provider == self.provider && label.created <= self.before.millis() && (by_id || by_subject || by_user)
    }
}

impl Unfinished {
    pub(super) fn keep(&self, ending: Arc<Ending>) -> Result<(), Unavailable> {
        let mut all = self.all.lock();
        if all.len() >= MOST_UNFINISHED {
            return Err(Unavailable);
        }
        all.push(ending);
        self.count.store(all.len(), Ordering::Release);
        self.news.notify_one();
        Ok(())
    }

    pub(super) fn forget(&self, ending: &Arc<Ending>) {
        let mut all = self.all.lock();
        all.retain(|known| !Arc::ptr_eq(known, ending));
        self.count.store(all.len(), Ordering::Release);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(super) fn all(&self) -> Vec<Arc<Ending>> {
        self.all.lock().clone()
    }

    /// Whether one of them names this session.
    pub(super) fn name(&self, label: &Envelope) -> bool {
        self.all.lock().iter().any(|ending| ending.names(label))
    }

    pub(super) async fn wait(&self) {
        self.news.notified().await;
    }
}
