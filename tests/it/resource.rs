//! Routes as protected resources (RFC 9728): a client without a token finds out where to get one, and a token for the
//! route's own address counts there and nowhere else.

use crate::app::App;
use crate::client::{ask, get};
use crate::gateway::Config;
use crate::world::World;
use doorward::demo::IssueOptions;
use serde_json::json;

const MCP: &str = "auth: {accept: [bearer], resource_metadata: true}";

fn with_resources(config: Config, app: &App) -> Config {
    let scoped = "auth: {resource_metadata: true, accept: [bearer]}, require: {scopes: [mcp, \"mcp:write\"]}";
    config
        .route("mcp", "https://mcp.test/mcp", &app.origin, MCP)
        .route("scoped", "https://mcp.test:8443/scoped/", &app.origin, scoped)
        .route("root", "https://root.test", &app.origin, MCP)
        .route("rest", "https://mcp.test/", &app.origin, "auth: public")
}

#[tokio::test]
async fn clients_find_where_to_get_a_token() {
    let world = World::with(with_resources).await;
    let issuer = world.provider.issuer();
    let challenge = async |host: &str, path: &str| {
        let refused = world.ask(&get(path).set("Host", host)).await;
        assert_eq!(refused.outcome(), "401 login_required");
        refused.header("www-authenticate").unwrap().to_owned()
    };
    for (host, path, realm, url, resource, scopes) in [
        (
            "mcp.test",
            "/mcp/x",
            "mcp",
            "https://mcp.test/.well-known/oauth-protected-resource/mcp",
            "https://mcp.test/mcp",
            json!(null),
        ),
        (
            "mcp.test",
            "/scoped/x",
            "scoped",
            "https://mcp.test:8443/.well-known/oauth-protected-resource/scoped/",
            "https://mcp.test:8443/scoped/",
            json!(["mcp", "mcp:write"]),
        ),
        (
            "root.test",
            "/x",
            "root",
            "https://root.test/.well-known/oauth-protected-resource",
            "https://root.test",
            json!(null),
        ),
    ] {
        assert_eq!(challenge(host, path).await, format!("Bearer realm=\"{realm}\", resource_metadata=\"{url}\""));
        let target = url.split_once(".test").unwrap().1.trim_start_matches(":8443");
        let reply = world.ask(&get(target).set("Host", host).with("Origin", "https://client.test")).await;
        let head = ["content-type", "access-control-allow-origin", "cache-control"].map(|name| reply.header(name));
        assert_eq!((reply.status, head), (200, [Some("application/json"), Some("*"), Some("no-store")]), "{target}");
        let mut expected = json!({
            "resource": resource, "authorization_servers": [issuer], "bearer_methods_supported": ["header"],
        });
        if !scopes.is_null() {
            expected["scopes_supported"] = scopes;
        }
        assert_eq!(reply.json(), expected);
    }
    let preflight = ask("OPTIONS", "/.well-known/oauth-protected-resource/mcp")
        .set("Host", "mcp.test")
        .with("Origin", "https://client.test")
        .with("Access-Control-Request-Method", "GET")
        .with("Access-Control-Request-Headers", "mcp-protocol-version");
    let allowed = world.ask(&preflight).await;
    let head = ["access-control-allow-origin", "access-control-allow-headers"].map(|name| allowed.header(name));
    assert_eq!((allowed.status, head), (204, [Some("*"), Some("mcp-protocol-version")]));
    let posted = world.ask(&ask("POST", "/.well-known/oauth-protected-resource/mcp").set("Host", "mcp.test")).await;
    assert_eq!((posted.outcome().as_str(), posted.header("allow")), ("405 bad_request", Some("GET, HEAD")));
    assert_eq!(world.app.count(), 0);
    // Where the gateway has nothing to tell, the path is the app's.
    let other = world.ask(&get("/.well-known/oauth-protected-resource/other").set("Host", "mcp.test")).await;
    assert_eq!((other.status, world.app.count()), (200, 1));
    let plain = world.ask(&get("/x")).await;
    assert_eq!(plain.header("www-authenticate"), Some("Bearer realm=\"main\""), "a route that has no metadata");
    for doubled in ["/.well-known/oauth-protected-resource/%6dcp", "/.well-known//oauth-protected-resource/mcp"] {
        let refused = world.ask(&get(doubled).set("Host", "mcp.test")).await;
        assert_eq!(refused.outcome(), "400 bad_request", "{doubled}");
    }
}

/// The address is an `aud` of its own route alone; a 403 for a scope is no call for another token.
#[tokio::test]
async fn a_token_for_the_address_counts_there() {
    let world = World::with(with_resources).await;
    let token = |audience: &str, scope: &str| {
        let claims = crate::world::object(json!({ "scope": scope }));
        let options = IssueOptions { audience: audience.into(), claims, ..IssueOptions::default() };
        world.provider.issue_access_token("alice", &options)
    };
    for (host, path, token, expected) in [
        ("mcp.test", "/mcp/x", token("https://mcp.test/mcp", ""), "200"),
        ("mcp.test", "/mcp/x", token("doorward", ""), "200"),
        ("mcp.test", "/mcp/x", token("https://mcp.test/mcp2", ""), "401 wrong_audience"),
        ("mcp.test", "/mcp/x", token("https://root.test", ""), "401 wrong_audience"),
        ("root.test", "/x", token("https://root.test", ""), "200"),
        ("root.test", "/x", token("https://mcp.test/mcp", ""), "401 wrong_audience"),
        ("app.test", "/x", token("https://mcp.test/mcp", ""), "401 wrong_audience"),
        ("mcp.test", "/scoped/x", token("https://mcp.test:8443/scoped/", "mcp mcp:write"), "200"),
        ("mcp.test", "/scoped/x", token("https://mcp.test:8443/scoped/", "mcp"), "403 insufficient_scope"),
    ] {
        for _ in ["at first", "from the cache"] {
            let reply = world.ask(&get(path).set("Host", host).bearer(&token)).await;
            assert_eq!(reply.outcome(), expected, "{host}{path} {token}");
        }
    }
    let refused = world.ask(&get("/mcp").set("Host", "mcp.test").bearer(&token("other", ""))).await;
    let expected = "Bearer realm=\"mcp\", error=\"invalid_token\", error_description=\"The bearer token was made for another audience.\", \
        resource_metadata=\"https://mcp.test/.well-known/oauth-protected-resource/mcp\"";
    assert_eq!(refused.header("www-authenticate"), Some(expected));
}
