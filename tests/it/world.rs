//! What most tests begin with: a development provider, an app, and a gateway between them with a public and a
//! protected route.

use crate::app::App;
use crate::client::{Reply, Request};
use crate::gateway::{Config, Gateway};
use doorward::demo::{IssueOptions, Provider, ProviderOptions};
use serde_json::{Map, Value};

pub struct World {
    pub provider: Provider,
    pub app: App,
    pub gateway: Gateway,
}

/// Accepts bearer tokens alone: nobody is redirected to a login.
pub const BEARER: &str = "auth: {accept: [bearer]}";
pub const PUBLIC: &str = "auth: public";

impl World {
    pub async fn start() -> Self {
        Self::with(|config, _| config).await
    }

    /// `change`: what is other than usual; it is told where the app is.
    pub async fn with(change: impl FnOnce(Config, &App) -> Config) -> Self {
        let (provider, app) = (provider().await, App::start().await);
        let gateway = Gateway::start(&change(usual(&provider, &app), &app)).await;
        World { provider, app, gateway }
    }

    /// An access token for alice.
    pub fn token(&self) -> String {
        self.provider.issue_access_token("alice", &IssueOptions::default())
    }

    pub fn token_with(&self, claims: Value) -> String {
        let options = IssueOptions { claims: object(claims), ..IssueOptions::default() };
        self.provider.issue_access_token("alice", &options)
    }

    #[track_caller]
    pub fn ask(&self, request: &Request) -> impl Future<Output = Reply> {
        self.gateway.ask(request)
    }

    /// For an answer whose body may be a tunnel.
    pub async fn ask_head(&self, request: &Request) -> Reply {
        let mut connection = self.gateway.connect().await;
        connection.send(request).await;
        connection.head().await.expect("closed without an answer")
    }
}

/// A provider without faults.
pub async fn provider() -> Provider {
    Provider::start(ProviderOptions::default()).await.unwrap()
}

/// `/public/` for everyone, the rest for bearer tokens of `corp`.
pub fn usual(provider: &Provider, app: &App) -> Config {
    Config::default()
        .provider("corp", provider.issuer(), "")
        .route("public", "http://app.test/public/", &app.origin, PUBLIC)
        .route("main", "http://app.test/", &app.origin, BEARER)
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("no object: {other}"),
    }
}
