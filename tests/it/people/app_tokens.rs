//! Tokens and groups that the app is given, and nobody else's word in their place.

use super::{AUTH, Person, Scene, main_route};
use crate::client::{Request, get};

const NAMED: &str = "headers: {access_token: X-Token, id_token: X-Id-Token, groups: [adm*, ops], \
                     set: {X-Both: \"a={access_token} i={id_token} g={groups}\"}}";

async fn scene() -> Scene {
    Scene::with(|config, app| {
        main_route(config, app, "")
            .more("client_ip: {trusted_proxies: [127.0.0.0/8]}")
            .route("plain", "http://app.test/plain/", &app.origin, &format!("{AUTH}, headers: {{access_token: true}}"))
            .route("named", "http://app.test/named/", &app.origin, &format!("{AUTH}, {NAMED}"))
            .route(
                "usual",
                "http://app.test/usual/",
                &app.origin,
                &format!("{AUTH}, headers: {{access_token: X-Auth-Request-Access-Token}}"),
            )
            .route("id", "http://app.test/id/", &app.origin, &format!("{AUTH}, headers: {{id_token: true}}"))
            .route(
                "open",
                "http://app.test/open/",
                &app.origin,
                "auth: {provider: corp, on_unauthenticated: pass}, headers: {access_token: true, id_token: X-Id-Token}",
            )
    })
    .await
}

fn about(page: &str, uri: &str) -> Request {
    let told = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "app.test"), ("X-Forwarded-Uri", uri)];
    get(page).with_all(&told)
}

/// The claim `typ` in the header of a JWT, and `nonce`, tell which of the two it is.
fn is_id_token(token: &str) -> bool {
    let payload = token.split('.').nth(1).unwrap();
    let claims = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    serde_json::from_slice::<serde_json::Value>(&claims).unwrap().get("nonce").is_some()
}

#[tokio::test]
async fn a_session_s_tokens_are_passed_where_it_says_so() {
    let scene = scene().await;
    let alice: Person = scene.signed_in("alice").await;
    let seen = async |request: Request| {
        let spoofed = ["X-Token", "x_token", "X-Id-Token", "X-Id.Token", "X-Both"];
        let request = spoofed.iter().fold(alice.dressed(request), |request, name| request.with(name, "evil"));
        assert_eq!(alice.ask(&request).await.outcome(), "200");
        scene.app.last()
    };
    let plain = seen(get("/plain/x")).await;
    let access = plain.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap().to_owned();
    assert!(!is_id_token(&access));
    assert!(!plain.fields.iter().any(|(_, value)| value == "evil"), "{:?}", plain.fields);

    let named = seen(get("/named/x")).await;
    let id = named.header("x-id-token").unwrap().to_owned();
    assert!(is_id_token(&id));
    assert_eq!(named.header("x-token"), Some(access.as_str()));
    assert_eq!(named.header("x-both"), Some(format!("a={access} i={id} g=admins").as_str()));
    assert_eq!((named.header("x-forwarded-groups"), named.header("authorization")), (Some("admins"), None));
    assert!(!named.fields.iter().any(|(_, value)| value == "evil"), "{:?}", named.fields);
    assert_eq!(seen(get("/id/x")).await.header("authorization"), Some(format!("Bearer {id}").as_str()));

    for page in ["/oauth2/auth", "/oauth2/forward"] {
        let told = alice.ask(&alice.dressed(about(page, "/plain/x"))).await;
        let passed = ["authorization", "x-auth-request-access-token"].map(|name| told.header(name));
        assert_eq!(told.status, 202);
        assert_eq!(passed, [Some(format!("Bearer {access}").as_str()), Some(access.as_str())], "{page}");
        let told = alice.ask(&alice.dressed(about(page, "/named/x"))).await;
        let passed = ["x-token", "x-id-token", "x-auth-request-access-token", "x-auth-request-groups"];
        let expected = [Some(access.as_str()), Some(id.as_str()), Some(access.as_str()), Some("admins")];
        assert_eq!(passed.map(|name| told.header(name)), expected, "{page}");
        assert_eq!(told.header("x-both"), Some(format!("a={access} i={id} g=admins").as_str()));
    }
    scene.gateway.secrets.lock().unwrap().extend([access, id]);
}

#[tokio::test]
async fn a_bearer_token_is_the_access_token() {
    let scene = scene().await;
    let token = scene.provider.issue_access_token("alice", &doorward::demo::IssueOptions::default());
    for (path, name, expected) in [
        ("/plain/x", "authorization", Some(format!("Bearer {token}"))),
        ("/named/x", "x-token", Some(token.clone())),
        ("/named/x", "x-id-token", None),
        ("/named/x", "x-both", None),
        ("/id/x", "authorization", None),
        ("/usual/x", "x-auth-request-access-token", Some(token.clone())),
    ] {
        assert_eq!(scene.gateway.ask(&get(path).bearer(&token)).await.outcome(), "200");
        assert_eq!(scene.app.last().header(name), expected.as_deref(), "{path} {name}");
    }
    let told = scene.gateway.ask(&about("/oauth2/forward", "/named/x").bearer(&token)).await;
    assert_eq!([told.header("x-token"), told.header("x-id-token")], [Some(token.as_str()), Some("")]);
    let told = scene.gateway.ask(&about("/oauth2/auth", "/usual/x").bearer(&token)).await;
    assert_eq!(told.all("x-auth-request-access-token"), [token.as_str()], "once");
    let tab = get("/plain/x").with("Authorization", &format!("bearer\t{token}"));
    assert_eq!(scene.gateway.ask(&tab).await.outcome(), "200");
    assert_eq!(scene.app.last().header("authorization"), Some(format!("Bearer {token}").as_str()));
}

/// Who is nobody brings no token of his own.
#[tokio::test]
async fn nobody_has_a_token() {
    let scene = scene().await;
    let request = get("/open/x").with("Authorization", "Basic YTpi").with("X-Id-Token", "evil");
    assert_eq!(scene.gateway.ask(&request).await.outcome(), "200");
    let seen = scene.app.last();
    assert_eq!([seen.header("authorization"), seen.header("x-id-token")], [None; 2]);
    let told = scene.gateway.ask(&about("/oauth2/auth", "/open/x").with("X-Id-Token", "evil")).await;
    let passed = ["authorization", "x-id-token", "x-auth-request-access-token", "x-auth-request-user"];
    assert_eq!((told.status, passed.map(|name| told.header(name))), (202, [Some(""); 4]));
}
