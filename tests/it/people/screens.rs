//! Pictures of the gateway's own pages as people see them, wide and narrow, light and dark, in `target/screenshots`. That
//! each page comes is asserted; how it looks is for somebody to look at.

use super::browser::{OnLocalhost, sign_in_at_demo};
use super::webdriver::Browser;
use serde_json::json;
use std::path::Path;

async fn pictures(browser: &Browser, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    for width in [1000, 400] {
        for dark in [false, true] {
            let scheme = if dark { "dark" } else { "light" };
            let picture = browser.picture(width, dark).await;
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
    browser.until_it_says("\"target\":\"/\"").await;
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
