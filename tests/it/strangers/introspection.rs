//! Opaque tokens, of which their provider is asked: once for all who ask at once, about no JWT, and what it could not say
//! is no refusal.

use super::{CACHES, FEW, bad, guarded, introspecting, metrics_tell_no_secret};
use crate::client::get;
use crate::gateway::Config;
use crate::world::World;
use doorward::demo::{Endpoint, IssueOptions, Provider};
use serde_json::json;
use std::time::Duration;

async fn world() -> World {
    World::with(|config, _| introspecting(guarded(config))).await
}

async fn uncached(keys: &'static str) -> World {
    World::with(|config: Config, _| introspecting(guarded(config).more(&format!("caches: {{{keys}}}")))).await
}

/// `/two/` takes the tokens of either.
async fn of_two_providers() -> (World, Provider) {
    let other = crate::world::provider().await;
    let world = World::with(|config, app| {
        let mut config = introspecting(guarded(config).provider("other", other.issuer(), "introspection: true"));
        config.routes[1] = config.routes[1].replace("accept: [bearer]", "accept: [bearer], provider: corp");
        let either = "auth: {accept: [bearer], provider: corp, bearer: [corp, other]}";
        config.route("two", "http://app.test/two/", &app.origin, either)
    })
    .await;
    (world, other)
}

/// All at once: what each is answered.
async fn a_hundred(world: &World, token: &str) -> Vec<String> {
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(world.gateway.connect().await);
    }
    let mut asked = Vec::new();
    for mut connection in connections {
        let request = get("/x").bearer(token);
        asked.push(tokio::spawn(async move { connection.ask(&request).await.outcome() }));
    }
    let mut told = Vec::new();
    for asked in asked {
        told.push(asked.await.unwrap());
    }
    told
}

#[tokio::test]
async fn a_hundred_at_once_are_one_question() {
    let world = world().await;
    world.provider.faults().delay.insert(Endpoint::Introspect, Duration::from_millis(200));
    assert_eq!(a_hundred(&world, &world.opaque()).await, vec!["200"; 100]);
    assert_eq!((world.introspections(), world.app.count()), (1, 100));
    assert_eq!(world.app.last().header("x-forwarded-user"), Some("alice"));
    metrics_tell_no_secret(&world.gateway).await;
}

/// Also one that is refused; and each of the hundred is counted.
#[tokio::test]
async fn a_hundred_refusals_at_once_are_one_question() {
    let world = world().await;
    world.provider.faults().delay.insert(Endpoint::Introspect, Duration::from_millis(200));
    let told = a_hundred(&world, "an-opaque-token-of-nobody").await;
    let of = |word: &str| told.iter().filter(|told| *told == word).count();
    assert_eq!((of("401 unknown_token"), of("429 rate_limited")), (FEW, 100 - FEW), "{told:?}");
    assert_eq!(world.introspections(), 1);
}

#[tokio::test]
async fn a_provider_that_is_away_is_no_refusal() {
    let world = world().await;
    let token = world.opaque();
    let request = get("/x").bearer(&token);
    world.provider.stop().await;
    for _ in 0..2 * FEW {
        let reply = world.ask(&request).await;
        assert_eq!(reply.outcome(), "503 provider_unavailable");
        assert!(reply.header("retry-after").is_some() && reply.header("www-authenticate").is_none());
    }
    world.provider.start_again().await.unwrap();
    crate::wait::until_so("it is asked again", async || world.outcome(&request).await == "200").await;
    world.has_left(FEW, bad).await;
}

/// Whatever its answer is, if it is not one of RFC 7662.
#[tokio::test]
async fn an_answer_that_is_none_is_no_refusal() {
    let world = world().await;
    let request = get("/x").bearer(&world.opaque());
    let faults = || world.provider.faults();
    faults().status.insert(Endpoint::Introspect, 500);
    assert_eq!(world.outcome(&request).await, "503 provider_unavailable");
    faults().status.insert(Endpoint::Introspect, 401); // our own client was refused, not the token
    assert_eq!(world.outcome(&request).await, "503 provider_unavailable");
    faults().status.clear();
    faults().malformed.insert(Endpoint::Introspect);
    assert_eq!(world.outcome(&request).await, "503 provider_unavailable");
    faults().malformed.clear();
    faults().hang.insert(Endpoint::Introspect);
    assert_eq!(world.outcome(&request).await, "503 provider_unavailable");
    faults().hang.clear();
    assert_eq!(world.outcome(&request).await, "200");
    // The four are one trouble: operators are told when it begins and when it ends.
    let told = |word: &str| world.gateway.log().matches(word).count();
    crate::wait::until_so("that it is over", async || told("answers an introspection again") > 0).await;
    let times = (told("does not answer an introspection"), told("answers an introspection again"));
    assert_eq!(times, (1, 1));
}

#[tokio::test]
async fn no_jwt_is_asked_about() {
    let world = World::with(|config, _| introspecting(config)).await;
    let odd = |claims, header| {
        let (claims, header) = (crate::world::object(claims), crate::world::object(header));
        world.provider.issue_access_token("alice", &IssueOptions { claims, header, ..IssueOptions::default() })
    };
    for (token, expected) in [
        (world.token(), "200"),
        (odd(json!({"exp": 1}), json!({})), "401 token_expired"),
        (odd(json!({"aud": "other"}), json!({})), "401 wrong_audience"),
        (odd(json!({"iss": "https://evil.test"}), json!({})), "401 invalid_token"),
        (odd(json!({}), json!({"alg": "none"})), "401 invalid_token"),
        (odd(json!({}), json!({"kid": "unknown"})), "401 invalid_token"),
        (format!("{}x", world.token()), "401 invalid_token"),
    ] {
        assert_eq!(world.outcome(&get("/x").bearer(&token)).await, expected);
    }
    assert_eq!(world.introspections(), 0);
    // T8: however empty or broken the rest.
    for token in
        ["eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJub25lIn0..", "eyJhbGciOiJSUzI1NiJ9.e30.x", "eyJhbGciOiJSUzI1NiJ9.+.~"]
    {
        assert_eq!(world.outcome(&get("/x").bearer(token)).await, "401 invalid_token", "{token}");
    }
    assert_eq!(world.introspections(), 0);
    assert_eq!(world.outcome(&get("/x").bearer("two.parts")).await, "401 unknown_token");
    assert_eq!(world.introspections(), 1, "what is no JWT is asked about");
}

/// A refresh token, one for somebody else, one that is over.
#[tokio::test]
async fn only_access_tokens_of_ours_count() {
    let world = World::with(|config, _| introspecting(config)).await;
    let opaque = |claims| {
        let options = IssueOptions { claims: crate::world::object(claims), ..IssueOptions::default() };
        world.provider.issue_opaque_token("alice", &options)
    };
    for (claims, expected) in [
        (json!({}), "200"),
        (json!({"aud": "other"}), "401 wrong_audience"),
        (json!({"aud": null, "client_id": "doorward"}), "200"),
        (json!({"aud": null, "client_id": "other"}), "401 wrong_audience"),
        (json!({"aud": [], "client_id": "doorward"}), "200"),
        (json!({"aud": [], "client_id": "other"}), "401 wrong_audience"),
        (json!({"sub": null}), "401 invalid_token"),
        (json!({"token_type": "refresh_token"}), "401 invalid_token"),
    ] {
        assert_eq!(world.outcome(&get("/x").bearer(&opaque(claims.clone()))).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn good_answers_are_kept_where_the_cache_is_on() {
    for (keys, asked) in [("introspection: {ttl: 1h}", 1), ("introspection: {enabled: false}", 5)] {
        let world = uncached(keys).await;
        let request = get("/x").bearer(&world.opaque());
        for _ in 0..5 {
            assert_eq!(world.outcome(&request).await, "200", "{keys}");
        }
        assert_eq!(world.introspections(), asked, "{keys}");
        let hits = world.gateway.metric("doorward_cache_requests_total{cache=\"introspection\",result=\"hit\"}").await;
        assert_eq!(hits, if asked == 1 { 4.0 } else { 0.0 }, "{keys}");
        world.has_left(FEW, bad).await; // what was reserved for good ones was given back
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_where_nothing_is_kept() {
    let world = uncached("introspection: {enabled: false}").await;
    let token = world.opaque();
    assert_eq!(world.outcome(&get("/x").bearer(&token)).await, "200");
    world.provider.revoke_token(&token);
    assert_eq!(world.outcome(&get("/x").bearer(&token)).await, "401 unknown_token");
}

/// Above the limit the provider is not asked; what is known passes.
#[tokio::test]
async fn above_the_limit_nobody_is_asked() {
    let world = world().await;
    let (known, new) = (get("/x").bearer(&world.opaque()), get("/x").bearer(&world.opaque()));
    assert_eq!(world.outcome(&known).await, "200");
    world.has_left(FEW, bad).await;
    let asked = world.introspections();
    for _ in 0..10 {
        assert_eq!(world.outcome(&new).await, "429 rate_limited");
        assert_eq!(world.outcome(&known).await, "200");
    }
    assert_eq!(world.introspections(), asked);
}

/// What one provider answered says nothing about a route of another.
#[tokio::test]
async fn each_provider_is_asked_for_itself() {
    let world = World::with(|mut config, app| {
        config = introspecting(config.more(CACHES));
        let narrow = config.providers[0].replace("corp:", "narrow:").replace("timeout:", "audiences: [api], timeout:");
        config.providers.push(narrow);
        config.routes[1] = config.routes[1].replace("accept: [bearer]", "accept: [bearer], provider: corp");
        config.route("narrow", "http://app.test/narrow/", &app.origin, "auth: {accept: [bearer], provider: narrow}")
    })
    .await;
    let token = world.opaque();
    for _ in ["asked", "remembered"] {
        assert_eq!(world.outcome(&get("/x").bearer(&token)).await, "200");
        assert_eq!(world.outcome(&get("/narrow/").bearer(&token)).await, "401 wrong_audience");
    }
    assert_eq!(world.introspections(), 2);
}

/// Of two providers the first does not know the second's token: it is asked once, not with every request, and a known
/// token does not meet the limit for it.
#[tokio::test]
async fn a_known_token_is_no_question_for_another_provider() {
    let (world, other) = of_two_providers().await;
    let request = get("/two/").bearer(&other.issue_opaque_token("bob", &IssueOptions::default()));
    for _ in 0..5 {
        assert_eq!(world.outcome(&request).await, "200");
    }
    assert_eq!((world.introspections(), other.calls().count(Endpoint::Introspect)), (1, 1));
    world.has_left(FEW, |n| get("/two/").bearer(&super::made_up(n))).await;
    assert_eq!(world.outcome(&request).await, "200", "above the limit");
}

/// What a provider that is away might vouch for is not refused because another does not know it.
#[tokio::test]
async fn one_provider_speaks_for_no_other() {
    let (world, other) = of_two_providers().await;
    let (ours, theirs) = (world.opaque(), other.issue_opaque_token("bob", &IssueOptions::default()));
    other.faults().status.insert(Endpoint::Introspect, 503);
    for _ in 0..2 * FEW {
        assert_eq!(world.outcome(&get("/two/").bearer(&theirs)).await, "503 provider_unavailable");
    }
    assert_eq!(world.outcome(&get("/two/").bearer(&ours)).await, "200");
    other.faults().status.clear();
    assert_eq!(world.outcome(&get("/two/").bearer(&theirs)).await, "200");
}

/// T8: a JWT without a good signature is charged, and nobody is asked about it.
#[tokio::test]
async fn a_broken_jwt_is_charged() {
    let world = world().await;
    world.has_broken_jwts_left().await;
    assert_eq!(world.introspections(), 0);
}

impl World {
    async fn has_broken_jwts_left(&self) {
        for _ in 0..FEW {
            let request = get("/x").bearer("eyJhbGciOiJub25lIn0.e30.");
            assert_eq!(self.outcome(&request).await, "401 invalid_token");
        }
        assert_eq!(self.outcome(&get("/x").bearer("eyJhbGciOiJub25lIn0.e30.")).await, "429 rate_limited");
    }
}

/// A 4xx that speaks of the token refuses it and is charged; one that speaks of us cannot tell.
#[tokio::test]
async fn a_refusal_that_speaks_of_the_token_is_one() {
    let world = world().await;
    let answers = |status: u16, error: &str| {
        let body = json!({"error": error}).to_string();
        world.provider.faults().reply.insert(Endpoint::Introspect, (status, "application/json", body));
    };
    for (status, error) in [(401, "invalid_request"), (403, "unsupported_token_type"), (400, "invalid_client")] {
        answers(status, error);
        assert_eq!(world.outcome(&bad(0)).await, "503 provider_unavailable", "{status} {error}");
    }
    for (n, error) in ["unsupported_token_type", "invalid_request"].into_iter().cycle().take(FEW).enumerate() {
        answers(400, error);
        assert_eq!(world.outcome(&bad(n)).await, "401 unknown_token", "{error}");
    }
    assert_eq!(world.outcome(&bad(FEW)).await, "429 rate_limited");
}

/// Programs of the provider's own without a person behind them: another claim says who it is.
#[tokio::test]
async fn the_mapped_claim_says_who_a_program_is() {
    let world = World::with(|config, _| {
        let mut config = introspecting(config);
        config.providers[0] = config.providers[0].replace("timeout: 1s,", "timeout: 1s, claims: {user: client_id},");
        config
    })
    .await;
    let options = IssueOptions {
        claims: crate::world::object(json!({"sub": null, "client_id": "doorward", "aud": null})),
        ..IssueOptions::default()
    };
    let token = world.provider.issue_opaque_token("alice", &options);
    assert_eq!(world.outcome(&get("/x").bearer(&token)).await, "200");
    assert_eq!(world.app.last().header("x-forwarded-user"), Some("doorward"));
}
