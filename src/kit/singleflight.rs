//! Singleflight: for concurrent calls with one key the work is done once, in a task of its own. A caller that is
//! cancelled neither cancels the work nor deprives the others of its result. If the work panics, its entry is
//! removed, so that the next caller starts it again.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::watch;

pub struct Singleflight<K, V> {
    // A synchronous mutex: it is held for a look-up, never across an await.
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

/// Whether a caller's own work was run, or it joined that of an earlier caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
}

/// The work ended without a result.
#[derive(Debug, PartialEq, Eq)]
pub struct LeaderLost;

impl<K, V> Default for Singleflight<K, V> {
    fn default() -> Self {
        Singleflight { under_way: Arc::default() }
    }
}

impl<K, V> Singleflight<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the work in progress for `key`, or starts `work` for it; returns which.
    pub async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Result<(V, Role), LeaderLost>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (mut result, part) = match self.under_way.lock().entry(key.clone()) {
            Entry::Occupied(flight) => (flight.get().clone(), Role::Follower),
            Entry::Vacant(place) => {
                let (land, result) = watch::channel(None);
                place.insert(result.clone());
                let landed = Landed { key, under_way: self.under_way.clone() };
                let work = work();
                tokio::spawn(async move {
                    let value = work.await;
                    drop(landed); // later callers start the work again
                    let _ = land.send(Some(value));
                });
                (result, Role::Leader)
            }
        };
        let value = result.wait_for(Option::is_some).await.map_err(|_| LeaderLost)?;
        value.clone().map(|value| (value, part)).ok_or(LeaderLost)
    }
}

/// Removes the entry when its work ends, also by a panic.
struct Landed<K: Eq + Hash, V> {
    key: K,
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

impl<K: Eq + Hash, V> Drop for Landed<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn many_ask_and_the_work_is_done_once() {
        let flights = Arc::new(Singleflight::<u8, usize>::default());
        let (done, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (flights, done, go) = (flights.clone(), done.clone(), go.clone());
            tokio::spawn(async move {
                let work = || async move {
                    go.notified().await;
                    done.fetch_add(1, Ordering::SeqCst) + 1
                };
                flights.join(7, work).await
            })
        };
        let first = ask();
        let others: Vec<_> = (0..20).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        first.abort(); // the first caller is cancelled; the work continues
        go.notify_one();
        for other in others {
            assert_eq!(other.await.unwrap(), Ok((1, Role::Follower)));
        }
        assert_eq!(done.load(Ordering::SeqCst), 1);
        assert!(flights.under_way.lock().is_empty());
    }

    #[tokio::test]
    async fn a_dead_flight_is_removed() {
        let flights = Singleflight::<u8, u8>::default();
        let lost = flights.join(1, || async { panic!("planted") }).await;
        assert_eq!(lost, Err(LeaderLost));
        assert_eq!(flights.join(1, || async { 2 }).await, Ok((2, Role::Leader)));
    }
}
