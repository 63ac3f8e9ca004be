//! What a sampled request waits for: noted where it is done, told by its span. Where no request is sampled a note is one look
//! at a variable of the task.

use parking_lot::Mutex;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One thing that was waited for.
#[derive(Clone, Debug)]
pub struct Part {
    pub name: Cow<'static, str>,
    pub begun: Instant,
    pub took: Duration,
}

/// The parts of one request, in the order of their ends.
#[derive(Clone, Default)]
pub struct Parts(Arc<Mutex<Vec<Part>>>);

/// A request has some ten.
const MOST: usize = 64;

tokio::task_local! {
    static CURRENT: Parts;
}

impl Parts {
    /// Does the work, and notes its parts. What other requests wait for, too, has a task of its own, and is not noted.
    pub async fn of<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    pub fn add(&self, name: Cow<'static, str>, begun: Instant, took: Duration) {
        let mut all = self.0.lock();
        if all.len() < MOST {
            all.push(Part { name, begun, took });
        }
    }

    pub fn all(&self) -> Vec<Part> {
        self.0.lock().clone()
    }
}

/// What ends now and took so long, where the request of this task is sampled.
pub fn note<N: Into<Cow<'static, str>>>(name: impl FnOnce() -> N, took: Duration) {
    let _ = CURRENT.try_with(|parts| {
        let now = Instant::now();
        parts.add(name().into(), now.checked_sub(took).unwrap_or(now), took);
    });
}

/// Does the work, and notes how long it took.
pub async fn timed<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    note(|| name, begun.elapsed());
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_belong_to_the_task_that_they_are_of() {
        note(|| "nobody's", Duration::ZERO);
        let parts = Parts::default();
        parts.of(timed("outer", async { (0..100).for_each(|n| note(|| format!("{n}"), Duration::ZERO)) })).await;
        assert_eq!(timed("nobody's", async { 7 }).await, 7);
        let names: Vec<_> = parts.all().into_iter().map(|part| part.name).collect();
        assert!(names.len() == MOST && names[0] == "0" && names[63] == "63", "{names:?}");
    }
}
