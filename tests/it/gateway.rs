//! The real binary: a configuration as text, a process of its own, its output in a file, its ports. It ends with its
//! handle, and then its log, at level debug, must hold nothing that was secret.

use crate::client::{Connection, Reply, Request, Secrets, get};
use crate::wait::{LONG, free_port, until, until_so};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;

/// What is known before there are ports. Each text is in YAML's flow style: `{address: ..}` and so on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The keys of each listener but its address.
    pub listeners: Vec<String>,
    pub logging: String,
    pub providers: Vec<String>,
    pub routes: Vec<String>,
    /// Further keys of the top, each on a line of its own.
    pub more: Vec<String>,
    /// Environment of the process.
    pub env: Vec<(String, String)>,
    /// The soft and the hard limit of open files, where they are not those of the tests.
    pub files: Option<(u32, u32)>,
    /// Its output goes here and not into the log.
    pub out: Option<PathBuf>,
}

/// A folder that goes with its handle.
pub struct Folder(PathBuf);

pub struct Gateway {
    pub folder: Folder,
    pub secrets: Secrets,
    child: Child,
    ports: Vec<u16>,
    admin: u16,
}

impl Default for Config {
    fn default() -> Self {
        let more = [
            "shutdown_grace: 10s",
            "workers: 2",
            "store: {backend: memory}",
            // Tests of other things send many bad tokens from one address.
            "caches: {unknown_tokens: {enabled: false}}",
            "limits: {unknown_tokens: {enabled: false}}",
        ];
        Config {
            listeners: vec![String::new()],
            logging: "{format: json, level: debug}".to_owned(),
            providers: Vec::new(),
            routes: Vec::new(),
            more: more.map(str::to_owned).to_vec(),
            env: Vec::new(),
            files: None,
            out: None,
        }
    }
}

impl Config {
    /// The keys of the first listener.
    pub fn listener(mut self, keys: &str) -> Self {
        self.listeners[0] = keys.to_owned();
        self
    }

    pub fn another_listener(mut self, keys: &str) -> Self {
        self.listeners.push(keys.to_owned());
        self
    }

    pub fn provider(mut self, name: &str, issuer: &str, keys: &str) -> Self {
        let client = "client_id: doorward, client_secret: doorward-secret, timeout: 1s";
        self.providers.push(format!("{name}: {{issuer: \"{issuer}\", {client}, {keys}}}"));
        self
    }

    /// `keys`: what follows name, place and app.
    pub fn route(mut self, name: &str, from: &str, to: &str, keys: &str) -> Self {
        self.routes.push(format!("{{name: {name}, from: \"{from}\", to: {to}, {keys}}}"));
        self
    }

    pub fn more(mut self, line: &str) -> Self {
        let key = line.split(':').next().unwrap();
        self.more.retain(|known| known.split(':').next() != Some(key));
        self.more.push(line.to_owned());
        self
    }

    fn text(&self, ports: &[u16], admin: u16) -> String {
        let mut text = String::from("listen:\n");
        for (keys, port) in self.listeners.iter().zip(ports) {
            text += &format!("  - {{address: \"127.0.0.1:{port}\", {keys}}}\n");
        }
        text += &format!("admin: {{address: \"127.0.0.1:{admin}\"}}\nlogging: {}\n", self.logging);
        text += &self.more.iter().map(|line| format!("{line}\n")).collect::<String>();
        text += if self.providers.is_empty() { "" } else { "providers:\n" };
        text += &self.providers.iter().map(|provider| format!("  {provider}\n")).collect::<String>();
        text += "routes:\n";
        text + &self.routes.iter().map(|route| format!("  - {route}\n")).collect::<String>()
    }
}

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

impl Gateway {
    /// Runs it until it is ready.
    pub async fn start(config: &Config) -> Self {
        let gateway = Self::start_unready(config).await;
        until_so("readiness", async || gateway.admin("/readyz").await.status == 200).await;
        gateway
    }

    /// Runs this text of a configuration with one listener, at addresses of this test.
    pub async fn of_text(text: &str, env: &[(String, String)]) -> Self {
        let (folder, port, admin) = (Folder::new(), free_port(), free_port());
        folder.write("config.yaml", text);
        let out = std::fs::File::create(folder.path("log")).unwrap();
        let child = doorward(&folder)
            .args(["run", "-c", "config.yaml"])
            .env("DOORWARD__LISTEN__0", format!("127.0.0.1:{port}"))
            .env("DOORWARD__ADMIN__ADDRESS", format!("127.0.0.1:{admin}"))
            .envs(env.iter().cloned())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let mut gateway = Gateway { folder, secrets: Secrets::default(), child, ports: vec![port], admin };
        until_so("the listeners", async || {
            if let Some(status) = gateway.child.try_wait().unwrap() {
                panic!("the gateway ended with {status}:\n{}", gateway.log());
            }
            TcpStream::connect(("127.0.0.1", admin)).await.is_ok()
        })
        .await;
        until_so("readiness", async || gateway.admin("/readyz").await.status == 200).await;
        gateway
    }

    /// Runs it until it is alive and accepts connections; its providers may be away.
    pub async fn start_unready(config: &Config) -> Self {
        let mut gateway = Self::spawn(config);
        let mut ports = gateway.ports.clone();
        ports.push(gateway.admin);
        for port in ports {
            until_so("a listener", async || {
                if let Some(status) = gateway.child.try_wait().unwrap() {
                    panic!("the gateway ended with {status}:\n{}", gateway.log());
                }
                TcpStream::connect(("127.0.0.1", port)).await.is_ok()
            })
            .await;
        }
        gateway
    }

    /// Runs it until it says that it is ready, and looks at nothing else.
    pub async fn start_at_readiness(config: &Config) -> Self {
        let gateway = Self::spawn(config);
        let admin = format!("127.0.0.1:{}", gateway.admin);
        until_so("the admin listener", async || TcpStream::connect(&admin).await.is_ok()).await;
        until_so("readiness", async || gateway.admin("/readyz").await.status == 200).await;
        gateway
    }

    fn spawn(config: &Config) -> Self {
        let folder = Folder::new();
        let ports: Vec<u16> = config.listeners.iter().map(|_| free_port()).collect();
        let admin = free_port();
        folder.write("config.yaml", &config.text(&ports, admin));
        let out = std::fs::File::create(folder.path("log")).unwrap();
        let mut command = match config.files {
            None => doorward(&folder),
            Some((soft, hard)) => limited(&folder, soft, hard),
        };
        let pipe = config.out.as_ref().map(|out| std::fs::File::options().read(true).write(true).open(out).unwrap());
        let child = command
            .args(["run", "-c", "config.yaml"])
            .envs(config.env.iter().cloned())
            .stdout(pipe.unwrap_or_else(|| out.try_clone().unwrap()))
            .stderr(out)
            .spawn()
            .unwrap();
        Gateway { folder, secrets: Secrets::default(), child, ports, admin }
    }

    /// Runs a second process that takes the listeners over, while this one serves; returns when it has.
    pub async fn upgrade(&mut self) {
        let out = std::fs::File::options().append(true).open(self.folder.path("log")).unwrap();
        let mut command = doorward(&self.folder);
        command.args(["run", "-c", "config.yaml", "--upgrade"]).stdout(out.try_clone().unwrap()).stderr(out);
        let next = command.spawn().unwrap();
        self.signal("QUIT");
        let status = self.ended().await;
        assert!(status.success(), "the old process ended with {status}:\n{}", self.log());
        self.child = next;
    }

    /// Of the first listener.
    pub fn address(&self) -> String {
        self.address_of(0)
    }

    pub fn address_of(&self, listener: usize) -> String {
        format!("127.0.0.1:{}", self.ports[listener])
    }

    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(&self.address(), &self.secrets).await
    }

    /// On a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> impl Future<Output = Reply> {
        let place = std::panic::Location::caller();
        async move {
            let mut connection = self.connect().await;
            connection.send(request).await;
            connection.reply().await.unwrap_or_else(|| panic!("{place}: closed without an answer to {request:?}"))
        }
    }

    /// What the admin listener answers to a GET.
    pub async fn admin(&self, path: &str) -> Reply {
        let address = format!("127.0.0.1:{}", self.admin);
        let mut connection = Connection::open(&address, &self.secrets).await;
        connection.ask(&get(path).set("Host", &address).with("Connection", "close")).await
    }

    /// A sample of the metrics by its whole name, labels included; 0 where there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.split(' ').next().unwrap().parse().unwrap())
    }

    pub fn log(&self) -> String {
        self.folder.read("log")
    }

    /// Puts another configuration in force, on the same ports; returns when it is.
    pub async fn reload(&self, config: &Config) {
        self.reload_text(&config.text(&self.ports, self.admin), "ok").await;
    }

    /// Writes this text, sends SIGHUP, and waits for one more reload with this result.
    pub async fn reload_text(&self, text: &str, result: &str) {
        let counter = format!("doorward_config_reloads_total{{result=\"{result}\"}}");
        let before = self.metric(&counter).await;
        self.folder.write("config.yaml", text);
        self.signal("HUP");
        until_so(&format!("a reload that is {result}"), async || self.metric(&counter).await > before).await;
    }

    /// The text of a configuration on the ports of this gateway.
    pub fn text_of(&self, config: &Config) -> String {
        config.text(&self.ports, self.admin)
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Ends it as an operator does and runs it anew in its folder, on its ports, until it is ready.
    pub async fn restart(&mut self, config: &Config) {
        self.signal("TERM");
        let status = self.ended().await;
        assert!(status.success(), "the gateway ended with {status}:\n{}", self.log());
        let out = std::fs::File::options().append(true).open(self.folder.path("log")).unwrap();
        let mut command = doorward(&self.folder);
        command.args(["run", "-c", "config.yaml"]).envs(config.env.iter().cloned());
        self.child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        for port in [self.ports[0], self.admin] {
            until_so("a listener", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        }
        until_so("readiness", async || self.admin("/readyz").await.status == 200).await;
    }

    /// What it has used of processors until now, its own work and the system's for it.
    pub fn processor_time(&self) -> std::time::Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        std::time::Duration::from_millis(ticks * 10) // a hundredth of a second each, whatever the machine (proc(5))
    }

    /// How many it has open now.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// The most memory that it ever had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub async fn ended(&mut self) -> ExitStatus {
        until("the end of the process", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the gateway's last words ---\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            return;
        }
        let leaked = leaks(&log, &self.secrets);
        assert!(leaked.is_empty(), "secrets in the log: {leaked:?}");
        assert!(!log.contains("panicked at"), "a panic:\n{log}");
    }
}

/// Which lines of a log tell a secret: a token that was sent, its payload or signature alone, the client's secret,
/// or anything that begins as a JWT does.
pub fn leaks(log: &str, secrets: &Secrets) -> Vec<String> {
    let sent = secrets.lock().unwrap();
    let parts: Vec<&str> = sent.iter().flat_map(|token| token.split('.').skip(1).chain([token.as_str()])).collect();
    let told = |line: &&str| {
        let jwt = line
            .match_indices("eyJ")
            .any(|(at, _)| line[at..].chars().take(24).all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        jwt || line.contains("doorward-secret") || parts.iter().any(|part| part.len() >= 16 && line.contains(part))
    };
    log.lines().filter(told).map(str::to_owned).collect()
}

/// The binary. With `DOORWARD_BESIDE` every second process is that one, such as an older version: replicas of two versions
/// share a store.
pub fn binary() -> String {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let own = env!("CARGO_BIN_EXE_doorward").to_string();
    let is_second = || STARTED.fetch_add(1, Ordering::Relaxed) % 2 == 1;
    std::env::var("DOORWARD_BESIDE").ok().filter(|_| is_second()).unwrap_or(own)
}

/// The binary, in a folder and without an environment of chance.
pub fn doorward(folder: &Folder) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(&folder.0).env_clear().stdin(Stdio::null());
    command
}

/// The same, with so many open files.
fn limited(folder: &Folder, soft: u32, hard: u32) -> Command {
    let mut command = Command::new("/bin/sh");
    command.current_dir(&folder.0).env_clear().stdin(Stdio::null());
    let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    command.args(["-c", &limits, &binary()]);
    command
}

/// Runs the binary to its end: exit code, standard output, standard error.
pub async fn run(folder: &Folder, arguments: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = tokio::process::Command::from(doorward(folder));
    let output = command.args(arguments).envs(env.iter().copied()).kill_on_drop(true).output();
    let output = tokio::time::timeout(LONG, output).await.expect("it runs on").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
