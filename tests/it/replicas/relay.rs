//! Between a replica and its Redis: passes everything on and counts it, until what is open falls silent. It is not closed
//! then: nobody is told.

use super::server::RedisServer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Relay {
    port: u16,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Connections of an earlier age carry nothing any more.
    age: AtomicUsize,
    is_cut: AtomicBool,
    there: AtomicUsize,
    back: AtomicUsize,
}

impl Relay {
    pub async fn before(redis: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), redis.port);
        let seen = Arc::new(Seen::default());
        let counted = seen.clone();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                if counted.is_cut.load(SeqCst) {
                    continue;
                }
                let Ok(redis) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                let age = counted.age.load(SeqCst);
                let ((asks, hears), (hears_back, answers)) = (from.into_split(), redis.into_split());
                tokio::spawn(pass(asks, answers, counted.clone(), age, |seen| &seen.there));
                tokio::spawn(pass(hears_back, hears, counted.clone(), age, |seen| &seen.back));
            }
        });
        Relay { port, seen }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// What is open now carries nothing any more; new connections do.
    pub fn fall_silent(&self) {
        self.seen.age.fetch_add(1, SeqCst);
    }

    /// Nothing gets through, until it is mended.
    pub fn cut(&self) {
        self.seen.is_cut.store(true, SeqCst);
        self.fall_silent();
    }

    pub fn mend(&self) {
        self.seen.is_cut.store(false, SeqCst);
    }

    /// Bytes to Redis, and back.
    pub fn bytes(&self) -> (usize, usize) {
        (self.seen.there.load(SeqCst), self.seen.back.load(SeqCst))
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: Arc<Seen>,
    age: usize,
    count: fn(&Seen) -> &AtomicUsize,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if seen.age.load(SeqCst) == age {
            count(&seen).fetch_add(read, SeqCst);
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}
