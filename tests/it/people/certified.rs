//! People at a certified provider, which nobody here wrote: its login form, its rotating refresh tokens, its sign-out.

use super::main_route;
use super::person::{Answer, Person, SESSION};
use crate::app::App;
use crate::client::ask;
use crate::gateway::{Config, Gateway};
use crate::oidc::{Oidc, http};
use crate::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use url::{Url, form_urlencoded};

struct Certified {
    oidc: Oidc,
    app: App,
    gateway: Gateway,
}

/// A browser at the provider: it keeps cookies, follows redirects there, and fills in the form.
#[derive(Default)]
struct AtProvider(BTreeMap<String, String>);

impl Certified {
    async fn start(more: Value) -> Self {
        let client = json!({
            "client_id": "doorward", "client_secret": "doorward-secret",
            "redirect_uris": ["http://app.test/oauth2/callback"],
            "post_logout_redirect_uris": ["http://app.test/oauth2/signed_out"],
        });
        let alice =
            json!({"name": "Alice", "preferred_username": "al", "email": "alice@corp.test", "groups": ["dev", "ops"]});
        let mut settings = json!({"clients": [client], "users": {"alice": alice}});
        settings.as_object_mut().unwrap().extend(crate::world::object(more));
        let (oidc, app) = (Oidc::start(&settings).await, App::start().await);
        let keys = "scopes: [openid, profile, email, offline_access]";
        let config = Config::default().provider("corp", &oidc.issuer, keys);
        let gateway = Gateway::start(&main_route(config, &app, "")).await;
        Certified { oidc, app, gateway }
    }

    async fn state(&self) -> Value {
        http().get(format!("{}/test/state", self.oidc.issuer)).send().await.unwrap().json().await.unwrap()
    }

    async fn signed_in(&self) -> Person {
        let mut person = Person::at(&self.gateway);
        let begun = person.begin("/x").await;
        let callback = AtProvider::default().walk(begun, &[("login", "alice"), ("password", "alice")]).await;
        let reply = person.go_back(&Answer { callback, form: None }).await;
        assert_eq!((reply.outcome().as_str(), reply.header("location")), ("302", Some("/x")));
        person
    }
}

impl AtProvider {
    /// To the first address that is not the provider's.
    async fn walk(&mut self, from: Url, form: &[(&str, &str)]) -> Url {
        let (client, origin) = (http(), from.origin());
        let mut at = from;
        let mut form = Some(form);
        for _ in 0..10 {
            let reply = self.send(client.get(at.clone())).await;
            let reply = match form.filter(|_| reply.status() == 200) {
                None => reply,
                Some(fields) => {
                    form = None;
                    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                    let post = client.post(at.clone()).header("content-type", "application/x-www-form-urlencoded");
                    self.send(post.body(body)).await
                }
            };
            let location = reply.headers().get("location").unwrap_or_else(|| panic!("{at}: {}", reply.status()));
            at = at.join(location.to_str().unwrap()).unwrap();
            if at.origin() != origin {
                return at;
            }
        }
        panic!("too many redirects, at last to {at}");
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let cookies: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let reply = request.header("cookie", cookies.join("; ")).send().await.unwrap();
        for field in reply.headers().get_all("set-cookie") {
            let pair = field.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.0.insert(name.to_owned(), value.to_owned());
        }
        reply
    }
}

#[tokio::test]
async fn somebody_signs_in_and_out() {
    for claims_in_id_token in [true, false] {
        let world = Certified::start(json!({"claims_in_id_token": claims_in_id_token})).await;
        let mut person = world.signed_in().await;
        assert_eq!(person.visit("/x").await.outcome(), "200");
        let told = world.app.last();
        let identity = ["user", "email", "preferred-username", "groups"];
        let identity = identity.map(|name| told.header(&format!("x-forwarded-{name}")).unwrap_or("-").to_owned());
        assert_eq!(identity, ["alice", "alice@corp.test", "al", "dev,ops"], "in the ID token: {claims_in_id_token}");
        assert_eq!(world.state().await["userinfo"], u64::from(!claims_in_id_token));
        let mut old = person.clone();
        let reply = person.visit("/oauth2/sign_out").await;
        let ends = reply.header("location").unwrap();
        assert!(ends.starts_with(&format!("{}/session/end?", world.oidc.issuer)), "{ends}");
        let page = http().get(ends).send().await.unwrap();
        assert_eq!(page.status(), 200, "the provider knows where to send the browser back to");
        assert_eq!((person.cookie(SESSION), old.fetch("/x").await.outcome()), (None, "401 login_required".to_owned()));
    }
}

#[tokio::test]
async fn a_cancelled_login_is_denied() {
    let world = Certified::start(json!({})).await;
    let mut person = Person::at(&world.gateway);
    let begun = person.begin("/x").await;
    let callback = AtProvider::default().walk(begun, &[("cancel", "1")]).await;
    let reply = person.go_back(&Answer { callback, form: None }).await;
    assert_eq!((reply.outcome().as_str(), person.cookie(SESSION)), ("403 login_failed", None));
}

/// Its access tokens live for two seconds; the session goes through several of them.
#[tokio::test]
async fn a_session_outlives_several_access_tokens() {
    let world = Certified::start(json!({"access_token_ttl": 2})).await;
    let mut person = world.signed_in().await;
    until("three refreshes", async || {
        assert_eq!(person.fetch("/x").await.outcome(), "200");
        (world.state().await["grants"]["refresh_token"]["ok"].as_u64() >= Some(3)).then_some(())
    })
    .await;
    assert_eq!(world.state().await["grants"]["refresh_token"]["refused"].as_u64().unwrap_or(0), 0);
    assert_eq!(world.app.last().header("x-forwarded-user"), Some("alice"));
}

/// Its logout token, as it posts it, ends the session that the browser ended there, and no other.
#[tokio::test]
async fn a_logout_at_the_provider_ends_the_session() {
    let receiver = App::start().await;
    let client = json!({
        "client_id": "doorward", "client_secret": "doorward-secret",
        "redirect_uris": ["http://app.test/oauth2/callback"],
        "backchannel_logout_uri": format!("{}/logout", receiver.origin),
    });
    let world = Certified::start(json!({"clients": [client]})).await;
    let mut other = world.signed_in().await;
    let mut person = Person::at(&world.gateway);
    let begun = person.begin("/x").await;
    let mut browser = AtProvider::default();
    let callback = browser.walk(begun, &[("login", "alice"), ("password", "alice")]).await;
    assert_eq!(person.go_back(&Answer { callback, form: None }).await.outcome(), "302");

    let page = browser.send(http().get(format!("{}/session/end", world.oidc.issuer))).await.text().await.unwrap();
    let hidden = page.split("name=\"xsrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let form =
        form_urlencoded::Serializer::new(String::new()).extend_pairs([("xsrf", hidden), ("logout", "yes")]).finish();
    let post = http().post(format!("{}/session/end/confirm", world.oidc.issuer)).body(form);
    browser.send(post.header("content-type", "application/x-www-form-urlencoded")).await;
    until("a logout token", async || receiver.received().pop()).await;
    let told = receiver.last();
    assert_eq!(
        (told.method.as_str(), told.header("content-type")),
        ("POST", Some("application/x-www-form-urlencoded"))
    );

    let notice = ask("POST", "/oauth2/backchannel_logout")
        .with("Content-Type", "application/x-www-form-urlencoded")
        .body(&told.body);
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(world.gateway.ask(&notice).await.status, 200);
    assert_eq!(person.fetch("/x").await.outcome(), "401 login_required");
    assert_eq!(other.fetch("/x").await.outcome(), "200");
    assert_eq!(world.gateway.ask(&notice).await.outcome(), "400 bad_request", "it counts once");
}
