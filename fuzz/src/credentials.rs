//! Credentials: tokens and what is sealed with a secret are accepted only where they were made.

use doorward::kit::clock::Timestamp;
use doorward::kit::entropy::SystemEntropy;
use doorward::kit::seal::Secrets;
use doorward::login::cookie::{CookieSpec, SameSite};
use doorward::login::flow::Flow;
use doorward::provider::jwt::{Shape, Unverified, shape};
use doorward::provider::keys::KeySet;
use doorward::provider::settings::Settings;
use doorward::session::index::lines_of_record;
use doorward::session::record::{Part, envelope, open};
use doorward::session::ticket::Ticket;
use doorward::store::kv::{Change, Key, Space};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::sync::LazyLock;

const ISSUER: &str = "https://id.test";
const NOW: i64 = 1_800_000_000;

struct World {
    keys: KeySet,
    settings: Settings,
    ours: EncodingKey,
    others: EncodingKey,
    /// A good token's header and claims.
    message: String,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = |pem: &str| EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    let (ours, others) = (key(include_str!("p256.pem")), key(include_str!("other.pem")));
    let mut jwk = Jwk::from_encoding_key(&ours, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some("one".into());
    let keys = KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes(), None).unwrap();
    let settings = json!({"issuer": ISSUER, "client_id": "gate", "client_auth": "none", "audiences": ["api"]});
    let settings = Settings { name: "corp".into(), ..serde_json::from_value(settings).unwrap() };
    let token = signed(&good_header(), &good_claims(), &ours);
    let message = token.rsplit_once('.').unwrap().0.to_owned();
    let good = Unverified::read(&token).is_ok_and(|token| token.verify_bearer(&keys, &settings, &[], now()).is_ok());
    assert!(good, "what is good is accepted");
    World { keys, settings, ours, others, message }
});

fn good_header() -> Header {
    Header { kid: Some("one".into()), ..Header::new(Algorithm::ES256) }
}

fn good_claims() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": "api", "exp": NOW + 600, "iat": NOW})
}

fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_seconds(NOW)
}

/// A token that was not made by the provider is accepted as nothing, whatever its bytes. `@` stands for a good token's header
/// and claims.
pub fn token(data: &[u8]) {
    let world = &*WORLD;
    let Ok(text) = std::str::from_utf8(data) else { return };
    let text = &*text.replacen('@', &world.message, 1);
    if let Shape::Jwt(parsed) = shape(text) {
        let Ok(again) = Unverified::read(text) else { panic!("two ways to read {text:?}") };
        assert_eq!(parsed.claims(), again.claims());
    }
    let Ok(token) = Unverified::read(text) else { return };
    let is_ours = text.rsplit_once('.').is_some_and(|(message, _)| message == world.message);
    let bearer = token.verify_bearer(&world.keys, &world.settings, &[], now());
    assert!(is_ours || bearer.is_err(), "{text}");
    let id = token.verify_id_token(&world.keys, &world.settings, Some("n"), now());
    let logout = token.verify_logout(&world.keys, &world.settings, now());
    assert!(id.is_err() && logout.is_err(), "a bearer token is neither: {text}");
}

/// Claims of any kind, signed by the provider or another: what is accepted is of the provider, for this audience, and in
/// time. An input is the kind of header, then the claims as JSON.
pub fn signed_claims(data: &[u8]) {
    let world = &*WORLD;
    let Some((kind, claims)) = data.split_first() else { return };
    let Ok(claims) = serde_json::from_slice::<Value>(claims) else { return };
    if !claims.is_object() {
        return;
    }
    let mut header = good_header();
    header.typ = [Some("JWT"), Some("at+jwt"), Some("logout+jwt"), None][usize::from(kind % 4)].map(str::to_owned);
    if kind / 4 % 2 == 1 {
        header.kid = None;
    }
    let is_ours = kind / 8 % 4 != 3;
    let text = signed(&header, &claims, if is_ours { &world.ours } else { &world.others });
    let Ok(token) = Unverified::read(&text) else { return };
    let names = |wanted: &str| match &claims["aud"] {
        Value::String(one) => one == wanted,
        Value::Array(all) => all.iter().any(|one| one == wanted),
        _ => false,
    };
    let issuer = claims["iss"].as_str().map(|issuer| issuer.trim_end_matches('/'));
    let in_time = claims["exp"].as_f64().is_some_and(|exp| exp > (NOW - 600) as f64);
    let resources = [];
    if token.verify_bearer(&world.keys, &world.settings, &resources, now()).is_ok() {
        assert!(is_ours && names("api") && issuer == Some(ISSUER) && in_time, "{claims}");
        assert!(
            claims["sub"].as_str().is_some_and(|sub| !sub.is_empty()) && claims.get("events").is_none(),
            "{claims}"
        );
    }
    if token.verify_id_token(&world.keys, &world.settings, Some("n"), now()).is_ok() {
        assert!(is_ours && names("gate") && issuer == Some(ISSUER) && in_time && claims["nonce"] == "n", "{claims}");
    }
    if let Ok(logout) = token.verify_logout(&world.keys, &world.settings, now()) {
        assert!(is_ours && names("gate") && issuer == Some(ISSUER) && claims.get("nonce").is_none(), "{claims}");
        assert!(logout.subject.is_some() || logout.session_id.is_some(), "{claims}");
        assert!(claims["events"].is_object() && !logout.id.is_empty(), "{claims}");
    }
}

/// Bytes from the store, and cookies, that nobody with the secret made, open nothing and are read as nothing.
pub fn stored(data: &[u8]) {
    let secrets = Secrets::new([b"a secret of the store".to_vec()]);
    let ticket = Ticket::new(&SystemEntropy::default());
    for part in [Part::Hot, Part::Cold] {
        assert!(open::<Value>(&secrets, &ticket, b"realm", part, data).is_err());
    }
    let place = "0".repeat(64);
    let lines = lines_of_record(&place, data);
    assert!(lines.len() <= 4 && lines.iter().all(|line| line.space() == Space::Index), "{lines:?}");
    assert!(envelope(data).is_some() || lines.is_empty(), "a record that nobody can read is in no index");
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_eq!(Change::read(text).text(), text, "an announcement reads back");
    let key = Key::of(Space::Session, text);
    assert!(key.id() == text && key.as_str().ends_with(text));
    if let Some(ticket) = Ticket::parse(text) {
        assert!(ticket.cookie().expose() == text && Ticket::is_like(text), "one spelling for each ticket");
    }
    let cookie = CookieSpec::new("doorward", None, SameSite::Lax, true);
    assert!(Flow::open(&secrets, &cookie, text, now()).is_err());
}
