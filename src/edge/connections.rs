//! The connections that are open: swept for those that have waited too long, cut at the end, and counted.

use crate::edge::connection::{Connection, Watch};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Default)]
pub struct OpenConnections {
    open: Mutex<HashMap<u64, Watch>>,
    next: AtomicU64,
}

/// One of them; it is closed when this is dropped.
pub struct Open {
    all: Arc<OpenConnections>,
    id: u64,
}

impl OpenConnections {
    pub fn enter(self: &Arc<Self>, connection: &Arc<Connection>) -> Open {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(id, Watch::over(connection.clone()));
        Open { all: self.clone(), id }
    }

    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether some have just come: their requests are not in flight yet, and they have nobody else to send them to.
    pub fn have_newcomers(&self) -> bool {
        let now = Instant::now();
        self.open.lock().values().any(|watch| watch.is_new(now))
    }

    /// Whether some client has not taken yet what was written to it.
    pub fn are_written(&self) -> bool {
        self.open.lock().values().any(Watch::is_written)
    }

    /// Cuts every connection that is open.
    pub fn cut_all(&self) {
        self.open.lock().values().for_each(Watch::cut);
    }

    /// Cuts the oldest of those that have brought no whole head yet, or wait between two requests, so that there are at most
    /// so many, or only such as are served.
    pub fn make_room(&self, most: usize) {
        let mut open = self.open.lock();
        while open.len() >= most {
            let waiting = open.iter().filter(|(_, watch)| !watch.is_served()).map(|(id, _)| *id).min();
            let Some(watch) = waiting.and_then(|id| open.remove(&id)) else { return };
            watch.cut();
        }
    }

    /// Cuts what waits for longer than its limits allow; runs until it is dropped.
    pub async fn keep_swept(&self, step: Duration) {
        loop {
            tokio::time::sleep(step).await;
            let now = Instant::now();
            self.open.lock().values_mut().for_each(|watch| watch.sweep(now));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.open.lock().remove(&self.id);
    }
}
