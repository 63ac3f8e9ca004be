//! People who sign in: a provider that knows them, an app, the gateway between them, and browsers of two kinds. Most
//! tests drive it with a few lines of cookie jar (`person`), so that every step can be held, repeated and spoilt; some
//! with Chromium (`browser`).

mod app_tokens;
mod browser;
mod callback;
mod certified;
mod choice;
mod cookies;
mod faults;
mod glewlwyd;
mod loops;
mod pages;
mod person;
mod places;
mod providers;
mod refresh;
mod refused_refresh;
mod restart;
mod return_urls;
mod rotation;
mod screens;
mod sessions;
mod sign_in;
mod sign_out;
mod streams;
mod tls;
mod webdriver;

use crate::app::App;
use crate::client::HOST;
use crate::gateway::{Config, Gateway};
use doorward::demo::{Client, Endpoint, Faults, Provider};
pub use person::{Person, consent};
use std::time::Duration;

/// Everything that a person meets.
pub struct Scene {
    pub provider: Provider,
    pub app: App,
    pub gateway: Gateway,
}

/// Any good credential will do; without one a navigation goes to the login.
pub const AUTH: &str = "auth: {provider: corp}";

impl Scene {
    pub async fn start() -> Self {
        Self::with(|config, _| config).await
    }

    /// `change`: what is other than usual; it is told where the app is.
    pub async fn with(change: impl FnOnce(Config, &App) -> Config) -> Self {
        let (provider, app) = (crate::world::provider().await, App::start().await);
        register(&provider, &format!("http://{HOST}"));
        let config = Config::default().provider("corp", provider.issuer(), "");
        let config = change(config.route("public", "http://app.test/public/", &app.origin, "auth: public"), &app);
        let config = if config.routes.len() > 1 { config } else { main_route(config, &app, "") };
        let gateway = Gateway::start(&config).await;
        Scene { provider, app, gateway }
    }

    /// Somebody with an empty cookie jar.
    pub fn person(&self) -> Person {
        Person::at(&self.gateway)
    }

    pub async fn signed_in(&self, user: &str) -> Person {
        let mut person = self.person();
        person.sign_in(&self.provider, user).await;
        person
    }

    /// From now on the provider does this wrong, and nothing else.
    pub fn provider_does(&self, fault: impl FnOnce(&mut Faults)) {
        let mut faults = Faults::default();
        fault(&mut faults);
        *self.provider.faults() = faults;
    }

    pub fn provider_is_well(&self) {
        self.provider_does(|_| {});
    }

    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.provider.calls().count(endpoint)
    }

    /// How often a refresh token was brought to the provider.
    pub fn refreshes(&self) -> usize {
        let calls = self.provider.calls();
        calls.records().filter(|call| call.param("grant_type") == Some("refresh_token")).count()
    }
}

pub fn fails_with(endpoint: Endpoint, status: u16) -> impl Fn(&mut Faults) {
    move |faults| _ = faults.status.insert(endpoint, status)
}

pub fn hangs(endpoint: Endpoint) -> impl Fn(&mut Faults) {
    move |faults| _ = faults.hang.insert(endpoint)
}

pub fn sends_100_mb(endpoint: Endpoint) -> impl Fn(&mut Faults) {
    move |faults| _ = faults.huge.insert(endpoint)
}

/// Its answer calls itself JSON and is none.
pub fn garbles(endpoint: Endpoint) -> impl Fn(&mut Faults) {
    move |faults| _ = faults.malformed.insert(endpoint)
}

/// A wait before the work.
pub fn slow(endpoint: Endpoint, wait: Duration) -> impl Fn(&mut Faults) {
    move |faults| _ = faults.delay.insert(endpoint, wait)
}

/// A wait after the work, with what it brought.
pub fn slow_to_reply(endpoint: Endpoint, wait: Duration) -> impl Fn(&mut Faults) {
    move |faults| _ = faults.reply_delay.insert(endpoint, wait)
}

/// The route of everything under `app.test`.
pub fn main_route(config: Config, app: &App, keys: &str) -> Config {
    config.route("main", "http://app.test/", &app.origin, &format!("{AUTH}, {keys}"))
}

/// Lets a gateway of this origin send people there.
pub fn register(provider: &Provider, origin: &str) {
    provider.set_client(Client {
        client_id: "doorward".to_owned(),
        client_secret: Some("doorward-secret".to_owned()),
        redirect_uris: ["", "/one", "/two"].map(|own| format!("{origin}/oauth2/callback{own}")).to_vec(),
        post_logout_redirect_uris: vec![format!("{origin}/oauth2/signed_out")],
        backchannel_logout_uri: None,
    });
}
