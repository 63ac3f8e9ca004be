//! The handle of the development OpenID provider: starting and stopping it, issuing tokens without a browser, and
//! making it misbehave. For `doorward demo` and for tests; it listens on 127.0.0.1 only and keeps everything in
//! memory. It must not know the gateway.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock};
use serde_json::Value;

use super::authorize::SESSION_COOKIE;
use super::endpoints;
use super::faults::Faults;
use super::keys::{KeySet, SigningAlgorithm};
use super::logout::{self, LogoutDelivery};
use super::server::Server;
use super::state::{CallLog, Client, Ledger, State, User};
use super::tokens::IssueOptions;

/// Dropping it stops the server.
pub struct Provider {
    state: Arc<State>,
    server: Mutex<Option<Server>>,
}

pub struct ProviderOptions {
    /// 0: any free port.
    pub port: u16,
    /// Tokens that the handle issues are for the first.
    pub clients: Vec<Client>,
    pub users: Vec<User>,
    pub faults: Faults,
}

impl Default for ProviderOptions {
    /// A confidential client `doorward` (secret `doorward-secret`) without redirect URIs, and the users alice and bob.
    fn default() -> Self {
        let client = Client {
            client_id: "doorward".to_owned(),
            client_secret: Some("doorward-secret".to_owned()),
            ..Client::default()
        };
        Self { port: 0, clients: vec![client], users: super::demo_users(), faults: Faults::default() }
    }
}

impl Provider {
    /// Makes keys and listens, on the current tokio runtime.
    pub async fn start(options: ProviderOptions) -> io::Result<Self> {
        // An RSA key takes long enough to hold up a runtime of one thread.
        let keys = tokio::task::spawn_blocking(KeySet::generate).await.map_err(io::Error::other)?;
        let mut state = None;
        let server = Server::start(options.port, |address| {
            let built = Arc::new(State {
                issuer: format!("http://{}:{}", Ipv4Addr::LOCALHOST, address.port()),
                port: address.port(),
                clients: Mutex::new(options.clients),
                users: Mutex::new(options.users),
                keys: RwLock::new(Arc::new(keys)),
                extra_jwks: Mutex::default(),
                faults: Mutex::new(options.faults),
                calls: Mutex::default(),
                ledger: Mutex::new(Ledger::default()),
            });
            endpoints::router(state.insert(built).clone())
        })
        .await?;
        let state = state.ok_or_else(|| io::Error::other("the server started without a router"))?;
        Ok(Self { state, server: Mutex::new(Some(server)) })
    }

    /// `http://127.0.0.1:<port>`, without a slash at its end.
    pub fn issuer(&self) -> &str {
        &self.state.issuer
    }

    /// Closes the listener and every connection; what is remembered stays. No more when already stopped.
    pub async fn stop(&self) {
        let server = self.server.lock().take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    /// Listens again on the same port after `stop`, with the same keys and tokens.
    pub async fn start_again(&self) -> io::Result<()> {
        if self.server.lock().is_some() {
            return Ok(());
        }
        let state = self.state.clone();
        let server = Server::start(self.state.port, move |_| endpoints::router(state)).await?;
        *self.server.lock() = Some(server);
        Ok(())
    }

    /// What the provider does wrong from now on. Hold the guard for a statement only: every call waits for it.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.state.faults.lock()
    }

    /// The calls made so far. Hold the guard for a statement only: every call waits for it.
    pub fn calls(&self) -> MutexGuard<'_, CallLog> {
        self.state.calls.lock()
    }

    /// Registers a client, in the place of one with the same id.
    pub fn set_client(&self, client: Client) {
        let mut clients = self.state.clients.lock();
        match clients.iter_mut().find(|known| known.client_id == client.client_id) {
            Some(known) => *known = client,
            None => clients.push(client),
        }
    }

    /// Adds a user, in the place of one with the same name. Tokens issued from now on hold the new claims.
    pub fn set_user(&self, user: User) {
        let mut users = self.state.users.lock();
        match users.iter_mut().find(|known| known.name == user.name) {
            Some(known) => *known = user,
            None => users.push(user),
        }
    }

    /// An access token as a JWT (RFC 9068). A name that is no user's is a subject without further claims.
    pub fn issue_access_token(&self, user: &str, options: &IssueOptions) -> String {
        self.state.issued_access_token(user, options, false)
    }

    /// An access token that only introspection and UserInfo can tell about; `algorithm` and `header` mean nothing.
    pub fn issue_opaque_token(&self, user: &str, options: &IssueOptions) -> String {
        self.state.issued_access_token(user, options, true)
    }

    /// An ID token with a nonce, as a program might misuse it for a bearer token.
    pub fn issue_id_token(&self, user: &str, options: &IssueOptions) -> String {
        self.state.issued_id_token(user, options)
    }

    /// A logout token (typ `logout+jwt`) that lives for at most two minutes. `sub` and `sid` stand as given.
    pub fn logout_token(&self, sub: Option<&str>, sid: Option<&str>, options: &IssueOptions) -> String {
        self.state.logout_token(sub, sid, options)
    }

    /// Introspection says inactive from now on; a refresh token takes all that descends from its login with it.
    pub fn revoke_token(&self, token: &str) {
        self.state.revoke_token(token);
    }

    /// A new key of each kind under a new key id. The old ones leave the JWKS; what they signed stays as it is.
    pub fn rotate_keys(&self) {
        let keys = Arc::new(KeySet::generate());
        *self.state.keys.write() = keys;
    }

    /// The key id in use, for headers of one's own.
    pub fn kid(&self, algorithm: SigningAlgorithm) -> String {
        self.state.keys.read().kid(algorithm)
    }

    /// Members that stand in the JWKS after the provider's own keys, in the place of earlier ones.
    pub fn extra_jwks(&self, keys: Vec<Value>) {
        *self.state.extra_jwks.lock() = keys;
    }

    /// Signs a browser in without the form; the value for a `Cookie` field.
    pub fn sign_in(&self, user: &str) -> String {
        format!("{SESSION_COOKIE}={}", self.state.open_session(user))
    }

    /// Ends the user's sessions here and tells every client with a back-channel URI. Needs a rustls provider
    /// installed in the process, as all of reqwest does.
    pub async fn backchannel_logout(&self, user: &str) -> Vec<LogoutDelivery> {
        logout::backchannel_logout(&self.state, user).await
    }
}
