//! glewlwyd of Debian, a provider that nobody here wrote (`tests/glewlwyd`): a process, its database and its keys.

use crate::gateway::Folder;
use crate::oidc::http;
use crate::wait::{free_port, until_so};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use url::Url;

pub struct Glewlwyd {
    pub origin: String,
    child: Child,
    _folder: Folder,
}

impl Glewlwyd {
    /// Access tokens live so long.
    pub async fn start(access_seconds: u32) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/glewlwyd");
        assert!(root.join("installed").exists(), "run ./test.sh once: {} is missing", root.display());
        let (folder, port) = (Folder::new(), free_port());
        let origin = format!("http://127.0.0.1:{port}");
        let filled = |name: &str| {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/glewlwyd").join(name);
            fill(&std::fs::read_to_string(source).unwrap(), &root, &folder, port, access_seconds)
        };
        folder.write("glewlwyd.conf", &filled("glewlwyd.conf"));
        let schema = root.join("usr/share/dbconfig-common/data/glewlwyd/install/sqlite3");
        let schema = std::fs::read_to_string(schema).unwrap();
        let script = format!("PRAGMA synchronous = OFF;\nBEGIN;\n{schema}\nCOMMIT;\n{}", filled("seed.sql"));
        folder.write("seed.sql", &script);
        let made = Command::new("sqlite3")
            .args(["-bail", "-init"])
            .arg(folder.path("seed.sql"))
            .arg(folder.path("glewlwyd.db"))
            .arg("")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "no database: {made}");
        let out = std::fs::File::create(folder.path("log")).unwrap();
        let child = Command::new(root.join("usr/bin/glewlwyd"))
            .arg("-c")
            .arg(folder.path("glewlwyd.conf"))
            .env("LD_LIBRARY_PATH", root.join("usr/lib/needed"))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let own = Glewlwyd { origin, child, _folder: folder };
        until_so("the provider's metadata", async || {
            http().get(own.discovery()).send().await.is_ok_and(|reply| reply.status() == 200)
        })
        .await;
        own
    }

    pub fn discovery(&self) -> String {
        format!("{}/api/oidc/.well-known/openid-configuration", self.origin)
    }

    /// A person who types the password, and has consented before: where the browser is sent back to.
    pub async fn consent(&self, begun: &Url, user: &str) -> Url {
        let typed = serde_json::json!({"username": user, "password": user}).to_string();
        let signed_in = http()
            .post(format!("{}/api/auth/", self.origin))
            .header("content-type", "application/json")
            .body(typed)
            .send()
            .await
            .unwrap();
        assert_eq!(signed_in.status(), 200);
        let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let page = http().get(format!("{begun}&g_continue")).header("cookie", cookie).send().await.unwrap();
        let location = page.headers().get("location").unwrap_or_else(|| panic!("no way back: {page:?}"));
        Url::parse(location.to_str().unwrap()).unwrap()
    }
}

impl Drop for Glewlwyd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fill(text: &str, root: &Path, folder: &Folder, port: u16, access_seconds: u32) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let one_line = |pem: String| pem.trim().replace("\r\n", "\n").replace('\n', "\\n");
    let path = |path: PathBuf| path.display().to_string();
    [
        ("PORT", port.to_string()),
        ("HOST", "127.0.0.1".to_owned()),
        ("FOLDER", path(folder.path("").components().collect())),
        ("MODULES", path(root.join("usr/lib/glewlwyd"))),
        ("ISSUER", format!("http://127.0.0.1:{port}")),
        ("REDIRECT_URI", "http://app.test/oauth2/callback".to_owned()),
        ("POST_LOGOUT_URI", "http://app.test/oauth2/signed_out".to_owned()),
        ("KEY", one_line(key.serialize_pem())),
        ("PUBLIC_KEY", one_line(key.public_key_pem())),
        ("JWT_TYPE", "ecdsa".to_owned()),
        ("ACCESS_TTL", access_seconds.to_string()),
        ("REFRESH_TTL", "1209600".to_owned()),
        ("ONE_USE", "always".to_owned()),
    ]
    .iter()
    .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}
