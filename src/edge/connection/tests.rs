//! Deadlines under tokio's paused clock, and what the wrapper sees of a head.

use super::stream::Watched;
use super::watch::Watch;
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::Instant;

fn watched(stream: tokio::io::DuplexStream, connection: &Arc<Connection>) -> Watched {
    Watched::new(Box::new(stream), connection.clone(), Arc::new(|told, _| format!("ours {}", told.lines).into_bytes()))
}

#[tokio::test]
async fn an_unreadable_head_is_answered_in_our_words() {
    let (mut client, server) = duplex(64);
    let connection = Connection::accepted(LIMITS);
    let mut stream = watched(server, &connection);
    let work = async move {
        let mut buf = [0; 64];
        let _ = stream.read(&mut buf).await;
        stream.write_all(b"Pingora's").await.unwrap();
        stream.write_all(b" own words").await.unwrap();
        head_is_read();
        stream.write_all(b"; an answer").await.unwrap();
    };
    client.write_all(b"bad\nhead\n").await.unwrap();
    assert!(connection.serve(work).await.is_some());
    let mut got = String::new();
    client.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "ours 2; an answer");
}

#[tokio::test]
async fn a_carriage_return_ends_a_line_or_is_odd() {
    for (line, expected) in [
        ("GET /a HTTP/1.1\r\n", false),
        ("GET /a HTTP/1.1\n", false),
        ("GET /a\r HTTP/1.1\r\n", true),
        ("GET /\ra HTTP/1.1\n", true),
        ("GET /a HTTP/1.1\r\r\n", true),
    ] {
        for whole in [true, false] {
            let connection = Connection::accepted(LIMITS);
            let mut bytes = line.as_bytes().to_vec();
            bytes.chunks_mut(if whole { 1024 } else { 1 }).for_each(|piece| connection.received(piece));
            assert_eq!(connection.odd_line.load(Relaxed), expected, "{line:?} {whole}");
        }
    }
}

const LIMITS: Limits = Limits { head: Duration::from_secs(10), idle: Duration::from_secs(75) };

/// Serves a connection while sweeping it.
async fn swept<T>(connection: &Arc<Connection>, work: impl Future<Output = T>) -> Option<T> {
    let mut watch = Watch::over(connection.clone());
    let sweeping = async {
        loop {
            tokio::time::sleep(LIMITS.step()).await;
            watch.sweep(Instant::now());
        }
    };
    tokio::select! {
        ended = connection.serve(work) => ended,
        () = sweeping => unreachable!("sweeping never ends"),
    }
}

/// Serves a connection whose client sends these pieces, each after its pause in seconds; returns when it was cut.
async fn cut_after(pieces: &'static [(u64, &'static [u8])], whole_heads: bool) -> Duration {
    let (mut client, server) = duplex(1024);
    let connection = Connection::accepted(LIMITS);
    let begun = Instant::now();
    tokio::spawn(async move {
        for (pause, piece) in pieces {
            tokio::time::sleep(Duration::from_secs(*pause)).await;
            let _ = client.write_all(piece).await;
        }
        std::future::pending::<()>().await;
    });
    let mut stream = watched(server, &connection);
    let work = async move {
        let mut buf = [0; 64];
        loop {
            let _ = stream.read(&mut buf).await;
            if whole_heads {
                head_is_read();
                answer_has_ended();
            }
        }
    };
    let ended: Option<()> = swept(&connection, work).await;
    assert!(ended.is_none());
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_cut_at_its_deadline() {
    let cut = cut_after(&[(1, b"G"), (3, b"E"), (3, b"T"), (5, b" ")], false).await;
    assert!((10..12).contains(&cut.as_secs()), "{cut:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_may_last_longer_and_a_new_head_has_its_own_deadline() {
    let cut = cut_after(&[(1, b"GET / ...")], true).await;
    assert!((76..78).contains(&cut.as_secs()), "{cut:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_when_patience_is_over() {
    for (patience, slow, expected) in [(None, 0, 75..86), (Some(200), 0, 200..211), (None, 60, 375..386)] {
        let (mut client, server) = duplex(8);
        let connection = Connection::accepted(LIMITS);
        let mut stream = watched(server, &connection);
        let work = async move {
            head_is_read();
            if let Some(seconds) = patience {
                wait_for_reader(Duration::from_secs(seconds));
            }
            stream.write_all(&[b'x'; 64]).await
        };
        // A slow client reads eight bytes five times, then nothing more.
        tokio::spawn(async move {
            for _ in 0..if slow > 0 { 5 } else { 0 } {
                tokio::time::sleep(Duration::from_secs(slow)).await;
                let _ = client.read_exact(&mut [0; 8]).await;
            }
            std::future::pending::<()>().await;
        });
        let begun = Instant::now();
        assert!(swept(&connection, work).await.is_none());
        assert!(expected.contains(&begun.elapsed().as_secs()), "{:?}, expected {expected:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_runs_can_be_cut_from_outside() {
    let connection = Connection::accepted(LIMITS);
    let cutter = connection.clone();
    tokio::spawn(async move { cutter.cut() });
    let tunnel = async {
        head_is_read();
        std::future::pending::<()>().await;
    };
    assert!(connection.serve(tunnel).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_after_a_pause_begins_a_head() {
    let (mut client, server) = duplex(64);
    let connection = Connection::accepted(LIMITS);
    let mut stream = watched(server, &connection);
    let begun = Instant::now();
    let work = async move {
        let mut buf = [0; 64];
        client.write_all(b"whole").await.unwrap();
        let _ = stream.read(&mut buf).await;
        head_is_read();
        tokio::time::sleep(Duration::from_secs(100)).await; // serving has no deadline
        answer_has_ended();
        tokio::time::sleep(Duration::from_secs(50)).await;
        client.write_all(b"G").await.unwrap();
        let _ = stream.read(&mut buf).await;
        std::future::pending::<()>().await;
    };
    assert!(swept(&connection, work).await.is_none());
    assert!((160..162).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
