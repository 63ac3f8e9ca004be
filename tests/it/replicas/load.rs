//! Requests at a steady rate, on kept connections, while something happens to the store; and what they met.

use super::Replicas;
use crate::client::{Connection, get};
use crate::people::Person;
use crate::wait::LONG;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Ends with `stop`, or by itself after a while.
pub struct Load {
    begun: Instant,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Met>>,
    done: Arc<AtomicUsize>,
}

/// Requests a second, over all replicas.
const RATE: f64 = 500.0;

#[derive(Debug, Default)]
pub struct Met {
    /// How often each answer came.
    pub outcomes: BTreeMap<String, usize>,
    pub slowest: Duration,
    pub lasted: Duration,
    times: Vec<Duration>,
}

impl Met {
    fn note(&mut self, outcome: String, took: Duration) {
        *self.outcomes.entry(outcome).or_default() += 1;
        self.slowest = self.slowest.max(took);
        self.times.push(took);
    }

    fn add(&mut self, other: Met) {
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.slowest = self.slowest.max(other.slowest);
        self.times.extend(other.times);
    }

    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// So many of a thousand were quicker.
    pub fn permille(&self, share: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() * share / 1000).copied().unwrap_or_default()
    }

    #[track_caller]
    pub fn are_all(&self, outcome: &str) {
        assert_eq!(self.outcomes.keys().collect::<Vec<_>>(), [outcome], "{:?}", self.outcomes);
    }
}

impl Load {
    /// `connections` to each replica, with one or another of these sessions.
    pub async fn begin(replicas: &Replicas, people: &[&Person], connections: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let pause = Duration::from_secs_f64((replicas.gateways.len() * connections) as f64 / RATE);
        let mut tasks = Vec::new();
        for gateway in &replicas.gateways {
            for n in 0..connections {
                let mut connection = gateway.connect().await;
                let request = people[n % people.len()].dressed(get("/x"));
                let (stop, done) = (stop.clone(), done.clone());
                tasks.push(tokio::spawn(async move {
                    let (mut met, ends) = (Met::default(), Instant::now() + LONG * 2);
                    // What was held up is made up for: the rate holds over a second or two.
                    let mut turns = tokio::time::interval(pause);
                    while !stop.load(Ordering::Relaxed) && Instant::now() < ends {
                        turns.tick().await;
                        let begun = Instant::now();
                        let outcome = connection.ask(&request).await.outcome();
                        met.note(outcome, begun.elapsed());
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    met
                }));
            }
        }
        Load { begun: Instant::now(), stop, tasks, done }
    }

    /// So many more requests were answered.
    pub async fn goes_on_for(&self, more: usize) {
        let from = self.done.load(Ordering::Relaxed);
        crate::wait::until_so("the load goes on", async || self.done.load(Ordering::Relaxed) >= from + more).await;
    }

    pub async fn stop(self) -> Met {
        self.stop.store(true, Ordering::Relaxed);
        let mut met = Met { lasted: self.begun.elapsed(), ..Met::default() };
        for task in self.tasks {
            met.add(task.await.unwrap());
        }
        met
    }
}

/// So many requests with one session, over all replicas at once, on so many kept connections to each.
pub async fn crowd(replicas: &Replicas, person: &Person, size: usize, connections: usize) -> Met {
    let count = replicas.gateways.len();
    let mut opened: Vec<Connection> = Vec::new();
    for gateway in &replicas.gateways {
        for _ in 0..connections {
            opened.push(gateway.connect().await);
        }
    }
    let left = Arc::new(AtomicUsize::new(size));
    let gate = Arc::new(tokio::sync::Barrier::new(count * connections));
    let request = person.dressed(get("/x"));
    let asked: Vec<_> = opened
        .into_iter()
        .map(|mut connection| {
            let (left, gate, request) = (left.clone(), gate.clone(), request.clone());
            tokio::spawn(async move {
                let mut met = Met::default();
                gate.wait().await;
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    let begun = Instant::now();
                    let outcome = connection.ask(&request).await.outcome();
                    met.note(outcome, begun.elapsed());
                }
                met
            })
        })
        .collect();
    let mut met = Met::default();
    for asked in asked {
        met.add(asked.await.unwrap());
    }
    met
}
