use super::*;
use crate::provider::fake::{NOW, key_set, settings, token, token_as};
use serde_json::json;

fn judge(token: &str, settings: &Settings) -> Result<Verified, Refusal> {
    let keys = key_set(&["rs", "es", "ed"], None);
    Unverified::read(token)?.verify_bearer(&keys, settings, Timestamp::from_seconds(NOW))
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
        json!({"kid": 7}),
        json!({"kid": "rs", "crit": ["exp"]}),
        json!({"kid": "rs", "typ": "logout+jwt"}),
        json!({"kid": "rs", "typ": ""}),
        json!({"kid": "rs", "alg": "none"}),
        json!({"kid": "rs", "alg": "ES256"}),
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
    narrow.algorithms = vec![Algorithm::ES256];
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
    assert_eq!(shape(&token(json!({}))), Shape::Jwt);
    assert_eq!(shape(&format!("{}.e30.c2ln", b64(r#"{"alg":"x"}"#))), Shape::Jwt);
    for opaque in [
        format!("{}.e30.c2ln", b64(r#"{"no":"alg"}"#)),
        format!("{}.e30.c2ln", b64("[1]")),
        format!("{}.e30.", b64(r#"{"alg":"x"}"#)),
        "one.two.three".into(),
        "hvs.CAESI.b.c".into(),
        "opaque".into(),
    ] {
        assert_eq!(shape(&opaque), Shape::Opaque, "{opaque}");
    }
}
