//! Replicas that share their sessions over Redis: what one of them did counts on all, one refresh token is spent once, and
//! Redis that is killed, frozen or emptied ends nobody's session. Figures are printed, so that they can be told.
#![allow(clippy::print_stdout, reason = "figures are for whoever runs the tests")]

mod crowd;
mod flags;
mod grace;
mod holder;
mod kinds;
mod load;
mod logout;
mod outage;
mod outbound;
mod relay;
mod server;
mod strangers;
mod streams;
mod together;
mod troubled;
mod wire;

use crate::app::App;
use crate::client::{HOST, Reply, Request, get};
use crate::gateway::{Config, Gateway};
use crate::people::{Person, main_route, register};
use crate::wait::until_so;
use doorward::demo::{Endpoint, Faults, Provider};
use server::RedisServer;
use std::time::Duration;

/// A provider, an app, and replicas of one configuration.
struct Replicas {
    provider: Provider,
    app: App,
    gateways: Vec<Gateway>,
}

/// What is other than usual, each as the text of the configuration.
struct Setting {
    /// The whole of `store`.
    store: String,
    dedup: &'static str,
    copies: &'static str,
    /// Of each call to the provider.
    timeout: &'static str,
    route: &'static str,
    replicas: usize,
}

const EXCHANGED: &str = "doorward_refreshes_total{provider=\"corp\",result=\"exchanged\"}";
const STORE_UP: &str = "doorward_store_up";
const COMMAND_TIMEOUT: Duration = Duration::from_millis(250);
const COOLDOWN: Duration = Duration::from_secs(1);

impl Setting {
    /// `urls` as they stand in the file; `keys`: further ones of `store.redis`.
    fn at(urls: &[&str], keys: &str) -> Self {
        let urls: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
        let times = "connect_timeout: 1s, command_timeout: 2s, breaker: {failures: 5, cooldown: 1s}";
        Setting {
            store: format!("store: {{backend: redis, redis: {{urls: [{}], {times}, {keys}}}}}", urls.join(", ")),
            dedup: "refresh_dedup: {lease: 4s}",
            copies: "sessions: {ttl: 60s}",
            timeout: "3s",
            route: "",
            replicas: 3,
        }
    }

    fn on(redis: &RedisServer) -> Self {
        Self::at(&[redis.url()], "")
    }

    /// With the command's time-out as it is by default; elsewhere a busy machine may take its time.
    fn impatient(redis: &RedisServer) -> Self {
        let usual = Self::on(redis);
        Setting { store: usual.store.replace("command_timeout: 2s", "command_timeout: 250ms"), ..usual }
    }

    async fn start(self) -> Replicas {
        let replicas = self.replicas;
        let (provider, app, config) = self.parts().await;
        let mut gateways = Vec::new();
        for _ in 0..replicas {
            gateways.push(Gateway::start(&config).await);
        }
        Replicas { provider, app, gateways }
    }

    async fn parts(self) -> (Provider, App, Config) {
        let (provider, app) = (crate::world::provider().await, App::start().await);
        register(&provider, &format!("http://{HOST}"));
        let mut config = Config::default()
            .more(&self.store)
            .more(self.dedup)
            .more(&format!("caches: {{unknown_tokens: {{enabled: false}}, {}}}", self.copies))
            .route("public", "http://app.test/public/", &app.origin, "auth: public");
        config.providers.push(format!(
            "corp: {{issuer: \"{}\", client_id: doorward, client_secret: doorward-secret, timeout: {}}}",
            provider.issuer(),
            self.timeout
        ));
        let config = main_route(config, &app, self.route);
        (provider, app, config)
    }
}

impl Replicas {
    /// The same browser, led to another replica.
    fn led_to(&self, replica: usize, person: &Person) -> Person {
        let mut there = Person::at(&self.gateways[replica]);
        there.jar.clone_from(&person.jar);
        there
    }

    async fn signed_in(&self, replica: usize, user: &str) -> Person {
        let mut person = Person::at(&self.gateways[replica]);
        person.sign_in(&self.provider, user).await;
        // All leaks count on all replicas.
        for gateway in &self.gateways {
            gateway.secrets.lock().unwrap().extend(person.jar.iter().map(|(_, value)| value.clone()));
        }
        person
    }

    /// Somebody whose access token is over, at a provider that is well again.
    async fn expired(&self, replica: usize, user: &str) -> Person {
        self.provider_does(|faults| faults.access_token_lifetime = 0);
        let person = self.signed_in(replica, user).await;
        self.provider_does(|_| {});
        person
    }

    /// A program's request with this person's cookies at that replica.
    async fn asks(&self, replica: usize, person: &Person) -> Reply {
        self.gateways[replica].ask(&person.dressed(get("/x"))).await
    }

    async fn outcomes(&self, person: &Person) -> Vec<String> {
        let mut outcomes = Vec::new();
        for replica in 0..self.gateways.len() {
            outcomes.push(self.asks(replica, person).await.outcome());
        }
        outcomes
    }

    async fn everywhere(&self, person: &Person, outcome: &str) {
        assert_eq!(self.outcomes(person).await, vec![outcome; self.gateways.len()]);
    }

    /// From now on the provider does this, and nothing else that is not usual.
    fn provider_does(&self, fault: impl FnOnce(&mut Faults)) {
        let mut faults = Faults::default();
        fault(&mut faults);
        *self.provider.faults() = faults;
    }

    /// How often a refresh token was brought to the provider.
    fn refreshes(&self) -> usize {
        let calls = self.provider.calls();
        calls.records().filter(|call| call.param("grant_type") == Some("refresh_token")).count()
    }

    /// A sum over the replicas.
    async fn metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for gateway in &self.gateways {
            sum += gateway.metric(name).await;
        }
        sum
    }

    /// Every replica knows that the store is away, or that it is back.
    async fn all_see(&self, up: bool) {
        for gateway in &self.gateways {
            sees(gateway, up).await;
        }
    }
}

async fn sees(gateway: &Gateway, up: bool) {
    let expected = if up { 1.0 } else { 0.0 };
    until_so(&format!("store_up is {expected}"), async || gateway.metric(STORE_UP).await == expected).await;
}

/// A request for a page with these cookies.
fn page(person: &Person) -> Request {
    person.dressed(get("/x").page())
}

fn slow_token(faults: &mut Faults, wait: Duration) {
    faults.delay.insert(Endpoint::Token, wait);
}
