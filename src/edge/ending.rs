//! Ends a task from outside, whatever it waits for. Over HTTP/1.1 that is the task of a connection; over HTTP/2 each
//! request has a task, and to drop it resets its stream.

use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

#[derive(Debug, Default)]
pub(super) struct Ending {
    is_over: AtomicBool,
    task: AtomicWaker,
}

tokio::task_local! {
    /// Of the HTTP/2 request that this task serves.
    static OF_REQUEST: Arc<Ending>;
}

/// The end of the HTTP/2 request that this task serves.
pub(super) fn of_request() -> Option<Arc<Ending>> {
    OF_REQUEST.try_with(Arc::clone).ok()
}

/// Runs `work` for one HTTP/2 request; `None` if it was ended from outside.
pub(super) async fn serve_request<T>(work: impl Future<Output = T>) -> Option<T> {
    let ending = Arc::new(Ending::default());
    ending.serve(OF_REQUEST.scope(ending.clone(), work)).await
}

impl Ending {
    /// Runs `work` until it is done or ended; `None` for the latter.
    pub(super) async fn serve<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.task.register(cx.waker());
            if self.is_over.load(Acquire) { None.into() } else { work.as_mut().poll(cx).map(Some) }
        })
        .await
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Release);
        self.task.wake();
    }

    /// Has the work look again at what it waits for.
    pub(super) fn wake(&self) {
        self.task.wake();
    }
}
