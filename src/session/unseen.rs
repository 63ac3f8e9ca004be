//! Tickets that were signed out while the store had no record of them. Most were made up or had ended. A replica that was
//! cut off from the store may still write a record of one back, and what was signed out must not return with it.

use crate::kit::clock::Timestamp;
use crate::session::realm::Realm;
use crate::session::ticket::Ticket;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Unseen {
    all: Mutex<VecDeque<SignedOut>>,
    /// Another replica has written what it held.
    news: Notify,
}

/// With the whole ticket: only who had it may end its session.
#[derive(Clone)]
pub(super) struct SignedOut {
    pub(super) ticket: Ticket,
    pub(super) realm: Arc<Realm>,
    place: String,
    until: Timestamp,
}

/// Anyone can sign out of made-up tickets: the oldest make room.
const MOST: usize = 1_000;
/// Longer than outages last.
const KEPT: Duration = Duration::from_secs(6 * 3600);

impl Unseen {
    pub(super) fn keep(&self, realm: &Arc<Realm>, ticket: &Ticket, now: Timestamp) {
        let mut all = self.all.lock();
        all.retain(|known| known.until > now && known.ticket.key() != ticket.key());
        if all.len() >= MOST {
            all.pop_front();
        }
        let until = now.plus(KEPT.min(realm.max_age));
        all.push_back(SignedOut { ticket: ticket.clone(), realm: realm.clone(), place: ticket.place(), until });
    }

    pub(super) fn all(&self, now: Timestamp) -> Vec<SignedOut> {
        self.all.lock().iter().filter(|known| known.until > now).cloned().collect()
    }

    pub(super) fn forget(&self, ticket: &Ticket) {
        self.all.lock().retain(|known| known.ticket.key() != ticket.key());
    }

    pub(super) fn holds_place(&self, place: &str) -> bool {
        self.all.lock().iter().any(|known| known.place == place)
    }

    pub(super) fn look(&self) {
        self.news.notify_one();
    }

    pub(super) async fn wait(&self) {
        self.news.notified().await;
    }
}
