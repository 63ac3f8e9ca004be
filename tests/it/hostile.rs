//! What strangers send: whatever its shape, a request that is refused, or passes and means nothing, costs little work, no memory
//! that stays, and no descriptor. Measured is the process's own processor time, which no other load on the machine changes.

#![allow(clippy::print_stdout, reason = "figures are for whoever runs the tests")]

use crate::app::App;
use crate::client::{Connection, Request, Secrets, ask, get};
use crate::gateway::Gateway;
use crate::people::{main_route, register};
use crate::world::provider;

const TIMES: u32 = 100;
/// No shape costs more than so many times what a head of its length costs that has nothing in it to look at.
const TIMES_PLAIN: u32 = 10;

fn shapes() -> Vec<(&'static str, Request)> {
    let many = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let jwt = |header: &str, payload: &str| {
        let part = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
        format!("{}.{}.{}", part(header), part(payload), part("signature"))
    };
    let path = |piece: &str, bytes: usize| get(&format!("/{}", many(piece, bytes)));
    let fields = |name: &str, value: &str, count: usize| {
        (0..count).fold(get("/x"), |ask, i| ask.with(&format!("{name}{i}"), value))
    };
    let flows = |count: usize| (0..count).map(|i| format!("doorward_flow_{i:x}=a; ")).collect::<String>();
    let es256 = r#"{"alg":"ES256","kid":"x"}"#;
    let form = |path: &str, body: String| {
        ask("POST", path).page().with("Content-Type", "application/x-www-form-urlencoded").body(body.as_bytes())
    };
    vec![
        ("an escaped path", path("%25", 60_000)),
        ("a path escaped twice", path("%252f", 60_000)),
        ("a path that goes up", path("..%2f", 60_000)),
        ("a path that goes up and down", path("a/../", 60_000)),
        ("a path of parameters", path(";a=b", 60_000)),
        ("a path of slashes", path("/", 60_000)),
        ("a path of parameters and slashes", path("/;/%2e", 3_900)),
        ("a short path of everything", path("%2e%2f;x/%5c", 3_900)),
        ("a path of text", path("%C3%A4", 60_000)),
        ("a long plain path", path("a", 60_000)),
        ("a quoted query", get(&format!("/x?{}", many("\"<>", 60_000)))),
        ("a query of pairs", get(&format!("/x?{}", many("a=b&", 60_000)))),
        (
            "many cookies of ours",
            get("/x").with("Cookie", &many("doorward=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; ", 60_000)),
        ),
        ("many cookies", get("/x").with("Cookie", &many("a=b;", 60_000))),
        (
            "many flow cookies",
            get("/oauth2/callback?code=c&state=s").page().with("Cookie", &many("doorward_flow_a=b; ", 60_000)),
        ),
        ("many logins", get("/x").page().with("Cookie", &flows(3_000))),
        ("many logins, and another", get("/oauth2/start").page().with("Cookie", &flows(3_000))),
        ("a path of dots", path(".a/", 60_000)),
        ("many fields", fields("X-A", "b", 120)),
        ("many fields of names of ours", fields("X_Forwarded.User-", "root", 120)),
        ("a bearer token of one word", get("/x").bearer(&many("a", 60_000))),
        ("a bearer token of dots", get("/x").bearer(&many(".", 60_000))),
        ("a token of nested lists", get("/x").bearer(&jwt(es256, &many("[", 40_000)))),
        ("a token of many claims", get("/x").bearer(&jwt(es256, &format!("{{{}\"a\":1}}", many("\"a\":{},", 40_000))))),
        (
            "a token of a long header",
            get("/x").bearer(&jwt(&format!("{{\"alg\":\"ES256\",\"x\":\"{}\"}}", many("a", 40_000)), "{}")),
        ),
        ("a token that nobody signed", get("/x").bearer(&jwt(r#"{"alg":"none"}"#, "{}"))),
        ("an API key", get("/x").with("X-API-Key", &many("dwk_", 60_000))),
        ("Basic", get("/x").with("Authorization", &format!("Basic {}", many("YTpi", 60_000)))),
        ("a chain of addresses", get("/x").with("X-Forwarded-For", &many("127.0.0.1, ", 60_000))),
        ("a wish for many types", get("/x").set("Accept", &many("text/html;q=0.1, ", 60_000))),
        ("many tokens of a connection", get("/x").with("Connection", &many("a, ", 60_000))),
        (
            "a preflight",
            ask("OPTIONS", "/x")
                .with("Origin", &many("https://a.", 60_000))
                .with("Access-Control-Request-Method", "GET"),
        ),
        ("a long way back", get(&format!("/oauth2/start?rd={}", many("%2f", 60_000))).page()),
        ("a long host", get("/x").set("Host", &many("a.", 60_000))),
        ("an answer that nobody asked for", get(&format!("/oauth2/callback?{}", many("state=a&", 60_000))).page()),
        ("a form for the callback", form("/oauth2/callback", many("a=%61&", 60_000))),
        ("a form to sign out", form("/oauth2/sign_out", many("rd=%2f&", 60_000))),
        (
            "a logout token",
            form("/oauth2/backchannel_logout", format!("logout_token={}", jwt(es256, &many("[", 40_000)))),
        ),
        (
            "a question of another proxy",
            get("/oauth2/auth")
                .with("X-Forwarded-Uri", &format!("/{}", many("%2e%2f", 60_000)))
                .with("X-Forwarded-Method", "GET")
                .with("X-Forwarded-Host", "app.test"),
        ),
    ]
}

#[tokio::test]
async fn strangers_cost_little() {
    let (provider, app) = (provider().await, App::start().await);
    register(&provider, "http://app.test");
    let keys = "session: {}, cors: {origins: [\"https://good.test\"]}, limits: {unknown_tokens: {enabled: false}}";
    let config = crate::gateway::Config::default()
        .listener("max_head: 128KiB")
        .provider("corp", provider.issuer(), "")
        .more("workers: 1")
        .more("client_ip: {trusted_proxies: [127.0.0.1]}");
    let mut gateway = Gateway::start(&main_route(config, &app, keys)).await;
    // What it sends is no secret, and more than the search through the log is made for.
    gateway.secrets = Secrets::default();
    let secrets = Secrets::default();
    let warm = Connection::open(&gateway.address(), &secrets).await.ask(&get("/x")).await;
    assert_eq!(warm.status, 401);
    let (memory, descriptors) = (gateway.peak_memory(), gateway.descriptors());
    let shapes = shapes();
    assert!(shapes.len() >= 20);
    let cost = async |what: &str, request: &Request| {
        let before = gateway.processor_time();
        for _ in 0..TIMES {
            let mut connection = Connection::open(&gateway.address(), &secrets).await;
            connection.send(request).await;
            let reply = connection.reply().await.unwrap_or_else(|| panic!("{what}: no answer"));
            assert!(reply.status < 500, "{what}: {}", reply.outcome());
        }
        let each = (gateway.processor_time() - before) / TIMES;
        println!("FIGURE {what}: {each:?} of processor time");
        each
    };
    let plain = cost("a head of that length", &get("/x").with("X-Padding", &"a".repeat(60_000))).await;
    for (what, request) in shapes {
        let each = cost(what, &request).await;
        assert!(each < plain * TIMES_PLAIN, "{what}: {each:?} of processor time, and a plain head {plain:?}");
    }
    assert_eq!(app.count(), 0, "nobody has passed");
    let more = gateway.peak_memory() - memory;
    assert!(more < 64 << 10, "{more} KiB");
    crate::wait::until_so("descriptors given back", async || gateway.descriptors() <= descriptors + 2).await;
}
