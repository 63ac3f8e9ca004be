use super::*;
use crate::kit::clock::test::SetClock;
use crate::kit::entropy::test::Counted;
use crate::kit::setting::{Count, Wait};
use crate::store::faulty::Faulty;
use crate::store::kv::key;
use crate::store::redis::{Breaker, Standby};

struct World {
    shared: Arc<Faulty>,
    ups: Arc<Mutex<Vec<bool>>>,
    one: Arc<Fallback>,
    two: Arc<Fallback>,
}

const HOUR: Duration = Duration::from_secs(3600);

async fn world() -> World {
    let clock = Arc::new(SetClock::at(1000));
    let shared = Faulty::new(&clock);
    let settings = Settings {
        breaker: Breaker { failures: Count::of(3), cooldown: Wait::seconds(5) },
        standby: Standby { max_entries: 100, ..Standby::default() },
        sets_of: |place, _| vec![Key::of(Space::Index, format!("of:{place}"))],
    };
    let ups: Arc<Mutex<Vec<bool>>> = Arc::default();
    let entropy = Arc::new(Counted::default());
    let replica = |told: Option<Arc<Mutex<Vec<bool>>>>| {
        let on_change = move |up| {
            if let Some(told) = &told {
                told.lock().push(up);
            }
        };
        Fallback::new(shared.clone(), clock.clone(), entropy.clone(), settings, Box::new(on_change))
    };
    let (one, two) = (replica(Some(ups.clone())), replica(None));
    one.recover().await.unwrap();
    two.recover().await.unwrap();
    World { shared, ups, one, two }
}

fn announced(w: &World) -> Vec<String> {
    w.shared.announced.lock().iter().map(Change::text).collect()
}

fn entry(generation: u64, value: &str) -> Entry {
    Entry { generation, value: value.into() }
}

impl World {
    async fn goes_away(&self) {
        self.shared.away.store(true, SeqCst);
        for replica in [&self.one, &self.two] {
            for _ in 0..3 {
                replica.note_failure();
            }
        }
    }

    async fn comes_back(&self) {
        self.shared.away.store(false, SeqCst);
        self.one.recover().await.unwrap();
        self.two.recover().await.unwrap();
    }
}

#[tokio::test]
async fn what_this_replica_knows_outlives_an_outage() {
    let w = world().await;
    w.one.put(&key("session:a"), entry(1, "a"), HOUR).await.unwrap();
    w.two.put(&key("session:b"), entry(1, "b"), HOUR).await.unwrap();
    w.goes_away().await;
    let before = w.shared.asked.load(SeqCst);
    assert_eq!(w.one.get(&key("session:a")).await, Ok(Some(entry(1, "a"))));
    assert_eq!(w.one.get(&key("session:b")).await, Err(Unavailable), "away is not absent");
    assert_eq!(
        w.one.put_new(&key("lease:x"), entry(0, ""), HOUR).await,
        Err(Unavailable),
        "one that others cannot see leases nothing"
    );
    assert_eq!(w.one.put_new(&key("used:x"), entry(0, ""), HOUR).await, Ok(true));
    assert_eq!(w.one.put_new(&key("used:x"), entry(0, ""), HOUR).await, Ok(false));
    assert!(w.one.is_unavailable());
    assert_eq!(w.shared.asked.load(SeqCst), before, "while it is away nobody waits for it");
    w.comes_back().await;
    assert!(!w.one.is_unavailable() && w.one.get(&key("session:b")).await.unwrap().is_some());
    assert_eq!(*w.ups.lock(), [true, false, true], "one word for each change");
}

#[tokio::test]
async fn what_was_made_and_ended_meanwhile_is_replayed() {
    let w = world().await;
    for name in ["session:kept", "session:ended", "session:renewed"] {
        w.one.put(&key(name), entry(1, "old"), HOUR).await.unwrap();
        w.two.get(&key(name)).await.unwrap();
    }
    w.goes_away().await;
    w.one.put(&key("session:new"), entry(1, "new"), HOUR).await.unwrap();
    assert_eq!(w.one.replace(&key("session:new"), entry(2, "newer"), HOUR).await, Ok(true));
    assert_eq!(w.one.delete(&key("session:ended"), HOUR).await, Ok(true));
    assert_eq!(w.one.get(&key("session:ended")).await, Ok(None));
    assert_eq!(w.one.replace(&key("session:ended"), entry(9, "no"), HOUR).await, Ok(false));
    assert_eq!(w.one.replace(&key("session:renewed"), entry(2, "renewed"), HOUR).await, Ok(true));
    assert_eq!(
        w.two.replace(&key("session:ended"), entry(2, "touched"), HOUR).await,
        Ok(true),
        "the other replica does not know"
    );
    w.comes_back().await;
    assert_eq!(w.two.get(&key("session:new")).await, Ok(Some(entry(2, "newer"))));
    assert_eq!(w.two.get(&key("session:ended")).await, Ok(None), "ended everywhere, whoever replays last");
    assert_eq!(w.two.get(&key("session:renewed")).await, Ok(Some(entry(2, "renewed"))));
    assert_eq!(w.two.get(&key("session:kept")).await, Ok(Some(entry(1, "old"))));
}

#[tokio::test]
async fn what_nobody_could_be_told_is_told_when_the_store_is_back() {
    let w = world().await;
    w.one.announce(&Change::Session("told".into())).await;
    w.one.note_failure(); // one call without an answer: the store may have done it
    w.one.announce(&Change::Session("later".into())).await;
    w.one.announce(&Change::Session("later".into())).await;
    assert_eq!(announced(&w), ["told"]);
    w.one.recover().await.unwrap();
    assert_eq!(announced(&w), ["told", "later"]);
    w.one.recover().await.unwrap();
    assert_eq!(w.shared.announced.lock().len(), 2, "once");
    w.one.note_failure();
    for n in 0..200 {
        w.one.announce(&Change::Session(n.to_string())).await;
    }
    w.one.recover().await.unwrap();
    assert_eq!(w.shared.announced.lock().len(), 102, "no more than `max_entries`");
}

#[tokio::test]
async fn a_store_that_lost_its_data_gets_back_what_is_held() {
    let w = world().await;
    w.one.put(&key("session:a"), entry(3, "a"), HOUR).await.unwrap();
    w.one.put(&key("session:ended"), entry(1, "x"), HOUR).await.unwrap();
    w.goes_away().await;
    w.shared.lose_everything();
    w.one.delete(&key("session:ended"), HOUR).await.unwrap();
    w.comes_back().await;
    assert_eq!(w.two.get(&key("session:a")).await, Ok(Some(entry(3, "a"))));
    assert_eq!(w.two.get(&key("session:ended")).await, Ok(None));
    // Nothing is written back to a store that kept its data: a session that ended there stays ended.
    w.two.delete(&key("session:a"), HOUR).await.unwrap();
    w.goes_away().await;
    w.comes_back().await;
    assert_eq!(w.one.get(&key("session:a")).await, Ok(None));
}

/// Of an entry that only others hold, a store that has just lost its data does not say that it never was.
#[tokio::test]
async fn absence_is_not_believed_of_a_store_that_lost_its_data() {
    let w = world().await;
    let a = key("session:a");
    w.one.put(&a, entry(1, "a"), HOUR).await.unwrap();
    w.shared.lose_everything();
    assert_eq!(w.two.get(&a).await, Err(Unavailable));
    w.two.recover().await.unwrap();
    assert!(w.two.is_settling() && announced(&w) == [""], "others are told, and have a moment");
    w.one.recover().await.unwrap();
    assert_eq!(w.two.get(&a).await, Ok(Some(entry(1, "a"))));
    assert_eq!(w.two.get(&key("session:b")).await, Ok(None), "what never was is absent");
}

/// A node of a cluster may lose its data, and the epoch is on another.
#[tokio::test]
async fn what_was_lost_alone_is_written_back_and_what_was_ended_is_not() {
    let w = world().await;
    let (a, b) = (key("session:a"), key("session:b"));
    for replica in [&w.one, &w.two] {
        for (key, value) in [(&a, "a"), (&b, "b")] {
            replica.put(key, entry(1, value), HOUR).await.unwrap();
        }
    }
    w.shared.lose(&a).await;
    w.two.delete(&b, HOUR).await.unwrap();
    assert_eq!(w.one.get(&a).await, Ok(Some(entry(1, "a"))));
    assert_eq!(w.two.get(&a).await, Ok(Some(entry(1, "a"))), "it is there again");
    assert_eq!(w.two.members(&Key::of(Space::Index, "of:a")).await, Ok(vec!["a".to_owned()]), "and in its sets");
    assert_eq!(w.one.get(&b).await, Ok(None), "what another replica ended stays so");
    w.shared.lose(&a).await;
    assert_eq!(w.one.replace(&a, entry(2, "newer"), HOUR).await, Ok(true));
    assert_eq!(w.two.get(&a).await, Ok(Some(entry(2, "newer"))));
    w.one.delete(&a, HOUR).await.unwrap();
    w.shared.lose(&a).await;
    assert_eq!(w.one.get(&a).await, Ok(None), "nor does what was ended here come back");
}

#[tokio::test]
async fn the_journal_is_bounded_and_can_be_off() {
    let w = world().await;
    w.goes_away().await;
    let mut full = false;
    for i in 0..200 {
        full = w.one.put(&key(&format!("session:{i}")), entry(1, "x"), HOUR).await.is_err();
    }
    assert!(full);
    let off = Settings {
        breaker: Breaker { failures: Count::of(1), cooldown: HOUR.into() },
        standby: Standby { enabled: false, max_entries: 10, ..Standby::default() },
        sets_of: |_, _| Vec::new(),
    };
    let clock = w.shared.clock.clone();
    let none = Fallback::new(w.shared.clone(), clock, Arc::new(Counted::default()), off, Box::new(|_| {}));
    assert_eq!(none.put(&key("session:a"), entry(1, "x"), HOUR).await, Err(Unavailable));
    assert_eq!(none.get(&key("session:a")).await, Err(Unavailable));
}

#[tokio::test(start_paused = true)]
async fn it_heals_by_itself() {
    let w = world().await;
    tokio::spawn(w.one.clone().watch());
    w.shared.away.store(true, SeqCst);
    w.one.put(&key("session:a"), entry(1, "a"), HOUR).await.unwrap();
    while w.ups.lock().last() != Some(&false) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    w.shared.away.store(false, SeqCst);
    let back = timeout(Duration::from_secs(6), async {
        while w.one.is_unavailable() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    back.await.expect("within the cooldown and a second");
    assert_eq!(w.two.get(&key("session:a")).await, Ok(Some(entry(1, "a"))));
}

/// After an outage another replica may hold changes that it has not written back yet.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_settles() {
    let w = world().await;
    assert!(!w.one.is_settling());
    w.goes_away().await;
    w.comes_back().await;
    assert!(w.one.is_settling());
    tokio::time::advance(REPLAY).await;
    assert!(!w.one.is_settling());
}

/// A store that comes back with older data does not undo a recent sign-out.
#[tokio::test]
async fn what_was_deleted_here_is_deleted_again() {
    let w = world().await;
    w.one.put(&key("session:a"), entry(1, "a"), HOUR).await.unwrap();
    w.one.delete(&key("session:a"), HOUR).await.unwrap();
    w.shared.put(&key("session:a"), entry(1, "a"), HOUR).await.unwrap();
    assert!(w.one.get(&key("session:a")).await.unwrap().is_none());
    assert!(w.shared.get(&key("session:a")).await.unwrap().is_none());
}

/// Strangers' logins neither evict sessions nor fill the journal for them.
#[tokio::test]
async fn marks_have_room_of_their_own() {
    let w = world().await;
    w.one.put(&key("session:a"), entry(1, "a"), HOUR).await.unwrap();
    for n in 0..1000 {
        w.one.put_new(&key(&format!("used:{n}")), entry(0, ""), HOUR).await.unwrap();
    }
    w.one.memory.run_pending_tasks();
    w.goes_away().await;
    assert_eq!(w.one.get(&key("session:a")).await, Ok(Some(entry(1, "a"))));
    let mut made = 0;
    while w.one.put_new(&key(&format!("used:away-{made}")), entry(0, ""), HOUR).await == Ok(true) {
        made += 1;
    }
    assert_eq!(made, MOST_MARKS, "then a login waits for the store");
    assert_eq!(w.one.put_new(&key("used:away-0"), entry(0, ""), HOUR).await, Ok(false), "still one-shot");
    assert_eq!(w.one.put(&key("session:new"), entry(1, "new"), HOUR).await, Ok(()));
    assert_eq!(w.one.delete(&key("session:a"), HOUR).await, Ok(true), "a sign-out counts");
    w.comes_back().await;
    assert_eq!(w.two.get(&key("session:a")).await, Ok(None));
    assert_eq!(w.two.get(&key("session:new")).await, Ok(Some(entry(1, "new"))));
    assert_eq!(w.two.put_new(&key("used:away-7"), entry(0, ""), HOUR).await, Ok(false), "on all replicas");
    assert!(w.one.journal.lock().is_empty());
}

/// B10: an outage is detected even without requests.
#[tokio::test(start_paused = true)]
async fn a_store_that_nobody_asks_is_looked_at() {
    let w = world().await;
    tokio::spawn(w.one.clone().watch());
    tokio::time::sleep(Duration::from_secs(1)).await;
    w.ups.lock().clear();
    w.shared.away.store(true, SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*w.ups.lock(), [false]);
    w.shared.away.store(false, SeqCst);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(w.ups.lock().last(), Some(&true));
}
