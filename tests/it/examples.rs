//! The examples of the documents: each is started as it is, but for where its provider and its apps are, and does what the
//! document says.

use crate::app::App;
use crate::client::{Reply, Request, get};
use crate::gateway::Gateway;
use crate::people::{Person, register};
use crate::world::{object, provider};
use data_encoding::BASE64URL_NOPAD;
use doorward::demo::{IssueOptions, Provider};
use serde_json::{Value, json};
use std::collections::HashMap;

struct Example {
    provider: Provider,
    app: App,
    gateway: Gateway,
}

fn read(name: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples").join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

impl Example {
    async fn start(name: &str, routes: usize) -> Self {
        let (provider, app) = (provider().await, App::start().await);
        let mut env = vec![
            ("DOORWARD__PROVIDERS__CORP__ISSUER".to_owned(), provider.issuer().to_owned()),
            ("DOORWARD__STORE__BACKEND".into(), "memory".into()),
            ("CLIENT_SECRET".into(), "doorward-secret".into()),
        ];
        for route in 0..routes {
            env.push((format!("DOORWARD__ROUTES__{route}__TO"), app.origin.clone()));
        }
        let gateway = Gateway::of_text(&read(name), &env).await;
        Example { provider, app, gateway }
    }

    async fn ask(&self, host: &str, request: Request) -> Reply {
        self.gateway.ask(&request.set("Host", host)).await
    }

    fn token(&self, audience: &str, scope: &str) -> String {
        let claims = object(json!({ "scope": scope }));
        let options = IssueOptions { audience: audience.into(), claims, ..IssueOptions::default() };
        self.provider.issue_access_token("alice", &options)
    }
}

#[tokio::test]
async fn an_mcp_server() {
    let example = Example::start("mcp.yaml", 1).await;
    let host = "mcp.example.com";
    let refused = example.ask(host, get("/mcp")).await;
    let challenge = refused.header("www-authenticate").unwrap();
    let metadata = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
    assert_eq!(challenge, format!("Bearer realm=\"mcp\", resource_metadata=\"{metadata}\""));
    let told = example.ask(host, get("/.well-known/oauth-protected-resource/mcp")).await;
    let expected = json!({
        "resource": "https://mcp.example.com/mcp", "authorization_servers": [example.provider.issuer()],
        "scopes_supported": ["mcp"], "bearer_methods_supported": ["header"],
    });
    assert_eq!(told.json(), expected);
    for (scope, outcome) in [("mcp", "200"), ("other", "403 insufficient_scope")] {
        let token = example.token("https://mcp.example.com/mcp", scope);
        assert_eq!(example.ask(host, get("/mcp").bearer(&token)).await.outcome(), outcome);
    }
}

/// Grafana's own settings, read as Grafana reads them.
#[tokio::test]
async fn grafana_and_other_apps() {
    let example = Example::start("app-tokens.yaml", 4).await;
    let token = example.token("doorward", "openid");
    let asked = async |host: &str| {
        assert_eq!(example.ask(host, get("/x").bearer(&token)).await.outcome(), "200", "{host}");
        example.app.last()
    };
    let ini = read("grafana-jwt.ini");
    let settings: HashMap<&str, &str> = ini.lines().filter_map(|line| line.split_once(" = ")).collect();
    let received = asked("grafana.example.com").await;
    let assertion = received.header(settings["header_name"]).unwrap();
    assert_eq!(received.header("x-webauth-user"), None);
    let claims: Value =
        serde_json::from_slice(&BASE64URL_NOPAD.decode(assertion.split('.').nth(1).unwrap().as_bytes()).unwrap())
            .unwrap();
    let expected: HashMap<String, String> = serde_json::from_str(settings["expect_claims"]).unwrap();
    assert!(expected.iter().all(|(name, value)| claims[name] == *value), "{claims}");
    assert_eq!(
        (&claims[settings["username_claim"]], &claims[settings["email_claim"]]),
        (&json!("alice"), &json!("alice@example.com"))
    );
    let path = settings["jwk_set_url"].strip_prefix("https://grafana.example.com").unwrap();
    let keys = example.ask("grafana.example.com", get(path)).await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);

    let bearer = format!("Bearer {token}");
    assert_eq!(asked("notes.example.com").await.header("authorization"), Some(bearer.as_str()));
    let subject = |received: &crate::app::Received| {
        let own = received.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        let part = BASE64URL_NOPAD.decode(own.split('.').nth(1).unwrap().as_bytes()).unwrap();
        let claims: Value = serde_json::from_slice(&part).unwrap();
        [claims["sub"].clone(), claims["aud"].clone(), claims["scope"].clone()]
    };
    assert_eq!(
        subject(&asked("reports.example.com").await),
        [json!("doorward"), json!("doorward"), json!("reports.read")]
    );
    assert_eq!(subject(&asked("orders.example.com").await)[..2], [json!("alice"), json!("orders")]);
}

/// A person sees the same, and the status page counts the session.
#[tokio::test]
async fn a_person_at_the_app() {
    let example = Example::start("app-tokens.yaml", 4).await;
    register(&example.provider, "https://grafana.example.com");
    let mut person = Person::at_host(&example.gateway, "grafana.example.com");
    person.sign_in(&example.provider, "alice").await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert!(example.app.last().header("x-jwt-assertion").is_some());
    let page = example.gateway.admin("/").await.text();
    assert!(page.contains("answers</span></td>") && page.contains("<td>1</td></tr>"), "{page}");
}
