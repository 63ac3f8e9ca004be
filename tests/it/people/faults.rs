//! Providers that fail in the middle of a login, or whose tokens cannot be believed: the person learns which it is, is not
//! signed in, and the next login is fine.

use super::person::{SESSION, consent};
use super::{Scene, fails_with, garbles, hangs, main_route, sends_100_mb};
use crate::client::Reply;
use crate::gateway::Config;
use crate::wait::{in_time, until_so};
use crate::world::object;
use doorward::demo::{Endpoint, Faults, SigningAlgorithm};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

/// A login during which the provider has this fault.
async fn login_with(scene: &Scene, fault: impl FnOnce(&mut Faults)) -> Reply {
    let mut person = scene.person();
    let begun = person.begin("/wanted").await;
    let answer = consent(&scene.provider, &begun, "alice").await;
    scene.provider_does(fault);
    let reply = in_time("the end of the login", person.go_back(&answer)).await;
    scene.provider_is_well();
    assert_eq!(person.cookie(SESSION).is_some(), reply.status == 302);
    reply
}

#[track_caller]
fn check<'s>(
    scene: &'s Scene,
    what: &'s str,
    fault: impl FnOnce(&mut Faults) + 's,
    expected: &'s str,
) -> impl Future<Output = Reply> + 's {
    let place = std::panic::Location::caller();
    async move {
        let reply = login_with(scene, fault).await;
        assert_eq!(reply.outcome(), expected, "{place}: {what}");
        reply
    }
}

async fn check_heals(scene: &Scene) {
    let mut person = scene.signed_in("alice").await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
}

#[tokio::test]
async fn a_token_endpoint_that_fails() {
    let scene = Scene::start().await;
    let away = "503 provider_unavailable";
    for status in [500, 502, 503, 429] {
        let reply = check(&scene, "a status", fails_with(Endpoint::Token, status), away).await;
        assert!(reply.header("retry-after").is_some_and(|s| s.parse::<u32>().unwrap() > 0), "{status}");
    }
    for status in [400, 401, 403, 404] {
        check(&scene, "a refusal", fails_with(Endpoint::Token, status), "502 login_failed").await;
    }
    check(&scene, "no JSON", garbles(Endpoint::Token), "502 login_failed").await;
    check_heals(&scene).await;
}

#[tokio::test]
async fn a_token_endpoint_that_never_answers_holds_nobody_longer_than_the_timeout() {
    let scene = Scene::start().await;
    let begun = Instant::now();
    check(&scene, "it hangs", hangs(Endpoint::Token), "503 provider_unavailable").await;
    // The provider's time-out is one second.
    assert!(begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(6), "{begun:?}");
    check_heals(&scene).await;
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let scene = Scene::start().await;
    check_heals(&scene).await;
    let before = scene.gateway.peak_memory();
    for endpoint in [Endpoint::Token; 10] {
        check(&scene, "100 MB", sends_100_mb(endpoint), "502 login_failed").await;
    }
    let lacks_email = |f: &mut Faults| {
        f.id_token_claims = object(json!({"email": null}));
        let _ = f.huge.insert(Endpoint::UserInfo);
    };
    check(&scene, "100 MB of UserInfo", lacks_email, "503 provider_unavailable").await;
    // What the allocator keeps for next time is some tens of MiB, however many such answers come.
    let grown = scene.gateway.peak_memory() - before;
    assert!(grown < 80 * 1024, "{grown} KiB for answers that should have been cut at 1 MiB");
    check_heals(&scene).await;
}

#[tokio::test]
async fn an_id_token_that_proves_nothing() {
    let scene = Scene::start().await;
    let other_key = scene.provider.kid(SigningAlgorithm::Es256);
    let rsa_key = scene.provider.kid(SigningAlgorithm::Rs256);
    let no_email = |mut claims: Value| {
        // Something to ask UserInfo for, if it came so far.
        claims["email"] = Value::Null;
        object(claims)
    };
    for claims in [
        json!({"nonce": "another"}),
        json!({"nonce": null}),
        json!({"nonce": ["a"]}),
        json!({"aud": "another"}),
        json!({"aud": "doorwar"}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"aud": ["doorward", "another"], "azp": "another"}),
        json!({"iss": "https://evil.test"}),
        json!({"iss": null}),
        json!({"exp": 1}),
        json!({"exp": null}),
        json!({"exp": "9999999999"}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"iat": 9_999_999_999_i64}),
    ] {
        let what = claims.to_string();
        check(&scene, &what, |f| f.id_token_claims = no_email(claims), "502 login_failed").await;
    }
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "none", "kid": null}),
        json!({"alg": "PS256"}),
        json!({"kid": other_key}),
        json!({"crit": ["exp"], "exp": 1}),
    ] {
        let what = header.to_string();
        let fault = |f: &mut Faults| {
            f.id_token_header = object(header);
            f.id_token_claims = no_email(json!({}));
        };
        check(&scene, &what, fault, "502 login_failed").await;
    }
    let signed_by_another = |f: &mut Faults| {
        f.id_token_algorithm = SigningAlgorithm::Ps256;
        f.id_token_header = object(json!({"alg": "RS256", "kid": rsa_key}));
    };
    check(&scene, "a signature of another kind", signed_by_another, "502 login_failed").await;
    assert_eq!(scene.calls(Endpoint::UserInfo), 0, "nobody is asked about what was not proved");
    assert_eq!(scene.app.count(), 0);
    let refused = "doorward_logins_total{provider=\"corp\",result=\"login_failed\"}";
    assert_eq!(scene.gateway.metric(refused).await, 23.0);
    check_heals(&scene).await;
}

#[tokio::test]
async fn every_algorithm_of_the_provider_signs_people_in() {
    let scene = Scene::start().await;
    for algorithm in SigningAlgorithm::ALL {
        check(&scene, algorithm.name(), |f| f.id_token_algorithm = algorithm, "302").await;
    }
}

#[tokio::test]
async fn userinfo_about_somebody_else_ends_the_login() {
    let scene = Scene::start().await;
    for sub in [json!("mallory"), json!(null), json!("")] {
        let fault = |f: &mut Faults| {
            f.id_token_claims = object(json!({"email": null}));
            f.userinfo_claims = object(json!({"sub": sub}));
        };
        check(&scene, "another sub", fault, "502 login_failed").await;
    }
    assert_eq!(scene.calls(Endpoint::UserInfo), 3);
    for (status, expected) in [(401, "302"), (403, "302"), (404, "302"), (500, "503 provider_unavailable")] {
        let silent = |f: &mut Faults| {
            f.id_token_claims = object(json!({"email": null}));
            let _ = f.status.insert(Endpoint::UserInfo, status);
        };
        check(&scene, "a session without groups for hours, or another try", silent, expected).await;
    }
    let told = "the provider does not answer UserInfo as it should";
    until_so("the warning", async || scene.gateway.log().matches(told).count() == 1).await;
}

#[tokio::test]
async fn who_has_no_name_here_is_refused() {
    let unmapped = |config: Config, issuer: &str| {
        let providers = config.providers.len();
        let mut config = config.provider("corp", issuer, "claims: {user: employee}");
        config.providers.drain(..providers);
        config
    };
    let (provider, app) = (crate::world::provider().await, crate::app::App::start().await);
    super::register(&provider, "http://app.test");
    let config = unmapped(Config::default(), provider.issuer());
    let gateway = crate::gateway::Gateway::start(&main_route(config, &app, "")).await;
    let scene = Scene { provider, app, gateway };
    let reply = login_with(&scene, |_| {}).await;
    assert_eq!(reply.outcome(), "403 forbidden");
    for employee in [json!(""), json!(["a", "b"]), json!({"a": 1})] {
        let reply = login_with(&scene, |f| f.id_token_claims = object(json!({"employee": employee}))).await;
        assert_eq!(reply.outcome(), "403 forbidden", "{employee}");
    }
    let reply = login_with(&scene, |f| f.id_token_claims = object(json!({"employee": "E-17"}))).await;
    assert_eq!(reply.outcome(), "302");
}

/// Nobody can be sent to a provider that has not been heard of since the start; who is signed in needs none.
#[tokio::test]
async fn a_provider_that_is_away_when_a_login_begins() {
    let scene = Scene::start().await;
    let mut alice = scene.signed_in("alice").await;
    scene.provider.stop().await;
    assert_eq!(alice.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.person().visit("/public/").await.outcome(), "200");
    scene.provider.start_again().await.unwrap();
    check_heals(&scene).await;

    let (provider, app) = (crate::world::provider().await, crate::app::App::start().await);
    super::register(&provider, "http://app.test");
    provider.stop().await;
    let config = main_route(Config::default().provider("corp", provider.issuer(), ""), &app, "");
    let gateway = crate::gateway::Gateway::start_unready(&config).await;
    let scene = Scene { provider, app, gateway };
    let mut person = scene.person();
    for target in ["/x", "/oauth2/start"] {
        let reply = person.visit(target).await;
        assert_eq!(reply.outcome(), "503 provider_unavailable", "{target}");
        assert!(reply.header("retry-after").is_some());
    }
    scene.provider.start_again().await.unwrap();
    until_so("it heals", async || person.visit("/x").await.status == 302).await;
    check_heals(&scene).await;
}
