//! The certified OpenID provider of `tests/oidc_provider`, a Node process that ends when its standard input closes.
//! Without Node there is no test of it, and that is a failure.

use crate::wait::in_time;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub struct Oidc {
    pub issuer: String,
    http: reqwest::Client,
    /// Holds its standard input.
    _child: Child,
}

/// The oldest that the provider runs on.
const NODE_MAJOR: u32 = 20;

impl Oidc {
    /// `config`: what its README calls `OIDC_CONFIG`.
    pub async fn start(config: &Value) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc_provider");
        assert!(
            folder.join("node_modules/oidc-provider").exists(),
            "run ./test.sh once, or npm ci in {}",
            folder.display()
        );
        let mut child = Command::new(node())
            .arg(folder.join("server.mjs"))
            .env("OIDC_CONFIG", config.to_string())
            .env("PORT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        in_time("the provider's first line", output.read_line(&mut line)).await.unwrap();
        let told: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("the provider did not start: {e}: {line:?}"));
        Oidc { issuer: told["issuer"].as_str().unwrap().to_owned(), http: http(), _child: child }
    }

    /// An access token that a client gets for itself (RFC 6749, 4.4), for one resource (RFC 8707).
    pub async fn client_token(&self, client: (&str, &str), resource: &str, scope: &str) -> String {
        let form = format!("grant_type=client_credentials&resource={resource}&scope={scope}");
        let request = self
            .http
            .post(format!("{}/token", self.issuer))
            .basic_auth(client.0, Some(client.1))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }
}

/// A client without a proxy, redirects or any other cleverness.
pub fn http() -> reqwest::Client {
    crate::tls::install_crypto();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// The one of `PATH`, or, where that is too old, the one that test.sh keeps in the target folder.
fn node() -> PathBuf {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/node/node_modules");
    let kept = std::fs::read_dir(kept).into_iter().flatten().flatten().map(|entry| entry.path().join("bin/node"));
    let all: Vec<PathBuf> = std::iter::once(PathBuf::from("node")).chain(kept).collect();
    let found = all.iter().find(|node| version(node).is_some_and(|version| version >= NODE_MAJOR));
    found.unwrap_or_else(|| panic!("no Node {NODE_MAJOR} or newer among {all:?}: run ./test.sh once")).clone()
}

fn version(node: &Path) -> Option<u32> {
    let output = std::process::Command::new(node).args(["-p", "process.versions.node.split('.')[0]"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
