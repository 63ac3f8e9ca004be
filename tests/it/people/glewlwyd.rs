//! People at glewlwyd, for what is odd in it: refreshes without an ID token, refusals that say nothing, and a chain of refresh
//! tokens that dies when one of them is used twice.

use super::main_route;
use super::person::{Answer, Person};
use crate::app::App;
use crate::client::get;
use crate::gateway::{Config, Gateway};
use crate::glewlwyd::Glewlwyd;
use crate::wait::{until, until_so};
use std::time::{Duration, Instant};

struct Odd {
    provider: Glewlwyd,
    app: App,
    gateway: Gateway,
}

impl Odd {
    async fn start(access_seconds: u32) -> Self {
        let (provider, app) = (Glewlwyd::start(access_seconds).await, App::start().await);
        let keys =
            format!("endpoints: {{discovery: \"{}\"}}, scopes: [openid, profile, email, groups]", provider.discovery());
        let config = Config::default().provider("corp", &provider.origin, &keys);
        let gateway = Gateway::start(&main_route(config, &app, "")).await;
        Odd { provider, app, gateway }
    }

    async fn signed_in(&self) -> Person {
        let mut person = Person::at(&self.gateway);
        let begun = person.begin("/x").await;
        let callback = self.provider.consent(&begun, "bob").await;
        let reply = person.go_back(&Answer { callback, form: None }).await;
        assert_eq!((reply.outcome().as_str(), reply.header("location")), ("302", Some("/x")), "{}", reply.text());
        person
    }

    async fn refreshes(&self, result: &str) -> f64 {
        self.gateway.metric(&format!("doorward_refreshes_total{{provider=\"corp\",result=\"{result}\"}}")).await
    }

    /// Who the app was told that the last one was.
    fn told(&self) -> [Option<String>; 3] {
        let received = self.app.last();
        ["email", "preferred-username", "groups"]
            .map(|name| received.header(&format!("x-forwarded-{name}")).map(str::to_owned))
    }
}

/// The tokens' lives end again and again, and person and groups stay.
#[tokio::test]
async fn a_session_lives_through_refreshes_without_an_id_token() {
    let odd = Odd::start(3).await;
    let mut person = odd.signed_in().await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    let first = odd.told();
    assert_eq!([&first[0], &first[2]], [&Some("bob@corp.test".to_owned()), &Some("dev".to_owned())]);
    until("three refreshes", async || {
        assert_eq!(person.fetch("/x").await.outcome(), "200");
        assert_eq!(odd.told(), first);
        (odd.refreshes("exchanged").await >= 3.0).then_some(())
    })
    .await;
    assert_eq!(odd.refreshes("denied").await, 0.0);
}

/// Two uses of one refresh token would end the session: of many requests at once, one uses it.
#[tokio::test]
async fn many_requests_at_once_use_one_refresh_token() {
    let odd = Odd::start(2).await;
    let person = odd.signed_in().await;
    let begun = Instant::now();
    until_so("the end of the access token", async || begun.elapsed() > Duration::from_secs(3)).await;
    let before = odd.refreshes("exchanged").await;
    let asking = (0..24).map(|_| {
        let person = person.clone();
        async move { person.ask(&person.dressed(get("/x"))).await.outcome() }
    });
    let outcomes = futures_util::future::join_all(asking).await;
    assert!(outcomes.iter().all(|outcome| outcome == "200"), "{outcomes:?}");
    assert_eq!(odd.refreshes("exchanged").await, before + 1.0);
}

/// A code that is none is refused with 403 `invalid_code`, which no specification knows.
#[tokio::test]
async fn a_code_that_is_refused_in_an_odd_way_is_no_login() {
    let odd = Odd::start(60).await;
    let mut person = Person::at(&odd.gateway);
    let begun = person.begin("/x").await;
    let callback = odd.provider.consent(&begun, "bob").await;
    let forged = Answer { callback, form: None }.with("code", "another-code-than-the-one-that-was-given");
    assert_eq!(person.go_back(&forged).await.outcome(), "502 login_failed");
    assert_eq!(person.fetch("/x").await.outcome(), "401 login_required");
    assert_eq!(odd.app.count(), 0);
}
