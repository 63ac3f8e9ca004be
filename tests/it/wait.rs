//! Waiting without guessing: a condition is looked at until it holds or its time is over, and whatever is awaited
//! has a deadline. Also the ports that tests listen on.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Far more than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(10);

/// Looks until there is something.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let end = Instant::now() + LONG;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < end, "{place}: never happened: {what}");
            sleep(LOOK).await;
        }
    }
}

/// Looks until it is so.
#[track_caller]
pub fn until_so(what: &str, mut look: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    until(what, async move || look().await.then_some(()))
}

/// What must come in time.
#[track_caller]
pub fn in_time<T>(what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        match timeout(LONG, work).await {
            Ok(done) => done,
            Err(_) => panic!("{place}: too late: {what}"),
        }
    }
}

/// Whether nothing comes for a moment. A late answer can only make this pass wrongly, never fail wrongly.
pub async fn stays_silent<T>(work: impl Future<Output = T>) -> bool {
    timeout(Duration::from_millis(300), work).await.is_err()
}

/// A port that nobody else gets: below those that the system gives away, and each only once in this process.
pub fn free_port() -> u16 {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 17_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run of these tests at the same time begins elsewhere.
    let begin = u16::try_from(std::process::id() * 97 % u32::from(COUNT)).unwrap();
    loop {
        let port = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
