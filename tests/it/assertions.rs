//! Assertions of who is calling: signed, for the app of one route alone, verified here as an app verifies them.

use crate::app::App;
use crate::client::{Request, get};
use crate::gateway::Config;
use crate::wait::until_so;
use crate::world::World;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

const JWKS: &str = "/.well-known/doorward/jwks.json";
const HEADER: &str = "x-jwt-assertion";
const SIGNED: &str = "headers: {preset: none, groups: [dev], assertion: {header: X-JWT-Assertion, ttl: 40s}}";

fn signed(config: Config, app: &App) -> Config {
    let other = "headers: {assertion: {header: X-JWT-Assertion, audience: an-app, ttl: 2s}}";
    let passes = "auth: {accept: [bearer], on_unauthenticated: pass}";
    config
        .route("signed", "https://*.signed.test/", &app.origin, &format!("auth: {{accept: [bearer]}}, {SIGNED}"))
        .route("other", "http://app.test/other/", &app.origin, &format!("auth: {{accept: [bearer]}}, {other}"))
        .route("passes", "http://app.test/passes/", &app.origin, &format!("{passes}, {SIGNED}"))
        .route("open", "http://app.test/open/", &app.origin, &format!("auth: public, {SIGNED}"))
        .route(
            "bare",
            "http://app.test/bare/",
            &app.origin,
            "auth: public, headers: {assertion: {header: Authorization}}",
        )
        .more("client_ip: {trusted_proxies: [\"127.0.0.1/32\"]}")
}

/// What an app reads in an assertion for this audience.
fn read(assertion: &str, keys: &JwkSet, audience: &str) -> Value {
    let header = decode_header(assertion).unwrap();
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::ES256, Some("JWT")));
    let key = keys.find(header.kid.as_ref().unwrap()).expect("the key is published");
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[audience]);
    decode(assertion, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims
}

impl World {
    async fn keys(&self, host: &str) -> JwkSet {
        let reply = self.ask(&get(JWKS).set("Host", host)).await;
        let head = ["content-type", "cache-control"].map(|name| reply.header(name));
        assert_eq!((reply.status, head), (200, [Some("application/json"), Some("public, max-age=300")]));
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// What the app was given for this request.
    async fn assertion(&self, request: &Request) -> Option<String> {
        assert_eq!(self.ask(request).await.outcome(), "200", "{request:?}");
        self.app.last().header(HEADER).map(str::to_owned)
    }
}

#[tokio::test]
async fn the_app_is_told_who_it_is() {
    let world = World::with(signed).await;
    let token = world.token();
    let request = get("/x").set("Host", "a.signed.test").bearer(&token);
    let first = world.assertion(&request).await.unwrap();
    let keys = world.keys("a.signed.test").await;
    let claims = read(&first, &keys, "https://a.signed.test");
    let said = |name: &str| claims[name].clone();
    assert_eq!([said("iss"), said("aud")], [json!("https://a.signed.test"), json!("https://a.signed.test")]);
    assert_eq!(
        [said("sub"), said("email"), said("name")],
        [json!("alice"), json!("alice@example.com"), json!("Alice Adams")]
    );
    assert_eq!(
        [said("preferred_username"), said("groups")],
        [json!("alice"), json!(["dev"])],
        "as the route tells them"
    );
    assert_eq!(said("exp").as_i64().unwrap() - said("iat").as_i64().unwrap(), 40);
    assert!(said("jti").is_string());
    assert_eq!(world.assertion(&request).await.as_ref(), Some(&first), "made once");
    let elsewhere = world.assertion(&request.clone().set("Host", "b.signed.test")).await.unwrap();
    assert_eq!(read(&elsewhere, &keys, "https://b.signed.test")["iss"], "https://b.signed.test");
    let another = world.assertion(&get("/x").set("Host", "a.signed.test").bearer(&world.token())).await.unwrap();
    assert_ne!(another, first, "another credential");

    let other = get("/other/x").bearer(&token);
    let short = world.assertion(&other).await.unwrap();
    let claims = read(&short, &world.keys("app.test").await, "an-app");
    assert_eq!((claims["iss"].as_str(), claims["groups"].clone()), (Some("http://app.test"), json!(["admins", "dev"])));
    until_so("half its life", async || world.assertion(&other).await.as_ref() != Some(&short)).await;

    let admin = world.gateway.admin(JWKS).await;
    assert_eq!((admin.status, admin.header("cache-control")), (200, Some("public, max-age=300")));
    assert_eq!(serde_json::from_slice::<JwkSet>(&admin.body).unwrap(), keys);
    let elsewhere = world.ask(&get(JWKS).set("Host", "other.test")).await;
    assert_eq!(elsewhere.outcome(), "404 no_route");
}

#[tokio::test]
async fn nobody_is_vouched_for() {
    let world = World::with(signed).await;
    let forged = |target: &str| get(target).with("X-JWT-Assertion", "forged").with("X_JWT_Assertion", "forged");
    for target in ["/open/x", "/passes/x", "/public/x"] {
        assert_eq!(world.assertion(&forged(target)).await, None, "{target}");
        assert_eq!(world.app.last().all("x_jwt_assertion"), Vec::<&str>::new(), "{target}");
    }
    let basic = get("/bare/x").with("Authorization", "Basic Zm9yZ2Vk");
    assert_eq!(world.ask(&basic).await.status, 200);
    assert_eq!(world.app.last().header("authorization"), None, "a client's own, on a public route");
    let token = world.token();
    assert_eq!(world.assertion(&forged("/x").bearer(&token)).await, None, "a route that signs none");
    let made = world.assertion(&forged("/passes/x").bearer(&token)).await.unwrap();
    assert_eq!(read(&made, &world.keys("app.test").await, "http://app.test")["sub"], "alice");
}

#[tokio::test]
async fn other_proxies_get_it_with_their_202() {
    let world = World::with(signed).await;
    let question = |target: &str, host: &str, token: Option<&str>| {
        let asked = get("/oauth2/auth").with_all(&[
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Host", host),
            ("X-Forwarded-Uri", target),
        ]);
        token.map_or(asked.clone(), |token| asked.bearer(token))
    };
    let token = world.token();
    let told = world.ask(&question("/x", "a.signed.test", Some(&token))).await;
    assert_eq!(told.status, 202);
    let keys = world.keys("a.signed.test").await;
    assert_eq!(read(told.header(HEADER).unwrap(), &keys, "https://a.signed.test")["sub"], "alice");
    let nobody = world.ask(&question("/passes/x", "app.test", None)).await;
    assert_eq!((nobody.status, nobody.header(HEADER)), (202, Some("")), "so that a client's own is replaced");
}
