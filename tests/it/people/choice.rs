//! A route of two providers: users choose where they sign in, a session of either is accepted, and one sign-out ends both.

use super::person::{Person, consent};
use super::register;
use crate::app::App;
use crate::client::{HOST, get};
use crate::gateway::{Config, Gateway};
use crate::world::provider;
use doorward::demo::{Endpoint, IssueOptions, Provider};
use url::form_urlencoded;

struct Choice {
    one: Provider,
    two: Provider,
    app: App,
    gateway: Gateway,
}

impl Choice {
    async fn start() -> Self {
        let (one, two, app) = (provider().await, provider().await, App::start().await);
        register(&one, &format!("http://{HOST}"));
        register(&two, &format!("http://{HOST}"));
        let config = Config::default()
            .provider("one", one.issuer(), "label: 'Staff <at> home & \"away\"'")
            .provider("two", two.issuer(), "")
            .route("main", "http://app.test/", &app.origin, "auth: {provider: [one, two]}")
            .route("alone", "http://app.test/alone/", &app.origin, "auth: {provider: two}");
        let gateway = Gateway::start(&config).await;
        Choice { one, two, app, gateway }
    }

    /// Follows the choice to this provider and signs in there.
    async fn choose(&self, person: &mut Person, name: &str, user: &str) {
        let provider = if name == "one" { &self.one } else { &self.two };
        let sent = person.visit("/x?a=b&c").await;
        assert_eq!((sent.outcome().as_str(), sent.text().as_str()), ("302 login_required", ""));
        let page = person.visit(sent.header("location").unwrap()).await;
        let link = format!("/oauth2/start?provider={name}&amp;rd=%2Fx%3Fa%3Db%26c").replace("&amp;", "&#38;");
        assert!(page.status == 200 && page.text().contains(&link), "{link}: {}", page.text());
        let url = person.begin(&link.replace("&#38;", "&")).await;
        assert!(url.as_str().starts_with(provider.issuer()), "{url}");
        let back = person.go_back(&consent(provider, &url, user).await).await;
        assert_eq!(back.header("location"), Some("/x?a=b&c"));
    }
}

#[tokio::test]
async fn users_choose_and_either_session_counts() {
    let world = Choice::start().await;
    let page = world.gateway.ask(&get("/oauth2/sign_in?rd=/x").page()).await;
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")));
    assert!(page.text().contains("Staff &#60;at&#62; home &#38; &#34;away&#34;"), "{}", page.text());
    assert!(page.text().contains(">two</a>"), "without a label its own name");
    for (name, user) in [("one", "alice"), ("two", "bob")] {
        let mut person = Person::at(&world.gateway);
        world.choose(&mut person, name, user).await;
        let cookies: Vec<&str> = person.jar.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(cookies, [format!("doorward_{name}"), format!("doorward_{name}_rounds")]);
        assert_eq!(person.fetch("/x").await.outcome(), "200");
        let told = world.app.last();
        assert_eq!((told.header("x-forwarded-user"), told.header("cookie")), (Some(user), None));
        let expected = if name == "two" { "200" } else { "401 login_required" };
        assert_eq!(person.fetch("/alone/x").await.outcome(), expected, "{name} at the other route");
    }
    for provider in [&world.one, &world.two] {
        let token = provider.issue_access_token("alice", &IssueOptions::default());
        assert_eq!(world.gateway.ask(&get("/x").bearer(&token)).await.outcome(), "200", "its tokens, too");
    }
}

#[tokio::test]
async fn one_sign_out_ends_both() {
    let world = Choice::start().await;
    let mut person = Person::at(&world.gateway);
    world.choose(&mut person, "one", "alice").await;
    let of_one = person.jar.clone();
    person.jar.clear();
    world.choose(&mut person, "two", "bob").await;
    person.jar.extend(of_one);
    let both = person.clone();
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(world.app.last().header("x-forwarded-user"), Some("alice"), "the first of the list");
    assert_eq!(person.visit("/oauth2/sign_out").await.status, 302);
    assert_eq!(person.jar, Vec::new());
    for name in ["doorward_one", "doorward_two"] {
        let mut old = both.clone();
        old.jar.retain(|(known, _)| known == name);
        assert_eq!(old.fetch("/x").await.outcome(), "401 login_required", "{name}");
    }
}

#[tokio::test]
async fn who_says_where_is_not_asked() {
    let world = Choice::start().await;
    let issuer = form_urlencoded::byte_serialize(world.two.issuer().as_bytes()).collect::<String>();
    for (target, provider) in [
        ("/oauth2/start?rd=/x".to_owned(), &world.one),
        ("/oauth2/start?rd=/alone/x".to_owned(), &world.two),
        ("/oauth2/sign_in?rd=/alone/x".to_owned(), &world.two),
        ("/oauth2/sign_in?provider=two&rd=/x".to_owned(), &world.two),
        (format!("/oauth2/sign_in?iss={issuer}&rd=/x"), &world.two),
    ] {
        let url = Person::at(&world.gateway).begin(&target).await;
        assert!(url.as_str().starts_with(provider.issuer()), "{target}: {url}");
    }
    let mut person = Person::at(&world.gateway);
    assert_eq!(person.visit("/oauth2/sign_in?provider=three&rd=/x").await.outcome(), "400 bad_request");
    // What leads elsewhere leads to the first page, and so to the choice.
    let page = person.visit("/oauth2/sign_in?rd=https://evil.test/x").await;
    assert!(page.status == 200 && page.text().contains("rd=%2F\"") && !page.text().contains("evil"), "{}", page.text());
}

/// A proxy that asks shows a page only where the answer is no 2xx.
#[tokio::test]
async fn another_proxy_shows_the_choice() {
    let world = Choice::start().await;
    let config = Config::default()
        .more("client_ip: {trusted_proxies: [\"127.0.0.1/32\"]}")
        .provider("one", world.one.issuer(), "")
        .provider("two", world.two.issuer(), "")
        .route("main", "http://app.test/", &world.app.origin, "auth: {provider: [one, two]}");
    world.gateway.reload(&config).await;
    let forwarded = async |uri: &str| {
        let question = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", uri)];
        world.gateway.ask(&get("/oauth2/forward").page().with_all(&question)).await
    };
    let sent = forwarded("/x").await;
    assert_eq!((sent.status, sent.header("location")), (302, Some("/oauth2/sign_in?rd=%2Fx")));
    let page = forwarded("/oauth2/sign_in?rd=%2Fx").await;
    assert!(page.status == 401 && page.text().contains("provider=two"), "{}", page.text());
    assert_eq!(forwarded("/oauth2/start?provider=two&rd=%2Fx").await.status, 302);
    let page = forwarded("/oauth2/signed_out").await;
    assert!(
        page.status == 401 && page.text().contains("You are signed out"),
        "a 2xx would be consent: {}",
        page.text()
    );
}

/// Of two sessions one may not be had, because its provider is away; the other is good.
#[tokio::test]
async fn one_provider_that_is_away_hides_no_session_of_the_other() {
    let world = Choice::start().await;
    let mut person = Person::at(&world.gateway);
    world.one.faults().access_token_lifetime = 0;
    world.choose(&mut person, "one", "alice").await;
    let of_one = person.jar.clone();
    person.jar.clear();
    world.choose(&mut person, "two", "bob").await;
    person.jar.extend(of_one);
    world.one.faults().status.insert(Endpoint::Token, 500);
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(world.app.last().header("x-forwarded-user"), Some("bob"));
}
