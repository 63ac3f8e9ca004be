//! Ends a task from outside, whatever it waits for. Over HTTP/1.1 that is the task of a connection; over HTTP/2 each
//! request has a task of its own, too, and to drop it resets its stream.

use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

#[derive(Debug, Default)]
pub(super) struct Ending {
    is_over: AtomicBool,
    task: AtomicWaker,
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
