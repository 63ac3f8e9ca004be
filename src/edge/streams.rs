//! Open streams of sessions: a WebSocket, an event stream, gRPC, a long download. Each keeps its session in use while
//! it is open, even if no data flows.

use crate::gate::decision::SessionInUse;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Default)]
pub struct Streams {
    open: Mutex<HashMap<u64, SessionInUse>>,
    next: AtomicU64,
}

/// The registration of one open stream; removed on drop.
pub(super) struct OpenStream {
    all: Arc<Streams>,
    id: u64,
}

/// How often sessions of open streams are touched; the store is written no more often than for requests.
const TOUCH: Duration = Duration::from_millis(500);

impl Streams {
    pub(super) fn enter(self: &Arc<Self>, held: SessionInUse) -> OpenStream {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(id, held);
        OpenStream { all: self.clone(), id }
    }

    /// Touches the sessions of all open streams; runs until it is dropped.
    pub async fn keep_touched(&self) {
        loop {
            tokio::time::sleep(TOUCH).await;
            let open: Vec<SessionInUse> = self.open.lock().values().cloned().collect();
            open.iter().for_each(SessionInUse::touch);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.all.open.lock().remove(&self.id);
    }
}
