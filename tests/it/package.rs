//! The package: the same bytes twice, everything where its unit and Debian look for it, and a configuration that is good.

use crate::client::{Connection, Secrets, get};
use crate::gateway::{Folder, binary};
use crate::wait::{free_port, until};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn out(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn pack(folder: &Folder, name: &str, version: &str) -> PathBuf {
    let dist = folder.path(name);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist.sh");
    out(Command::new(script)
        .env("BINARY", binary())
        .env("DIST", &dist)
        .env("LEVEL", "1")
        .env("SBOM", folder.write("sbom.json", "{}"))
        .env("VERSION", version)
        .env("SOURCE_DATE_EPOCH", "1700000000"));
    dist
}

fn package(dist: &Path) -> PathBuf {
    let files = std::fs::read_dir(dist).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "deb")).unwrap()
}

#[tokio::test]
async fn it_is_whole_and_the_same_twice() {
    let folder = Folder::new();
    let (dist, again) = (pack(&folder, "one", "1.0.0"), pack(&folder, "two", "1.0.0"));
    let sums = |dist: &Path| std::fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(&dist), sums(&again));
    assert_eq!(sums(&dist).lines().count(), 3);

    let root = folder.path("root");
    let package = package(&dist);
    out(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root));
    let unit = std::fs::read_to_string(root.join("lib/systemd/system/doorward.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = start.split(' ').collect();
    let ["/usr/bin/doorward", "run", "-c", config] = words[..] else { panic!("{start}") };
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    out(Command::new(inside(words[0])).args(["check", "--strict", "-c"]).arg(inside(config)));
    assert_eq!(std::fs::metadata(inside(config)).unwrap().permissions().mode() & 0o777, 0o640);
    let credentials = unit.lines().find_map(|line| line.strip_prefix("LoadCredential=secret:")).unwrap();
    assert_eq!(std::fs::metadata(inside(credentials)).unwrap().permissions().mode() & 0o777, 0o700);
    let manual = out(Command::new("zcat").arg(root.join("usr/share/man/man1/doorward.1.gz")));
    assert!(manual.contains("explain"), "{manual}");
    for file in ["bash-completion/completions/doorward", "doc/doorward/copyright", "doc/doorward/configuration.md"] {
        assert!(root.join("usr/share").join(file).is_file(), "{file}");
    }

    let control = folder.path("control");
    out(Command::new("dpkg-deb").arg("-e").arg(&package).arg(&control));
    for script in ["postinst", "prerm", "postrm"] {
        out(Command::new("sh").arg("-n").arg(control.join(script)));
    }
    assert_eq!(std::fs::read_to_string(control.join("conffiles")).unwrap(), "/etc/doorward/config.yaml\n");
}

/// A Debian of its own, made by `./test.sh`. Only root can enter it.
struct Debian(PathBuf);

/// A process that ends with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Debian {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command
            .arg(&self.0)
            .arg(program)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn install(&self, package: &Path) {
        std::fs::copy(package, self.0.join("tmp/doorward.deb")).unwrap();
        out(self.command("dpkg").args(["--force-confdef", "-i", "/tmp/doorward.deb"]));
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    fn knows_the_user(&self) -> bool {
        self.command("getent").args(["passwd", "doorward"]).output().unwrap().status.success()
    }
}

/// As an operator does: the package installed, started by its unit's command line and user, upgraded while it runs with a
/// changed configuration, removed, purged.
#[tokio::test]
async fn it_is_installed_upgraded_and_removed() {
    let debian = Debian(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian"));
    if !debian.has("installed") {
        eprintln!("not tested: there is no Debian in target/debian (./test.sh makes one, as root)");
        return;
    }
    let folder = Folder::new();
    let (old, new) = (pack(&folder, "old", "1.0.0"), pack(&folder, "new", "1.0.1"));
    out(debian.command("dpkg").args(["-P", "doorward"])); // of a test that was interrupted
    debian.install(&package(&old));
    assert!(debian.knows_the_user());
    let mode = out(debian.command("stat").args(["-c", "%U:%G %a", "/etc/doorward/config.yaml"]));
    assert_eq!(mode.trim(), "root:doorward 640");

    let unit = std::fs::read_to_string(debian.0.join("lib/systemd/system/doorward.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    out(debian.command("install").args(["-d", "-m", "0700", "-o", "doorward", "-g", "doorward", "/var/lib/doorward"]));
    let (port, admin) = (free_port(), free_port());
    let mut command = debian.command("setpriv");
    command.args(["--reuid=doorward", "--regid=doorward", "--clear-groups", "--"]).args(start.split(' '));
    command.env("STATE_DIRECTORY", "/var/lib/doorward").env("XDG_RUNTIME_DIR", "/tmp");
    command.env("DOORWARD__LISTEN__0", format!("127.0.0.1:{port}"));
    command.env("DOORWARD__ADMIN__ADDRESS", format!("127.0.0.1:{admin}"));
    let log = std::fs::File::create(folder.path("log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let running = Process(command.spawn().unwrap());
    let is_ready = async || {
        tokio::net::TcpStream::connect(("127.0.0.1", admin)).await.ok()?;
        let mut connection = Connection::open(&format!("127.0.0.1:{admin}"), &Secrets::default()).await;
        let reply = connection.ask(&get("/readyz").set("Host", "localhost")).await;
        (reply.status == 200).then_some(())
    };
    until("readiness", is_ready).await;
    assert!(debian.has("var/lib/doorward/doorward.db"), "{}", folder.read("log"));

    let config = debian.0.join("etc/doorward/config.yaml");
    let changed = format!("{}# ours\n", std::fs::read_to_string(&config).unwrap());
    std::fs::write(&config, &changed).unwrap();
    debian.install(&package(&new));
    assert!(is_ready().await.is_some(), "the running process goes on");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), changed, "what operators wrote stays");
    assert!(out(debian.command("dpkg").args(["-s", "doorward"])).contains("Version: 1.0.1"));
    assert!(out(debian.command("doorward").arg("--version")).starts_with("doorward "));
    drop(running);

    out(debian.command("dpkg").args(["-r", "doorward"]));
    assert!(!debian.has("usr/bin/doorward") && config.exists() && debian.has("var/lib/doorward"));
    out(debian.command("dpkg").args(["-P", "doorward"]));
    assert!(!debian.has("etc/doorward") && !debian.has("var/lib/doorward") && !debian.knows_the_user());
}
