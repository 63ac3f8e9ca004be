//! Open connections: counted, swept for those that have waited too long, and cut at shutdown.

use crate::edge::connection::Connection;
use crate::edge::connection::watch::Watch;
use crate::edge::streams::Streams;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

#[derive(Default)]
pub struct OpenConnections {
    open: Mutex<HashMap<u64, Watch>>,
    next: AtomicU64,
}

/// The registration of one open connection; removed on drop.
pub struct Open {
    all: Arc<OpenConnections>,
    id: u64,
}

/// State and counters shared by all listeners and shards.
#[derive(Default)]
pub struct Connections {
    pub draining: AtomicBool,
    /// How long requests in flight may run on after a stop signal, in milliseconds; a reload changes it.
    pub grace: AtomicU64,
    /// How long the listeners stay open after the signal, in milliseconds.
    pub delay: AtomicU64,
    /// A stop signal was received, but new connections are still served: readiness probes must learn of it.
    pub leaving: AtomicBool,
    pub open: Arc<OpenConnections>,
    pub streams: Arc<Streams>,
    /// Of each listener, once it is set up.
    pub listeners: Mutex<Vec<Arc<Capacity>>>,
    /// Numbers the upstream connections that serve a single request.
    pub unkept: AtomicU64,
}

/// Counters shared by the shards of one listener.
pub struct Capacity {
    /// The listener's address.
    pub listener: String,
    pub(super) open: AtomicUsize,
    /// Permits for the connections that it may still accept.
    pub(super) places: Arc<Semaphore>,
    pub(super) in_flight: AtomicUsize,
    /// Requests above this number in flight are refused; a reload changes it.
    pub(super) most_in_flight: Arc<AtomicUsize>,
    /// Requests for which there are file descriptors: each may need an upstream connection.
    pub(super) share: usize,
}

impl Connections {
    /// A stop signal was received.
    pub fn are_ending(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.draining.load(Ordering::Relaxed)
    }

    /// Requests that are being served.
    pub fn in_flight(&self) -> usize {
        self.listeners.lock().iter().map(|listener| listener.in_flight.load(Ordering::SeqCst)).sum()
    }

    pub fn set_delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn set_grace(&self, grace: Duration) {
        self.grace.store(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Capacity {
    /// `share`: client connections for which there are file descriptors, each with an upstream connection.
    pub fn new(listener: String, max_connections: usize, share: usize, most_in_flight: Arc<AtomicUsize>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(max_connections.min(share).min(Semaphore::MAX_PERMITS)));
        Arc::new(Capacity {
            listener,
            open: AtomicUsize::new(0),
            places,
            in_flight: AtomicUsize::new(0),
            most_in_flight,
            share,
        })
    }

    /// Connections that are open, and requests that are being served.
    pub fn in_use(&self) -> (usize, usize) {
        (self.open.load(Ordering::Relaxed), self.in_flight.load(Ordering::Relaxed))
    }

    pub(super) fn is_busy(&self) -> bool {
        let most = self.most_in_flight.load(Ordering::Relaxed).min(self.share);
        self.in_flight.load(Ordering::Relaxed) > most
    }
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

    /// Whether some were just accepted: their requests are not in flight yet, and no other process can serve them.
    pub fn have_newcomers(&self) -> bool {
        let now = Instant::now();
        self.open.lock().values().any(|watch| watch.is_new(now))
    }

    /// Whether a write to a client is still pending.
    pub fn are_written(&self) -> bool {
        self.open.lock().values().any(Watch::is_written)
    }

    /// Cuts every connection that is open.
    pub fn cut_all(&self) {
        self.open.lock().values().for_each(Watch::cut);
    }

    /// Cuts the oldest connections that serve no request, until fewer than `most` are open or all others serve one.
    pub fn make_room(&self, most: usize) {
        let mut open = self.open.lock();
        while open.len() >= most {
            let waiting = open.iter().filter(|(_, watch)| !watch.is_served()).map(|(id, _)| *id).min();
            let Some(watch) = waiting.and_then(|id| open.remove(&id)) else { return };
            watch.cut();
        }
    }

    /// Cuts connections that exceed their limits; runs until it is dropped.
    pub async fn keep_swept(&self, step: Duration) {
        loop {
            tokio::time::sleep(step).await;
            self.sweep(Instant::now());
        }
    }

    pub fn sweep(&self, now: Instant) {
        self.open.lock().values_mut().for_each(|watch| watch.sweep(now));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.open.lock().remove(&self.id);
    }
}
