//! One suite for every store.

use crate::kit::clock::test::SetClock;
use crate::kit::secret::Secret;
use crate::store::file::File;
use crate::store::kv::Key;
use crate::store::kv::{Change, Entry, Kv, key};
use crate::store::memory::Memory;
use crate::store::redis;
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn entry(generation: u64, value: &str) -> Entry {
    Entry { generation, value: value.into() }
}

async fn conforms(kv: Arc<dyn Kv>, clock: &SetClock) {
    conforms_without_time(kv.clone()).await;
    kv.put(&key("b"), entry(1, "short"), Duration::from_secs(10)).await.unwrap();
    clock.advance(Duration::from_secs(9));
    assert!(kv.get(&key("b")).await.unwrap().is_some());
    clock.advance(Duration::from_secs(1));
    assert_eq!(kv.get(&key("b")).await, Ok(None), "its time is over");
    assert_eq!(kv.replace(&key("b"), entry(2, "no"), HOUR).await, Ok(false));
    assert_eq!(kv.delete(&key("b"), HOUR).await, Ok(false));
    assert_eq!(kv.put_new(&key("b"), entry(1, "anew"), HOUR).await, Ok(true));
}

async fn conforms_without_time(kv: Arc<dyn Kv>) {
    assert_eq!(kv.get(&key("a")).await, Ok(None));
    kv.put(&key("a"), entry(1, "one"), HOUR).await.unwrap();
    assert_eq!(kv.get(&key("a")).await, Ok(Some(entry(1, "one"))));
    assert_eq!(kv.put_new(&key("a"), entry(9, "no"), HOUR).await, Ok(false));
    assert_eq!(kv.replace(&key("a"), entry(1, "no"), HOUR).await, Ok(false), "not a higher generation");
    assert_eq!(kv.replace(&key("a"), entry(2, "two"), HOUR).await, Ok(true));
    assert_eq!(kv.get(&key("a")).await, Ok(Some(entry(2, "two"))));
    assert_eq!(kv.delete(&key("a"), HOUR).await, Ok(true));
    assert_eq!(kv.delete(&key("a"), HOUR).await, Ok(false));
    assert_eq!(kv.replace(&key("a"), entry(3, "no"), HOUR).await, Ok(false), "what was deleted is not revived");
    assert_eq!(kv.get(&key("a")).await, Ok(None));

    kv.put_new(&key("lease"), entry(0, "mine"), Duration::from_secs(10)).await.unwrap();
    assert_eq!(kv.extend(&key("lease"), b"yours", HOUR).await, Ok(false));
    assert_eq!(kv.extend(&key("lease"), b"mine", HOUR).await, Ok(true));
    assert!(kv.get_with_ttl(&key("lease")).await.unwrap().unwrap().1 > Duration::from_secs(3500));
    assert_eq!(kv.extend(&key("lease"), b"mine", Duration::ZERO).await, Ok(true));
    assert_eq!(kv.get(&key("lease")).await, Ok(None), "let go");

    assert_eq!(kv.restore(&key("held"), entry(3, "held"), HOUR).await, Ok(true));
    assert_eq!(kv.restore(&key("held"), entry(2, "older"), HOUR).await, Ok(false));
    assert_eq!(kv.get(&key("held")).await, Ok(Some(entry(3, "held"))));

    let (set, other) = (key("index:one"), key("index:one:more"));
    let members = async |kv: &Arc<dyn Kv>, set: &Key| {
        let mut members = kv.members(set).await.unwrap();
        members.sort();
        members
    };
    assert_eq!(members(&kv, &set).await, [""; 0]);
    for member in ["b", "a", "b"] {
        assert_eq!(kv.add(&set, member, HOUR).await, Ok(true));
    }
    kv.add(&other, "c", HOUR).await.unwrap();
    assert_eq!(members(&kv, &set).await, ["a", "b"]);
    kv.remove(&set, "a").await.unwrap();
    kv.remove(&set, "never there").await.unwrap();
    assert_eq!((members(&kv, &set).await, members(&kv, &other).await), (vec!["b".to_string()], vec!["c".to_string()]));

    let racing: Vec<_> = (0..50)
        .map(|i| {
            let kv = kv.clone();
            tokio::spawn(async move { kv.put_new(&key("race"), entry(i, "x"), HOUR).await })
        })
        .collect();
    let mut won = 0;
    for racer in racing {
        won += usize::from(racer.await.unwrap().unwrap());
    }
    assert_eq!(won, 1, "of many, one makes it");
}

#[tokio::test]
async fn memory_conforms() {
    let clock = Arc::new(SetClock::at(1000));
    conforms(Arc::new(Memory::new(clock.clone())), &clock).await;
}

#[tokio::test]
async fn file_conforms_and_outlives_the_process() {
    let folder = std::env::temp_dir().join(format!("doorward-store-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("a.db");
    let clock = Arc::new(SetClock::at(1000));
    let store = Arc::new(File::open(&path, clock.clone()).unwrap());
    conforms(store.clone(), &clock).await;
    store.put(&key("kept"), entry(7, "value"), HOUR).await.unwrap();
    assert!(File::open(&path, clock.clone()).is_err(), "nobody else may have it open");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "this user's alone");
    let link = folder.join("link.db");
    std::os::unix::fs::symlink(folder.join("elsewhere"), &link).unwrap();
    assert!(File::open(&link, clock.clone()).is_err(), "a link is not followed");
    assert!(!folder.join("elsewhere").exists());
    drop(store);
    // The writer closes the database when its last sender is dropped.
    let again = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10)); // a writer that is starved on a busy machine needs more than a yield
        File::open(&path, clock.clone()).ok()
    });
    assert_eq!(again.unwrap().get(&key("kept")).await, Ok(Some(entry(7, "value"))));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A Redis server on a free port, stopped with the test.
struct Server(std::process::Child, u16);

impl Server {
    fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = std::process::Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let child = command.stdout(std::process::Stdio::null()).spawn().expect("redis-server is installed");
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        Server(child, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn redis_conforms_and_remembers_what_was_deleted() {
    let server = Server::start();
    let redis = redis::Redis::new(
        redis::Settings {
            urls: vec![Secret::new(format!("redis://127.0.0.1:{}/0", server.1)).try_into().unwrap()],
            key_prefix: "test:".to_string().try_into().unwrap(),
            command_timeout: crate::kit::setting::Wait::seconds(1),
            ..redis::Settings::default()
        },
        crate::telemetry::metrics::Metrics::default().store(),
    )
    .unwrap();
    let mut heard = redis.announcements().unwrap();
    let listening = tokio::spawn(redis.clone().listen());
    assert_eq!(heard.recv().await, Ok(crate::store::kv::Invalidation::All), "what was said before is missed");
    let kv: Arc<dyn Kv> = redis;
    conforms_without_time(kv.clone()).await;
    assert_eq!(kv.restore(&key("a"), entry(9, "revived"), HOUR).await, Ok(false), "it was deleted");
    kv.announce(&Change::Session("place".into())).await;
    assert_eq!(heard.recv().await, Ok(crate::store::kv::Invalidation::Key(Change::Session("place".into()))));
    listening.abort();
    drop(server);
    assert_eq!(kv.get(&key("a")).await, Err(crate::store::kv::Unavailable));
}
