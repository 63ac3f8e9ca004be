//! The store that replicas share: Redis or Valkey, standalone, as a cluster, or behind sentinels (`connect`). Each
//! thread has its own connection, opened on the runtime that drives it; a failed one is dropped and reopened. No call
//! takes longer than the command time-out. `fallback` handles outages of Redis.

mod connect;
mod settings;

pub use crate::store::redis::settings::{Breaker, Mode, RedisUrl, Settings, Standby};

use crate::kit::singleflight::Singleflight;
use crate::store::kv::{Change, Entry, Invalidation, Key, Kv, MOST_MEMBERS, Unavailable};
use crate::telemetry::metrics::{Operation, StoreMetrics};
use async_trait::async_trait;
use connect::{Connection, Source};
use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{Cmd, FromRedisValue, RedisError, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;
use tokio::time::timeout;

/// Checks the settings without connecting.
///
/// # Errors
/// What is wrong, without the address, which may hold a password.
pub fn check(settings: &Settings) -> Result<(), String> {
    Source::new(settings).map(|_| ())
}

pub struct Redis {
    settings: Settings,
    metrics: StoreMetrics,
    source: Arc<Source>,
    // A plain mutex: held to look and to set, never over an await.
    connections: Arc<Mutex<HashMap<ThreadId, Connection>>>,
    connecting: Singleflight<ThreadId, Result<Connection, String>>,
    /// For the operator.
    problem: Mutex<Option<String>>,
    heard: broadcast::Sender<Invalidation>,
    /// That its user may not use sets was logged.
    told_of_sets: AtomicBool,
}

/// An entry's value is `<generation>:<bytes>`; these scripts read the number before the colon. A value without it, or
/// that is not a string, was written by someone else and counts as absent. `LOOK` returns any error other than
/// WRONGTYPE to the caller.
const LOOK: &str = "local v=redis.pcall('GET',KEYS[1]) if not v then return false end \
    if type(v)~='string' then if not string.find(v.err,'WRONGTYPE') then return v end v='' end \
    return {v,redis.call('PTTL',KEYS[1])}";
const REPLACE: &str = "local v=redis.pcall('GET',KEYS[1]) local g=type(v)=='string' and string.match(v,'^(%d+):') \
    if not g or tonumber(g)>=tonumber(ARGV[2]) then return 0 end \
    redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[3]) return 1";
const RESTORE: &str = "if redis.call('EXISTS',KEYS[2])==1 then return 0 end \
    local v=redis.pcall('GET',KEYS[1]) local g=type(v)=='string' and string.match(v,'^(%d+):') \
    if v and (not g or tonumber(g)>=tonumber(ARGV[2])) then return 0 end \
    redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[3]) return 1";
const DELETE: &str = "redis.call('SET',KEYS[2],'','PX',ARGV[1]) return redis.call('DEL',KEYS[1])";
const EXTEND: &str = "if redis.pcall('GET',KEYS[1])~=ARGV[1] then return 0 end \
    if ARGV[2]=='0' then return redis.call('DEL',KEYS[1]) end return redis.call('PEXPIRE',KEYS[1],ARGV[2])";

/// A value of another type was written by someone else: it is dropped, or reads as empty. -1: this user of Redis may not
/// use sets, which must not make the whole store count as unavailable.
const ADD: &str = "local n=redis.pcall('SCARD',KEYS[1]) \
    if type(n)~='number' then if not string.find(n.err,'WRONGTYPE') then return -1 end redis.call('DEL',KEYS[1]) n=0 end \
    if n>=tonumber(ARGV[3]) and redis.call('SISMEMBER',KEYS[1],ARGV[1])==0 then return 0 end \
    redis.call('SADD',KEYS[1],ARGV[1]) \
    if redis.call('PTTL',KEYS[1])<tonumber(ARGV[2]) then redis.call('PEXPIRE',KEYS[1],ARGV[2]) end return 1";
const MEMBERS: &str = "local v=redis.pcall('SMEMBERS',KEYS[1]) if not v.err then return v end \
    if string.find(v.err,'WRONGTYPE') then return {} end return false";
const REMOVE: &str = "redis.pcall('SREM',KEYS[1],ARGV[1]) return 1";

/// Announcements buffered for listeners; one that lags is told that it missed some.
const HEARD: usize = 4096;
const LISTEN_AGAIN: Duration = Duration::from_millis(500);
/// After this long without an announcement the connection is pinged.
const QUIET: Duration = Duration::from_secs(5);

impl Redis {
    /// Does not connect yet.
    ///
    /// # Errors
    /// An address or the certificate authority cannot be read.
    pub fn new(settings: Settings, metrics: StoreMetrics) -> Result<Arc<Self>, String> {
        let source = Source::new(&settings).map_err(|e| format!("store.redis: {e}"))?;
        Ok(Arc::new(Redis {
            settings,
            metrics,
            source: Arc::new(source),
            connections: Arc::default(),
            connecting: Singleflight::default(),
            problem: Mutex::default(),
            heard: broadcast::channel(HEARD).0,
            told_of_sets: AtomicBool::new(false),
        }))
    }

    /// The last failure. It is kept after a later success: calls that began before the failure may succeed after it.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Receives the announcements of other replicas; runs until it is dropped.
    pub async fn listen(self: Arc<Self>) {
        let mut told = false;
        loop {
            if let Err(problem) = self.listen_once().await {
                // A lost connection shows in the store's own calls; a missing permission stays until someone fixes it.
                if !told && problem.to_ascii_uppercase().contains("NOPERM") {
                    told = true;
                    tracing::warn!(%problem, "announcements of other replicas are not received: the user of Redis may not subscribe to the channel");
                }
                tracing::debug!(%problem, "announcements of other replicas are not received");
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    async fn listen_once(&self) -> Result<(), String> {
        let (mut channel, mut said) = self.source.subscriber(&self.settings).await?.split();
        self.in_time(channel.subscribe(self.channel())).await?;
        // Announcements before the subscription were missed.
        let _ = self.heard.send(Invalidation::All);
        loop {
            match timeout(QUIET, said.next()).await {
                Ok(Some(message)) => {
                    if let Ok(place) = message.get_payload::<String>() {
                        let _ = self.heard.send(Invalidation::Key(Change::read(&place)));
                    }
                }
                Ok(None) => return Ok(()),
                // A dead connection is as silent as an idle one.
                Err(_) => drop(self.in_time(channel.ping::<Value>()).await?),
            }
        }
    }

    async fn in_time<T>(&self, step: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
        match timeout(*self.settings.connect_timeout, step).await {
            Ok(done) => done.map_err(|e| e.to_string()),
            Err(_) => Err("no answer".into()),
        }
    }

    fn channel(&self) -> String {
        format!("{}changed", self.settings.key_prefix.as_str())
    }

    /// The braces (a hash tag) keep a key and its tombstone on one node of a cluster.
    fn key(&self, key: &Key) -> String {
        format!("{}{{{}}}", self.settings.key_prefix.as_str(), key.as_str())
    }

    fn tombstone(&self, key: &Key) -> String {
        format!("{}deleted:{{{}}}", self.settings.key_prefix.as_str(), key.as_str())
    }

    fn script(&self, script: &str, keys: &[String]) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(keys.len()).arg(keys);
        command
    }

    async fn ask<T: FromRedisValue>(&self, operation: Operation, command: Cmd) -> Result<T, Unavailable> {
        let begun = Instant::now();
        let answer = self.answer(command).await;
        self.metrics.took(operation, begun.elapsed());
        answer
    }

    async fn answer<T: FromRedisValue>(&self, command: Cmd) -> Result<T, Unavailable> {
        match timeout(*self.settings.command_timeout, self.try_ask(&command)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(problem)) => Err(self.failed(problem)),
            Err(_) => Err(self.failed(format!("no answer in {:?}", self.settings.command_timeout))),
        }
    }

    async fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, String> {
        let known = self.connections.lock().get(&std::thread::current().id()).cloned();
        let (mut connection, kept) = match known {
            Some(connection) => (connection, true),
            None => (self.connected().await?, false),
        };
        let mut answer = connection.ask(command).await;
        // A connection that was closed while idle, or leads to a former master, does not mean that the store is
        // unavailable: retry once, on a new one.
        if kept && answer.as_ref().is_err_and(|e| !e.is_timeout()) {
            self.forget_connections();
            answer = self.connected().await?.ask(command).await;
        }
        redis::from_redis_value(answer.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    }

    /// Connects this thread, in a separate task: connecting may take longer than a request waits, and the next request
    /// then finds the connection or joins the attempt.
    async fn connected(&self) -> Result<Connection, String> {
        let thread = std::thread::current().id();
        let (source, connections, settings) = (self.source.clone(), self.connections.clone(), self.settings.clone());
        let work = move || async move {
            let made = source.connect(&settings).await?;
            connections.lock().insert(thread, made.clone());
            Ok(made)
        };
        match self.connecting.join(thread, work).await {
            Ok((made, _)) => made,
            Err(_) => Err("connecting was broken off".into()),
        }
    }

    /// Drops all connections: after a failover a failed one may lead to a Redis replica, and the other threads would
    /// each have to discover that.
    fn failed(&self, problem: String) -> Unavailable {
        self.forget_connections();
        *self.problem.lock() = Some(problem);
        Unavailable
    }

    fn forget_connections(&self) {
        self.connections.lock().clear();
    }
}

impl Connection {
    async fn ask(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        let answer = match self {
            Connection::One(one) => one.req_packed_command(command).await,
            Connection::Cluster(cluster) => cluster.req_packed_command(command).await,
        };
        answer?.extract_error()
    }
}

fn encoded(entry: &Entry) -> Vec<u8> {
    [format!("{}:", entry.generation).as_bytes(), &entry.value].concat()
}

/// None for a value that is not an entry, written by someone else.
fn decoded(bytes: &[u8]) -> Option<Entry> {
    let colon = bytes.iter().position(|b| *b == b':')?;
    let generation = std::str::from_utf8(bytes.get(..colon)?).ok()?.parse().ok()?;
    Some(Entry { generation, value: bytes.get(colon + 1..)?.to_vec() })
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[async_trait]
impl Kv for Redis {
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Unavailable> {
        let found: Option<(Vec<u8>, i64)> = self.ask(Operation::get, self.script(LOOK, &[self.key(key)])).await?;
        let Some((bytes, left)) = found else { return Ok(None) };
        let entry = decoded(&bytes);
        if entry.is_none() {
            self.count_unreadable();
        }
        Ok(entry.map(|entry| (entry, Duration::from_millis(u64::try_from(left).unwrap_or(0)))))
    }

    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Unavailable> {
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)).arg(encoded(&entry)).arg("PX").arg(millis(ttl));
        self.ask::<Value>(Operation::put, command).await.map(drop)
    }

    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)).arg(encoded(&entry)).arg("NX").arg("PX").arg(millis(ttl));
        Ok(self.ask::<Value>(Operation::put_new, command).await? == Value::Okay)
    }

    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        let mut command = self.script(REPLACE, &[self.key(key)]);
        command.arg(encoded(&entry)).arg(entry.generation).arg(millis(ttl));
        self.ask(Operation::replace, command).await
    }

    async fn delete(&self, key: &Key, remember: Duration) -> Result<bool, Unavailable> {
        let mut command = self.script(DELETE, &[self.key(key), self.tombstone(key)]);
        command.arg(millis(remember));
        self.ask(Operation::delete, command).await
    }

    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        let mut command = self.script(RESTORE, &[self.key(key), self.tombstone(key)]);
        command.arg(encoded(&entry)).arg(entry.generation).arg(millis(ttl));
        self.ask(Operation::restore, command).await
    }

    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Unavailable> {
        let mut command = self.script(EXTEND, &[self.key(key)]);
        command.arg([b"0:", value].concat()).arg(if ttl.is_zero() { 0 } else { millis(ttl) });
        self.ask(Operation::extend, command).await
    }

    async fn add(&self, key: &Key, member: &str, ttl: Duration) -> Result<bool, Unavailable> {
        let mut command = self.script(ADD, &[self.key(key)]);
        command.arg(member).arg(millis(ttl)).arg(MOST_MEMBERS);
        let added: i64 = self.ask(Operation::put, command).await?;
        if added < 0 && !self.told_of_sets.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "logouts of the provider and of the admin API find no session: the user of Redis may not use sets"
            );
        }
        Ok(added != 0)
    }

    async fn members(&self, key: &Key) -> Result<Vec<String>, Unavailable> {
        let members: Option<Vec<String>> = self.ask(Operation::get, self.script(MEMBERS, &[self.key(key)])).await?;
        if members.is_none() {
            tracing::warn!("a logout finds no session: the user of Redis may not use sets");
        }
        Ok(members.unwrap_or_default())
    }

    async fn remove(&self, key: &Key, member: &str) -> Result<(), Unavailable> {
        let mut command = self.script(REMOVE, &[self.key(key)]);
        command.arg(member);
        self.ask::<Value>(Operation::put, command).await.map(drop)
    }

    async fn announce(&self, change: &Change) {
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.channel()).arg(change.text());
        let _ = self.ask::<Value>(Operation::announce, command).await;
    }

    fn count_unreadable(&self) {
        self.metrics.unreadable();
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn announcements(&self) -> Option<broadcast::Receiver<Invalidation>> {
        Some(self.heard.subscribe())
    }
}
