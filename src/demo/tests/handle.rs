//! What the handle promises to other tests: good tokens, odd tokens, faults, the call log, stopping.

use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};

use super::super::state::Bounded;
use super::*;

const SHORT: Duration = Duration::from_millis(150);

impl Party {
    /// Whether the token is good by the JWKS as it is served now.
    async fn verifies(&self, token: &str) -> bool {
        let (_, keys) = answer(self.get("/jwks").await).await;
        let keys: JwkSet = serde_json::from_value(keys).unwrap();
        let header = decode_header(token).unwrap();
        let Some(key) = header.kid.as_deref().and_then(|kid| keys.find(kid)) else { return false };
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[self.provider.issuer()]);
        validation.set_audience(&["doorward"]);
        decode::<Map<String, Value>>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).is_ok()
    }
}

#[tokio::test]
async fn discovery_and_keys() {
    let party = Party::start().await;
    let (status, document) = answer(party.get("/.well-known/openid-configuration").await).await;
    assert_eq!(status, 200);
    assert_eq!(document["issuer"], party.provider.issuer());
    for member in ["authorization", "token", "userinfo", "introspection", "revocation", "end_session"] {
        let url = document[format!("{member}_endpoint")].as_str().unwrap();
        assert!(url.starts_with(party.provider.issuer()), "{url}");
        assert_ne!(party.http.get(url).send().await.unwrap().status(), 404, "{url}");
    }
    let (_, keys) = answer(party.http.get(document["jwks_uri"].as_str().unwrap()).send().await.unwrap()).await;
    let kinds: Vec<(&str, &str)> = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["kty"].as_str().unwrap(), key["alg"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, [("RSA", "RS256"), ("RSA", "PS256"), ("EC", "ES256"), ("OKP", "EdDSA")]);
    assert!(!keys.to_string().contains("\"d\""), "public halves only");

    party.provider.faults().discovery =
        object(json!({"issuer": "https://other.example", "introspection_endpoint": null}));
    let (_, document) = answer(party.get("/.well-known/openid-configuration").await).await;
    assert_eq!(document["issuer"], "https://other.example");
    assert!(document.get("introspection_endpoint").is_none());

    party.provider.extra_jwks(vec![json!({"kty": "odd"})]);
    let (_, keys) = answer(party.get("/jwks").await).await;
    assert_eq!(keys["keys"][4], json!({"kty": "odd"}));
}

#[tokio::test]
async fn tokens_verify_by_each_algorithm_until_the_keys_rotate() {
    let party = Party::start().await;
    let expected = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
    for (algorithm, expected) in SigningAlgorithm::ALL.into_iter().zip(expected) {
        let options = IssueOptions { algorithm, ..IssueOptions::default() };
        let before = party.provider.issue_access_token("alice", &options);
        assert_eq!(decode_header(&before).unwrap().alg, expected);
        assert!(party.verifies(&before).await, "{algorithm:?}");
        let at = before.rfind('.').unwrap() + 1;
        let other = if before[at..].starts_with('A') { "B" } else { "A" };
        let forged = format!("{}{other}{}", &before[..at], &before[at + 1..]);
        assert!(!party.verifies(&forged).await, "{algorithm:?}: another signature");
        if algorithm == SigningAlgorithm::Es256 {
            party.provider.rotate_keys();
            assert!(!party.verifies(&before).await, "the key has left the JWKS");
            assert!(party.verifies(&party.provider.issue_access_token("alice", &options)).await);
        }
    }
}

#[tokio::test]
async fn tokens_are_as_odd_as_asked() {
    let party = Party::start().await;
    let issue = |options| party.provider.issue_access_token("alice", &options);
    assert!(!party.verifies(&issue(IssueOptions { lifetime_s: -120, ..IssueOptions::default() })).await);
    assert!(!party.verifies(&issue(IssueOptions { audience: "other".into(), ..IssueOptions::default() })).await);
    let listed = issue(IssueOptions { audience: json!(["other", "doorward"]), ..IssueOptions::default() });
    assert!(party.verifies(&listed).await);

    let odd = issue(IssueOptions {
        claims: object(json!({"aud": null, "scope": "read", "nonce": "n"})),
        header: object(json!({"kid": null, "typ": "JWT", "crit": ["x"]})),
        ..IssueOptions::default()
    });
    assert_eq!(Value::Object(header_of(&odd)), json!({"alg": "RS256", "typ": "JWT", "crit": ["x"]}));
    let claims = claims_of(&odd);
    assert!(claims.get("aud").is_none());
    assert_eq!((&claims["scope"], &claims["nonce"]), (&json!("read"), &json!("n")));

    let stranger = claims_of(&party.provider.issue_access_token("user-17", &IssueOptions::default()));
    assert_eq!(stranger["sub"], "user-17");
    let mut alice = demo_users().remove(0);
    alice.claims.insert("groups".to_owned(), json!(["moved"]));
    alice.claims.insert("sub".to_owned(), "f81d4fae".into());
    party.provider.set_user(alice);
    let claims = claims_of(&party.provider.issue_id_token("alice", &IssueOptions::default()));
    assert_eq!((&claims["sub"], &claims["groups"]), (&json!("f81d4fae"), &json!(["moved"])));
    assert!(claims["nonce"].is_string());
    let logout = party.provider.logout_token(None, Some("s"), &IssueOptions::default());
    assert!(claims_of(&logout).get("sub").is_none());
    assert!(party.provider.kid(SigningAlgorithm::EdDsa).starts_with("eddsa-"));
}

#[tokio::test]
async fn a_foreign_host_is_misdirected() {
    let party = Party::start().await;
    let port = party.provider.issuer().rsplit_once(':').unwrap().1.to_owned();
    let cases = [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        (format!("evil.example:{port}"), 421),
        (format!("127.0.0.1.evil.example:{port}"), 421),
        ("127.0.0.1".to_owned(), 421),
        ("localhost:1".to_owned(), 421),
    ];
    for (host, status) in cases {
        let response = party.http.get(party.url("/jwks")).header("host", &host).send().await.unwrap();
        assert_eq!(response.status(), status, "{host}");
    }
}

#[tokio::test]
async fn what_is_no_endpoint_or_too_large() {
    let party = Party::start().await;
    assert_eq!(party.get("/").await.status(), 404);
    assert_eq!(party.get("/token").await.status(), 405);
    let large = "a".repeat(64 * 1024);
    assert_eq!(party.post("/token", &[("code", &large)]).await.status(), 413);
    let (status, error) = party.call("/token", &[("grant_type", "password")]).await;
    assert_eq!((status.as_u16(), &error["error"]), (400, &json!("unsupported_grant_type")));
}

#[tokio::test]
async fn faults() {
    let party = Party::start().await;
    let quick = |path: &str| party.http.get(party.url(path)).timeout(SHORT).send();

    party.provider.faults().status.insert(Endpoint::Jwks, 503);
    assert_eq!(party.get("/jwks").await.status(), 503);
    *party.provider.faults() = Faults::default();
    assert_eq!(party.get("/jwks").await.status(), 200);

    party.provider.faults().malformed.insert(Endpoint::Jwks);
    assert!(serde_json::from_str::<Value>(&party.get("/jwks").await.text().await.unwrap()).is_err());
    *party.provider.faults() = Faults::default();

    party.provider.faults().hang.insert(Endpoint::Jwks);
    assert!(quick("/jwks").await.unwrap_err().is_timeout());
    assert!(quick("/.well-known/openid-configuration").await.is_ok(), "another endpoint is well");
    *party.provider.faults() = Faults::default();

    party.provider.faults().huge.insert(Endpoint::Jwks);
    let mut huge = party.get("/jwks").await;
    assert_eq!(huge.content_length(), None);
    let mut size = 0;
    while let Some(chunk) = huge.chunk().await.unwrap() {
        size += chunk.len();
    }
    assert!(size > 100_000_000, "{size}");
    *party.provider.faults() = Faults::default();

    party.provider.faults().access_token_lifetime = 7;
    party.provider.faults().opaque_access_tokens = true;
    party.provider.faults().issue_refresh_tokens = false;
    party.provider.faults().expires_in = ExpiresIn::Absent;
    party.provider.faults().id_token_claims = object(json!({"iss": "x", "nonce": null}));
    party.provider.faults().id_token_algorithm = SigningAlgorithm::EdDsa;
    let tokens = party.tokens().await;
    assert!(tokens.get("refresh_token").is_none() && tokens.get("expires_in").is_none());
    assert!(!tokens["access_token"].as_str().unwrap().contains('.'));
    let id_token = tokens["id_token"].as_str().unwrap();
    assert_eq!(header_of(id_token)["alg"], "EdDSA");
    assert_eq!(claims_of(id_token)["iss"], "x");
    assert!(claims_of(id_token).get("nonce").is_none());

    party.provider.faults().authorization_response = object(json!({"iss": "x", "state": null}));
    let response = party.authorize(&a_request(&[]), &party.provider.sign_in("alice")).await;
    let back = location(&response);
    assert_eq!((param(&back, "iss").as_deref(), param(&back, "state")), (Some("x"), None));

    party.provider.faults().userinfo_claims = object(json!({"sub": "somebody-else", "email": null}));
    let token = tokens["access_token"].as_str().unwrap();
    let info = party.http.get(party.url("/userinfo")).bearer_auth(token).send().await.unwrap();
    let (_, info) = answer(info).await;
    assert_eq!((&info["sub"], info.get("email")), (&json!("somebody-else"), None));
}

#[tokio::test]
async fn a_delay_stands_before_or_after_the_work() {
    let party = Party::start().await;
    let tokens = party.tokens().await;
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let give_up = async || {
        let request = party.form("/token", &fields).basic_auth(CLIENT.0, Some(CLIENT.1)).timeout(SHORT);
        assert!(request.send().await.unwrap_err().is_timeout());
    };
    party.provider.faults().delay.insert(Endpoint::Token, Duration::from_secs(60));
    give_up().await;
    *party.provider.faults() = Faults::default();
    let (_, tokens) = party.refresh(&tokens["refresh_token"]).await;
    assert!(tokens["refresh_token"].is_string(), "nothing had happened: {tokens}");

    let fresh = party.tokens().await;
    let fields = [("grant_type", "refresh_token"), ("refresh_token", fresh["refresh_token"].as_str().unwrap())];
    party.provider.faults().reply_delay.insert(Endpoint::Token, Duration::from_secs(60));
    let request = party.form("/token", &fields).basic_auth(CLIENT.0, Some(CLIENT.1)).timeout(SHORT);
    assert!(request.send().await.unwrap_err().is_timeout());
    *party.provider.faults() = Faults::default();
    assert_eq!(party.refresh(&fresh["refresh_token"]).await.0, 400, "it was rotated, and the new one is lost");
}

#[tokio::test]
async fn calls_are_counted_and_kept() {
    let party = Party::start().await;
    assert_eq!(party.provider.calls().count(Endpoint::Token), 0);
    let tokens = party.tokens().await;
    party.provider.faults().status.insert(Endpoint::Token, 500);
    party.refresh(&tokens["refresh_token"]).await;
    assert_eq!(party.provider.calls().count(Endpoint::Token), 2, "a call counts, whatever comes of it");
    assert_eq!(party.provider.calls().count(Endpoint::Introspect), 0);
    let calls = party.provider.calls();
    let grants: Vec<_> = calls
        .records()
        .filter(|call| call.endpoint == Endpoint::Token)
        .map(|call| call.param("grant_type").unwrap())
        .collect();
    assert_eq!(grants, ["authorization_code", "refresh_token"]);
    drop(calls);
    party.provider.calls().clear();
    assert_eq!(party.provider.calls().count(Endpoint::Token), 0);
}

#[tokio::test]
async fn stopped_and_started_again() {
    let party = Party::start().await;
    let token = party.provider.issue_access_token("alice", &IssueOptions::default());
    party.provider.faults().hang.insert(Endpoint::Jwks);
    let hanging = tokio::spawn(party.http.get(party.url("/jwks")).send());
    while party.provider.calls().count(Endpoint::Jwks) == 0 {
        tokio::task::yield_now().await;
    }
    party.provider.stop().await;
    let cut = hanging.await.unwrap().unwrap_err();
    assert!(!cut.is_timeout(), "{cut}");
    assert!(party.http.get(party.url("/jwks")).send().await.unwrap_err().is_connect());
    party.provider.stop().await;

    *party.provider.faults() = Faults::default();
    party.provider.start_again().await.unwrap();
    party.provider.start_again().await.unwrap();
    assert!(party.verifies(&token).await);
    assert!(party.is_active(&token).await);
}

#[test]
fn a_full_map_forgets_its_oldest() {
    let mut map = Bounded::default();
    for number in 0..10_001 {
        map.insert(number.to_string(), number);
    }
    assert_eq!((map.get("0"), map.get("1"), map.get("10000")), (None, Some(&1), Some(&10_000)));
    assert_eq!(map.values().count(), 10_000);
    map.remove("1");
    map.insert("again".to_owned(), 1);
    assert_eq!(map.get("2"), Some(&2), "what was removed makes room");
}
