//! The package: the same bytes twice, everything where its unit and Debian look for it, and a configuration that is good.

use crate::gateway::{Folder, binary};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn out(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn pack(folder: &Folder, name: &str) -> std::path::PathBuf {
    let dist = folder.path(name);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist.sh");
    out(Command::new(script)
        .env("BINARY", binary())
        .env("DIST", &dist)
        .env("LEVEL", "1")
        .env("SOURCE_DATE_EPOCH", "1700000000"));
    dist
}

fn package(dist: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dist).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "deb")).unwrap()
}

#[tokio::test]
async fn it_is_whole_and_the_same_twice() {
    let folder = Folder::new();
    let (dist, again) = (pack(&folder, "one"), pack(&folder, "two"));
    let sums = |dist: &Path| std::fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(&dist), sums(&again));
    assert_eq!(sums(&dist).lines().count(), 2);

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
