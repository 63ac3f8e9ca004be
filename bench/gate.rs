//! What the gate's own work costs, without sockets: time of a bearer hit, time of a miss against the signature check
//! alone. Run it with `cargo run --release --example gate`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a tool for those who build it

use doorward::caller::address::ClientIp;
use doorward::caller::rate_limit::{self, Account, Limiter};
use doorward::caller::tarpit::Tarpit;
use doorward::credential::introspection::{self, Introspections};
use doorward::credential::policy::{Issuer, Policy};
use doorward::credential::verified::{Settings, VerifiedTokens};
use doorward::credential::verifier::Verifier;
use doorward::demo::{IssueOptions, Provider as DemoProvider, ProviderOptions, SigningAlgorithm};
use doorward::gate::authenticate::Authenticator;
use doorward::gate::branding::Branding;
use doorward::gate::cookies::OwnCookies;
use doorward::gate::gate::{Endpoints, Gate, Warned};
use doorward::gate::identity_headers::{self, HeaderFilter};
use doorward::gate::place::{Hosts, Place};
use doorward::gate::refusal::Html;
use doorward::gate::request::RequestHead;
use doorward::gate::rewrite::Rewrite;
use doorward::gate::route::{AccessSettings, OnUnauthenticated, ProtectedSettings, Route, Settings as RouteSettings};
use doorward::gate::rules::Rules;
use doorward::gate::table::Table;
use doorward::kit::clock::{Clock, SystemClock};
use doorward::kit::digest::TokenDigest;
use doorward::kit::entropy::{Ids, SystemEntropy};
use doorward::kit::recent::Recent;
use doorward::kit::setting::{Span, Wait};
use doorward::login::return_url::ReturnUrls;
use doorward::outbound::assertion::Assertions;
use doorward::outbound::signing_keys::SigningKeys;
use doorward::provider::Provider;
use doorward::provider::remote::RemoteProvider;
use doorward::provider::settings::Settings as ProviderSettings;
use doorward::session::outcome::Dedup;
use doorward::session::sessions::Sessions;
use doorward::store::memory::Memory;
use doorward::telemetry::metrics::{Cache, CacheMetrics, Metrics};
use http::{HeaderMap, HeaderValue, Method};
use jsonwebtoken::Algorithm;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As the binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: u32 = 200_000;

const DEDUP: Dedup =
    Dedup { enabled: true, result_ttl: Wait::seconds(5), lease: Span::seconds(10), grace: Span::seconds(300) };

fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let demo = runtime.block_on(DemoProvider::start(ProviderOptions::default())).unwrap();
    let metrics = Metrics::default();
    let provider =
        RemoteProvider::new(settings(demo.issuer()), Arc::new(SystemClock), metrics.provider("demo"), Arc::new(|_| {}))
            .unwrap();
    runtime.spawn(provider.clone().keep_fresh());
    while provider.keys().is_none() {
        std::thread::yield_now();
    }
    runtime.block_on(hit(&demo, provider.clone(), &metrics));
    runtime.block_on(misses(&demo, provider));
}

fn settings(issuer: &str) -> ProviderSettings {
    let json = serde_json::json!({
        "issuer": issuer, "client_id": "doorward", "client_auth": "none", "userinfo": "never", "audiences": ["doorward"],
        "algorithms": ["RS256", "PS256", "ES256", "EdDSA"],
    });
    ProviderSettings { name: "demo".into(), ..serde_json::from_value(json).unwrap() }
}

/// With nothing but the cache of verified tokens.
fn verifier(
    clock: Arc<dyn Clock>,
    verified: Option<(Arc<VerifiedTokens>, CacheMetrics)>,
    metrics: &Metrics,
) -> Verifier {
    let off = introspection::Settings { enabled: false, max_entries: 0, ttl: Wait::seconds(1) };
    let introspections = Arc::new(Introspections::new(&off, clock.clone(), metrics.cache(Cache::introspection)));
    Verifier { clock, verified, unknown: None, introspections }
}

fn cache(max_entries: u64) -> Arc<VerifiedTokens> {
    Arc::new(VerifiedTokens::new(&Settings { enabled: true, max_entries, ttl: Wait::seconds(300) }))
}

fn gate(provider: Arc<RemoteProvider>, metrics: &Metrics) -> Gate {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let route = RouteSettings {
        name: "main".into(),
        place: Place {
            hosts: Hosts::One("app.test".into()),
            port: Some(443),
            path: "/".into(),
            exact: false,
            methods: Vec::new(),
        },
        https: true,
        access: AccessSettings::Protected(Box::new(ProtectedSettings {
            sessions: Vec::new(),
            bearer: vec!["demo".into()],
            accepts_bearer: true,
            accepts_api_key: false,
            limit: rate_limit::Settings::default(),
            on_unauthenticated: OnUnauthenticated::Reject,
            require: Rules { groups: vec!["admins".into()], ..Rules::default() },
        })),
        headers: identity_headers::Settings::default().identity_headers(),
        resource: None,
        assertion: None,
        service_token: None,
        cors: None,
        strip_prefix: false,
        bases: Vec::new(),
        cookie: "doorward".into(),
    };
    let policy = |_: &[Arc<str>]| Policy::new(vec![Issuer::new(provider.clone(), metrics.provider("demo"), &[])]);
    let sessions = Arc::new(Sessions::new(
        Arc::new(Memory::new(clock.clone())),
        clock.clone(),
        Arc::new(SystemEntropy::default()),
        DEDUP,
        None,
    ));
    let signing = Arc::new(SigningKeys::new(sessions.kv.clone(), clock.clone()));
    Gate {
        assertions: Arc::new(Assertions::new(signing, clock.clone(), Arc::new(SystemEntropy::default()))),
        clock: clock.clone(),
        client_ip: ClientIp::default(),
        ids: Ids::new(Arc::new(SystemEntropy::default())),
        routes: Table::new(vec![Arc::new(Route::new(0, route, policy, Vec::new(), None, metrics.route("main")))]),
        authenticator: Authenticator {
            verifier: verifier(clock, Some((cache(100_000), metrics.cache(Cache::verified_tokens))), metrics),
            keyring: None,
            recent: Recent::default(),
            limiter: Arc::new(Limiter::new()),
            tarpit: Arc::new(Tarpit::new()),
            sessions: sessions.clone(),
        },
        endpoints: Endpoints {
            path: "/oauth2".into(),
            sessions,
            entropy: Arc::new(SystemEntropy::default()),
            return_urls: ReturnUrls::default(),
            html: Html::new(Branding::default()),
        },
        rewrite: Rewrite {
            header_filter: HeaderFilter::new([].iter()),
            cookies: OwnCookies::new(vec!["doorward".into()], vec!["demo".into()]),
        },
        unrouted: Arc::new(metrics.route("-")),
        warned: Warned::default(),
    }
}

async fn hit(demo: &DemoProvider, provider: Arc<RemoteProvider>, metrics: &Metrics) {
    let gate = gate(provider, metrics);
    let token = demo.issue_access_token("alice", &IssueOptions::default());
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "app.test"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept-language", "en"),
        ("cookie", "theme=dark; locale=en"),
        ("authorization", &format!("Bearer {token}")),
    ] {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    let head = RequestHead::plain(&Method::GET, b"/api/dashboards/home?x=1", &headers, [192, 0, 2, 1].into());
    // Verified once, and known by its bytes after the first hit.
    drop(gate.judge(gate.open(&head), &head).await);
    drop(gate.judge(gate.open(&head), &head).await);
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(gate.judge(gate.open(&head), &head).await);
    }
    println!("bearer hit: {:.2} us", begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
}

async fn misses(demo: &DemoProvider, provider: Arc<RemoteProvider>) {
    let metrics = Metrics::default();
    let verifier = verifier(Arc::new(SystemClock), None, &metrics);
    let policy = Policy::new(vec![Issuer::new(provider.clone(), metrics.provider("demo"), &[])]);
    let keys = provider.keys().unwrap();
    let limiter = Limiter::new();
    let account = Account { limiter: &limiter, limit: &rate_limit::Settings::default(), client: [127, 0, 0, 1].into() };
    for (own, algorithm) in [
        (SigningAlgorithm::Rs256, Algorithm::RS256),
        (SigningAlgorithm::Ps256, Algorithm::PS256),
        (SigningAlgorithm::Es256, Algorithm::ES256),
        (SigningAlgorithm::EdDsa, Algorithm::EdDSA),
    ] {
        let token = demo.issue_access_token("alice", &IssueOptions { algorithm: own, ..IssueOptions::default() });
        let (message, signature) = token.rsplit_once('.').unwrap();
        let doorward::provider::keys::Selected::Key(key) = keys.select(Some(&demo.kid(own)), algorithm) else {
            panic!("no key")
        };
        let digest = TokenDigest::of(token.as_bytes());
        let (mut alone, mut whole) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..20 {
            let begun = Instant::now();
            for _ in 0..250 {
                assert!(
                    jsonwebtoken::crypto::verify(signature, message.as_bytes(), key.decoding(), algorithm).unwrap()
                );
            }
            alone += begun.elapsed();
            let begun = Instant::now();
            for _ in 0..250 {
                std::hint::black_box(verifier.verify(&policy, &token, digest, &account).await);
            }
            whole += begun.elapsed();
        }
        let (alone, whole) = (alone.as_secs_f64() * 1e6 / 5000.0, whole.as_secs_f64() * 1e6 / 5000.0);
        println!("miss {algorithm:?}: {whole:.1} us, the signature alone {alone:.1} us, ratio {:.2}", whole / alone);
    }
}
