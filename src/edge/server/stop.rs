//! Shutdown: a signal closes the listeners and waits for requests in flight, or hands the listening sockets over to a
//! process that waits for them.

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

/// Polling interval.
const LOOK: Duration = Duration::from_millis(20);
/// How long clients may take to read the end of their responses.
const LAST_PIECES: Duration = Duration::from_secs(2);
/// How long cut connections may take to close.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// How long to wait for the successor process, which waits for its providers first.
const SUCCESSOR: Duration = Duration::from_secs(90);

/// Once shutdown has started, waits for requests in flight and then ends the process; a second signal ends it at once.
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
    let is_busy = || connections.in_flight() > 0 || connections.open.have_newcomers();
    while is_busy() && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
    // An HTTP/2 response counts as ended once its last piece is queued, which may not have been sent yet.
    let last = end.min(Instant::now() + LAST_PIECES);
    while connections.open.are_written() && Instant::now() < last {
        tokio::time::sleep(LOOK).await;
    }
    let left = connections.in_flight();
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
    /// Waits for a process that takes over the listening sockets; false if none comes in time and this one serves on.
    async fn successor_waits(&self) -> bool {
        if let Err(problem) = self.sockets.can_be_handed_over() {
            tracing::error!(%problem, "nothing is handed over; this process keeps serving");
            return false;
        }
        tracing::info!("waiting for the process that takes over");
        let end = Instant::now() + SUCCESSOR;
        while !is_listened_at(&self.upgrade_socket) {
            if Instant::now() >= end {
                tracing::error!("no process took over; this one keeps serving");
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }
}

/// Whether a process listens on this socket. Not tested by connecting: that would be taken for the hand-over itself.
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
            return ShutdownSignal::FastShutdown; // without signal handlers the process could not be stopped
        };
        // Log rotation tools commonly send SIGUSR1; without a handler it would end the process.
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
                // A second signal: no grace period.
                _ = terminate.recv() => self.connections.set_grace(Duration::ZERO),
                _ = interrupt.recv() => self.connections.set_grace(Duration::ZERO),
            }
        }
        self.connections.draining.store(true, Ordering::SeqCst);
        ShutdownSignal::GracefulTerminate
    }
}
