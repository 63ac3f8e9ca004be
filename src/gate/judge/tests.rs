//! The gate's table of requests: each with its decision and the fetches from the provider.

use super::*;
use crate::caller::address::{ClientIp, ForwardingHeader};
use crate::caller::rate_limit::{self, Limiter};
use crate::caller::tarpit::Tarpit;
use crate::credential::introspection::{self, Introspections};
use crate::credential::policy::{Issuer, Policy};
use crate::credential::verified::{self, VerifiedTokens};
use crate::credential::verifier::Verifier;
use crate::gate::authenticate::Authenticator;
use crate::gate::branding::Branding;
use crate::gate::cookies::OwnCookies;
use crate::gate::cors::{Cors, Origins};
use crate::gate::decision::Forward;
use crate::gate::gate::{Endpoints, Warned};
use crate::gate::identity_headers::tests::of_preset;
use crate::gate::identity_headers::{HeaderFilter, Preset};
use crate::gate::place::{Hosts, Place as RoutePlace};
use crate::gate::refusal::Html;
use crate::gate::request::RequestHead;
use crate::gate::rewrite::Rewrite;
use crate::gate::route::{AccessSettings, OnUnauthenticated, ProtectedSettings, Route, Settings};
use crate::gate::rules::Rules;
use crate::gate::table::Table;
use crate::kit::clock::Clock;
use crate::kit::clock::test::SetClock;
use crate::kit::entropy::Ids;
use crate::kit::entropy::test::Counted;
use crate::kit::recent::Recent;
use crate::kit::setting::{Count, Span, Wait};
use crate::login::return_url::ReturnUrls;
use crate::outbound::assertion::Assertions;
use crate::outbound::signing_keys::SigningKeys;
use crate::provider::Fetched;
use crate::provider::fake::{FakeProvider, NOW, settings, token};
use crate::session::outcome::Dedup;
use crate::session::sessions::Sessions;
use crate::store::memory::Memory;
use crate::telemetry::metrics::{Cache, Metrics};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, Method};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

struct World {
    gate: Gate,
    provider: Arc<FakeProvider>,
    metrics: Arc<Metrics>,
}

/// Of the gate alone, for a bearer token that was verified before; more would be a cost of every request.
const MOST_ALLOCATIONS: u64 = 9;

const OFF: introspection::Settings = introspection::Settings { enabled: false, max_entries: 0, ttl: Wait::seconds(1) };

const DEDUP: Dedup =
    Dedup { enabled: true, result_ttl: Wait::seconds(5), lease: Span::seconds(10), grace: Span::seconds(300) };

/// One host with public, protected, anonymous, restricted, cross-origin and rate-limited routes.
fn routes(provider: &Arc<FakeProvider>, metrics: &Metrics) -> Vec<Arc<Route>> {
    let protected = |accepts_bearer, on_unauthenticated, require| {
        AccessSettings::Protected(Box::new(ProtectedSettings {
            sessions: Vec::new(),
            bearer: vec!["corp".into()],
            accepts_bearer,
            accepts_api_key: false,
            limit: rate_limit::Settings { enabled: false, requests: Count::of(1), ..rate_limit::Settings::default() },
            on_unauthenticated,
            require,
        }))
    };
    let plain = || protected(true, OnUnauthenticated::Reject, Rules::default());
    let ops = Rules { groups: vec!["admins".into()], ..Rules::default() };
    let scoped = Rules { scopes: vec!["app.write".into()], ..Rules::default() };
    let limited = || {
        let mut limited = plain();
        if let AccessSettings::Protected(protected) = &mut limited {
            protected.limit.enabled = true;
        }
        limited
    };
    let routes = [
        ("public", "/public/", AccessSettings::Public, Preset::Standard),
        ("pass", "/pass/", protected(true, OnUnauthenticated::Pass, Rules::default()), Preset::Standard),
        ("admins", "/admins/", protected(true, OnUnauthenticated::Reject, ops), Preset::Standard),
        ("scoped", "/scoped/", protected(true, OnUnauthenticated::Reject, scoped), Preset::Standard),
        ("people", "/people/", protected(false, OnUnauthenticated::Reject, Rules::default()), Preset::Standard),
        ("grafana", "/grafana/", plain(), Preset::Grafana),
        ("cors", "/cors/", plain(), Preset::None),
        ("limited", "/limited/", limited(), Preset::None),
        ("main", "/", plain(), Preset::Standard),
    ];
    let build = |(index, (name, path, access, preset)): (usize, (&str, &str, AccessSettings, Preset))| {
        let cors = Cors {
            origins: Origins::OneOf(vec!["https://spa.test".into()]),
            credentials: true,
            max_age: Span::seconds(600),
        };
        let settings = Settings {
            name: name.into(),
            place: RoutePlace {
                hosts: Hosts::One("app.test".into()),
                port: Some(443),
                path: path.into(),
                exact: false,
                methods: Vec::new(),
            },
            https: true,
            access,
            resource: None,
            assertion: None,
            service_token: None,
            headers: of_preset(preset),
            cors: (name == "cors").then_some(cors),
            strip_prefix: false,
            bases: Vec::new(),
            cookie: "doorward".into(),
        };
        let policy = |_: &[Arc<str>]| Policy::new(vec![Issuer::new(provider.clone(), metrics.provider("corp"), &[])]);
        Arc::new(Route::new(index, settings, policy, Vec::new(), None, metrics.route(name)))
    };
    routes.into_iter().enumerate().map(build).collect()
}

fn world() -> World {
    let (clock, metrics): (Arc<dyn Clock>, _) = (Arc::new(SetClock::at(NOW)), Arc::new(Metrics::default()));
    let provider = FakeProvider::new(settings("https://id.test"));
    let routes = routes(&provider, &metrics);
    let cache = VerifiedTokens::new(&verified::Settings { enabled: true, max_entries: 100, ttl: Wait::seconds(60) });
    let sessions = Arc::new(Sessions::new(
        Arc::new(Memory::new(clock.clone())),
        clock.clone(),
        Arc::new(Counted::default()),
        DEDUP,
        None,
    ));
    let signing = Arc::new(SigningKeys::new(sessions.kv.clone(), clock.clone()));
    let gate = Gate {
        assertions: Arc::new(Assertions::new(signing, clock.clone(), Arc::new(Counted::default()))),
        clock: clock.clone(),
        client_ip: ClientIp {
            trusted_proxies: vec!["10.0.0.0/8".to_string().try_into().unwrap()],
            header: ForwardingHeader::XForwardedFor,
        },
        ids: Ids::new(Arc::new(Counted::default())),
        routes: Table::new(routes),
        authenticator: Authenticator {
            verifier: Verifier {
                clock: clock.clone(),
                verified: Some((Arc::new(cache), metrics.cache(Cache::verified_tokens))),
                unknown: None,
                introspections: Arc::new(Introspections::new(&OFF, clock, metrics.cache(Cache::introspection))),
            },
            keyring: None,
            recent: Recent::default(),
            limiter: Arc::new(Limiter::new()),
            tarpit: Arc::new(Tarpit::new()),
            sessions: sessions.clone(),
        },
        endpoints: Endpoints {
            path: "/oauth2".into(),
            sessions,
            entropy: Arc::new(Counted::default()),
            return_urls: ReturnUrls::default(),
            html: Html::new(Branding::default()),
        },
        rewrite: Rewrite {
            header_filter: HeaderFilter::new([].iter()),
            cookies: OwnCookies::new(vec!["doorward".into()], vec!["corp".into()]),
        },
        unrouted: Arc::new(metrics.route("-")),
        warned: Warned::default(),
    };
    World { gate, provider, metrics }
}

fn headers_of(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "app.test")].iter().chain(fields) {
        let name: HeaderName = name.parse().unwrap();
        if name == header::HOST {
            headers.remove(&name);
        }
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// A request to `https://app.test`: `GET /path`, with these fields; a `Host` among them replaces the usual one.
async fn judge(world: &World, line: &str, fields: &[(&str, &str)]) -> Decision {
    let (method, target) = line.split_once(' ').unwrap();
    let peer = fields.iter().find(|(name, _)| *name == "x-test-peer").map_or("192.0.2.1", |(_, peer)| peer);
    let (method, mut headers) = (method.parse().unwrap(), headers_of(fields));
    headers.remove("x-test-peer");
    let head = RequestHead::plain(&method, target.as_bytes(), &headers, peer.parse().unwrap());
    world.gate.judge(world.gate.open(&head), &head).await
}

/// `forward to <route>`, or `<status> <reason>`; then the number of key fetches, if any.
async fn summary(world: &World, line: &str, fields: &[(&str, &str)]) -> String {
    let before = world.provider.key_fetches.load(Ordering::SeqCst);
    let decision = judge(world, line, fields).await;
    let asked = world.provider.key_fetches.load(Ordering::SeqCst) - before;
    let answer = match &decision.answer {
        Answer::Forward(forward) => format!("forward to {}", forward.route.name),
        Answer::Reply(reply) => {
            format!("{} {}", reply.status.as_u16(), decision.audit.reason.map_or("-", Reason::word))
        }
    };
    if asked == 0 { answer } else { format!("{answer}, {asked} key fetch") }
}

async fn check(line: &str, fields: &[(&str, &str)], expected: &str) {
    assert_eq!(summary(&world(), line, fields).await, expected, "{line} {fields:?}");
}

const JSON: (&str, &str) = ("accept", "application/json");

#[tokio::test]
async fn requests_and_their_answers() {
    let good = format!("Bearer {}", token(json!({})));
    let expired = format!("Bearer {}", token(json!({"exp": 1})));
    let other = format!("bearer {}", token(json!({"aud": "other"})));
    let auth = |value: &'static str| ("authorization", value);
    check("GET /x", &[JSON], "401 login_required").await;
    check("GET /x", &[("authorization", &good)], "forward to main").await;
    check("GET /x", &[("authorization", &expired)], "401 token_expired").await;
    check("GET /x", &[("authorization", &other)], "401 wrong_audience").await;
    check("GET /x", &[auth("Bearer opaque")], "401 unknown_token").await;
    check("GET /x", &[auth("Bearer ")], "401 invalid_token").await;
    check("GET /x", &[auth("Bearer a b")], "401 invalid_token").await;
    check("GET /x", &[auth("Basic dTpw")], "401 login_required").await;
    check("GET /x", &[("authorization", &good), ("authorization", &good)], "401 invalid_token").await;
    check("GET /public/x", &[auth("Bearer opaque")], "forward to public").await;
    check("GET /pass/x", &[], "forward to pass").await;
    check("GET /pass/x", &[auth("Bearer opaque")], "401 unknown_token").await;
    check("GET /people/x", &[("authorization", &good)], "401 login_required").await;
    check("GET /admins/x", &[("authorization", &good)], "403 forbidden").await;
    check("GET /scoped/x", &[("authorization", &good)], "403 insufficient_scope").await;
    check("GET /x", &[("host", "elsewhere.test")], "404 no_route").await;
    check("GET /x", &[("host", "<script>")], "400 bad_request").await;
    check("TRACE /x", &[], "405 bad_request").await;
    check("CONNECT app.test:443", &[], "405 bad_request").await;
    check("POST /x", &[("content-length", "1"), ("content-length", "1")], "400 bad_request").await;
    check("GET /oauth2/userinfo", &[], "401 login_required").await;
    check("POST /oauth2/userinfo", &[], "405 bad_request").await;
    check("GET /oauth2/callback", &[], "400 state_mismatch").await;
    check("POST /oauth2/callback", &[("content-length", "70000")], "413 bad_request").await;
    check("GET /oauth2/auth/x", &[], "401 login_required").await;
    check("GET /oauth2/auth", &[("host", "elsewhere.test")], "404 no_route").await;
}

#[tokio::test]
async fn a_path_that_leads_to_two_places_leads_nowhere() {
    for target in [
        "/public/../admins/x",
        "/public/%2e%2e/admins",
        "/public/.%2e/x",
        "/public/%2e%2e%2fadmins",
        "/public/%252e%252e/x",
        "/public/..;/admins",
        "/public/x/..%5c..%5cadmins",
        "//admins/x/../../public/",
        "/public%2f..%2fadmins",
        "/public/;/../../admins",
        "/oauth2//auth",
        "/oauth2/auth;x",
        "/oauth2/%61uth",
        "/./oauth2/auth",
        "/public/%2e%2e%5cadmins",
    ] {
        check(&format!("GET {target}"), &[], "400 bad_request").await;
    }
    check("GET /public/./a//b;c", &[], "forward to public").await;
    check("GET /publicadmin", &[], "401 login_required").await;
    check("GET /public?x=/../admins", &[], "forward to public").await;
    check("GET https://app.test/public/x", &[], "forward to public").await;
    check("GET https://other.test/public/x", &[], "400 bad_request").await;
}

#[tokio::test]
async fn a_hit_asks_nobody_and_parses_nothing() {
    let world = world();
    let good = format!("Bearer {}", token(json!({})));
    assert_eq!(summary(&world, "GET /x", &[("authorization", &good)]).await, "forward to main");
    // With neither keys nor a provider, a token that had to be parsed or verified could not pass.
    world.provider.forget_keys(Fetched::Unavailable);
    for _ in 0..3 {
        assert_eq!(summary(&world, "GET /x", &[("authorization", &good)]).await, "forward to main");
    }
    let text = world.metrics.text();
    assert!(text.contains("doorward_token_verifications_total{provider=\"corp\",result=\"ok\"} 1"), "{text}");
    assert!(text.contains("doorward_cache_requests_total{cache=\"verified_tokens\",result=\"hit\"} 3"), "{text}");
    let fresh = format!("Bearer {}", token(json!({"jti": "2"})));
    assert_eq!(summary(&world, "GET /x", &[("authorization", &fresh)]).await, "503 provider_unavailable, 1 key fetch");
    assert_eq!(
        summary(&world, "GET /people/x", &[("authorization", &fresh)]).await,
        "401 login_required",
        "not even looked at"
    );
}

#[tokio::test]
async fn a_hit_allocates_little() {
    let world = world();
    let good = format!("Bearer {}", token(json!({})));
    let fields =
        [("accept", "*/*"), ("user-agent", "curl/8"), ("cookie", "theme=dark; locale=en"), ("authorization", &good)];
    let headers = headers_of(&fields);
    let head = RequestHead::plain(&Method::GET, b"/api/dashboards/home?x=1", &headers, [192, 0, 2, 1].into());
    let hit = || drop(world.gate.judge(world.gate.open(&head), &head).now_or_never().unwrap());
    (0..3).for_each(|_| hit()); // verified once, and known by its bytes after the first hit
    let counted = allocation_counter::measure(hit);
    assert!(counted.count_total <= MOST_ALLOCATIONS, "{counted:?}");
}

/// The time that `many` refused tokens in a row take on a route, with a good one now and then.
async fn time_of_refusals(path: &str, many: usize) -> Duration {
    let world = world();
    let good = format!("Bearer {}", token(json!({})));
    let begun = Instant::now();
    for n in 0..many {
        if n % 100 == 0 {
            let decision = judge(&world, &format!("GET {path}"), &[("authorization", &good)]).await;
            assert!(matches!(decision.answer, Answer::Forward(_)));
        }
        judge(&world, &format!("GET {path}"), &[("authorization", &format!("Bearer made-up-{n}"))]).await;
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn many_refusals_give_way_to_good_requests_where_they_are_limited() {
    assert!(time_of_refusals("/limited/x", 2000).await >= Duration::from_millis(200));
    assert_eq!(time_of_refusals("/x", 2000).await, Duration::ZERO);
}

async fn forwarded(line: &str, fields: &[(&str, &str)]) -> Box<Forward> {
    match judge(&world(), line, fields).await.answer {
        Answer::Forward(forward) => forward,
        Answer::Reply(reply) => panic!("{line}: {}", reply.status),
    }
}

fn set(forward: &Forward, name: &str) -> Option<String> {
    forward.set.iter().rfind(|(n, _)| n == name).map(|(_, value)| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_app_is_told_who_it_is_and_nothing_that_a_client_made_up() {
    let good = format!("Bearer {}", token(json!({})));
    let forward = forwarded(
        "GET /x",
        &[
            ("authorization", &good),
            ("x-forwarded-user", "root"),
            ("X_Forwarded_Groups", "admins"),
            ("remote-user", "root"),
        ],
    )
    .await;
    assert_eq!(
        forward.remove.iter().map(HeaderName::as_str).collect::<Vec<_>>(),
        ["x-forwarded-user", "x_forwarded_groups", "remote-user"]
    );
    assert_eq!(set(&forward, "x-forwarded-user").as_deref(), Some("alice-1"));
    assert_eq!(set(&forward, "x-forwarded-for").as_deref(), Some("192.0.2.1"));
    assert_eq!(set(&forward, "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(set(&forward, "x-forwarded-host").as_deref(), Some("app.test"));
    assert_eq!(set(&forward, "x-request-id").map(|id| id.len()), Some(32));
    let forward = forwarded("GET /grafana/x", &[("authorization", &good)]).await;
    assert!(
        forward.remove.contains(&header::AUTHORIZATION) && set(&forward, "x-webauth-user").as_deref() == Some("alice")
    );
    let forward = forwarded(
        "GET /public/x",
        &[("authorization", &good), ("upgrade", "h2c"), ("http2-settings", "x"), ("cookie", "doorward=1")],
    )
    .await;
    assert!(set(&forward, "x-forwarded-user").is_none() && !forward.remove.contains(&header::AUTHORIZATION));
    for gone in [header::UPGRADE, HeaderName::from_static("http2-settings"), header::COOKIE] {
        assert!(forward.remove.contains(&gone), "{gone}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_and_the_request() {
    let world = world();
    let trusted = [("x-test-peer", "10.0.0.1"), ("x-forwarded-for", "6.6.6.6, 203.0.113.9"), ("x-request-id", "abc-1")];
    let decision = judge(&world, "GET /public/x", &trusted).await;
    assert_eq!(
        (decision.audit.request_id.as_str(), decision.audit.client.to_string().as_str()),
        ("abc-1", "203.0.113.9")
    );
    let decision = judge(&world, "GET /public/x", &trusted[1..]).await;
    assert!(decision.audit.request_id != "abc-1" && decision.audit.client.to_string() == "192.0.2.1");
}

#[tokio::test]
async fn preflights_are_answered_before_credentials_and_refusals_are_marked() {
    let preflight = [("origin", "https://spa.test"), ("access-control-request-method", "PUT")];
    let reply = |decision: Decision| match decision.answer {
        Answer::Reply(reply) => reply,
        Answer::Forward(_) => panic!("forwarded"),
    };
    let has = |reply: &Reply, name: &str| reply.headers.iter().any(|(n, _)| n == name);
    let allowed = reply(judge(&world(), "OPTIONS /cors/x", &preflight).await);
    assert!(
        allowed.status == 204
            && has(&allowed, "access-control-allow-origin")
            && has(&allowed, "access-control-allow-methods")
    );
    let foreign = reply(judge(&world(), "OPTIONS /cors/x", &[("origin", "https://evil.test"), preflight[1]]).await);
    assert!(foreign.status == 204 && !has(&foreign, "access-control-allow-origin") && has(&foreign, "vary"));
    let refused = reply(judge(&world(), "GET /cors/x", &[preflight[0], JSON]).await);
    assert!(
        refused.status == 401
            && has(&refused, "access-control-allow-origin")
            && has(&refused, "access-control-expose-headers")
    );
    assert_eq!(
        summary(&world(), "OPTIONS /x", &preflight).await,
        "401 login_required",
        "a route without `cors` answers no preflight"
    );
}

#[tokio::test]
async fn another_proxy_may_ask_about_a_request() {
    let good = format!("Bearer {}", token(json!({})));
    let auth = ("authorization", good.as_str());
    let asked = |target: &'static str| {
        [
            ("x-test-peer", "10.0.0.1"),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-host", "app.test"),
            ("x-forwarded-uri", target),
        ]
    };
    check("GET /oauth2/auth", &[auth], "403 bad_request").await;
    check("GET /oauth2/auth", &[auth, ("x-test-peer", "10.0.0.1")], "403 bad_request").await;
    check("GET /oauth2/auth", &[("x-test-peer", "10.0.0.1"), ("host", "elsewhere.test")], "403 bad_request").await;
    check("GET /oauth2/forward", &[auth], "403 bad_request").await;
    for page in ["GET /oauth2/auth", "POST /oauth2/forward"] {
        let ask = |target| [asked(target).as_slice(), &[auth]].concat();
        check(page, &ask("/x"), "202 -").await;
        check(page, &ask("/admins/x"), "403 forbidden").await;
        check(page, &ask("/oauth2/auth"), "403 bad_request").await;
        check(page, &[auth, ("x-forwarded-host", "app.test"), ("x-forwarded-uri", "/x")], "403 bad_request").await;
        check(page, &[auth, ("x-test-peer", "10.0.0.1"), ("x-forwarded-uri", "/x")], "403 bad_request").await;
    }
    check("GET /oauth2/auth", &[asked("/public/../x").as_slice(), &[auth]].concat(), "403 bad_request").await;
    check("GET /oauth2/forward", &[asked("/public/../x").as_slice(), &[auth]].concat(), "400 bad_request").await;
    let told = [asked("/x").as_slice(), &[auth, ("x-auth-request-groups", "admins")]].concat();
    let decision = judge(&world(), "GET /oauth2/auth", &told).await;
    let Answer::Reply(reply) = decision.answer else { panic!("forwarded") };
    let told = |name: &str| reply.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_str().unwrap().to_string());
    assert_eq!(
        (told("x-auth-request-user"), told("x-auth-request-groups")),
        (Some("alice-1".into()), Some("dev,ops".into()))
    );
}
