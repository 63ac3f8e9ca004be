//! Where a login and a sign-out lead (L4): to the gateway's own origins and nowhere else, however the target is written.

use super::person::Person;
use super::{AUTH, Scene, main_route};
use crate::client::HOST;
use url::{Url, form_urlencoded};

/// Each must become `/`.
const HOSTILE: &[&str] = &[
    "",
    "https://evil.test/",
    "http://evil.test/",
    "//evil.test",
    "//evil.test/x",
    "///evil.test",
    "////evil.test",
    "/\\evil.test",
    "\\\\evil.test",
    "\\/evil.test",
    "/\t/evil.test",
    "/\n/evil.test",
    "/\r\n/evil.test",
    "\t//evil.test",
    " //evil.test",
    "https:evil.test",
    "http:///evil.test",
    "http:/\\evil.test",
    "http:\\\\evil.test",
    "https:/evil.test",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "ftp://app.test/",
    "ws://app.test/",
    "http://app.test@evil.test/",
    "http://user@app.test/",
    "http://user:password@app.test/",
    "http://app.test.evil.test/",
    "http://evil.test#app.test",
    "http://evil.test?app.test",
    "http://evil.test\\app.test",
    "http://app.test:81/",
    "https://app.test/",
    "http://evilapp.test/",
    "http://xn--pp-wia.test/",
    "http://127.0.0.1/",
    "http://[::1]/",
    "http://ａpp.test.evil.test/",
    "/x\u{0}y",
    "/x\r\nSet-Cookie: doorward=1",
    "/x\u{7f}",
    "/.//evil.test",
    "/..//evil.test",
    "/x/..//evil.test",
    "/%2e%2e//evil.test",
    "/oauth2/sign_out",
    "/oauth2/callback?code=1&state=2",
    "/oauth2/start?rd=/oauth2/start",
    "/oauth2",
    "/oauth2/",
    "//app.test/oauth2/sign_out",
    "http://app.test/oauth2/sign_out",
    "/%6fauth2/sign_out",
    "/%256fauth2/sign_out",
    "/oauth2%2fsign_out",
    "/x/../oauth2/sign_out",
    "/x/%2e%2e/oauth2/sign_out",
    "/oauth2;a=b/sign_out",
    "/./oauth2/sign_out",
    "http://app.test/\\..\\oauth2",
];

/// What is asked for, and where it leads.
const GOOD: &[(&str, &str)] = &[
    ("/", "/"),
    ("/x", "/x"),
    ("/x?next=//evil.test&y=%2F", "/x?next=//evil.test&y=%2F"),
    ("/x#part", "/x#part"),
    ("/oauth2ish", "/oauth2ish"),
    ("/ü?ü", "/%C3%BC?%C3%BC"),
    ("http://app.test/x", "/x"),
    ("http://APP.test:80/x", "/x"),
    ("x/y", "/x/y"),
    ("?a=1", "/?a=1"),
    ("http://other.test/x", "http://other.test/x"),
    ("http://a.b.wild.test/x", "http://a.b.wild.test/x"),
];

async fn scene() -> Scene {
    Scene::with(|config, app| {
        let config = config.route("other", "http://other.test/", &app.origin, AUTH);
        main_route(config.route("wild", "http://*.wild.test/", &app.origin, AUTH), app, "")
    })
    .await
}

fn query(page: &str, target: &str) -> String {
    form_urlencoded::Serializer::new(format!("/oauth2/{page}?")).append_pair("rd", target).finish()
}

/// Where a login that was begun with `rd` ends.
async fn ends_at(scene: &Scene, person: &mut Person, target: &str) -> String {
    person.jar.clear();
    let reply = person.sign_in_for(&scene.provider, "alice", &query("start", target)).await;
    reply.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn a_login_never_leads_to_a_foreign_place() {
    let scene = scene().await;
    let mut person = scene.person();
    for target in HOSTILE {
        assert_eq!(ends_at(&scene, &mut person, target).await, "/", "{target:?}");
    }
    let long = |length: usize| format!("/{}", "a".repeat(length - 1));
    assert_eq!(ends_at(&scene, &mut person, &long(6145)).await, "/");
    for length in [2048, 3000, 6144] {
        assert_eq!(ends_at(&scene, &mut person, &long(length)).await, long(length));
    }
    for (target, expected) in GOOD {
        assert_eq!(ends_at(&scene, &mut person, target).await, *expected, "{target:?}");
    }
}

/// The page that somebody was at when the login began may be a trap as well.
#[tokio::test]
async fn a_remembered_page_never_leads_to_a_foreign_place() {
    let scene = scene().await;
    for target in ["//evil.test/x", "//evil.test", "/x//evil.test", "/%5cevil.test", "/x?rd=//evil.test", "///x"] {
        let mut person = scene.person();
        let reply = person.visit(target).await;
        if reply.status == 400 {
            continue; // it could be read in two ways, and was not even judged
        }
        person.jar.clear();
        let reply = person.sign_in_for(&scene.provider, "alice", target).await;
        let location = reply.header("location").unwrap();
        let ends = Url::parse(&format!("http://{HOST}/deep/er")).unwrap().join(location).unwrap();
        assert_eq!(ends.host_str(), Some(HOST), "{target} led to {location}");
    }
}

#[tokio::test]
async fn a_sign_out_never_leads_to_a_foreign_place() {
    let scene = scene().await;
    let mut person = scene.person();
    for (target, expected) in HOSTILE.iter().map(|target| (*target, "/")).chain(GOOD.iter().copied()) {
        let reply = person.visit(&query("sign_out", target)).await;
        assert_eq!(reply.status, 302, "{target:?}");
        let provider = Url::parse(reply.header("location").unwrap()).unwrap();
        assert!(provider.as_str().starts_with(scene.provider.issuer()), "{target:?}: {provider}");
        let state = provider.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let back = person.visit(&format!("/oauth2/signed_out?state={state}")).await;
        let led = back.header("location").unwrap_or("/");
        assert_eq!(led, expected, "{target:?}");
        assert_eq!(back.status, if expected == "/" { 200 } else { 302 }, "{target:?}");
    }
    for state in ["", "x", "AAAA", "//evil.test", &"A".repeat(4000)] {
        let back = person.visit(&format!("/oauth2/signed_out?state={state}&rd=//evil.test")).await;
        assert_eq!((back.status, back.header("location")), (200, None), "{state:.20}");
    }
}
