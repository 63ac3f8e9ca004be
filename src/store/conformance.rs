//! One suite for every store.

use crate::kit::clock::test::SetClock;
use crate::store::file::File;
use crate::store::kv::{Entry, Kv};
use crate::store::memory::Memory;
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn entry(generation: u64, value: &str) -> Entry {
    Entry { generation, value: value.into() }
}

async fn conforms(kv: Arc<dyn Kv>, clock: &SetClock) {
    assert_eq!(kv.get("a").await, Ok(None));
    kv.put("a", entry(1, "one"), HOUR).await.unwrap();
    assert_eq!(kv.get("a").await, Ok(Some(entry(1, "one"))));
    assert_eq!(kv.put_new("a", entry(9, "no"), HOUR).await, Ok(false));
    assert_eq!(kv.replace("a", entry(1, "no"), HOUR).await, Ok(false), "not a higher generation");
    assert_eq!(kv.replace("a", entry(2, "two"), HOUR).await, Ok(true));
    assert_eq!(kv.get("a").await, Ok(Some(entry(2, "two"))));
    assert_eq!(kv.delete("a").await, Ok(true));
    assert_eq!(kv.delete("a").await, Ok(false));
    assert_eq!(kv.replace("a", entry(3, "no"), HOUR).await, Ok(false), "what was deleted is not revived");
    assert_eq!(kv.get("a").await, Ok(None));

    kv.put("b", entry(1, "short"), Duration::from_secs(10)).await.unwrap();
    clock.advance(Duration::from_secs(9));
    assert!(kv.get("b").await.unwrap().is_some());
    clock.advance(Duration::from_secs(1));
    assert_eq!(kv.get("b").await, Ok(None), "its time is over");
    assert_eq!(kv.replace("b", entry(2, "no"), HOUR).await, Ok(false));
    assert_eq!(kv.delete("b").await, Ok(false));
    assert_eq!(kv.put_new("b", entry(1, "anew"), HOUR).await, Ok(true));

    let racing: Vec<_> = (0..50)
        .map(|i| {
            let kv = kv.clone();
            tokio::spawn(async move { kv.put_new("race", entry(i, "x"), HOUR).await })
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
    store.put("kept", entry(7, "value"), HOUR).await.unwrap();
    assert!(File::open(&path, clock.clone()).is_err(), "nobody else may have it open");
    drop(store);
    // The writer lets go of the database when its last sender is gone.
    let again = (0..500).find_map(|_| {
        std::thread::yield_now();
        File::open(&path, clock.clone()).ok()
    });
    assert_eq!(again.unwrap().get("kept").await, Ok(Some(entry(7, "value"))));
    std::fs::remove_dir_all(&folder).unwrap();
}
