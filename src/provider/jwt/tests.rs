use super::*;
use crate::provider::fake::{NOW, key_set, settings, token, token_as};
use crate::provider::settings::SignatureAlgorithm;
use serde_json::json;

fn judge(token: &str, settings: &Settings) -> Result<Verified, Refusal> {
    let keys = key_set(&["rs", "es", "ed"], None);
    Unverified::read(token)?.verify_bearer(&keys, settings, &[], Timestamp::from_seconds(NOW))
}

fn check(token: &str, expected: Result<(), Refusal>) {
    let judged = judge(token, &settings("https://id.test")).map(drop);
    assert_eq!(judged, expected, "{token}");
}

const BAD: Result<(), Refusal> = Err(Refusal::Invalid);
const FORGED: Result<(), Refusal> = Err(Refusal::BadSignature);

#[test]
fn every_algorithm_verifies() {
    for (algorithm, kid) in
        [(Algorithm::RS256, "rs"), (Algorithm::PS256, "rs"), (Algorithm::ES256, "es"), (Algorithm::EdDSA, "ed")]
    {
        check(&token_as(algorithm, json!({"kid": kid}), json!({})), Ok(()));
    }
}

#[test]
fn headers_are_judged() {
    let with = |header| token_as(Algorithm::RS256, header, json!({}));
    for good in [json!({"kid": "rs"}), json!({"kid": "rs", "typ": null}), json!({"kid": "rs", "typ": "AT+jwt"})] {
        check(&with(good), Ok(()));
    }
    check(&with(json!({"kid": null})), Ok(())); // one key fits
    check(&with(json!({"kid": "who"})), Err(Refusal::UnknownKey));
    for bad in [
        json!({"kid": "es"}),
        json!({"kid": "rs", "alg": "ES256"}),
        json!({"kid": 7}),
        json!({"kid": "rs", "crit": ["exp"]}),
        json!({"kid": "rs", "typ": "logout+jwt"}),
        json!({"kid": "rs", "typ": ""}),
        json!({"kid": "rs", "alg": "none"}),
        json!({"kid": "rs", "alg": null}),
    ] {
        check(&with(bad), BAD);
    }
    check(&token_as(Algorithm::HS256, json!({"kid": "rs"}), json!({})), BAD);
    check(&token_as(Algorithm::EdDSA, json!({"kid": "rs", "alg": "RS256"}), json!({})), FORGED);
    check(&with(json!({"kid": "rs", "alg": "PS256"})), FORGED); // signed with RS256
}

#[test]
fn claims_are_judged() {
    for good in [
        json!({"aud": ["x", "doorward"]}),
        json!({"iat": null}),
        json!({"exp": NOW - 59}),
        json!({"exp": NOW as f64 + 0.5}),
        json!({"exp": 99_999_999_999_i64}),
        json!({"nbf": NOW + 60}),
        json!({"iat": NOW + 60}),
        json!({"typ": "Bearer"}),
    ] {
        check(&token(good), Ok(()));
    }
    check(&token(json!({"exp": NOW - 60})), Err(Refusal::Expired));
    check(&token(json!({"exp": 0})), Err(Refusal::Expired));
    let soon = Timestamp::from_seconds(NOW + 540);
    check(&token(json!({"nbf": NOW + 600})), Err(Refusal::NotYet(soon)));
    check(&token(json!({"iat": NOW + 600})), Err(Refusal::NotYet(soon)));
    for aud in
        [json!("doorward2"), json!("door"), json!([]), json!(["doorward", 1]), json!({"doorward": 1}), json!(null)]
    {
        check(&token(json!({"aud": aud})), Err(Refusal::WrongAudience));
    }
    for bad in [
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"exp": null}),
        json!({"exp": "1800000300"}),
        json!({"exp": true}),
        json!({"exp": 1e60}),
        json!({"nbf": "soon"}),
        json!({"iss": "https://id.test/"}),
        json!({"iss": ["https://id.test"]}),
        json!({"iss": null}),
        json!({"events": {}}),
        json!({"nonce": "n"}),
        json!({"at_hash": "h"}),
        json!({"typ": "ID"}),
        json!({"typ": "Refresh"}),
        json!({"typ": "Logout"}),
    ] {
        check(&token(bad), BAD);
    }
}

#[test]
fn settings_open_what_they_say_and_no_more() {
    let mut open = settings("https://id.test");
    open.bearer_id_tokens = true;
    open.audiences = Audiences::Any;
    for good in [json!({"nonce": "n", "typ": "ID"}), json!({"aud": null}), json!({"aud": 7})] {
        assert!(judge(&token(good), &open).is_ok());
    }
    for bad in [json!({"typ": "Logout"}), json!({"typ": "Refresh"}), json!({"events": {}})] {
        assert!(judge(&token(bad), &open).is_err());
    }
    let mut narrow = settings("https://id.test");
    narrow.algorithms = vec![SignatureAlgorithm::ES256].try_into().unwrap();
    assert!(judge(&token(json!({})), &narrow).is_err());
}

#[test]
fn a_changed_or_broken_token_is_refused() {
    let good = token(json!({}));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let other = token(json!({"sub": "root"}));
    let (_, claims) = other.rsplit_once('.').unwrap().0.split_once('.').unwrap();
    for bad in [
        format!("{head}.{claims}.{signature}"),
        format!("{message}."),
        format!("{message}.{}", &signature[..signature.len() - 20]),
        format!("{good}="),
    ] {
        check(&bad, FORGED);
    }
    for bad in [format!("{good}.x"), message.to_string(), String::new(), "..".into(), "a.b.c".into()] {
        check(&bad, BAD);
    }
}

#[test]
fn what_is_a_jwt_is_told_by_its_shape() {
    let b64 = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    assert!(matches!(shape(&token(json!({}))), Shape::Jwt(_)));
    for rest in ["e30.c2ln", "e30.", ".", "e30.+/=", "no-json.x"] {
        assert!(matches!(shape(&format!("{}.{rest}", b64(r#"{"alg":"x"}"#))), Shape::Broken), "{rest}");
    }
    for opaque in [
        format!("{}.e30.c2ln", b64(r#"{"no":"alg"}"#)),
        format!("{}.e30.c2ln", b64("[1]")),
        format!("{}.e30", b64(r#"{"alg":"x"}"#)),
        format!("{}.e30..", b64(r#"{"alg":"x"}"#)),
        "one.two.three".into(),
        "hvs.CAESI.b.c".into(),
        "opaque".into(),
    ] {
        assert!(matches!(shape(&opaque), Shape::Opaque), "{opaque}");
    }
}

/// What a refreshed ID token looks like: no nonce, no hash.
fn like_an_id_token(changes: Value) -> Value {
    let mut claims = json!({"scope": null, "auth_time": NOW});
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

#[test]
fn an_id_token_is_no_bearer_token_of_the_client() {
    let mut client = settings("https://id.test");
    client.audiences = Audiences::Client;
    let passes = |settings: &Settings, header: Value, changes| {
        judge(&token_as(Algorithm::RS256, header, like_an_id_token(changes)), settings).is_ok()
    };
    let plain = || json!({"kid": "rs"});
    for id in [json!({}), json!({"azp": "doorward", "sid": "s"}), json!({"token_use": "id"}), json!({"typ": "ID"})] {
        assert!(!passes(&client, plain(), id.clone()), "{id}");
    }
    for access in [
        json!({"scope": "openid"}),
        json!({"scope": ""}),
        json!({"scp": ["a"]}),
        json!({"client_id": "doorward"}),
        json!({"cid": "x"}),
        json!({"typ": "Bearer"}),
        json!({"token_use": "access"}),
    ] {
        assert!(passes(&client, plain(), access.clone()), "{access}");
    }
    assert!(passes(&client, json!({"kid": "rs", "typ": "at+jwt"}), json!({})));
    client.bearer_id_tokens = true;
    assert!(passes(&client, plain(), json!({})));
    assert!(passes(&settings("https://id.test"), plain(), json!({})), "an audience that was named decides alone");
}

#[test]
fn an_access_token_may_have_a_nonce_where_it_says_what_it_is() {
    let keycloak = |changes| token_as(Algorithm::RS256, json!({"kid": "rs"}), changes);
    check(&keycloak(json!({"typ": "Bearer", "nonce": "n", "at_hash": "h"})), Ok(()));
    check(&token_as(Algorithm::RS256, json!({"kid": "rs", "typ": "at+jwt"}), json!({"nonce": "n"})), Ok(()));
    check(
        &token_as(Algorithm::RS256, json!({"kid": "rs", "typ": "application/AT+JWT"}), json!({"nonce": "n"})),
        Ok(()),
    );
    check(&token_as(Algorithm::RS256, json!({"kid": "rs", "typ": "JWT"}), json!({"nonce": "n"})), BAD);
    check(&keycloak(json!({"typ": "bearer", "nonce": "n"})), BAD);
    check(&token_as(Algorithm::RS256, json!({"kid": "rs", "typ": "at+jwt"}), json!({"typ": "ID"})), BAD);
}

#[test]
fn access_tokens_may_be_of_another_issuer() {
    let mut adfs = settings("https://id.test/adfs");
    assert!(judge(&token(json!({})), &adfs).is_err());
    adfs.bearer_issuer = Some("https://id.test".to_string().try_into().unwrap());
    assert!(judge(&token(json!({})), &adfs).is_ok());
    let of_metadata = token(json!({"iss": "https://id.test/adfs"}));
    assert!(judge(&of_metadata, &adfs).is_err());
    adfs.bearer_id_tokens = true;
    assert!(judge(&of_metadata, &adfs).is_ok());
}

#[test]
fn an_issuer_may_stand_for_many_tenants() {
    let mut entra = settings("https://id.test/{tenantid}/v2.0");
    let of = |iss: &str, tid: Value| token(json!({"iss": iss, "tid": tid}));
    let passes = |settings: &Settings, iss, tid| judge(&of(iss, tid), settings).is_ok();
    assert!(passes(&entra, "https://id.test/t-1/v2.0", json!("t-1")));
    for (iss, tid) in [
        ("https://id.test/t-1/v2.0", json!("t-2")),
        ("https://id.test/t-1/v2.0", json!(null)),
        ("https://id.test/{tenantid}/v2.0", json!("{tenantid}")),
        ("https://id.test/a/b/v2.0", json!("a/b")),
        ("https://id.test//v2.0", json!("")),
        ("https://evil.test/t-1/v2.0", json!("t-1")),
    ] {
        assert!(!passes(&entra, iss, tid.clone()), "{iss} {tid}");
    }
    entra.tenants = vec!["t-1".to_string().try_into().unwrap()];
    assert!(passes(&entra, "https://id.test/t-1/v2.0", json!("t-1")));
    assert!(!passes(&entra, "https://id.test/t-2/v2.0", json!("t-2")));
    assert!(
        entra.is_response_issuer("https://id.test/t-1/v2.0") && !entra.is_response_issuer("https://id.test/t-2/v2.0")
    );
}

#[test]
fn another_claim_may_say_who_a_program_is() {
    let mut by_client = settings("https://id.test");
    by_client.claims.user = crate::provider::claims::ClaimPath::new("client_id");
    let lightweight = token(json!({"sub": null, "client_id": "robot"}));
    assert!(judge(&lightweight, &by_client).is_ok());
    assert!(judge(&token(json!({"sub": "x"})), &by_client).is_err());
}

/// OpenID Connect Back-Channel Logout 1.0, 2.4 and 2.6; a token of each provider that is known to differ.
#[test]
fn logout_tokens_are_judged() {
    let own = settings("https://id.test");
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let plain = json!({"typ": null, "sid": "s", "jti": "j", "iat": NOW, "events": event});
    let judge = |algorithm, header: Value, changed: Value| {
        let mut claims = plain.clone();
        claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        let token = token_as(algorithm, header, claims);
        let keys = key_set(&["rs", "es", "ed"], None);
        Unverified::read(&token)?.verify_logout(&keys, &own, Timestamp::from_seconds(NOW))
    };
    let with = |changed| judge(Algorithm::RS256, json!({"kid": "rs"}), changed);
    let both = with(json!({})).unwrap();
    assert_eq!((both.session_id.as_deref(), both.id.as_str()), (Some("s"), "j"));
    assert!(both.subject.is_some());
    for typ in [json!(null), json!("JWT"), json!("logout+jwt"), json!("Logout+JWT"), json!("application/logout+jwt")] {
        assert!(judge(Algorithm::RS256, json!({"kid": "rs", "typ": typ}), json!({})).is_ok(), "{typ}");
    }
    for good in [
        json!({"typ": "Logout"}),
        json!({"sub": null}),
        json!({"sid": null}),
        json!({"exp": null}),
        json!({"aud": ["x", "doorward"]}),
        json!({"exp": NOW - 59}),
        json!({"iat": NOW + 59}),
    ] {
        assert!(with(good.clone()).is_ok(), "{good}");
    }
    for bad in [
        json!({"iss": "https://other.test"}),
        json!({"aud": "other"}),
        json!({"aud": null}),
        json!({"nonce": "n"}),
        json!({"nonce": ""}),
        json!({"events": null}),
        json!({"events": {}}),
        json!({"events": ["http://schemas.openid.net/event/backchannel-logout"]}),
        json!({"events": {"http://schemas.openid.net/event/backchannel-logout": true}}),
        json!({"events": {"http://schemas.openid.net/event/Backchannel-Logout": {}}}),
        json!({"jti": null}),
        json!({"jti": 7}),
        json!({"sub": null, "sid": null}),
        json!({"sid": ""}),
        json!({"sid": ["s"]}),
        json!({"sub": 7}),
        json!({"iat": null}),
        json!({"iat": NOW + 600}),
        json!({"exp": NOW - 61}),
        json!({"exp": "soon"}),
        json!({"exp": null, "iat": NOW - 181}),
        json!({"exp": NOW + 99_999, "iat": NOW - 3661}),
    ] {
        assert!(with(bad.clone()).is_err(), "{bad}");
    }
    for header in [json!({"kid": "rs", "typ": "at+jwt"}), json!({"kid": "rs", "alg": "none"}), json!({"kid": "es"})] {
        assert!(judge(Algorithm::RS256, header.clone(), json!({})).is_err(), "{header}");
    }
    assert!(judge(Algorithm::HS256, json!({"kid": "rs"}), json!({})).is_err());
}
