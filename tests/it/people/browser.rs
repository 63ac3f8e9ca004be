//! People with a real browser: what cookies, redirects, forms and Fetch Metadata really do, at a certified provider and in
//! the demo. The gateway is `localhost`, the provider `127.0.0.1`: two sites, whose cookies do not mix.

use super::webdriver::Browser;
use super::{AUTH, register};
use crate::app::App;
use crate::client::get;
use crate::gateway::{Config, Folder, Gateway, doorward};
use crate::oidc::Oidc;
use crate::wait::{free_port, until};
use doorward::demo::Provider;
use serde_json::json;
use std::process::Child;

/// A gateway whose public origin names its port.
pub struct OnLocalhost {
    pub app: App,
    pub gateway: Gateway,
    pub origin: String,
}

impl OnLocalhost {
    /// The port is known once the gateway listens; `issuer` makes a provider for it.
    pub async fn start(issuer: impl AsyncFnOnce(&str) -> (String, &'static str)) -> Self {
        let app = App::start().await;
        let nothing = Config::default().route("nothing", "http://nothing.test/", &app.origin, "auth: public");
        let gateway = Gateway::start(&nothing).await;
        let port = gateway.address().split_once(':').unwrap().1.to_owned();
        let origin = format!("http://localhost:{port}");
        let (issuer, keys) = issuer(&origin).await;
        let admins = format!("{AUTH}, require: {{groups: [nobody]}}");
        let config = Config::default()
            .provider("corp", &issuer, keys)
            .route("admins", &format!("{origin}/admins/"), &app.origin, &admins)
            .route("main", &format!("{origin}/"), &app.origin, AUTH);
        gateway.reload(&config).await;
        let world = OnLocalhost { app, gateway, origin };
        crate::wait::until_so("readiness", async || world.gateway.admin("/readyz").await.status == 200).await;
        world
    }

    pub async fn with_demo_provider() -> (Self, Provider) {
        let provider = crate::world::provider().await;
        let world = Self::start(async |origin: &str| {
            register(&provider, origin);
            (provider.issuer().to_owned(), "")
        })
        .await;
        (world, provider)
    }

    pub fn at(&self, target: &str) -> String {
        format!("{}{target}", self.origin)
    }
}

async fn certified() -> (OnLocalhost, Oidc) {
    let mut started = None;
    let world = OnLocalhost::start(async |origin: &str| {
        let client = json!({
            "client_id": "doorward", "client_secret": "doorward-secret",
            "redirect_uris": [format!("{origin}/oauth2/callback")],
            "post_logout_redirect_uris": [format!("{origin}/oauth2/signed_out")],
        });
        let alice = json!({"name": "Alice", "preferred_username": "al", "email": "alice@corp.test", "groups": ["dev"]});
        let oidc = Oidc::start(&json!({"clients": [client], "users": {"alice": alice}})).await;
        let issuer = oidc.issuer.clone();
        started = Some(oidc);
        (issuer, "scopes: [openid, profile, email, offline_access]")
    })
    .await;
    (world, started.unwrap())
}

async fn fill_in(browser: &Browser, name: &str) {
    browser.write("input[name=login]", name).await;
    browser.write("input[name=password]", name).await;
    browser.click("button[type=submit]:not([name])").await;
}

#[tokio::test]
async fn a_browser_signs_in_in_two_tabs_and_out_again() {
    let ((world, oidc), browser) = (certified().await, Browser::start().await);
    let (first, one) = (world.at("/deep/one?x=1"), browser.new_tab().await);
    browser.go(&first).await;
    assert!(browser.url().await.starts_with(&oidc.issuer), "{}", browser.url().await);
    let two = browser.new_tab().await;
    browser.go(&world.at("/deep/two")).await;
    assert!(browser.url().await.starts_with(&oidc.issuer));

    browser.switch_to(&one).await;
    fill_in(&browser, "alice").await;
    browser.until_it_says("\"target\":\"/deep/one?x=1\"").await;
    assert_eq!(browser.url().await, first);
    let told = world.app.last();
    assert_eq!(
        (told.header("x-forwarded-user"), told.header("x-forwarded-email")),
        (Some("alice"), Some("alice@corp.test"))
    );
    assert_eq!(told.header("cookie"), None, "neither the session nor a login under way");
    browser.switch_to(&two).await;
    fill_in(&browser, "alice").await;
    browser.until_it_says("\"target\":\"/deep/two\"").await;
    browser.switch_to(&one).await;
    browser.go(&first).await;
    browser.until_it_says("\"target\":\"/deep/one?x=1\"").await;

    let mut cookies = browser.cookies().await;
    cookies.sort_by_key(|cookie| cookie["name"].as_str().unwrap().to_owned());
    let names: Vec<&str> = cookies.iter().map(|cookie| cookie["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["doorward", "doorward_rounds"], "the flows' cookies are gone");
    let cookie = &cookies[0];
    assert_eq!(
        (&cookie["name"], &cookie["httpOnly"], &cookie["sameSite"]),
        (&json!("doorward"), &json!(true), &json!("Lax"))
    );
    let old = format!("doorward={}", cookie["value"].as_str().unwrap());
    assert_eq!(browser.script("return document.cookie").await, "", "no script can read it");

    browser.go(&world.at("/oauth2/sign_out")).await;
    browser.until_it_says("You are signed out of this service.").await;
    assert!(browser.url().await.starts_with(&world.at("/oauth2/signed_out")), "{}", browser.url().await);
    assert!(browser.cookies().await.is_empty());
    let host = world.origin.strip_prefix("http://").unwrap();
    let refused = world.gateway.ask(&get("/x").set("Host", host).with("Cookie", &old)).await;
    assert_eq!(refused.outcome(), "401 login_required");
    browser.go(&first).await;
    browser.until_it_says("Sign in").await;
    assert!(browser.url().await.starts_with(&oidc.issuer), "the provider has ended its session, too");
}

/// A link on another site ends nothing by itself; the button does.
#[tokio::test]
async fn a_link_of_another_site_asks_before_it_signs_out() {
    let ((world, provider), browser) = (OnLocalhost::with_demo_provider().await, Browser::start().await);
    sign_in_at_demo(&browser, &world.at("/x"), "alice", "alice").await;
    browser.until_it_says("\"target\":\"/x\"").await;
    browser.go(&format!("{}/jwks", provider.issuer())).await;
    browser.script(&format!("location.href = '{}'", world.at("/oauth2/sign_out"))).await;
    browser.until_it_says("Sign out?").await;
    assert!(browser.cookies().await.iter().any(|cookie| cookie["name"] == "doorward"), "still signed in");
    browser.click("button").await;
    browser.until_it_says("You are signed out of this service.").await;
    assert!(browser.cookies().await.is_empty());
}

pub async fn sign_in_at_demo(browser: &Browser, url: &str, name: &str, password: &str) {
    browser.go(url).await;
    browser.write("input[name=username]", name).await;
    browser.write("input[name=password]", password).await;
    browser.click("button[type=submit]").await;
}

/// `doorward demo`, a process that ends with its handle.
struct Demo {
    folder: Folder,
    child: Child,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_demo_greets_who_signs_in() {
    let (folder, port) = (Folder::new(), free_port());
    let out = std::fs::File::create(folder.path("out")).unwrap();
    let mut command = doorward(&folder);
    let command = command.args(["demo", "--port", &port.to_string()]).stdout(out.try_clone().unwrap()).stderr(out);
    let demo = Demo { child: command.spawn().unwrap(), folder };
    let origin = format!("http://localhost:{port}/");
    let browser = Browser::start().await;
    let password = until("the banner", async || {
        let told = demo.folder.read("out");
        let (_, of_alice) = told.contains(&origin).then(|| told.split_once("user name: alice"))??;
        Some(of_alice.split_once("password: ")?.1.lines().next()?.to_owned())
    })
    .await;
    until("the gateway", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    until("a login page", async || {
        browser.go(&origin).await;
        browser.text().await.contains("Sign in").then_some(())
    })
    .await;
    sign_in_at_demo(&browser, &origin, "alice", &password).await;
    let page = browser.until_it_says("Hello, alice").await;
    assert!(page.contains("alice@example.com") && page.contains("admins"), "{page}");
    assert_eq!(browser.url().await, origin);
    browser.click("a[href=\"/oauth2/sign_out\"]").await;
    browser.until_it_says("You are signed out of this service.").await;
    browser.go(&origin).await;
    browser.until_it_says("Sign in").await;
}
