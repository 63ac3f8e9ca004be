//! Bearer tokens that must not pass (T1 to T6), made by a provider that signs whatever it is told to; and that what
//! is known of a token under one route says nothing about another.

use crate::app::App;
use crate::client::{Request, get};
use crate::gateway::{Config, Gateway};
use crate::world::{World, object, provider, usual};
use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use doorward::demo::{Endpoint, IssueOptions, Provider, SigningAlgorithm};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

impl World {
    /// A token of alice with these claims and header parameters over the good ones; null takes one away.
    fn odd_token(&self, claims: Value, header: Value) -> String {
        self.provider.issue_access_token(
            "alice",
            &IssueOptions { claims: object(claims), header: object(header), ..IssueOptions::default() },
        )
    }

    async fn check(&self, token: &str, expected: &str) {
        for _ in ["at first", "and again"] {
            assert_eq!(self.ask(&get("/x").bearer(token)).await.outcome(), expected, "{token}");
        }
    }
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[tokio::test]
async fn every_algorithm_of_the_provider_is_accepted() {
    let world = World::start().await;
    for algorithm in SigningAlgorithm::ALL {
        let token = world.provider.issue_access_token("alice", &IssueOptions { algorithm, ..IssueOptions::default() });
        world.check(&token, "200").await;
    }
    assert_eq!(world.app.count(), 8);
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused() {
    let world = World::start().await;
    let now = now();
    for (claims, expected) in [
        (json!({}), "200"),
        (json!({"aud": ["other", "doorward"]}), "200"),
        (json!({"exp": now - 30}), "200"), // within the skew
        (json!({"scope": null, "client_id": null, "jti": null}), "200"),
        (json!({"exp": now - 61}), "401 token_expired"),
        (json!({"exp": null}), "401 invalid_token"),
        (json!({"exp": (now + 600).to_string()}), "401 invalid_token"),
        (json!({"exp": 1e300}), "401 invalid_token"),
        (json!({"exp": 0}), "401 token_expired"),
        (json!({"nbf": now + 3600}), "401 invalid_token"),
        (json!({"iat": now + 3600}), "401 invalid_token"),
        (json!({"aud": "other"}), "401 wrong_audience"),
        (json!({"aud": "doorward2"}), "401 wrong_audience"),
        (json!({"aud": "door"}), "401 wrong_audience"),
        (json!({"aud": ["other"]}), "401 wrong_audience"),
        (json!({"aud": "Doorward"}), "401 wrong_audience"),
        (json!({"iss": "https://evil.test"}), "401 invalid_token"),
        (json!({"iss": format!("{}/", world.provider.issuer())}), "401 invalid_token"),
        (json!({"sub": null}), "401 invalid_token"),
        (json!({"sub": 17}), "401 invalid_token"),
        (json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}), "401 invalid_token"),
        (json!({"typ": "ID"}), "401 invalid_token"),
        (json!({"nonce": "n"}), "200"), // its header says that it is an access token (RFC 9068)
        (json!({"typ": "ID"}), "401 invalid_token"),
        (json!({"typ": "Refresh"}), "401 invalid_token"),
        (json!({"typ": "Bearer"}), "200"),
    ] {
        world.check(&world.odd_token(claims.clone(), json!({})), expected).await;
    }
    for absent in [json!({"aud": null}), json!({"aud": []})] {
        let outcome = world.ask(&get("/x").bearer(&world.odd_token(absent, json!({}))).clone()).await.outcome();
        assert!(matches!(outcome.as_str(), "401 wrong_audience" | "401 invalid_token"), "{outcome}");
    }
}

/// T1: nothing in a header chooses the key, or makes the gateway fetch one.
#[tokio::test]
async fn headers_that_do_not_fit_are_refused() {
    let world = World::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let counter = asked.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let es256 = world.provider.kid(SigningAlgorithm::Es256);
    for (header, expected) in [
        (json!({"typ": null}), "200"),
        (json!({"typ": "AT+JWT"}), "200"),
        (json!({"typ": "application/at+jwt"}), "200"),
        (json!({"typ": "logout+jwt"}), "401 invalid_token"),
        (json!({"typ": "dpop+jwt"}), "401 invalid_token"),
        (json!({"crit": ["b64"], "b64": true}), "401 invalid_token"),
        (json!({"crit": []}), "401 invalid_token"),
        (json!({"alg": "none"}), "401 invalid_token"),
        (json!({"alg": "HS256"}), "401 invalid_token"),
        (json!({"alg": "PS256"}), "401 invalid_token"),
        (json!({"alg": "RS384"}), "401 invalid_token"),
        (json!({"kid": es256}), "401 invalid_token"),
        (json!({"jku": url, "kid": "elsewhere"}), "401 invalid_token"),
        (json!({"x5u": url, "kid": "elsewhere"}), "401 invalid_token"),
        (json!({"jku": url, "x5u": url}), "200"), // the key is the provider's all the same
        (json!({"kid": null}), "200"),            // one key fits
        (json!({"jwk": {"kty": "oct", "k": "AAAA"}, "alg": "HS256"}), "401 invalid_token"),
    ] {
        world.check(&world.odd_token(json!({}), header.clone()), expected).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "no address out of a header is asked");
}

/// Without a key id the token is judged where exactly one key fits.
#[tokio::test]
async fn no_key_is_guessed_among_two() {
    let (provider, app) = (provider().await, App::start().await);
    let mut second = jwks(&provider).await["keys"][1].clone();
    second["alg"] = json!("RS256");
    second["kid"] = json!("second");
    provider.extra_jwks(vec![second]);
    let gateway = Gateway::start(&usual(&provider, &app)).await;
    let options = |header: Value| IssueOptions { header: object(header), ..IssueOptions::default() };
    for (header, expected) in [(json!({}), "200"), (json!({"kid": null}), "401 invalid_token")] {
        let token = provider.issue_access_token("alice", &options(header));
        assert_eq!(gateway.ask(&get("/x").bearer(&token)).await.outcome(), expected);
    }
}

#[tokio::test]
async fn signatures_that_do_not_fit_are_refused() {
    let world = World::start().await;
    let good = world.token();
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let none = BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
    let keys = jwks(&world.provider).await;
    let modulus = keys["keys"][0]["n"].as_str().unwrap().as_bytes();
    let hs256 = BASE64URL_NOPAD.encode(
        format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{}"}}"#, world.provider.kid(SigningAlgorithm::Rs256)).as_bytes(),
    );
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, modulus), format!("{hs256}.{payload}").as_bytes());
    let other = world.odd_token(json!({"sub": "mallory"}), json!({}));
    let ec = world
        .provider
        .issue_access_token("alice", &IssueOptions { algorithm: SigningAlgorithm::Es256, ..IssueOptions::default() });
    let (ec_signed, ec_signature) = ec.rsplit_once('.').unwrap();
    let der = der_of(&BASE64URL_NOPAD.decode(ec_signature.as_bytes()).unwrap());
    world.check(&good, "200").await;
    world.check(&ec, "200").await;
    for (what, token) in [
        ("no algorithm", format!("{none}.{payload}.{signature}")),
        ("the public key as a shared secret", format!("{hs256}.{payload}.{}", BASE64URL_NOPAD.encode(mac.as_ref()))),
        ("another payload", format!("{header}.{}.{signature}", other.split('.').nth(1).unwrap())),
        ("another signature", format!("{header}.{payload}.{}", other.split('.').nth(2).unwrap())),
        ("half a signature", format!("{header}.{payload}.{}", &signature[..100])),
        ("a signature in DER", format!("{ec_signed}.{}", BASE64URL_NOPAD.encode(&der))),
        ("a signature of zeros", format!("{ec_signed}.{}", BASE64URL_NOPAD.encode(&[0; 64]))),
    ] {
        let outcome = world.ask(&get("/x").bearer(&token)).await.outcome();
        assert_eq!(outcome, "401 invalid_token", "{what}");
    }
    for token in [
        format!("{none}.{payload}."),
        format!("{header}.{payload}"),
        format!("{good}.x"),
        format!("{good}="),
        "..".to_owned(),
        "a".repeat(20_000),
    ] {
        let reply = world.ask(&get("/x").bearer(&token)).await;
        assert_eq!(reply.status, 401, "{token}");
    }
}

async fn jwks(provider: &Provider) -> Value {
    let answer = crate::oidc::http().get(format!("{}/jwks", provider.issuer())).send().await.unwrap();
    answer.json().await.unwrap()
}

/// An ECDSA signature of two numbers as a SEQUENCE of INTEGERs (X.690).
fn der_of(signature: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| [&[2, 33, 0][..], bytes].concat();
    let body = [number(&signature[..32]), number(&signature[32..])].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

/// T6: what a provider signs for other ends is no access token.
#[tokio::test]
async fn other_kinds_of_tokens_are_refused() {
    let world = World::with(|config, app| {
        let lenient = config.providers[0]
            .replace("corp:", "lenient:")
            .replace("timeout: 1s,", "timeout: 1s, bearer_id_tokens: true,");
        let mut config =
            config.route("ids", "http://app.test/ids/", &app.origin, "auth: {accept: [bearer], provider: lenient}");
        config.providers.push(lenient);
        config.routes[1] = config.routes[1].replace("accept: [bearer]", "accept: [bearer], provider: corp");
        config
    })
    .await;
    let options = IssueOptions::default();
    let id_token = world.provider.issue_id_token("alice", &options);
    let logout = world.provider.logout_token(Some("alice"), None, &options);
    let opaque = world.provider.issue_opaque_token("alice", &options);
    world.check(&id_token, "401 invalid_token").await;
    world.check(&logout, "401 invalid_token").await;
    world.check(&opaque, "401 unknown_token").await;
    assert_eq!(world.ask(&get("/ids/x").bearer(&id_token)).await.outcome(), "200", "where the operator says so");
    assert_eq!(world.ask(&get("/ids/x").bearer(&logout)).await.outcome(), "401 invalid_token");
    world.check(&id_token, "401 invalid_token").await;
    assert_eq!(world.provider.calls().count(Endpoint::Introspect), 0);
}

/// T7: what a provider refreshes has often neither nonce nor hash; a header without `at+jwt` does not make it a bearer token.
#[tokio::test]
async fn a_refreshed_id_token_is_no_bearer_token() {
    let world = World::start().await;
    let header = json!({"typ": "JWT"});
    let bare = json!({"scope": null, "client_id": null});
    world.check(&world.odd_token(bare, header.clone()), "401 invalid_token").await;
    for (claims, expected) in [
        (json!({"scope": null, "client_id": null, "nonce": "n"}), "401 invalid_token"),
        (json!({"nonce": "n"}), "401 invalid_token"),
        (json!({"at_hash": "h"}), "401 invalid_token"),
        (json!({"scope": null, "client_id": null, "typ": "Bearer", "nonce": "n"}), "200"),
        (json!({"client_id": null}), "200"),
        (json!({"scope": null}), "200"),
    ] {
        world.check(&world.odd_token(claims, header.clone()), expected).await;
    }
}

/// T3: a token that is good for one route is judged anew for another, also when it comes from the cache.
#[tokio::test]
async fn each_route_judges_for_itself() {
    let world = World::with(|config, app| {
        let mut config = config;
        config.routes[1] = config.routes[1].replace("accept: [bearer]", "accept: [bearer], provider: corp");
        config.providers.push(
            config.providers[0].replace("corp:", "narrow:").replace("timeout: 1s,", "timeout: 1s, audiences: [api],"),
        );
        let route = |config: Config, name: &str, keys: &str| {
            config.route(name, &format!("http://app.test/{name}/"), &app.origin, keys)
        };
        let config = route(config, "narrow", "auth: {accept: [bearer], provider: narrow}");
        let config =
            route(config, "admins", "auth: {accept: [bearer], provider: corp}, require: {groups: [admins, ops]}");
        let config = route(config, "robots", "auth: {accept: [bearer], provider: corp}, require: {groups: [robots]}");
        let config =
            route(config, "write", "auth: {accept: [bearer], provider: corp}, require: {scopes: [openid, write]}");
        let config =
            route(config, "mail", "auth: {accept: [bearer], provider: corp}, require: {email_domains: [EXAMPLE.com]}");
        let config = route(config, "both", "auth: {accept: [bearer], provider: corp, bearer: [corp, narrow]}");
        route(config, "cert", "auth: {accept: [bearer], provider: corp}, require: {claims: {level: [\"3\", \"4\"]}}")
    })
    .await;
    let (plain, api) = (world.token(), world.token_with(json!({"aud": "api", "level": 3, "scope": "openid write"})));
    let unverified = world.token_with(json!({"email_verified": false, "level": 4}));
    let check = async |path: &str, token: &str, expected: &str| {
        let request: Request = get(path).bearer(token);
        assert_eq!(world.ask(&request).await.outcome(), expected, "{path}");
    };
    for _ in ["verified", "from the cache"] {
        check("/x", &plain, "200").await;
        check("/narrow/", &plain, "401 wrong_audience").await;
        check("/narrow/", &api, "200").await;
        check("/x", &api, "401 wrong_audience").await;
        check("/both/", &plain, "200").await;
        check("/both/", &api, "200").await;
        check("/admins/", &plain, "200").await;
        check("/robots/", &plain, "403 forbidden").await;
        check("/write/", &plain, "403 insufficient_scope").await;
        check("/mail/", &plain, "200").await;
        check("/mail/", &unverified, "403 forbidden").await;
        check("/cert/", &unverified, "200").await;
        check("/cert/", &plain, "403 forbidden").await;
    }
    let challenge = world.ask(&get("/write/").bearer(&plain)).await;
    assert_eq!(
        challenge.header("www-authenticate"),
        Some(
            "Bearer realm=\"write\", error=\"insufficient_scope\", error_description=\"The token is good, but lacks a scope that this address needs.\""
        )
    );
}

/// A hit asks nobody: neither the provider nor the crypto.
#[tokio::test]
async fn a_token_is_verified_once() {
    let world = World::start().await;
    let token = world.token();
    let calls = world.provider.calls().records().count();
    let mut connection = world.gateway.connect().await;
    for _ in 0..50 {
        assert_eq!(connection.ask(&get("/x").bearer(&token)).await.status, 200);
    }
    let metric = async |name: &str| world.gateway.metric(name).await;
    assert_eq!(metric("doorward_token_verifications_total{provider=\"corp\",result=\"ok\"}").await, 1.0);
    assert_eq!(metric("doorward_cache_requests_total{cache=\"verified_tokens\",result=\"hit\"}").await, 49.0);
    assert_eq!(metric("doorward_cache_requests_total{cache=\"verified_tokens\",result=\"miss\"}").await, 1.0);
    assert_eq!(world.provider.calls().records().count(), calls);
}

#[tokio::test]
async fn the_entries_of_a_cache_are_counted() {
    let world = World::start().await;
    world.check(&world.token(), "200").await;
    assert_eq!(world.gateway.metric("doorward_cache_entries{cache=\"verified_tokens\"}").await, 1.0);
}

/// T4, as far as tokens go: made-up ones put out no good one and fetch no keys beyond the one that is due.
#[tokio::test]
async fn a_flood_of_made_up_tokens_harms_nobody() {
    let world = World::with(|config, _| {
        config.more("caches: {unknown_tokens: {enabled: false}, verified_tokens: {max_entries: 10}}")
    })
    .await;
    let good = world.token();
    world.check(&good, "200").await;
    let fetched = world.provider.calls().count(Endpoint::Jwks);
    let mut connection = world.gateway.connect().await;
    for i in 0..300 {
        let token = world.odd_token(json!({"exp": 1}), json!({"kid": format!("made-up-{i}")}));
        assert_eq!(connection.ask(&get("/x").bearer(&token)).await.status, 401);
    }
    assert_eq!(world.provider.calls().count(Endpoint::Jwks), fetched + 1);
    let before = world.gateway.metric("doorward_cache_requests_total{cache=\"verified_tokens\",result=\"hit\"}").await;
    world.check(&good, "200").await;
    assert_eq!(
        world.gateway.metric("doorward_cache_requests_total{cache=\"verified_tokens\",result=\"hit\"}").await,
        before + 2.0
    );
}
