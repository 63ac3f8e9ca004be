//! What the app is told about the caller comes from the gateway alone: no spelling, no place and no trick of the client
//! puts a word of its own there (H1 to H5 of the attacks that must fail).

use crate::app::Received;
use crate::client::{Request, ask, get};
use crate::websocket::handshake;
use crate::world::World;
use serde_json::json;

/// Every name that an app might believe.
const NAMES: [&str; 42] = [
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Groups",
    "X-WEBAUTH-USER",
    "X-WEBAUTH-EMAIL",
    "X-WEBAUTH-NAME",
    "X-WEBAUTH-GROUPS",
    "Remote-User",
    "Remote-Email",
    "Remote-Name",
    "Remote-Groups",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Access-Token",
    "X-Forwarded-Access-Token",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Uri",
    "X-Forwarded-Prefix",
    "X-Forwarded-Ssl",
    "Forwarded",
    "X-Real-IP",
    "X-Client-IP",
    "True-Client-IP",
    "SCRIPT_NAME",
    "X-WEBAUTH-ROLE",
    "Remote-Role",
    "Client-Ip",
    "X-Cluster-Client-Ip",
    "Path-Info",
    "X-Script-Name",
    "Proxy",
    "CF-Connecting-IP",
    "X-Original-URL",
    "X-Original-URI",
    "X-Rewrite-URL",
    "X-Team",
    "X-Request-Id",
];
const EVIL: &str = "evil";

/// A name as an app might still read it.
fn spellings(name: &str) -> Vec<String> {
    let (lower, upper) = (name.to_lowercase(), name.to_uppercase());
    let mixed = name
        .char_indices()
        .map(|(i, c)| if i % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
        .collect();
    let mut all = vec![name.to_owned(), lower, upper, mixed];
    for instead in ["_", ".", "~", "+", "!", "|", "^", "`", "'", "*", "$", "&", "%", "#"] {
        all.push(name.replace('-', instead));
    }
    all.push(name.replacen('-', "_", 1));
    all
}

fn fold(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// The fields that fold to one of the names, as the app sees them, without what is always there.
fn believed(received: &Received) -> Vec<(String, String)> {
    let names: Vec<String> = NAMES.iter().map(|name| fold(name)).collect();
    let always = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];
    let believed = received
        .fields
        .iter()
        .filter(|(name, _)| names.contains(&fold(name)) && !always.contains(&name.to_lowercase().as_str()));
    let mut believed: Vec<_> = believed.map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    believed.sort();
    believed
}

async fn world() -> World {
    World::with(|config, app| {
        config
            .route(
                "grafana",
                "http://app.test/grafana/",
                &app.origin,
                "auth: {accept: [bearer]}, headers: {preset: grafana}",
            )
            .route(
                "authelia",
                "http://app.test/authelia/",
                &app.origin,
                "auth: {accept: [bearer]}, headers: {preset: authelia}",
            )
            .route(
                "set",
                "http://app.test/set/",
                &app.origin,
                "auth: {accept: [bearer]}, headers: {preset: none, set: {X-Team: \"{claims.team}\"}}",
            )
            .route("pass", "http://app.test/pass/", &app.origin, "auth: {accept: [bearer], on_unauthenticated: pass}")
    })
    .await
}

/// The gateway's value or none, whatever was sent: (request, what the app is to believe).
fn cases(token: &str) -> Vec<(Request, Vec<(&'static str, &'static str)>)> {
    let standard = vec![
        ("x-forwarded-email", "alice@example.com"),
        ("x-forwarded-groups", "admins,dev"),
        ("x-forwarded-preferred-username", "alice"),
        ("x-forwarded-user", "alice"),
    ];
    let grafana = vec![
        ("x-webauth-email", "alice@example.com"),
        ("x-webauth-groups", "admins,dev"),
        ("x-webauth-name", "Alice Adams"),
        ("x-webauth-user", "alice"),
    ];
    let authelia = vec![
        ("remote-email", "alice@example.com"),
        ("remote-groups", "admins,dev"),
        ("remote-name", "Alice Adams"),
        ("remote-user", "alice"),
    ];
    vec![
        (get("/x").bearer(token), standard.clone()),
        (ask("POST", "/x").bearer(token).body(b"x"), standard.clone()),
        (ask("OPTIONS", "/x").bearer(token), standard.clone()),
        (handshake("/x").bearer(token), standard.clone()),
        (get("/pass/x").bearer(token), standard),
        (get("/grafana/x").bearer(token), grafana),
        (get("/authelia/x").bearer(token), authelia),
        (get("/set/x").bearer(token), vec![]),
        (get("/pass/x"), vec![]),
        (get("/public/x"), vec![]),
        (get("/public/x").bearer(token), vec![]),
        (ask("OPTIONS", "/public/x"), vec![]),
        (handshake("/public/x"), vec![]),
    ]
}

#[tokio::test]
async fn no_spelling_of_a_believed_name_arrives() {
    let world = world().await;
    let spelled: Vec<String> = NAMES.iter().flat_map(|name| spellings(name)).collect();
    for (request, expected) in cases(&world.token()) {
        let expected: Vec<_> = expected.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        for some in spelled.chunks(100) {
            let sent = some.iter().fold(request.clone(), |request, name| request.with(name, EVIL));
            let reply = world.ask_head(&sent).await;
            assert!(matches!(reply.status, 200 | 101), "{} for {some:?}", reply.outcome());
            let received = world.app.last();
            assert_eq!(believed(&received), expected, "{} {}", received.method, received.target);
            assert!(!format!("{:?}", received.fields).contains(EVIL), "{:?}", received.fields);
        }
    }
}

#[tokio::test]
async fn doubled_padded_and_empty_fields_do_not_arrive() {
    let world = world().await;
    for name in ["X-Forwarded-User", "X-Forwarded-Groups", "x_forwarded_groups", "Remote-User", "X-Team"] {
        let values = [EVIL, "", "   evil   ", "\tevil", "alice, evil"];
        for (request, expected) in cases(&world.token()) {
            let sent = values.iter().fold(request, |request, value| request.with(name, value).with(name, value));
            assert!(matches!(world.ask_head(&sent).await.status, 200 | 101));
            let received = world.app.last();
            assert_eq!(believed(&received).len(), expected.len(), "{name}: {:?}", received.fields);
            assert!(!format!("{:?}", received.fields).contains(EVIL), "{:?}", received.fields);
        }
    }
    // A blank before the colon is no way to write a field (RFC 9112, 5.1).
    let mut connection = world.gateway.connect().await;
    connection.send_bytes(b"GET /public/x HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-User : evil\r\n\r\n").await;
    let reply = connection.reply().await.unwrap();
    assert!(reply.status == 400 || believed(&world.app.last()).is_empty(), "{}", reply.outcome());
}

/// H2: what the gateway does not set is absent, not the client's.
#[tokio::test]
async fn an_absent_claim_sends_no_header() {
    let world = world().await;
    let bare = world.token_with(json!({"groups": null, "email": null, "preferred_username": "", "team": null}));
    let sent = |target: &str| NAMES.iter().fold(get(target).bearer(&bare), |request, name| request.with(name, EVIL));
    for (target, expected) in [
        ("/x", vec![("x-forwarded-user", "alice")]),
        ("/grafana/x", vec![("x-webauth-name", "Alice Adams"), ("x-webauth-user", "alice")]),
        ("/authelia/x", vec![("remote-name", "Alice Adams"), ("remote-user", "alice")]),
        ("/set/x", vec![]),
    ] {
        assert_eq!(world.ask(&sent(target)).await.status, 200);
        let expected: Vec<_> = expected.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        assert_eq!(believed(&world.app.last()), expected, "{target}");
    }
    let teamed = world.token_with(json!({"team": "red"}));
    world.ask(&get("/set/x").bearer(&teamed).with("X-Team", EVIL)).await;
    assert_eq!(world.app.last().header("x-team"), Some("red"));
}

/// H3: a `Connection` field takes away nothing that the gateway set.
#[tokio::test]
async fn a_nominated_header_still_arrives() {
    let world = world().await;
    for nominated in [
        "close, X-Forwarded-User, Cookie",
        "X-Forwarded-User",
        "keep-alive, x-forwarded-user, x-forwarded-email, x-forwarded-groups",
        "authorization, x-webauth-user, accept",
        "x-forwarded-for",
        "close, X-Forwarded-Proto, x-forwarded-host",
    ] {
        let sent = get("/x").bearer(&world.token()).with("Connection", nominated).with("X-Forwarded-User", EVIL);
        assert_eq!(world.ask(&sent).await.status, 200, "{nominated}");
        let received = world.app.last();
        assert_eq!(believed(&received).len(), 4, "{nominated}: {:?}", received.fields);
        for (name, value) in [
            ("x-forwarded-user", Some("alice")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-host", Some("app.test")),
            ("host", Some("app.test")),
        ] {
            assert_eq!(received.header(name), value, "{nominated}");
        }
        assert!(received.header("x-request-id").is_some_and(|id| id.len() == 32), "{nominated}");
    }
    let count = world.app.count();
    let refused = world.ask(&get("/x").bearer(&world.token()).with("Connection", "host")).await;
    assert_eq!(refused.outcome(), "400 bad_request", "no client has a reason for that");
    assert_eq!(world.app.count(), count);
}

/// H4: forwarding headers of a peer that is not trusted change nothing and do not arrive as sent.
#[tokio::test]
async fn forwarding_headers_of_a_stranger_are_noise() {
    let world = world().await;
    let strange = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Uri", "/public/"),
        ("X-Original-URL", "/public/"),
        ("X-Rewrite-URL", "/public/"),
        ("Forwarded", "for=6.6.6.6;host=evil.test;proto=https"),
        ("X-Forwarded-Method", "OPTIONS"),
        ("X-HTTP-Method-Override", "OPTIONS"),
        ("X-Request-Id", "chosen-by-a-stranger"),
    ];
    let refused = world.ask(&get("/private").with_all(&strange)).await;
    assert_eq!(refused.outcome(), "401 login_required");
    assert_ne!(refused.header("x-request-id"), Some("chosen-by-a-stranger"));
    assert_eq!(world.app.count(), 0);
    world.ask(&get("/private").bearer(&world.token()).with_all(&strange)).await;
    let received = world.app.last();
    let told = ["for", "proto", "host", "uri"].map(|name| received.header(&format!("x-forwarded-{name}")));
    assert_eq!(told, [Some("127.0.0.1"), Some("http"), Some("app.test"), None]);
    assert!(received.all("forwarded").is_empty() && received.all("x-original-url").is_empty());
}

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is() {
    let world = World::with(|config, _| config.more("client_ip: {trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]}")).await;
    for (sent, expected) in [
        ("192.0.2.7", "192.0.2.7, 127.0.0.1"),
        ("6.6.6.6, 192.0.2.7, 10.1.1.1", "192.0.2.7, 10.1.1.1, 127.0.0.1"),
        ("nonsense", "127.0.0.1"),
    ] {
        let fields = [
            ("X-Forwarded-For", sent),
            ("X-Forwarded-User", EVIL),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Request-Id", "r-17"),
        ];
        world.ask(&get("/public/x").with_all(&fields)).await;
        let received = world.app.last();
        assert_eq!(received.header("x-forwarded-for"), Some(expected), "{sent}");
        assert_eq!(received.header("x-request-id"), Some("r-17"));
        assert_eq!(
            (received.header("x-forwarded-user"), received.header("x-forwarded-host")),
            (None, Some("app.test"))
        );
    }
    world.ask(&get("/public/x").with("X-Request-Id", "two words")).await;
    assert!(world.app.last().header("x-request-id").is_some_and(|id| id.len() == 32), "no token characters: a new one");
}

/// H5: what may not stand in a header is encoded, and splits nothing.
#[tokio::test]
async fn claims_cannot_split_a_header() {
    let world = world().await;
    let claims = json!({
        "sub": "a\r\nX-Evil: 1", "email": "ä@example.com", "preferred_username": " 50%\u{0}\u{7f} ",
        "groups": ["dev,ops", "x\ny", "陳"], "name": "A\tB", "team": "r\r\n\r\nGET / HTTP/1.1",
    });
    let token = world.token_with(claims);
    for (target, expected) in [
        (
            "/x",
            vec![
                ("x-forwarded-email", "%C3%A4@example.com"),
                ("x-forwarded-groups", "dev%2Cops,x%0Ay,%E9%99%B3"),
                ("x-forwarded-preferred-username", "%2050%25%00%7F%20"),
                ("x-forwarded-user", "a%0D%0AX-Evil: 1"),
            ],
        ),
        ("/set/x", vec![("x-team", "r%0D%0A%0D%0AGET / HTTP/1.1")]),
    ] {
        for _ in ["verified", "from the cache"] {
            assert_eq!(world.ask(&get(target).bearer(&token)).await.status, 200);
            let received = world.app.last();
            let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(believed(&received), expected, "{target}");
            assert_eq!(received.all("x-evil"), [""; 0]);
        }
    }
}

/// The gateway's cookies stay between it and the browser; the app's own pass.
#[tokio::test]
async fn own_cookies_pass_in_neither_direction() {
    let world = world().await;
    let cookies = "theme=dark; doorward=x; __Host-doorward=y; doorward_flow_1=z; lang=de";
    let planted = "field Set-Cookie: doorward=evil; Path=/ | Set-Cookie: theme=light | Set-Cookie: __Host-doorward=evil | Set-Cookie: doorward_flow_a=b";
    for request in [get("/x").bearer(&world.token()), get("/public/x")] {
        let reply = world.ask(&request.with("Cookie", cookies).with("X-App", planted)).await;
        assert_eq!(world.app.last().header("cookie"), Some("theme=dark; lang=de"));
        assert_eq!(reply.all("set-cookie"), ["theme=light"]);
    }
    world.ask(&get("/public/x").with("Cookie", "doorward=x")).await;
    assert_eq!(world.app.last().header("cookie"), None);
}

/// Beyond 16 KiB they are sent all the same, counted, and warned of once.
#[tokio::test]
async fn large_identity_headers_are_told() {
    let world = World::start().await;
    let groups: Vec<String> = (0..800).map(|n| format!("a-group-with-a-long-name-{n:06}")).collect();
    let large = world.token_with(json!({ "groups": groups }));
    for token in [&large, &large, &world.token()] {
        assert_eq!(world.ask(&get("/x").bearer(token)).await.outcome(), "200");
    }
    assert!(world.app.received()[0].header("x-forwarded-groups").unwrap().len() > 16 * 1024);
    let counted = world.gateway.metric("doorward_large_identity_headers_total{route=\"main\"}").await;
    assert!(counted == 2.0, "{counted}");
    assert_eq!(world.gateway.log().matches("larger than many apps read").count(), 1);
}
