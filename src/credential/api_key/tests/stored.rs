use super::{CACHE, NOW, World, alice, secrets, settle, world};
use crate::credential::api_key::keyring::{NewKey, NotCreated, Settings};
use crate::credential::api_key::store::{KeyStore, MOST, key as key_of};
use crate::credential::api_key::{ApiKey, KeyId, Record};
use crate::kit::clock::Clock;
use crate::kit::entropy::SystemEntropy;
use crate::kit::entropy::test::Counted;
use crate::store::kv::{Entry, Key, Kv, Space};
use crate::store::memory::Memory;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn who_writes_to_the_store_makes_no_key() {
    let w = world();
    let (key, id) = w.create(alice()).await;
    let (_, other) = w.create(NewKey { user: "mallory".into(), ..alice() }).await;
    let entry = w.kv.inner.get(&key_of(id)).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&entry.value).contains("alice"));
    let planted = ApiKey::generate(&SystemEntropy::default());
    let presented = ApiKey::parse(planted.expose()).unwrap();
    let known = w.keys.list().await.unwrap().remove(0);
    let record = Record { id: presented.id, digest: presented.digest, ..known };
    // Unsealed, sealed for another id, and sealed with another secret.
    let bare = Entry { generation: 1, value: serde_json::to_vec(&record).unwrap() };
    let moved = w.kv.inner.get(&key_of(other)).await.unwrap().unwrap();
    let elsewhere = KeyStore { kv: Arc::new(Memory::new(w.clock.clone())), secrets: secrets("another") };
    elsewhere.put_new(&record, w.clock.now()).await.unwrap();
    let foreign = elsewhere.kv.get(&key_of(record.id)).await.unwrap().unwrap();
    for entry in [bare, moved.clone(), foreign] {
        w.kv.inner.put(&key_of(record.id), entry, Duration::from_secs(60)).await.unwrap();
        w.keys.forget(record.id);
        w.check(planted.expose(), "unknown_token").await;
    }
    w.kv.inner.put(&key_of(id), moved, Duration::from_secs(60)).await.unwrap();
    w.keys.forget(id);
    w.check(&key, "unknown_token").await;
    w.kv.inner
        .put(&Key::only(Space::ApiKeys), Entry { generation: 9, value: b"[]".to_vec() }, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(w.listed().await, []);
    let (_, new) = w.create(alice()).await;
    assert_eq!(w.listed().await, [new], "the index is begun anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_keys_made_and_ended_at_once_none_is_lost() {
    let w = world();
    let there = w.beside();
    let making: Vec<_> = (0..30)
        .map(|i| {
            let keys = [&w, &there][i % 2].keys.clone();
            tokio::spawn(async move {
                let made = keys.create(NewKey { user: format!("user {i}"), ..NewKey::default() }).await.unwrap();
                if i % 3 == 0 {
                    assert_eq!(keys.revoke(made.record.id).await, Ok(true));
                    return None;
                }
                Some(made.record.id)
            })
        })
        .collect();
    let mut stay = Vec::new();
    for one in making {
        stay.extend(one.await.unwrap());
    }
    let mut listed = w.listed().await;
    listed.sort_by_key(KeyId::to_string);
    stay.sort_by_key(KeyId::to_string);
    assert_eq!(stay.len(), 20);
    assert_eq!(listed, stay);
}

#[tokio::test]
async fn an_id_that_is_taken_is_not_taken_over() {
    let w = world();
    let first = ApiKey::generate(&Counted::default());
    let record = ApiKey::parse(first.expose()).unwrap();
    let known = format!(r#"{{"id":"{}","digest":"{}","user":"first"}}"#, record.id, record.digest.hex());
    let known: Record = serde_json::from_str(&known).unwrap();
    let shelf = KeyStore { kv: w.kv.clone(), secrets: secrets("the store's") };
    assert_eq!(shelf.put_new(&known, w.clock.now()).await, Ok(true));
    let maker = World::on(w.kv.clone(), w.clock.clone(), Arc::new(Counted::default()));
    let (key, id) = maker.create(alice()).await;
    assert_eq!(id.as_str(), "030303030303", "the next");
    maker.check(&key, "alice").await;
    maker.check(first.expose(), "first").await;
}

/// Fills the index in one write: to enlist ten thousand one by one would write it ten thousand times.
async fn fill(shelf: &KeyStore, until: impl Fn(usize) -> i64) {
    let lines: Vec<_> = (0..MOST).map(|i| serde_json::json!({"id": format!("{i:012}"), "until": until(i)})).collect();
    let plain = serde_json::to_vec(&lines).unwrap();
    let value = shelf.secrets.seal(b"", &[b"api key index"], b"api_keys", &plain).unwrap();
    shelf.kv.put(&Key::only(Space::ApiKeys), Entry { generation: 50, value }, Duration::from_secs(60)).await.unwrap();
}

#[tokio::test]
async fn there_are_no_more_keys_than_may_be() {
    let w = world();
    let (first, _) = w.create(alice()).await;
    let shelf = KeyStore { kv: w.kv.clone(), secrets: secrets("the store's") };
    let known = w.keys.list().await.unwrap().remove(0);
    fill(&shelf, |_| i64::MAX).await;
    assert_eq!(w.keys.create(alice()).await.unwrap_err(), NotCreated::Full);
    assert_eq!(w.listed().await, [], "lines without records are passed over");
    w.keys.revoke(KeyId::parse("000000000000").unwrap()).await.unwrap();
    w.create(alice()).await;
    assert_eq!(shelf.enlist(&known, w.clock.now()).await, Ok(false));
    w.check(&first, "alice").await;
}

#[tokio::test]
async fn expired_keys_give_way_to_new_ones() {
    let w = world();
    let shelf = KeyStore { kv: w.kv.clone(), secrets: secrets("the store's") };
    let listed_for = 30 * 86_400;
    // 7 and 9 have expired, 9 first; 8 expires in a second, the others never.
    let until = |i| match i {
        7 => NOW + listed_for - 5,
        9 => NOW + listed_for - 10,
        8 => NOW + listed_for + 1,
        _ => i64::MAX,
    };
    fill(&shelf, until).await;
    let is_listed = async |id: &str| shelf.strike(KeyId::parse(id).unwrap(), w.clock.now()).await.unwrap();
    let (first, _) = w.create(alice()).await;
    assert!(!is_listed("000000000009").await, "it expired first");
    let (second, id) = w.create(alice()).await;
    assert_eq!(w.listed().await.len(), 2);
    assert_eq!(w.keys.create(alice()).await.unwrap_err(), NotCreated::Full, "nothing else has expired");
    assert!(!is_listed("000000000007").await && is_listed("000000000008").await && is_listed(id.as_str()).await);
    w.check(&first, "alice").await;
    w.check(&second, "alice").await;
}

#[tokio::test]
async fn the_last_use_is_noted_once_a_minute() {
    let w = world();
    let (key, _) = w.create(alice()).await;
    let there = w.beside();
    for replica in [&w, &there] {
        replica.keys.configure(Vec::new(), &Settings { ttl: Duration::from_secs(3600).into(), ..CACHE });
    }
    let written = || w.asked().iter().filter(|one| one.starts_with("replace api_key:")).count();
    let used = async |w: &World| w.keys.list().await.unwrap()[0].last_used;
    assert_eq!(used(&w).await, None);
    for _ in 0..10 {
        w.check(&key, "alice").await;
        there.check(&key, "alice").await;
        settle().await;
    }
    assert_eq!((used(&w).await, written()), (Some(NOW), 1));
    for _ in 0..6 {
        w.pass(10);
        w.check(&key, "alice").await;
        there.check(&key, "alice").await;
        settle().await;
    }
    assert_eq!((used(&w).await, written()), (Some(NOW + 60), 1));
    w.check(&format!("{}{}", &key[..17], "A".repeat(43)), "unknown_token").await;
    w.pass(60);
    w.check(&format!("{}{}", &key[..17], "A".repeat(43)), "unknown_token").await;
    settle().await;
    assert_eq!(written(), 0, "a refusal is no use");
    w.check(&key, "alice").await;
    settle().await;
    assert_eq!(written(), 1);
}

#[tokio::test]
async fn the_note_of_a_use_finds_a_key_that_was_ended() {
    let w = world();
    let (key, id) = w.create(alice()).await;
    w.keys.configure(Vec::new(), &Settings { ttl: Duration::from_secs(3600).into(), ..CACHE });
    w.check(&key, "alice").await;
    settle().await;
    w.kv.inner.delete(&key_of(id), Duration::ZERO).await.unwrap();
    w.pass(60);
    w.check(&key, "alice").await; // from the cache, and its use is recorded
    settle().await;
    w.check(&key, "unknown_token").await;
    assert_eq!(w.kv.inner.get(&key_of(id)).await, Ok(None), "nothing was revived");
}

#[tokio::test]
async fn a_new_key_is_known_where_it_was_refused() {
    let w = world();
    let there = w.beside();
    let made = ApiKey::generate(&Counted::default()); // the key that a replica with this entropy will create
    w.check(made.expose(), "unknown_token").await;
    there.check(made.expose(), "unknown_token").await;
    let maker = World::on(w.kv.clone(), w.clock.clone(), Arc::new(Counted::default()));
    maker.check(made.expose(), "unknown_token").await;
    let (key, id) = maker.create(alice()).await;
    assert_eq!(key, made.expose());
    maker.check(&key, "alice").await;
    w.check(&key, "unknown_token").await;
    w.keys.forget(id);
    w.check(&key, "alice").await;
    there.keys.forget_all();
    there.check(&key, "alice").await;
}
