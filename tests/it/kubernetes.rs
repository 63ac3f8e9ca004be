//! The Helm chart and the manifests for Kubernetes: rendered by Helm's engine, valid under the schemas of the oldest and
//! the newest Kubernetes at hand, and their configuration good. No cluster runs.
#![cfg(target_arch = "x86_64")] // the only machine for which the engine can be had

use crate::gateway::{Folder, run};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const REDIS: &str = "
existingSecret: doorward
config:
  store:
    backend: redis
    secret: ${file:/run/secrets/doorward/store-secret}
    redis: {urls: [\"rediss://redis:6379/0\"]}
  providers:
    corp:
      issuer: https://id.example.com/realms/corp
      client_id: doorward
      client_secret: ${file:/run/secrets/doorward/client-secret}
  routes:
    - {name: app, from: \"https://app.example.com/\", to: \"http://app.apps:3000\"}
";

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn tool(name: &str) -> Command {
    let tool = root("target/kubernetes/bin").join(name);
    assert!(tool.exists(), "{} is missing: run ./test.sh once", tool.display());
    Command::new(tool)
}

/// The manifests, or why Helm refuses the values.
fn rendered(values: &str) -> Result<String, String> {
    let mut command = tool("python");
    command.arg(root("tests/kubernetes/chart.py")).arg(root("deploy/helm/doorward"));
    let mut helm = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    helm.stdin.take().unwrap().write_all(values.as_bytes()).unwrap();
    let done = helm.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
}

fn is_valid(file: &Path) -> Result<(), String> {
    let mut command = tool("kubernetes-validate");
    let done = command.args(["--strict", "--quiet", "-k", "1.25", "-k", "1.37"]).arg(file).output().unwrap();
    let told = || String::from_utf8_lossy(&[done.stdout.clone(), done.stderr.clone()].concat()).into_owned();
    if done.status.success() { Ok(()) } else { Err(told()) }
}

/// The configuration in the ConfigMap, with secrets in a folder of the test.
fn config_of(manifests: &str, secrets: &Path) -> String {
    let (_, rest) = manifests.split_once("config.yaml: |\n").unwrap();
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let text: Vec<&str> = lines.map(|line| line.strip_prefix("    ").unwrap_or("")).collect();
    text.join("\n").replace("/run/secrets/doorward", &secrets.display().to_string())
}

#[tokio::test]
async fn the_chart_renders_what_kubernetes_and_the_gateway_take() {
    let folder = Folder::new();
    for name in ["store-secret", "client-secret"] {
        folder.write(name, "0123456789abcdef0123456789abcdef");
    }
    let several =
        format!("replicaCount: 3\nserviceMonitor: {{enabled: true}}\nnetworkPolicy: {{enabled: true}}\n{REDIS}");
    for (name, values, kinds) in [
        ("defaults", "", 5),
        (
            "file",
            "config: {store: {backend: file, path: /var/lib/doorward/doorward.db}}\npersistence: {existingClaim: d}",
            5,
        ),
        ("redis", REDIS, 5),
        ("several", &several, 8),
    ] {
        let manifests = rendered(values).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        let file = folder.write(&format!("{name}.yaml"), &manifests);
        is_valid(Path::new(&file)).unwrap_or_else(|problem| panic!("{name}: {problem}\n{manifests}"));
        assert_eq!(manifests.lines().filter(|line| line.starts_with("kind: ")).count(), kinds, "{name}:\n{manifests}");
        folder.write("config.yaml", &config_of(&manifests, &folder.path("")));
        let (code, printed, complaint) = run(&folder, &["check"], &[]).await;
        assert_eq!(code, 0, "{name}: {printed}{complaint}");
    }
}

#[test]
fn values_that_would_fail_later_are_refused() {
    let more = |lines: &str| format!("{lines}\n{REDIS}");
    for (values, told) in [
        ("replicaCount: 3".to_owned(), "config.store.backend"),
        (
            more("replicaCount: 2").replace("    secret: ${file:/run/secrets/doorward/store-secret}\n", ""),
            "config.store.secret",
        ),
        (REDIS.replace("${file:/run/secrets/doorward/client-secret}", "in-clear-text"), "client_secret"),
        (REDIS.replace("existingSecret: doorward", ""), "existingSecret"),
        ("config: {admin: {address: \"127.0.0.1:9080\"}}".to_owned(), "probes"),
        ("terminationGracePeriodSeconds: 10".to_owned(), "shutdown_grace"),
        ("config: {shutdown_delay: soon}".to_owned(), "shutdown_delay"),
        ("replicas: 2".to_owned(), "replicas"),
        ("service: {ports: [{name: http, port: 80, targetPort: 9999}]}".to_owned(), "9999"),
    ] {
        let refused = rendered(&values).err().unwrap_or_else(|| panic!("rendered:\n{values}"));
        assert!(refused.contains(told), "{told}: {refused}");
    }
}

/// Custom resources, too. What may differ: `ALLOWED` of the script, which also tries whether it can fail.
#[test]
fn the_documents_resources_are_valid_and_the_plain_manifests_are_as_the_chart() {
    let done = tool("python").arg(root("tests/kubernetes/check.py")).output().unwrap();
    let told = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn manifests_are_valid() {
    let names = ["doorward", "ingress-nginx", "gateway-api", "traefik"];
    for name in names {
        is_valid(&root("deploy/kubernetes").join(format!("{name}.yaml"))).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let folder = Folder::new();
    let plain = std::fs::read_to_string(root("deploy/kubernetes/doorward.yaml")).unwrap();
    let file = folder.write("wrong.yaml", &plain.replace("failureThreshold", "failureTreshold"));
    assert!(is_valid(Path::new(&file)).is_err(), "a misspelt key");
}
