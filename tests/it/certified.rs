//! Tokens of a certified provider, which nobody here wrote, in every algorithm that it signs with.

use crate::app::App;
use crate::client::get;
use crate::gateway::{Config, Gateway};
use crate::oidc::Oidc;
use crate::world::BEARER;
use serde_json::json;

const MACHINE: (&str, &str) = ("machine", "machine-secret-of-the-test");
const ALGORITHMS: [&str; 4] = ["RS256", "PS256", "ES256", "EdDSA"];

#[tokio::test]
async fn every_algorithm_is_accepted_and_no_other_audience() {
    let claims = json!({"email": "machine@corp.test", "groups": ["robots", "dev"]});
    let client = json!({"client_id": MACHINE.0, "client_secret": MACHINE.1, "token_claims": claims});
    let oidc = Oidc::start(&json!({"clients": [client]})).await;
    let app = App::start().await;
    let provider = |config: Config, name: &str, audience: &str| {
        let routed = format!("auth: {{accept: [bearer], provider: {name}}}");
        config.provider(name, &oidc.issuer, &format!("audiences: [\"{audience}\"]")).route(
            name,
            &format!("http://app.test/{name}/"),
            &app.origin,
            &routed,
        )
    };
    let config =
        ALGORITHMS.iter().fold(Config::default(), |config, alg| provider(config, alg, &format!("urn:api:{alg}")));
    let narrow =
        "auth: {accept: [bearer], provider: RS256}, require: {scopes: [\"api:read\", \"api:write\"], groups: [robots]}";
    let config = config.route("narrow", "http://app.test/narrow/", &app.origin, narrow);
    let gateway = Gateway::start(&config).await;

    for alg in ALGORITHMS {
        let token = oidc.client_token(MACHINE, &format!("urn:api:{alg}"), "api:read").await;
        for route in ALGORITHMS {
            let reply = gateway.ask(&get(&format!("/{route}/x")).bearer(&token)).await;
            let expected = if route == alg { "200" } else { "401 wrong_audience" };
            assert_eq!(reply.outcome(), expected, "a token in {alg} at {route}");
        }
        let received = app.last();
        assert_eq!(received.target, format!("/{alg}/x"));
        let identity = ["user", "email", "groups"].map(|name| received.header(&format!("x-forwarded-{name}")));
        assert_eq!(identity, [Some("machine"), Some("machine@corp.test"), Some("robots,dev")]);
    }
    assert_eq!(app.count(), ALGORITHMS.len());

    for (scope, expected) in [("api:read", "403 insufficient_scope"), ("api:read%20api:write", "200")] {
        let token = oidc.client_token(MACHINE, "urn:api:RS256", scope).await;
        let reply = gateway.ask(&get("/narrow/").bearer(&token)).await;
        assert_eq!(reply.outcome(), expected, "{scope}");
    }
}

/// Who cannot ask the provider about a token does not know it.
#[tokio::test]
async fn an_opaque_token_is_not_accepted_without_introspection() {
    let client = json!({"client_id": MACHINE.0, "client_secret": MACHINE.1});
    let oidc = Oidc::start(&json!({"clients": [client]})).await;
    let app = App::start().await;
    let config = Config::default().provider("corp", &oidc.issuer, "audiences: [\"*\"]");
    let gateway = Gateway::start(&config.route("main", "http://app.test/", &app.origin, BEARER)).await;
    let token = oidc.client_token(MACHINE, "urn:api:opaque", "api:read").await;
    assert_eq!(gateway.ask(&get("/").bearer(&token)).await.outcome(), "401 unknown_token");
    assert_eq!(app.count(), 0);
}
