//! A configuration that changes while the gateway runs: the whole of it or nothing, without losing what is known.

use crate::client::{Connection, get};
use crate::gateway::{Config, Gateway};
use crate::wait::{free_port, until_so};
use crate::world::{BEARER, PUBLIC, World, usual};

const OK: &str = "doorward_config_reloads_total{result=\"ok\"}";
const REFUSED: &str = "doorward_config_reloads_total{result=\"refused\"}";
const VERIFIED: &str = "doorward_token_verifications_total{provider=\"corp\",result=\"ok\"}";

#[tokio::test]
async fn what_is_new_is_served_and_what_is_gone_is_not() {
    let world = World::start().await;
    let mut old = world.gateway.connect().await;
    assert_eq!(old.ask(&get("/new/x")).await.outcome(), "401 login_required");
    let config = usual(&world.provider, &world.app).route("new", "http://app.test/new/", &world.app.origin, PUBLIC);
    world.gateway.reload(&config).await;
    assert_eq!(old.ask(&get("/new/x")).await.status, 200, "also on a connection that was open");
    assert_eq!(world.ask(&get("/new/x")).await.status, 200);
    let page = world.gateway.admin("/").await.text();
    assert!(page.contains("http://app.test/new/"), "{page}");
    world.gateway.reload(&usual(&world.provider, &world.app)).await;
    assert_eq!(old.ask(&get("/new/x")).await.outcome(), "401 login_required");
    assert_eq!(world.gateway.metric(OK).await, 2.0);
}

/// D5: a bad configuration changes nothing.
#[tokio::test]
async fn a_bad_configuration_is_refused_and_the_old_one_goes_on() {
    let world = World::start().await;
    let good = world.gateway.text_of(&usual(&world.provider, &world.app));
    let token = world.token();
    for (i, (bad, complaint)) in [
        (good.replace("auth: public", "auth: publick"), "routes.0.auth"),
        (good.clone() + "unknown_key: 1\n", "unknown_key"),
        (good.replace("http://app.test/public/", "http://app.test/"), "routes.1.from"),
        (good.replace("routes:", "routes: ["), "config.yaml"),
        (good.replace("doorward-secret", "\"${file:no-such-file}\""), "no-such-file"),
        (String::new(), "routes"),
    ]
    .into_iter()
    .enumerate()
    {
        world.gateway.reload_text(&bad, "refused").await;
        assert_eq!(world.gateway.metric(REFUSED).await, (i + 1) as f64);
        until_so(complaint, async || {
            world.gateway.log().lines().any(|line| line.contains("\"ERROR\"") && line.contains(complaint))
        })
        .await;
        assert_eq!(world.ask(&get("/public/x")).await.status, 200);
        assert_eq!(world.ask(&get("/x").bearer(&token)).await.status, 200);
        assert_eq!(world.ask(&get("/x")).await.status, 401);
    }
    assert_eq!(world.gateway.metric(VERIFIED).await, 1.0, "what was known is known");
    assert_eq!(world.gateway.metric(OK).await, 0.0);
    world.gateway.reload_text(&good, "ok").await;
}

#[tokio::test]
async fn a_changed_listener_waits_for_a_restart_and_is_named() {
    let world = World::start().await;
    let elsewhere = free_port();
    let config =
        usual(&world.provider, &world.app).more("workers: 3").more("store: {backend: memory, path: elsewhere.db}");
    let text = world.gateway.text_of(&config).replace(&world.gateway.address(), &format!("127.0.0.1:{elsewhere}"));
    world.gateway.reload_text(&text, "ok").await;
    until_so("the keys in the log", async || {
        let log = world.gateway.log();
        log.lines()
            .any(|line| line.contains("restart") && ["listen", "workers", "store"].iter().all(|key| line.contains(key)))
    })
    .await;
    assert_eq!(world.ask(&get("/public/x")).await.status, 200, "the old address is served");
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", elsewhere)).await.is_err(), "the new one is not");
}

/// Identities that were cached stay with a provider that has not changed, and go with one that has.
#[tokio::test]
async fn cached_identities_live_as_long_as_their_providers_settings() {
    let world = World::start().await;
    let token = world.token();
    let verified_after = async |count: f64, why: &str| {
        assert_eq!(world.ask(&get("/x").bearer(&token)).await.status, 200, "{why}");
        assert_eq!(world.gateway.metric(VERIFIED).await, count, "{why}");
    };
    verified_after(1.0, "at first").await;
    let same = usual(&world.provider, &world.app);
    world.gateway.reload(&same).await;
    verified_after(1.0, "nothing has changed").await;
    world.gateway.reload(&same.clone().route("new", "http://app.test/new/", &world.app.origin, BEARER)).await;
    verified_after(1.0, "another route is new").await;
    let mut changed = same.clone();
    changed.providers[0] = changed.providers[0].replace("timeout: 1s,", "timeout: 1s, clock_skew: 5s,");
    world.gateway.reload(&changed).await;
    until_so("the changed provider", async || {
        world.gateway.metric("doorward_provider_up{provider=\"corp\"}").await == 1.0
    })
    .await;
    verified_after(2.0, "the provider has changed").await;
    let mut narrow = same;
    narrow.providers[0] = narrow.providers[0].replace("timeout: 1s,", "timeout: 1s, audiences: [api],");
    world.gateway.reload(&narrow).await;
    until_so("the narrow provider", async || {
        world.ask(&get("/x").bearer(&token)).await.outcome() == "401 wrong_audience"
    })
    .await;
}

/// A request in flight keeps the configuration that it was judged by.
#[tokio::test]
async fn a_request_in_flight_is_finished() {
    let world = World::start().await;
    let mut slow = world.gateway.connect().await;
    slow.send(&get("/public/slow").with("X-App", "wait")).await;
    until_so("the request at the app", async || world.app.count() == 1).await;
    let without = Config::default().route("other", "http://other.test/", &world.app.origin, PUBLIC);
    world.gateway.reload(&without).await;
    assert_eq!(world.ask(&get("/public/x")).await.outcome(), "404 no_route");
    world.app.say_the_word();
    assert_eq!(slow.reply().await.unwrap().status, 200);
}

/// No alert stands for what was removed.
#[tokio::test]
async fn a_removed_provider_has_no_state_in_the_metrics() {
    let world = World::start().await;
    let states = async || {
        let text = world.gateway.admin("/metrics").await.text();
        ["doorward_provider_up{", "doorward_provider_clock_skew_seconds{"].map(|name| text.contains(name))
    };
    assert_eq!(states().await, [true, true]);
    let without = Config::default().route("other", "http://other.test/", &world.app.origin, PUBLIC);
    world.gateway.reload(&without).await;
    assert_eq!(states().await, [false, false]);
    world.gateway.reload(&usual(&world.provider, &world.app)).await;
    assert_eq!(states().await, [true, true]);
}

/// `${file:}` is read anew.
#[tokio::test]
async fn files_are_read_anew() {
    let app = crate::app::App::start().await;
    let config = Config::default().route("main", "http://${file:host}/", &app.origin, PUBLIC);
    let folder_first = |text: &str| text.replace("${file:host}", "one.test");
    let plain = Config { routes: config.routes.iter().map(|route| folder_first(route)).collect(), ..config.clone() };
    let gateway = Gateway::start(&plain).await;
    gateway.folder.write("host", "two.test\n");
    gateway.reload(&config).await;
    let ask = async |host: &str| {
        Connection::open(&gateway.address(), &gateway.secrets).await.ask(&get("/").set("Host", host)).await.status
    };
    assert_eq!((ask("one.test").await, ask("two.test").await), (404, 200));
    gateway.folder.write("host", "three.test\n");
    gateway.reload(&config).await;
    assert_eq!((ask("two.test").await, ask("three.test").await), (404, 200));
}
