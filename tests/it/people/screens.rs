//! Pictures of the gateway's own pages as people see them, wide and narrow, light and dark, in `target/screenshots`. That
//! each page comes is asserted; how it looks is for somebody to look at.

use super::browser::{OnLocalhost, sign_in_at_demo};
use super::webdriver::Browser;
use crate::client::get;
use crate::gateway::Config;
use serde_json::json;
use std::path::Path;

async fn pictures(browser: &Browser, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    for width in [1000, 400] {
        for dark in [false, true] {
            let scheme = if dark { "dark" } else { "light" };
            let picture = browser.picture(width, dark).await;
            browser.assert_accessible(&format!("{name}, {width}, {scheme}")).await;
            assert!(picture.len() > 2000, "{name}: {} bytes", picture.len());
            std::fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), picture).unwrap();
        }
    }
}

#[tokio::test]
async fn every_page_that_a_person_may_meet() {
    let ((world, provider), browser) = (OnLocalhost::with_demo_provider().await, Browser::start().await);
    let denied = json!({"code": null, "error": "access_denied"});
    provider.faults().authorization_response = crate::world::object(denied);
    sign_in_at_demo(&browser, &world.at("/x"), "alice", "alice").await;
    browser.until_it_says("Sign-in declined").await;
    pictures(&browser, "login-failed").await;

    // The page leads on; the provider remembers who it is.
    provider.faults().authorization_response.clear();
    browser.click("main a").await;
    browser.until_it_says("\"target\":\"/x\"").await;
    browser.go(&world.at("/admins/")).await;
    browser.until_it_says("No access").await;
    pictures(&browser, "forbidden").await;

    browser.go(&format!("{}/jwks", provider.issuer())).await;
    browser.script(&format!("location.href = '{}'", world.at("/oauth2/sign_out"))).await;
    browser.until_it_says("Sign out?").await;
    pictures(&browser, "sign-out-confirmation").await;

    browser.go(&world.at("/admins/")).await;
    browser.until_it_says("No access").await;
    browser.click("main a").await;
    browser.until_it_says("You are signed out of this service.").await;
    pictures(&browser, "signed-out").await;
    browser.click("main a").await;
    browser.until_it_says("Password").await;
}

/// Requests of every kind, and the page that an operator sees of them.
#[tokio::test]
async fn the_status_page() {
    let ((world, _provider), browser) = (OnLocalhost::with_demo_provider().await, Browser::start().await);
    sign_in_at_demo(&browser, &world.at("/x"), "alice", "alice").await;
    browser.until_it_says("\"target\":\"/x\"").await;
    let host = world.origin.strip_prefix("http://").unwrap();
    for n in 0..30 {
        let request = get(if n % 3 == 0 { "/admins/" } else { "/x" }).set("Host", host);
        let reply = world.gateway.ask(&if n % 2 == 0 { request } else { request.bearer("no.such.token") }).await;
        assert_eq!(reply.status, 401);
    }
    assert_eq!(world.gateway.ask(&get("/else").set("Host", "other.test")).await.status, 404);
    let status = format!("http://127.0.0.1:{}/", world.gateway.admin_port());
    browser.go(&status).await;
    let text = browser.until_it_says("Last requests that were not forwarded").await;
    for told in [
        "ready",
        "memory: answers",
        "corp",
        "as ours",
        "10 unknown_token",
        "5 login_required",
        "no_route",
        "p50",
        "in force",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(!text.contains("alice") && !text.contains("/x"), "it names nobody, and nothing that was asked for: {text}");
    let charts = browser.script("return document.querySelectorAll('svg rect, svg path').length").await;
    assert!(charts.as_u64().unwrap() >= 6, "{charts}");
    pictures(&browser, "status").await;
}

#[tokio::test]
async fn pages_of_refusals_and_choices() {
    let ((world, provider), browser) = (OnLocalhost::with_demo_provider().await, Browser::start().await);
    for (target, says, name) in [
        ("/oauth2/callback?code=x&state=y", "The cookie of this sign-in did not come back", "state-mismatch"),
        ("/x%2f..%2fadmins/", "Bad request", "bad-request"),
        ("/oauth2/signed_out", "Signed out", "signed-out-at-once"),
    ] {
        browser.go(&world.at(target)).await;
        browser.until_it_says(says).await;
        pictures(&browser, name).await;
    }
    let other = crate::world::provider().await;
    let config = Config::default()
        .provider("corp", provider.issuer(), "label: Staff")
        .provider("guests", other.issuer(), "")
        .route("main", &world.at("/"), &world.app.origin, "auth: {provider: [corp, guests]}");
    world.gateway.reload(&config).await;
    browser.go(&world.at("/x")).await;
    browser.until_it_says("Staff").await;
    pictures(&browser, "choice").await;
}
