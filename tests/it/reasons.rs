//! Why a request was refused: what stands in the log and in the last decisions, for a token, a rule, a login, a logout.
//! No credential does.

use crate::app::App;
use crate::client::{Connection, Reply, Request, ask, get};
use crate::gateway::{Config, Gateway};
use crate::people::{Scene, consent, fails_with};
use crate::wait::until;
use crate::world::{World, object};
use doorward::demo::{Endpoint, IssueOptions};
use serde_json::{Value, json};

const ADMIN_TOKEN: &str = "the-admin-token-of-these-tests";
const RULED: &str = "auth: {accept: [bearer]}, require: {groups: [ops, admins2], claims: {team: [a]}}";

fn told(mut config: Config, app: &App) -> Config {
    config.env.push(("DOORWARD__ADMIN__TOKEN".to_owned(), ADMIN_TOKEN.to_owned()));
    config.route("ruled", "http://app.test/ruled/", &app.origin, RULED)
}

async fn api(gateway: &Gateway, target: &str) -> Reply {
    let request = get(target).set("Host", "localhost").bearer(ADMIN_TOKEN);
    Connection::open(&format!("127.0.0.1:{}", gateway.admin_port()), &gateway.secrets).await.ask(&request).await
}

impl World {
    /// The line of a refused request, which also is the last decision.
    async fn refused(&self, request: &Request, outcome: &str) -> Value {
        let reply = self.ask(request).await;
        assert_eq!(reply.outcome(), outcome);
        line_of(&self.gateway, reply.header("x-request-id").unwrap()).await
    }
}

async fn line_of(gateway: &Gateway, id: &str) -> Value {
    let line = until("the line of the request", async || {
        let log = gateway.log();
        let line = log.lines().find(|line| line.contains(id) && line.contains("duration_ms"));
        line.map(|line| serde_json::from_str::<Value>(line).unwrap())
    })
    .await;
    let decisions = api(gateway, "/api/v1/decisions?last=50").await.json();
    let own = decisions.as_array().unwrap().iter().find(|decision| decision["request_id"] == id).unwrap();
    for name in ["route", "method", "host", "path", "client", "user", "reason", "rule", "why"] {
        assert_eq!(own[name], line.get(name).cloned().unwrap_or(Value::Null), "{name}");
    }
    assert!(own["time"].is_string());
    line
}

/// The line of an event.
async fn event(gateway: &Gateway, name: &str) -> Value {
    let wanted = format!("\"event\":\"{name}\"");
    let found = async || gateway.log().lines().rev().find(|line| line.contains(&wanted)).map(str::to_owned);
    serde_json::from_str(&until(&format!("the event {name}"), found).await).unwrap()
}

#[tokio::test]
async fn a_token_is_refused_for_a_reason() {
    let world = World::with(told).await;
    let issuer = world.provider.issuer();
    let odd = |claims: Value, header: Value| {
        let options = IssueOptions { claims: object(claims), header: object(header), ..IssueOptions::default() };
        get("/x").bearer(&world.provider.issue_access_token("alice", &options))
    };
    let id_token = world.provider.issue_id_token("alice", &IssueOptions::default());
    for (request, outcome, why) in [
        (odd(json!({"aud": "other"}), json!({})), "401 wrong_audience", "aud: expected doorward, got other".to_owned()),
        (
            odd(json!({"iss": "https://evil.test"}), json!({})),
            "401 invalid_token",
            format!("iss: expected {issuer}, got https://evil.test"),
        ),
        (
            odd(json!({"sub": null}), json!({})),
            "401 invalid_token",
            "sub: the mapped `user` claim is absent or no text".into(),
        ),
        (
            odd(json!({}), json!({"kid": "strange"})),
            "401 invalid_token",
            "kid strange: is not among the provider's keys".into(),
        ),
        (
            odd(json!({}), json!({"alg": "HS256"})),
            "401 invalid_token",
            "alg: expected one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, got HS256".into(),
        ),
        (odd(json!({"exp": 1_000_000_000}), json!({})), "401 token_expired", "exp: was".into()),
        (get("/x").bearer(&id_token), "401 invalid_token", "it is no access token: it has nonce".into()),
        (
            get("/x").bearer("opaque"),
            "401 unknown_token",
            "it is no JWT, and no provider of the route has `introspection`".into(),
        ),
    ] {
        let line = world.refused(&request, outcome).await;
        assert!(line["why"].as_str().unwrap().starts_with(&why), "{why}: {line}");
        assert_eq!(line.get("rule"), None);
    }
    let expired = world.refused(&odd(json!({"exp": 1_000_000_001}), json!({})), "401 token_expired").await;
    assert!(expired["why"].as_str().unwrap().ends_with("the provider's clock less ours: 0 s"), "{expired}");
    assert!((world.gateway.metric("doorward_provider_clock_skew_seconds{provider=\"corp\"}").await).abs() < 2.0);
}

#[tokio::test]
async fn a_rule_is_named_with_what_was_there() {
    let world = World::with(told).await;
    let with = |claims: Value| {
        let options = IssueOptions { claims: object(claims), ..IssueOptions::default() };
        get("/ruled/x").bearer(&world.provider.issue_access_token("alice", &options))
    };
    for (claims, rule, why) in [
        (json!({}), "groups", "wanted any of ops, admins2, has admins, dev"),
        (json!({"groups": null}), "groups", "wanted any of ops, admins2, has none"),
        (json!({"groups": ["ops"], "team": "b"}), "claims.team", "wanted any of a, has b"),
        (
            json!({"groups": null, "_claim_names": {"groups": "src1"}}),
            "groups",
            "wanted any of ops, admins2, has overage: the provider leaves the groups out, there are too many of them",
        ),
    ] {
        let line = world.refused(&with(claims), "403 forbidden").await;
        assert_eq!(
            (line["rule"].as_str(), line["why"].as_str(), line["user"].as_str()),
            (Some(rule), Some(why), Some("alice"))
        );
    }
    for (query, status) in [("", 200), ("?last=1", 200), ("?last=0", 400), ("?last=x", 400), ("?lost=1", 400)] {
        assert_eq!(api(&world.gateway, &format!("/api/v1/decisions{query}")).await.status, status, "{query}");
    }
    assert_eq!(api(&world.gateway, "/api/v1/decisions?last=1").await.json().as_array().unwrap().len(), 1);
    assert_eq!(world.gateway.admin("/api/v1/decisions").await.status, 401);
}

/// What somebody gets who comes back from the provider.
async fn tries(scene: &Scene) -> Reply {
    let mut person = scene.person();
    let url = person.begin("/x").await;
    person.go_back(&consent(&scene.provider, &url, "alice").await).await
}

#[tokio::test]
async fn a_login_that_fails_says_why() {
    let scene = Scene::with(|config, app| {
        told(config, app).route("main", "http://app.test/", &app.origin, crate::people::AUTH)
    })
    .await;
    let said = json!({"error": "invalid_client", "error_description": "the secret is wrong"}).to_string();
    scene.provider_does(|faults| _ = faults.reply.insert(Endpoint::Token, (401, "application/json", said)));
    let reply = tries(&scene).await;
    assert_eq!(reply.outcome(), "502 login_failed");
    let failed = event(&scene.gateway, "login_failed").await;
    assert_eq!(failed["why"], "invalid_client (status 401): the secret is wrong");
    assert_eq!([&failed["level"], &failed["provider"], &failed["client"]], ["WARN", "corp", "127.0.0.1"]);
    assert_eq!(failed["request_id"].as_str(), reply.header("x-request-id"));
    let line = line_of(&scene.gateway, reply.header("x-request-id").unwrap()).await;
    assert_eq!(line["why"], failed["why"]);

    for (name, claims, why) in [
        ("aud", json!({"aud": "other"}), "ID token: aud: expected doorward, got other"),
        ("nonce", json!({"nonce": "other"}), "ID token: nonce: is not that of this login"),
        ("sub", json!({"sub": null}), "ID token: sub: is absent"),
    ] {
        scene.provider_does(|faults| faults.id_token_claims = object(claims));
        let reply = tries(&scene).await;
        let line = line_of(&scene.gateway, reply.header("x-request-id").unwrap()).await;
        assert_eq!(line["why"], why, "{name}");
    }
    scene.provider_does(fails_with(Endpoint::Token, 500));
    let reply = tries(&scene).await;
    assert_eq!(
        line_of(&scene.gateway, reply.header("x-request-id").unwrap()).await["why"],
        "status 500, without an error code"
    );

    scene.provider_is_well();
    let denied = ask("GET", "/oauth2/callback?error=access_denied&error_description=not+today&state=none");
    let reply = scene.gateway.ask(&denied.page()).await;
    assert!(reply.text().contains("did not come back"), "the page says what was measured: {}", reply.text());
    let mut person = scene.person();
    person.sign_in(&scene.provider, "alice").await;
    let login = event(&scene.gateway, "login").await;
    assert_eq!(
        [&login["level"], &login["provider"], &login["user"], &login["client"]],
        ["INFO", "corp", "alice", "127.0.0.1"]
    );
    assert_eq!(person.visit("/oauth2/sign_out").await.status, 302);
    let logout = event(&scene.gateway, "logout").await;
    assert_eq!((logout["kind"].as_str(), logout["count"].as_u64()), (Some("sign_out"), Some(1)));
    let metric = async |name: &str| scene.gateway.metric(&format!("{name}}}")).await;
    for event in ["begun", "ended"] {
        let count = metric(&format!("doorward_sessions_total{{provider=\"corp\",event=\"{event}\"")).await;
        assert!(count == 1.0, "{event}: {count}");
    }
    assert!(metric("doorward_logouts_total{provider=\"corp\",kind=\"sign_out\"").await == 1.0);
}

#[tokio::test]
async fn a_refused_refresh_says_why() {
    let scene = Scene::start().await;
    scene.provider_does(|faults| faults.access_token_lifetime = 0);
    let mut person = scene.signed_in("alice").await;
    scene.provider_does(|faults| faults.refresh_error = Some("invalid_grant".to_owned()));
    let reply = person.fetch("/x").await;
    assert_eq!(reply.outcome(), "401 session_ended");
    let denied = event(&scene.gateway, "refresh_denied").await;
    assert_eq!([&denied["provider"], &denied["user"], &denied["client"]], ["corp", "alice", "127.0.0.1"]);
    assert_eq!(denied["request_id"].as_str(), reply.header("x-request-id"));
    assert_eq!(denied["why"], "invalid_grant (status 400): a fault that was asked for");
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_named_with_the_cause() {
    let world = World::with(|config, app| {
        told(config, app).route("dead", "http://app.test/dead/", "http://127.0.0.1:1", "auth: public")
    })
    .await;
    let line = world.refused(&get("/dead/x"), "502 upstream_unreachable").await;
    let why = line["why"].as_str().unwrap();
    assert!(why.starts_with("127.0.0.1:1: ") && why.contains("refused"), "{why}");
}

#[tokio::test]
async fn starts_and_reloads_have_a_line() {
    let world = World::with(told).await;
    let started = event(&world.gateway, "started").await;
    assert!(started["listeners"].as_str().unwrap().starts_with("127.0.0.1:"), "{started}");
    assert!(started["store"] == "memory" && started["providers"] == "corp" && started["routes"] == 3, "{started}");
    let text = world.gateway.folder.read("config.yaml");
    world.gateway.reload_text(&text, "ok").await;
    event(&world.gateway, "config_reloaded").await;
    world.gateway.reload_text(&format!("{text}odd: 1\n"), "refused").await;
    let refused = event(&world.gateway, "config_refused").await;
    assert!(refused["problem"].as_str().unwrap().contains("odd: unknown key"), "{refused}");
}
