//! The limiter and the cache of refused tokens are two switches, each does what it says and no more: from the file, and
//! from the environment.

use super::{CACHES, introspecting};
use crate::client::get;
use crate::gateway::Config;
use crate::world::World;

const LIMIT: &str = "limits: {unknown_tokens: {requests: 2, per: 12h}}";

fn by_file(config: Config, limit: bool, cache: bool) -> Config {
    config
        .more(&format!("limits: {{unknown_tokens: {{enabled: {limit}, requests: 2, per: 12h}}}}"))
        .more(&format!("caches: {{unknown_tokens: {{enabled: {cache}, ttl: 1h}}}}"))
}

/// Over a file that says the opposite.
fn by_environment(config: Config, limit: bool, cache: bool) -> Config {
    let mut config = by_file(config, !limit, !cache);
    for (key, value) in [("LIMITS", limit), ("CACHES", cache)] {
        config.env.push((format!("DOORWARD__{key}__UNKNOWN_TOKENS__ENABLED"), value.to_string()));
    }
    config
}

/// One opaque token and one expired JWT, four times each: how often the provider and the signature were looked at, and
/// what was answered.
async fn check(set: fn(Config, bool, bool) -> Config, limit: bool, cache: bool) {
    let world = World::with(|config, app| {
        let config = config.route(
            "other",
            "http://app.test/other/",
            &app.origin,
            "auth: {accept: [bearer]}, limits: {unknown_tokens: {requests: 3}}",
        );
        introspecting(set(config, limit, cache))
    })
    .await;
    let expired = world.token_with(serde_json::json!({"exp": 1}));
    let mut told = Vec::new();
    for request in [get("/x").bearer("an-opaque-token-of-nobody"), get("/other/").bearer(&expired)] {
        for _ in 0..4 {
            told.push(world.ask(&request).await.status);
        }
    }
    let expected = if limit { [401, 401, 429, 429, 401, 401, 401, 429] } else { [401; 8] };
    assert_eq!(told, expected, "limiter {limit}, cache {cache}");
    // Above the limit nobody is asked; what is remembered is not asked again.
    let asked = match (limit, cache) {
        (_, true) => 1,
        (true, false) => 2,
        (false, false) => 4,
    };
    assert_eq!(world.introspections(), asked, "limiter {limit}, cache {cache}");
    let verified = "doorward_token_verifications_total{provider=\"corp\",result=\"token_expired\"}";
    assert_eq!(world.gateway.metric(verified).await, if cache { 1.0 } else { 4.0 }, "limiter {limit}, cache {cache}");
    let looked = async |result: &str| {
        let name = format!("doorward_cache_requests_total{{cache=\"unknown_tokens\",result=\"{result}\"}}");
        world.gateway.metric(&name).await
    };
    let expected = if cache { (6.0, 2.0) } else { (0.0, 0.0) };
    assert_eq!((looked("hit").await, looked("miss").await), expected, "limiter {limit}, cache {cache}");
    let entries = world.gateway.metric("doorward_cache_entries{cache=\"unknown_tokens\"}").await;
    assert_eq!(entries, if cache { 2.0 } else { 0.0 });
}

#[tokio::test]
async fn each_switch_of_the_file_does_what_it_says() {
    for (limit, cache) in [(true, true), (true, false), (false, true), (false, false)] {
        check(by_file, limit, cache).await;
    }
}

#[tokio::test]
async fn each_switch_of_the_environment_does_what_it_says() {
    for (limit, cache) in [(true, true), (true, false), (false, true), (false, false)] {
        check(by_environment, limit, cache).await;
    }
}

/// A reload switches them while the process runs, and what was counted stays counted.
#[tokio::test]
async fn each_switch_can_be_thrown_while_it_runs() {
    let world = World::with(|config, _| introspecting(config.more(LIMIT).more(CACHES))).await;
    let request = get("/x").bearer("an-opaque-token-of-nobody");
    let reload = async |set: &dyn Fn(Config) -> Config| {
        let config = crate::world::usual(&world.provider, &world.app);
        world.gateway.reload(&introspecting(set(config))).await;
    };
    for expected in [401, 401, 429] {
        assert_eq!(world.ask(&request).await.status, expected);
    }
    assert_eq!(world.introspections(), 1);
    reload(&|config| config.more("limits: {unknown_tokens: {enabled: false}}").more(CACHES)).await;
    assert_eq!((world.ask(&request).await.status, world.introspections()), (401, 1), "only the limiter is off");
    reload(&|config| config.more("limits: {unknown_tokens: {enabled: false}}")).await;
    assert_eq!((world.ask(&request).await.status, world.introspections()), (401, 2), "the cache, too");
    reload(&|config| config.more(LIMIT).more(CACHES)).await;
    assert_eq!((world.ask(&request).await.status, world.introspections()), (429, 2), "its count is as it was");
}
