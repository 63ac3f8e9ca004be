//! Refusals as pages of other origins see them: a browser shows their true cause, and the time to wait.

use super::webdriver::Browser;
use super::{FEW, bad, guarded, made_up};
use crate::app::App;
use crate::client::get;
use crate::world::World;
use serde_json::{Value, json};

const OURS: &str = "https://ui.test";

async fn world(origin: &str) -> World {
    World::with(|config, app| {
        let cors = format!("auth: {{accept: [bearer]}}, cors: {{origins: [\"{origin}\"]}}");
        guarded(config).route("api", "http://localhost/api/", &app.origin, &cors)
    })
    .await
}

#[tokio::test]
async fn refusals_are_marked_for_the_origins_of_the_route() {
    let world = world(OURS).await;
    let ask =
        |n: usize, origin: &str| get("/api/x").set("Host", "localhost").bearer(&made_up(n)).with("Origin", origin);
    for n in 0..=FEW {
        let reply = world.ask(&ask(n, OURS)).await;
        assert_eq!(reply.status, if n < FEW { 401 } else { 429 });
        assert_eq!(reply.header("access-control-allow-origin"), Some(OURS));
        assert_eq!(reply.all("vary"), ["Origin"]);
        let exposed = reply.header("access-control-expose-headers").unwrap();
        assert!(["Retry-After", "WWW-Authenticate", "X-Doorward-Reason"].iter().all(|name| exposed.contains(name)));
        assert_eq!(reply.header("retry-after").is_some(), n == FEW);
    }
    let foreign = world.ask(&ask(0, "https://evil.test")).await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (429, None));
    assert_eq!(world.ask(&bad(0)).await.header("access-control-allow-origin"), None, "a route without `cors`");
}

/// The app's origin is the page's; the gateway is another site.
#[tokio::test]
async fn a_page_of_another_origin_reads_why_and_for_how_long() {
    let (page, browser) = (App::named("page").await, Browser::start().await);
    let world = world(&page.origin).await;
    browser.go(&page.origin).await;
    let port = world.gateway.address().split_once(':').unwrap().1.to_owned();
    let seen = async |n: usize| -> Value {
        let token = made_up(n);
        world.gateway.secrets.lock().unwrap().insert(token.clone());
        let script = format!(
            "return fetch('http://localhost:{port}/api/x', {{headers: {{Authorization: 'Bearer {token}'}}}}).then(async r => ({{
                status: r.status, wait: r.headers.get('Retry-After'), reason: r.headers.get('X-Doorward-Reason'),
                challenge: r.headers.get('WWW-Authenticate'), told: await r.json()}}), e => String(e))"
        );
        browser.script(&script).await
    };
    for n in 0..FEW {
        let refused = seen(n).await;
        assert_eq!(refused["status"], 401, "{refused}");
        assert_eq!((&refused["reason"], &refused["wait"]), (&json!("unknown_token"), &json!(null)));
        let challenge = refused["challenge"].as_str().unwrap();
        assert!(
            challenge.starts_with("Bearer realm=\"api\", error=\"invalid_token\", error_description="),
            "{challenge}"
        );
        assert_eq!((&refused["told"]["status"], &refused["told"]["reason"]), (&json!(401), &json!("unknown_token")));
    }
    let limited = seen(FEW).await;
    assert_eq!((&limited["status"], &limited["reason"]), (&json!(429), &json!("rate_limited")), "{limited}");
    assert_eq!((&limited["told"]["status"], &limited["told"]["reason"]), (&json!(429), &json!("rate_limited")));
    assert!(limited["wait"].as_str().unwrap().parse::<u64>().unwrap() >= 1, "{limited}");
}
