//! `doorward demo` without the gateway: a development OpenID provider, a sample app, and the configuration that puts
//! a gateway between them. The provider also serves the project's own tests. Everything listens on 127.0.0.1 and is
//! kept in memory. It must not know the gateway's other rooms: it speaks to the gateway as any provider and any app.

mod authorize;
mod endpoints;
mod faults;
mod keys;
mod logout;
mod pages;
mod provider;
mod resources;
mod sample_app;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod tokens;

use std::io;

use serde_json::{Value, json};

pub use faults::{Endpoint, ExpiresIn, Faults};
pub use keys::SigningAlgorithm;
pub use logout::LogoutDelivery;
pub use provider::{Provider, ProviderOptions};
pub use sample_app::SampleApp;
pub use state::{CallLog, CallRecord, Client, User};
pub use tokens::IssueOptions;

/// The parts around the gateway, running. Dropping it stops them.
pub struct Demo {
    pub provider: Provider,
    pub app: SampleApp,
    gateway_port: u16,
    client_secret: String,
    users: Vec<User>,
}

impl Demo {
    /// Starts provider and app on free ports, for a gateway that will listen on 127.0.0.1:`gateway_port`. Its public
    /// name is `localhost`: cookies know no ports, so gateway and provider must not share a host.
    pub async fn start(gateway_port: u16) -> io::Result<Self> {
        let client_secret = keys::random_hex::<24>();
        let users = demo_users();
        let gateway = format!("http://localhost:{gateway_port}/oauth2");
        let client = Client {
            client_id: "doorward".to_owned(),
            client_secret: Some(client_secret.clone()),
            redirect_uris: vec![format!("{gateway}/callback")],
            post_logout_redirect_uris: vec![format!("{gateway}/signed_out")],
            backchannel_logout_uri: Some(format!("{gateway}/backchannel_logout")),
        };
        let options = ProviderOptions { clients: vec![client], users: users.clone(), ..ProviderOptions::default() };
        let provider = Provider::start(options).await?;
        let app = SampleApp::start(0).await?;
        Ok(Self { provider, app, gateway_port, client_secret, users })
    }

    /// The gateway's configuration. It holds the client's secret.
    pub fn config_yaml(&self, admin_port: u16) -> String {
        let port = self.gateway_port;
        format!(
            r#"listen:
  - address: 127.0.0.1:{port}
admin:
  address: 127.0.0.1:{admin_port}
logging: {{format: text, level: info}}
store: {{backend: memory}}
providers:
  demo:
    issuer: {issuer}
    client_id: doorward
    client_secret: "{secret}"
routes:
  - name: public
    from: http://localhost:{port}/public/
    to: http://{app}
    auth: public
  - name: app
    from: http://localhost:{port}/
    to: http://{app}
    auth:
      provider: demo
"#,
            issuer = self.provider.issuer(),
            secret = self.client_secret,
            app = self.app.address(),
        )
    }

    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// An access token for alice, good for an hour.
    pub fn sample_token(&self) -> String {
        self.provider.issue_access_token("alice", &IssueOptions::default())
    }

    /// What is printed to the person who started the demo. It holds a password and a token, both worth nothing
    /// outside this machine and this run.
    pub fn banner(&self) -> String {
        let port = self.gateway_port;
        let mut text = format!("\nThe demo is ready: http://localhost:{port}/\n\n");
        for user in &self.users {
            text += &format!("  user name: {}\n  password: {}\n\n", user.name, user.password);
        }
        text += &format!(
            "  A program with a token passes; without one it is refused, for which it must not look like a browser:\n\
             \x20   curl -i -H \"Authorization: Bearer {token}\" http://localhost:{port}/\n\
             \x20   curl -i -H \"Accept: application/json\" http://localhost:{port}/\n\n\
             \x20 A page for everybody: http://localhost:{port}/public/\n\
             \x20 Ctrl-C ends it; nothing is kept.\n",
            token = self.sample_token(),
        );
        text
    }
}

/// alice has groups, bob has none, so that a rule can be seen to tell them apart. The passwords are printed.
fn demo_users() -> Vec<User> {
    let alice = json!({
        "name": "Alice Adams", "preferred_username": "alice", "email": "alice@example.com", "email_verified": true,
        "groups": ["admins", "dev"],
    });
    let bob = json!({
        "name": "Bob Brown", "preferred_username": "bob", "email": "bob@example.com", "email_verified": true,
    });
    [("alice", alice), ("bob", bob)]
        .into_iter()
        .map(|(name, claims)| User {
            name: name.to_owned(),
            password: name.to_owned(),
            claims: match claims {
                Value::Object(claims) => claims,
                // The two literals above are objects.
                _ => serde_json::Map::new(),
            },
        })
        .collect()
}
