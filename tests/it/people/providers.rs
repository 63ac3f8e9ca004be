//! Two providers on one host share a cookie jar: each has a cookie of its own, and nothing of one counts at the other.

use super::person::{Person, consent};
use super::register;
use crate::app::App;
use crate::client::HOST;
use crate::gateway::{Config, Gateway};
use crate::wait::until_so;
use crate::world::provider;
use doorward::demo::{Endpoint, Provider};

struct Two {
    one: Provider,
    two: Provider,
    app: App,
    gateway: Gateway,
}

impl Two {
    async fn start() -> Self {
        let (one, two, app) = (provider().await, provider().await, App::start().await);
        let mut config = Config::default();
        for (name, provider) in [("one", &one), ("two", &two)] {
            register(provider, &format!("http://{HOST}"));
            let from = format!("http://app.test/{name}/");
            let auth = format!("auth: {{provider: {name}}}");
            config = config.provider(name, provider.issuer(), "").route(name, &from, &app.origin, &auth);
        }
        let gateway = Gateway::start(&config).await;
        Two { one, two, app, gateway }
    }

    async fn signed_in(&self) -> Person {
        let mut person = Person::at(&self.gateway);
        person.sign_in_for(&self.one, "alice", "/one/x").await;
        person.sign_in_for(&self.two, "bob", "/two/x").await;
        person
    }
}

#[tokio::test]
async fn each_provider_has_its_own_cookie() {
    let world = Two::start().await;
    let mut person = world.signed_in().await;
    let names: Vec<&str> = person.jar.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["doorward_one", "doorward_one_rounds", "doorward_two", "doorward_two_rounds"]);
    for (target, user) in [("/one/x", "alice"), ("/two/x", "bob")] {
        assert_eq!(person.fetch(target).await.outcome(), "200");
        let told = world.app.last();
        assert_eq!((told.header("x-forwarded-user"), told.header("cookie")), (Some(user), None));
    }
    let (one, two) =
        (person.cookie("doorward_one").unwrap().to_owned(), person.cookie("doorward_two").unwrap().to_owned());
    person.put("doorward_one", &two);
    person.put("doorward_two", &one);
    for target in ["/one/x", "/two/x"] {
        assert_eq!(person.fetch(target).await.outcome(), "401 login_required", "another realm's ticket at {target}");
    }
    person.jar = vec![("doorward".to_owned(), one)];
    assert_eq!(person.fetch("/one/x").await.outcome(), "401 login_required", "without the provider's name");
}

#[tokio::test]
async fn own_pages_are_told_which_provider_is_meant() {
    let world = Two::start().await;
    let mut person = Person::at(&world.gateway);
    for (name, provider) in [("one", &world.one), ("two", &world.two)] {
        let url = person.begin(&format!("/oauth2/start?provider={name}&rd=/{name}/after")).await;
        assert!(url.as_str().starts_with(provider.issuer()), "{name}: {url}");
        let reply = person.go_back(&consent(provider, &url, if name == "one" { "alice" } else { "bob" }).await).await;
        assert_eq!(reply.header("location"), Some(format!("/{name}/after").as_str()));
    }
    assert_eq!(person.visit("/oauth2/start?provider=three").await.outcome(), "400 bad_request");
    for (query, user) in [("?provider=one", "alice"), ("?provider=two", "bob"), ("", "alice")] {
        assert_eq!(person.fetch(&format!("/oauth2/userinfo{query}")).await.json()["user"], user, "{query}");
    }
    person.put("doorward_one", "");
    assert_eq!(person.fetch("/oauth2/userinfo?provider=one").await.outcome(), "401 login_required");
    assert_eq!(person.fetch("/oauth2/userinfo").await.json()["user"], "bob");
    assert_eq!(person.fetch("/oauth2/userinfo?provider=three").await.outcome(), "401 login_required");
}

/// An answer of one provider never ends a login that was begun at the other (mix-up; RFC 9207).
#[tokio::test]
async fn the_answer_of_one_provider_ends_no_login_at_the_other() {
    let world = Two::start().await;
    let mut person = Person::at(&world.gateway);
    let at_one = person.begin("/one/x").await;
    let at_two = person.begin("/two/x").await;
    let of_one = consent(&world.one, &at_one, "alice").await;
    let of_two = consent(&world.two, &at_two, "bob").await;
    let mixed = of_two.with("state", &of_one.param("state").unwrap());
    assert_eq!(person.go_back(&mixed).await.outcome(), "400 login_failed");
    assert_eq!(world.one.calls().count(Endpoint::Token) + world.two.calls().count(Endpoint::Token), 0);
    assert_eq!(person.cookie("doorward_one"), None);
    assert_eq!(person.go_back(&of_two).await.outcome(), "302", "the other login is untouched");
}

/// L12: a bad provider answers with a redirect to the good one, with its own nonce and challenge and the victim's state. The
/// good provider sends the browser back on its own address, where no login of the bad one ends.
#[tokio::test]
async fn the_code_of_one_provider_never_goes_to_the_other() {
    let world = Two::start().await;
    for provider in [&world.one, &world.two] {
        let silent = serde_json::json!({"iss": null});
        provider.faults().authorization_response = crate::world::object(silent);
        let unpromised = serde_json::json!({"authorization_response_iss_parameter_supported": null});
        provider.faults().discovery = crate::world::object(unpromised);
    }
    world.gateway.signal("HUP");
    let known = || world.one.calls().count(Endpoint::Discovery) > 1 && world.two.calls().count(Endpoint::Discovery) > 1;
    until_so("the metadata are read anew", async || known()).await;
    let mut victim = Person::at(&world.gateway);
    let at_bad = victim.begin("/two/x").await;
    let param = |url: &url::Url, name: &str| url.query_pairs().find(|(n, _)| n == name).unwrap().1.into_owned();
    assert_eq!(param(&at_bad, "redirect_uri"), "http://app.test/oauth2/callback/two");
    // What the good provider is asked, by the bad one's redirect.
    let mut at_good = victim.begin("/one/x").await;
    victim.jar.retain(|(name, _)| name.starts_with("doorward_two"));
    let pairs: Vec<(String, String)> = at_good.query_pairs().into_owned().collect();
    at_good.query_pairs_mut().clear().extend_pairs(
        pairs.iter().map(|(name, value)| {
            (name.as_str(), if name == "state" { param(&at_bad, "state") } else { value.clone() })
        }),
    );
    let answer = consent(&world.one, &at_good, "alice").await;
    assert!(answer.callback.path().ends_with("/callback/one"));
    assert_eq!(victim.go_back(&answer).await.outcome(), "400 login_failed");
    let mut elsewhere = answer.clone();
    elsewhere.callback.set_path("/oauth2/callback");
    assert_eq!(victim.go_back(&elsewhere).await.outcome(), "400 login_failed");
    assert_eq!(world.one.calls().count(Endpoint::Token) + world.two.calls().count(Endpoint::Token), 0);
}

#[tokio::test]
async fn a_sign_out_ends_the_sessions_of_all_providers() {
    let world = Two::start().await;
    let mut person = world.signed_in().await;
    let mut old = person.clone();
    let reply = person.visit("/oauth2/sign_out").await;
    assert_eq!(reply.all("set-cookie").len(), 4, "of each, the session and the count of its logins");
    assert!(person.jar.is_empty(), "{:?}", person.jar);
    for target in ["/one/x", "/two/x"] {
        assert_eq!(old.fetch(target).await.outcome(), "401 login_required", "{target}");
    }
    for (name, provider) in [("one", &world.one), ("two", &world.two)] {
        until_so(name, async || provider.calls().count(Endpoint::Revoke) == 1).await;
    }
}

/// B30: whichever endpoint is called, the assertion is for the token endpoint; the key is named.
#[tokio::test]
async fn a_client_with_a_key_proves_it_at_every_endpoint() {
    let (provider, app) = (provider().await, App::start().await);
    register(&provider, &format!("http://{HOST}"));
    let pem = include_str!("../../../src/provider/testdata/p256.pem");
    let mut config = Config::default();
    config.providers.push(format!(
        "corp: {{issuer: \"{}\", client_id: doorward, client_auth: private_key_jwt, private_key: {pem:?}, introspection: true}}",
        provider.issuer()
    ));
    let gateway = Gateway::start(&super::main_route(config, &app, "")).await;
    let mut person = Person::at(&gateway);
    person.sign_in(&provider, "alice").await;
    assert_eq!(gateway.ask(&crate::client::get("/x").bearer("opaque")).await.outcome(), "401 unknown_token");
    person.visit("/oauth2/sign_out").await;
    until_so("the revocation", async || provider.calls().count(Endpoint::Revoke) == 1).await;
    for endpoint in [Endpoint::Token, Endpoint::Introspect, Endpoint::Revoke] {
        let calls = provider.calls();
        let call = calls.records().find(|call| call.endpoint == endpoint).unwrap();
        let assertion = call.param("client_assertion").unwrap();
        let part = |n: usize| -> serde_json::Value {
            let part = data_encoding::BASE64URL_NOPAD.decode(assertion.split('.').nth(n).unwrap().as_bytes()).unwrap();
            serde_json::from_slice(&part).unwrap()
        };
        assert_eq!(part(1)["aud"], format!("{}/token", provider.issuer()), "{endpoint:?}");
        assert_eq!((part(0)["alg"].as_str(), part(0)["kid"].as_str().map(str::len)), (Some("ES256"), Some(43)));
    }
}

/// A ready assertion is read anew at each use.
#[tokio::test]
async fn a_client_may_show_an_assertion_that_others_keep_fresh() {
    let (provider, app, folder) = (provider().await, App::start().await, crate::gateway::Folder::new());
    register(&provider, &format!("http://{HOST}"));
    let assertion = |jti: &str| {
        let claims = serde_json::json!({"sub": "doorward", "jti": jti}).to_string();
        format!("e30.{}.x\n", data_encoding::BASE64URL_NOPAD.encode(claims.as_bytes()))
    };
    let file = folder.write("assertion", &assertion("1"));
    let mut config = Config::default();
    config.providers.push(format!(
        "corp: {{issuer: \"{}\", client_id: doorward, client_auth: private_key_jwt, client_assertion_file: \"{file}\"}}",
        provider.issuer()
    ));
    let gateway = Gateway::start(&super::main_route(config, &app, "")).await;
    for jti in ["1", "2"] {
        folder.write("assertion", &assertion(jti));
        Person::at(&gateway).sign_in(&provider, "alice").await;
        let calls = provider.calls();
        let last = calls.records().filter(|call| call.endpoint == Endpoint::Token).last().unwrap();
        assert_eq!(last.param("client_assertion"), Some(assertion(jti).trim()));
    }
    std::fs::remove_file(&file).unwrap();
    let mut person = Person::at(&gateway);
    let begun = person.begin("/").await;
    let reply = person.go_back(&consent(&provider, &begun, "alice").await).await;
    assert_eq!(reply.outcome(), "502 login_failed");
    until_so("a line in the log", async || gateway.log().contains("the gateway cannot authenticate at the provider"))
        .await;
}

/// B22: no document; what the operator writes is all.
#[tokio::test]
async fn a_provider_without_discovery() {
    let (provider, app) = (provider().await, App::start().await);
    register(&provider, &format!("http://{HOST}"));
    let issuer = provider.issuer().to_owned();
    let at = |path: &str| format!("\"{issuer}/{path}\"");
    let endpoints = format!(
        "endpoints: {{jwks_uri: {}, authorization_endpoint: {}, token_endpoint: {}}}",
        at("jwks"),
        at("authorize"),
        at("token")
    );
    provider.faults().status.insert(Endpoint::Discovery, 404);
    let config = Config::default().provider("corp", &issuer, &format!("discovery: never, {endpoints}"));
    let gateway = Gateway::start(&super::main_route(config, &app, "")).await;
    Person::at(&gateway).sign_in(&provider, "alice").await;
    let token = provider.issue_access_token("alice", &doorward::demo::IssueOptions::default());
    assert_eq!(gateway.ask(&crate::client::get("/x").bearer(&token)).await.outcome(), "200");
    assert_eq!(provider.calls().count(Endpoint::Discovery), 0);
}

/// B33: too many groups for the token is told as that.
#[tokio::test]
async fn groups_that_are_left_out_are_told() {
    let scene = super::Scene::start().await;
    scene.provider_does(|faults| {
        let elsewhere = serde_json::json!({"groups": null, "_claim_names": {"groups": "src1"}});
        faults.id_token_claims = crate::world::object(elsewhere);
        faults.userinfo_claims = crate::world::object(serde_json::json!({"groups": null}));
    });
    scene.signed_in("alice").await;
    until_so("the warning", async || scene.gateway.log().contains("overage")).await;
}
