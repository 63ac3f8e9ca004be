//! The search for secrets in logs, which every gateway of these tests undergoes at its end, finds what it looks for;
//! and what is logged of a request tells no secret of it.

use crate::client::{Secrets, get};
use crate::gateway::leaks;
use crate::world::World;
use doorward::demo::IssueOptions;

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9YWJjZGVmZ2hpamts.c2lnbmF0dXJlLW9mLWl0";

#[test]
fn the_search_finds_what_it_looks_for() {
    let check = |line: &str, found: bool| {
        let secrets = Secrets::default();
        secrets.lock().unwrap().extend([TOKEN.to_owned(), "an-opaque-token-of-some-length".to_owned()]);
        assert_eq!(!leaks(&format!("a line\n{line}\nanother"), &secrets).is_empty(), found, "{line}");
    };
    check("path=/ status=200", false);
    check("token e1ab44ad refused", false);
    check(&format!("authorization: Bearer {TOKEN}"), true);
    check("signature c2lnbmF0dXJlLW9mLWl0", true);
    check("a JWT that nobody noted: eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.e30.x", true);
    check("token an-opaque-token-of-some-length", true);
    check("client doorward-secret", true);
}

#[tokio::test]
async fn requests_are_logged_without_what_is_secret_in_them() {
    let world = World::start().await;
    let options = IssueOptions::default();
    let opaque = world.provider.issue_opaque_token("alice", &options);
    let id_token = world.provider.issue_id_token("alice", &options);
    world
        .gateway
        .secrets
        .lock()
        .unwrap()
        .extend(["a-cookie-of-the-app-1234".to_owned(), "a-code-in-a-query-1234".to_owned()]);
    for token in [world.token(), opaque, id_token, format!("{}x", world.token())] {
        let request =
            get("/private?code=a-code-in-a-query-1234").bearer(&token).with("Cookie", "app=a-cookie-of-the-app-1234");
        world.ask(&request).await;
        world.ask(&request.set("Host", "other.test")).await;
    }
    world.ask(&get("/oauth2/callback?code=a-code-in-a-query-1234&state=a-code-in-a-query-1234")).await;
    let lines = || world.gateway.log().lines().filter(|line| line.contains("\"duration_ms\"")).count();
    crate::wait::until_so("nine lines in the log", async || lines() == 9).await;
    let log = world.gateway.log();
    assert!(log.contains("\"path\":\"/private\"") && log.contains("\"user\":\"alice\""), "{log}");
}

/// What a terminal or a reader would act on stands in neither log as it came.
#[tokio::test]
async fn control_and_invisible_characters_are_escaped() {
    let world = World::start().await;
    let user = "al\u{202e}ice\u{1b}[31m\u{e0041}\u{ad}";
    let token = world.token_with(serde_json::json!({"sub": user}));
    assert_eq!(world.ask(&get("/x").bearer(&token)).await.status, 200);
    crate::wait::until_so("the line in the log", async || world.gateway.log().contains("\"path\":\"/x\"")).await;
    let log = world.gateway.log();
    for bad in ['\u{202e}', '\u{1b}', '\u{e0041}', '\u{ad}'] {
        assert!(!log.contains(bad), "{bad:?}");
    }
    let line = log.lines().find(|line| line.contains("\"path\":\"/x\"")).unwrap();
    let told: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
    assert!(told["user"].as_str().unwrap().starts_with("al"), "{line}");
}

/// An output that nobody reads costs memory only up to a bound, and no request.
#[tokio::test]
async fn an_output_that_nobody_reads_costs_little() {
    let (provider, app) = (crate::world::provider().await, crate::app::App::start().await);
    let folder = crate::gateway::Folder::new();
    let pipe = folder.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut config = crate::world::usual(&provider, &app).more("workers: 1");
    config.out = Some(pipe);
    config.logging = "{format: json, level: error}".to_owned();
    let gateway = crate::gateway::Gateway::start(&config).await;
    let mut connection = gateway.connect().await;
    let long = get(&format!("/{}", "a".repeat(60_000))).set("Host", "other.test");
    assert_eq!(connection.ask(&long).await.status, 404);
    let before = gateway.peak_memory();
    for _ in 0..8_000 {
        assert_eq!(connection.ask(&long).await.status, 404);
    }
    let more = gateway.peak_memory().saturating_sub(before);
    assert!(more < 64 << 10, "{more} KiB");
}
