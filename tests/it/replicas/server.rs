//! Redis servers of a test's own: real processes on free ports, ended by their handle. One can be killed, frozen, thawed,
//! and begun anew on its port, with its data or without.

use crate::gateway::Folder;
use crate::tls::Certificate;
use crate::wait::{free_port, until_so};
use std::process::{Child, Command, Stdio};

pub struct RedisServer {
    program: &'static str,
    pub port: u16,
    folder: Folder,
    arguments: Vec<String>,
    child: Child,
    /// How the test itself reaches it.
    url: String,
}

/// Three nodes without replicas, all slots among them.
pub struct Cluster {
    pub nodes: Vec<RedisServer>,
}

/// A master with a replica, and three sentinels that watch them.
pub struct Watched {
    pub master: RedisServer,
    pub replica: RedisServer,
    pub sentinels: Vec<RedisServer>,
}

const REDIS: &str = "redis-server";
const NODES: usize = 3;
const NO_SNAPSHOTS: [&str; 2] = ["--save", ""];
const KEEPS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "no"];

impl RedisServer {
    /// Its data outlive the process, though not the machine.
    pub async fn start() -> Self {
        Self::with(&KEEPS).await
    }

    pub async fn with(arguments: &[&str]) -> Self {
        let port = free_port();
        Self::run(port, format!("redis://127.0.0.1:{port}/0"), arguments).await
    }

    /// `who`: a user and a password, with a colon between.
    pub async fn guarded(who: &str, arguments: &[&str]) -> Self {
        let port = free_port();
        Self::run(port, format!("redis://{who}@127.0.0.1:{port}/0"), arguments).await
    }

    /// Speaks TLS alone, shows this certificate, and may want the same of its clients.
    pub async fn over_tls(certificate: &Certificate, wants_it: bool) -> Self {
        let (port, folder) = (free_port(), Folder::new());
        certificate.write(&folder, "redis");
        let file = |name: &str| folder.path(name).display().to_string();
        let (pem, key) = (file("redis.pem"), file("redis.key"));
        let tls = ["--tls-port", &port.to_string(), "--tls-cert-file", &pem, "--tls-key-file", &key].map(str::to_owned);
        let wanted = if wants_it { "yes" } else { "no" };
        let rest = ["--tls-ca-cert-file", &pem, "--tls-auth-clients", wanted, "--port", "0"].map(str::to_owned);
        let arguments = [&tls[..], &rest[..]].concat();
        let child = spawn(REDIS, &folder, &arguments);
        let server = RedisServer { program: REDIS, port, folder, arguments, child, url: String::new() };
        server.listens().await;
        server
    }

    /// Valkey, which is Redis of another house.
    pub async fn valkey() -> Self {
        let port = free_port();
        Self::run_program("valkey-server", port, format!("redis://127.0.0.1:{port}/0"), &KEEPS).await
    }

    async fn run(port: u16, url: String, arguments: &[&str]) -> Self {
        Self::run_program(REDIS, port, url, arguments).await
    }

    async fn run_program(program: &'static str, port: u16, url: String, arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let own = ["--port".to_owned(), port.to_string()];
        let arguments: Vec<String> = own.into_iter().chain(arguments.iter().map(|text| (*text).to_owned())).collect();
        let child = spawn(program, &folder, &arguments);
        let server = RedisServer { program, port, folder, arguments, child, url };
        server.answers().await;
        server
    }

    /// `password`: the master's, without which a sentinel soon takes it for down.
    pub async fn sentinel(master: u16, password: Option<&str>) -> Self {
        let (port, folder) = (free_port(), Folder::new());
        let mut lines = vec![
            format!("port {port}"),
            "bind 127.0.0.1".into(),
            format!("sentinel monitor main 127.0.0.1 {master} 2"),
            "sentinel down-after-milliseconds main 1000".into(),
            "sentinel failover-timeout main 4000".into(),
        ];
        lines.extend(password.map(|password| format!("sentinel auth-pass main {password}")));
        let file = folder.write("sentinel.conf", &lines.join("\n"));
        let child = command_of(REDIS, &folder).args([file.as_str(), "--sentinel"]).spawn().unwrap();
        let url = format!("redis://127.0.0.1:{port}");
        let server = RedisServer { program: REDIS, port, folder, arguments: Vec::new(), child, url };
        server.answers().await;
        server
    }

    /// As it stands in `store.redis.urls`.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn listens(&self) {
        until_so("redis listens", async || tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok())
            .await;
    }

    async fn answers(&self) {
        until_so("redis answers", async || self.try_ask(&["PING"]).await.is_ok()).await;
    }

    /// A connection of its own for each command; its answer.
    pub async fn try_ask(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let (first, rest) = words.split_first().unwrap();
        redis::cmd(first).arg(rest).query_async(&mut connection).await
    }

    pub async fn ask(&self, words: &[&str]) -> redis::Value {
        self.try_ask(words).await.unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = redis::from_redis_value(self.ask(&["KEYS", pattern]).await).unwrap();
        keys.sort();
        keys
    }

    /// What stands under a key, as bytes; of a set each member.
    pub async fn bytes(&self, key: &str) -> Vec<u8> {
        match self.ask(&["TYPE", key]).await {
            redis::Value::SimpleString(kind) if kind == "set" => {
                let members: Vec<Vec<u8>> = redis::from_redis_value(self.ask(&["SMEMBERS", key]).await).unwrap();
                members.concat()
            }
            _ => redis::from_redis_value(self.ask(&["GET", key]).await).unwrap(),
        }
    }

    pub async fn set(&self, key: &str, value: &[u8]) {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("SET").arg(key).arg(value).arg("KEEPTTL").query_async::<()>(&mut connection).await.unwrap();
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Begins anew on its port.
    pub async fn begin(&mut self) {
        self.child = spawn(self.program, &self.folder, &self.arguments);
        self.answers().await;
    }

    /// Begins anew, and remembers nothing.
    pub async fn begin_empty(&mut self) {
        let _ = std::fs::remove_dir_all(self.folder.path("appendonlydir"));
        self.begin().await;
        assert_eq!(self.keys("doorward:*:{session:*}").await.len(), 0);
    }

    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Cluster {
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let bus = free_port().to_string();
            let own = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            nodes.push(RedisServer::with(&[&own[..], &KEEPS].concat()).await);
        }
        let cluster = Cluster { nodes };
        let folder = Folder::new();
        let mut create = command_of("redis-cli", &folder);
        create.args(["--cluster", "create"]).args(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        let made = create.args(["--cluster-replicas", "0", "--cluster-yes"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        cluster.is_whole().await;
        cluster
    }

    pub async fn is_whole(&self) {
        for node in &self.nodes {
            until_so("the cluster is whole", async || {
                let told: String = redis::from_redis_value(node.ask(&["CLUSTER", "INFO"]).await).unwrap();
                told.contains("cluster_state:ok")
            })
            .await;
        }
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url().to_owned()).collect()
    }
}

impl Watched {
    pub async fn start() -> Self {
        let master = RedisServer::start().await;
        let of = master.port.to_string();
        let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &of, "--repl-diskless-sync-delay", "0"]).await;
        until_so("the replica follows", async || {
            let told: String = redis::from_redis_value(replica.ask(&["INFO", "replication"]).await).unwrap();
            told.contains("master_link_status:up")
        })
        .await;
        let mut sentinels = Vec::new();
        for _ in 0..NODES {
            sentinels.push(RedisServer::sentinel(master.port, None).await);
        }
        let watched = Watched { master, replica, sentinels };
        for sentinel in &watched.sentinels {
            until_so("the sentinels know everybody", async || {
                let master = sentinel.ask(&["SENTINEL", "MASTER", "main"]).await;
                let told: std::collections::HashMap<String, String> = redis::from_redis_value(master).unwrap();
                told["num-slaves"] == "1" && told["num-other-sentinels"] == "2"
            })
            .await;
        }
        watched
    }

    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| sentinel.url().to_owned()).collect()
    }

    /// All that was written has arrived at the replica.
    pub async fn is_in_step(&self) {
        until_so("the replica is in step", async || {
            let waits = self.master.ask(&["WAIT", "1", "0"]).await;
            redis::from_redis_value::<i64>(waits).unwrap() == 1
        })
        .await;
    }
}

fn command_of(program: &str, folder: &Folder) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder.path("")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn spawn(program: &str, folder: &Folder, arguments: &[String]) -> Child {
    let dir = folder.path("").display().to_string();
    let usual = ["--bind", "127.0.0.1", "--dir", &dir];
    let started = command_of(program, folder).args(usual).args(NO_SNAPSHOTS).args(arguments).spawn();
    started.unwrap_or_else(|e| panic!("{program} is not installed: {e}"))
}
