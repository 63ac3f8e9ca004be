//! Answers of the provider that do not belong to a login of this browser, are used twice, or say no (L1, L2): whatever is
//! wrong shows before the code is redeemed, and nobody is signed in.

use super::Scene;
use super::person::{Answer, Person, SESSION, consent};
use crate::client::{Reply, ask, get};
use doorward::demo::Endpoint;
use serde_json::json;

async fn begun(scene: &Scene, person: &mut Person) -> Answer {
    let begun = person.begin("/wanted").await;
    consent(&scene.provider, &begun, "alice").await
}

/// A login of its own whose answer is spoilt so; the code must not have reached the provider.
#[track_caller]
fn check<'s>(
    scene: &'s Scene,
    what: &'s str,
    spoil: impl FnOnce(&mut Person, &Answer) -> Answer + 's,
    expected: &'s str,
) -> impl Future<Output = Reply> + 's {
    let place = std::panic::Location::caller();
    async move {
        let mut person = scene.person();
        let answer = begun(scene, &mut person).await;
        let spoilt = spoil(&mut person, &answer);
        let before = scene.calls(Endpoint::Token);
        let reply = person.go_back(&spoilt).await;
        assert_eq!(reply.outcome(), expected, "{place}: {what}");
        assert_eq!(person.cookie(SESSION), None, "{place}: {what}");
        assert_eq!(scene.calls(Endpoint::Token), before, "{place}: {what}: the code was redeemed");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{what}");
        assert!(reply.text().contains("<h1>"), "{what}: a person gets a page");
        reply
    }
}

#[tokio::test]
async fn an_answer_counts_once() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let answer = begun(&scene, &mut person).await;
    let flow = person.jar.clone();
    assert_eq!(person.go_back(&answer).await.outcome(), "302");
    let mut replaying = scene.person();
    replaying.jar = flow.clone();
    assert_eq!(replaying.go_back(&answer).await.outcome(), "400 state_mismatch");
    assert_eq!(replaying.cookie(SESSION), None);
    assert_eq!(scene.calls(Endpoint::Token), 1, "the code was redeemed once");
    let metric = "doorward_logins_total{provider=\"corp\",result=\"state_mismatch\"}";
    assert_eq!(scene.gateway.metric(metric).await, 1.0);
    assert_eq!(person.fetch("/x").await.outcome(), "200", "the session that it brought lives");

    // Who has gone back in the browser's history is signed in already, and goes on.
    let session = person.session().to_owned();
    person.jar.extend(flow);
    let reply = person.go_back(&answer).await;
    assert_eq!((reply.outcome().as_str(), reply.header("location")), ("302", Some("/wanted")));
    assert_eq!(person.session(), session);
    assert_eq!(scene.calls(Endpoint::Token), 1);
}

#[tokio::test]
async fn an_answer_belongs_to_the_browser_that_asked() {
    let scene = Scene::start().await;
    let wrong = "400 state_mismatch";
    check(&scene, "no flow cookie", |person, answer| (person.jar.clear(), answer.clone()).1, wrong).await;
    let mut other = scene.person();
    let of_another = begun(&scene, &mut other).await;
    check(&scene, "a login of another browser", |_, _| of_another.clone(), wrong).await;
    let borrowed = other.jar.clone();
    check(&scene, "the flow cookie of another login", |p, a| (p.jar = borrowed, a.clone()).1, wrong).await;
    check(&scene, "another state", |_, answer| answer.with("state", &"A".repeat(43)), wrong).await;
    check(&scene, "no state", |_, answer| answer.with("state", ""), wrong).await;
    let renamed = |person: &mut Person, answer: &Answer| {
        let theirs = other.jar[0].1.clone();
        person.jar[0].1 = theirs;
        answer.clone()
    };
    check(&scene, "another login's seal under this login's name", renamed, wrong).await;
    let cut = |person: &mut Person, answer: &Answer| {
        person.jar[0].1.pop();
        answer.clone()
    };
    check(&scene, "a flow cookie that is cut", cut, wrong).await;
    let flipped = |person: &mut Person, answer: &Answer| {
        let value = &person.jar[0].1;
        let changed = if value[30..].starts_with('A') { 'B' } else { 'A' };
        person.jar[0].1 = format!("{}{changed}{}", &value[..30], &value[31..]);
        answer.clone()
    };
    check(&scene, "a flow cookie that is changed", flipped, wrong).await;
    assert_eq!(other.go_back(&of_another).await.outcome(), "302", "the login that was borrowed from is still good");
}

#[tokio::test]
async fn the_provider_says_no() {
    let scene = Scene::start().await;
    let error = |error: &'static str| {
        move |_: &mut Person, answer: &Answer| {
            answer.with("code", "").with("error", error).with("error_description", "<b>")
        }
    };
    check(&scene, "denied", error("access_denied"), "403 login_failed").await;
    check(&scene, "a provider in trouble", error("server_error"), "503 provider_unavailable").await;
    check(&scene, "a busy provider", error("temporarily_unavailable"), "503 provider_unavailable").await;
    for person in ["login_required", "interaction_required", "consent_required", "account_selection_required"] {
        check(&scene, person, error(person), "401 login_failed").await;
    }
    for other in ["invalid_scope", "unauthorized_client", "<script>", "%00"] {
        let reply = check(&scene, other, error(other), "502 login_failed").await;
        assert!(!reply.text().contains("<script") && !reply.text().contains("<b>"), "{}", reply.text());
    }
    check(&scene, "neither code nor error", |_, answer| answer.with("code", ""), "400 login_failed").await;
    check(&scene, "both", |_, a| a.with("error", "access_denied"), "403 login_failed").await;
}

#[tokio::test]
async fn an_answer_that_names_another_issuer_is_not_redeemed() {
    let scene = Scene::start().await;
    for iss in ["https://evil.test", "http://127.0.0.1", "x"] {
        check(&scene, iss, |_, answer| answer.with("iss", iss), "400 login_failed").await;
    }
    let mut person = scene.person();
    let answer = begun(&scene, &mut person).await;
    let promised = person.go_back(&answer.with("iss", "")).await;
    assert_eq!(promised.outcome(), "400 login_failed", "a promise that is not held to (RFC 9207, 2.4)");
    let error = answer.with("iss", "").with("code", "").with("error", "access_denied");
    assert_eq!(person.go_back(&error).await.outcome(), "400 login_failed", "whatever the answer");
    assert_eq!(scene.calls(Endpoint::Token), 0);
}

#[tokio::test]
async fn a_provider_that_promises_no_issuer_need_not_send_it() {
    let (provider, app) = (crate::world::provider().await, crate::app::App::start().await);
    super::register(&provider, "http://app.test");
    let silent = json!({"authorization_response_iss_parameter_supported": null});
    provider.faults().discovery = crate::world::object(silent);
    let config = crate::gateway::Config::default().provider("corp", provider.issuer(), "");
    let gateway = crate::gateway::Gateway::start(&super::main_route(config, &app, "")).await;
    let scene = Scene { provider, app, gateway };
    let mut person = scene.person();
    let answer = begun(&scene, &mut person).await;
    assert_eq!(person.go_back(&answer.with("iss", "")).await.outcome(), "302");
}

/// B17: the callback's address opened again, or one of another browser, beside a session.
#[tokio::test]
async fn who_is_signed_in_goes_on_from_any_callback() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let answer = begun(&scene, &mut person).await;
    assert_eq!(person.go_back(&answer).await.outcome(), "302");
    for again in [answer.clone(), answer.with("state", "made-up"), answer.with("state", "")] {
        let reply = person.go_back(&again).await;
        assert_eq!((reply.outcome().as_str(), reply.header("location")), ("302", Some("/")));
    }
    assert_eq!(scene.calls(Endpoint::Token), 1);
}

/// L13: what a stranger brings to the callback is counted like any refused token, and above the limit nobody is asked.
#[tokio::test]
async fn junk_at_the_callback_is_counted() {
    let limited = "limits: {unknown_tokens: {requests: 3, per: 12h}}";
    let scene = Scene::with(|config, app| {
        super::main_route(config.more(limited).more("client_ip: {trusted_proxies: [127.0.0.1]}"), app, "")
    })
    .await;
    let from = |client: &str, target: &str| get(target).page().with("X-Forwarded-For", client);
    let target = |answer: &Answer| answer.callback[url::Position::BeforePath..].to_owned();
    for (client, expected, makes) in [
        ("192.0.2.1", "400 login_failed", "code"),
        ("192.0.2.2", "502 login_failed", "error"),
        ("192.0.2.3", "400 state_mismatch", "state"),
    ] {
        let mut person = scene.person();
        let answer = begun(&scene, &mut person).await;
        let jar = person.jar.clone();
        let junk = |n: usize| match makes {
            "error" => answer.with("code", "").with("error", "invalid_scope"),
            other => answer.with(other, &format!("made-up-{n}-0123456789")),
        };
        let before = scene.calls(Endpoint::Token);
        for n in 0..3 {
            // Each try with a login of its own: a code spends the state.
            if makes == "code" {
                let mut fresh = scene.person();
                let answer = begun(&scene, &mut fresh).await.with("code", &format!("made-up-{n}-0123456789"));
                assert_eq!(fresh.send(from(client, &target(&answer))).await.outcome(), expected);
            } else {
                assert_eq!(person.send(from(client, &target(&junk(n)))).await.outcome(), expected, "{makes}");
            }
        }
        person.jar = jar;
        let limited = person.send(from(client, &target(&junk(9)))).await;
        assert_eq!(limited.outcome(), "429 rate_limited", "{makes}");
        assert!(limited.header("retry-after").is_some());
        assert_eq!(
            person.send(from(client, &target(&answer))).await.outcome(),
            "429 rate_limited",
            "not even a good one"
        );
        assert_eq!(scene.calls(Endpoint::Token) - before, if makes == "code" { 3 } else { 0 }, "{makes}");
        // Somebody else is not held up, and the login is not spent by it.
        let elsewhere = person.send(from("192.0.2.9", &target(&answer))).await;
        assert_eq!(elsewhere.outcome(), "302", "{makes}");
    }
    // What is nobody's fault costs nothing: a good login, a provider in trouble, somebody who may not pass.
    for _ in 0..5 {
        let mut person = scene.person();
        let answer = begun(&scene, &mut person).await;
        let trouble = answer.with("code", "").with("error", "server_error");
        assert_eq!(person.send(from("192.0.2.4", &target(&trouble))).await.outcome(), "503 provider_unavailable");
        let denied = answer.with("code", "").with("error", "access_denied");
        assert_eq!(person.send(from("192.0.2.4", &target(&denied))).await.outcome(), "403 login_failed");
        assert_eq!(person.send(from("192.0.2.4", &target(&answer))).await.outcome(), "302");
    }
}

/// A person who has a session loses nothing by a login that fails.
#[tokio::test]
async fn who_is_signed_in_goes_on_after_a_login_that_fails() {
    let scene = Scene::start().await;
    let mut person = scene.signed_in("alice").await;
    let session = person.session().to_owned();
    let begun = person.begin("/oauth2/start?rd=/wanted").await;
    let answer = consent(&scene.provider, &begun, "alice").await.with("code", "").with("error", "access_denied");
    let reply = person.go_back(&answer).await;
    assert_eq!((reply.outcome().as_str(), reply.header("location")), ("302", Some("/wanted")));
    assert_eq!(person.session(), session);
    assert_eq!(person.fetch("/x").await.outcome(), "200");
}

#[tokio::test]
async fn an_invented_code_is_refused_and_spends_the_state() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let answer = begun(&scene, &mut person).await;
    let jar = person.jar.clone();
    let reply = person.go_back(&answer.with("code", "0123456789abcdef0123456789abcdef")).await;
    assert_eq!(reply.outcome(), "400 login_failed");
    person.jar = jar;
    assert_eq!(person.go_back(&answer).await.outcome(), "400 state_mismatch", "a state has one try");
    assert_eq!(person.cookie(SESSION), None);
    assert_eq!(scene.calls(Endpoint::Token), 1);
}

/// What stands in the browser before the login is not what stands there after it (session fixation).
#[tokio::test]
async fn a_planted_ticket_is_not_the_ticket_after_the_login() {
    let scene = Scene::start().await;
    let mallory = scene.signed_in("bob").await;
    let mut victim = scene.person();
    victim.put(SESSION, mallory.session());
    victim.sign_in_for(&scene.provider, "alice", "/oauth2/start?rd=/x").await;
    assert_ne!(victim.session(), mallory.session());
    assert_eq!(victim.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.app.last().header("x-forwarded-user"), Some("alice"));
    let count = scene.app.count();
    let reply = mallory.ask(&mallory.dressed(get("/x"))).await;
    assert_eq!(
        (reply.outcome().as_str(), scene.app.count()),
        ("401 login_required", count),
        "it opens nobody's session"
    );
    let mut invented = scene.person();
    invented.put(SESSION, &"A".repeat(64));
    let planted = invented.session().to_owned();
    invented.sign_in(&scene.provider, "alice").await;
    assert_ne!(invented.session(), planted);
}

/// The page knows its methods, and reads no more than a form needs.
#[tokio::test]
async fn the_callback_takes_forms_of_a_modest_size() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let answer = begun(&scene, &mut person).await;
    let large = ask("POST", "/oauth2/callback").page().body(&vec![b'a'; 65 * 1024]);
    assert_eq!(person.send(large).await.outcome(), "413 bad_request");
    let put = person.send(ask("PUT", "/oauth2/callback").page().body(b"x")).await;
    assert_eq!((put.outcome().as_str(), put.header("allow")), ("405 bad_request", Some("GET, HEAD, POST")));
    let chunked = ask("POST", "/oauth2/callback").page().with("Transfer-Encoding", "chunked");
    let mut connection = person.connect().await;
    connection.send(&person.dressed(chunked)).await;
    for _ in 0..17 {
        let chunk = [b"1000\r\n".as_slice(), &[b'a'; 4096], b"\r\n"].concat();
        connection.send_bytes(&chunk).await;
    }
    connection.send_bytes(b"0\r\n\r\n").await;
    assert_eq!(connection.reply().await.unwrap().outcome(), "413 bad_request");
    assert_eq!(person.go_back(&answer).await.outcome(), "302", "nothing of this used the login up");
}
