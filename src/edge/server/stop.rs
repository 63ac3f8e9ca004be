//! The end: a signal stops the listening and waits for what is in flight, or hands the listening sockets over to a process
//! that waits for them.

use crate::edge::connections::Connections;
use crate::edge::sockets::Sockets;
use async_trait::async_trait;
use pingora_core::server::{ExecutionPhase, ShutdownSignal, ShutdownSignalWatch};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::time::Instant;

/// How often to look whether something has come about.
const LOOK: Duration = Duration::from_millis(20);
/// What clients are given to take the end of their answers.
const LAST_PIECES: Duration = Duration::from_secs(2);
/// What connections are given to close after they were cut.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// A next process may take so long: it waits for its providers first.
const SUCCESSOR: Duration = Duration::from_secs(90);

/// Waits for the end of what is in flight once the listeners are told to close, and then ends the process; a second
/// signal ends it at once.
pub(super) fn drain(
    mut phases: Receiver<ExecutionPhase>,
    connections: &Connections,
    at_exit: Box<dyn FnOnce() + Send>,
) {
    loop {
        match phases.blocking_recv() {
            Ok(ExecutionPhase::ShutdownStarted | ExecutionPhase::ShutdownGracePeriod) => break,
            Ok(_) => {}
            Err(_) => return,
        }
    }
    connections.draining.store(true, Ordering::SeqCst);
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        runtime.block_on(async {
            tokio::select! {
                () = emptied(connections) => {}
                () = told_again() => {}
            }
        });
    }
    at_exit();
    std::process::exit(0);
}

async fn emptied(connections: &Connections) {
    let end = Instant::now() + Duration::from_millis(connections.grace.load(Ordering::Relaxed));
    let is_busy = || connections.in_flight.load(Ordering::SeqCst) > 0 || connections.open.have_newcomers();
    while is_busy() && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
    // Over HTTP/2 an answer has ended when its last piece is handed over, and that may be still on its way.
    let last = end.min(Instant::now() + LAST_PIECES);
    while connections.open.are_written() && Instant::now() < last {
        tokio::time::sleep(LOOK).await;
    }
    let left = connections.in_flight.load(Ordering::SeqCst);
    tracing::info!(cut = left, "stopping");
    connections.open.cut_all();
    let end = Instant::now() + LAST_WORDS;
    while !connections.open.is_empty() && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
}

async fn told_again() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

pub(super) struct Signals {
    pub(super) connections: Arc<Connections>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) upgrade_socket: PathBuf,
}

impl Signals {
    /// Whether a process waits for the listening sockets, or does so in time; without one this process goes on to serve.
    async fn successor_waits(&self) -> bool {
        if let Err(problem) = self.sockets.can_be_handed_over() {
            tracing::error!(%problem, "nothing is handed over; this process goes on");
            return false;
        }
        tracing::info!("waiting for the process that takes over");
        let end = Instant::now() + SUCCESSOR;
        while !is_listened_at(&self.upgrade_socket) {
            if Instant::now() >= end {
                tracing::error!("no process has come to take over; this one goes on");
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }
}

/// Whether a process has this socket open: a connection would be taken for the hand-over itself.
fn is_listened_at(socket: &Path) -> bool {
    let name = socket.to_string_lossy();
    match std::fs::read_to_string("/proc/net/unix") {
        Ok(open) => open.lines().any(|line| line.rsplit(' ').next() == Some(&*name)),
        Err(_) => socket.exists(),
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut quit), Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::quit()), signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return ShutdownSignal::FastShutdown; // without signals nobody could stop us
        };
        // What rotates logs sends it by habit; without a handler it would end the process.
        let user = signal(SignalKind::user_defined1());
        tokio::spawn(async move {
            if let Ok(mut user) = user {
                while user.recv().await.is_some() {}
            }
        });
        let upgraded = async {
            loop {
                quit.recv().await;
                if self.successor_waits().await {
                    return;
                }
            }
        };
        tokio::select! {
            () = upgraded => return ShutdownSignal::GracefulUpgrade,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let delay = Duration::from_millis(self.connections.delay.load(Ordering::Relaxed));
        if !delay.is_zero() {
            self.connections.leaving.store(true, Ordering::SeqCst);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                // Told twice: at once.
                _ = terminate.recv() => self.connections.set_grace(Duration::ZERO),
                _ = interrupt.recv() => self.connections.set_grace(Duration::ZERO),
            }
        }
        self.connections.draining.store(true, Ordering::SeqCst);
        ShutdownSignal::GracefulTerminate
    }
}
