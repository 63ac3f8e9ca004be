//! Cookies as strangers, apps and chance make them (L2, L3, L10): a valid one is found or none, nothing that is not ours
//! is an error, and the app can neither see nor set ours.

use super::person::{Person, SESSION};
use super::{AUTH, Scene, main_route, register};
use crate::app::App;
use crate::client::{HOST, Reply, get};
use crate::gateway::{Config, Gateway};

/// Sends this as the value of `Cookie`, byte for byte.
async fn with_cookie(person: &Person, value: &[u8]) -> Reply {
    let mut connection = person.connect().await;
    let head = format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\nCookie: ");
    connection.send_bytes(&[head.as_bytes(), value, b"\r\n\r\n"].concat()).await;
    connection.reply().await.unwrap_or_else(|| panic!("no answer to {:?}", String::from_utf8_lossy(value)))
}

async fn user_of(scene: &Scene, person: &Person, cookie: &str) -> String {
    let reply = with_cookie(person, cookie.as_bytes()).await;
    match reply.status {
        200 => scene.app.last().header("x-forwarded-user").unwrap().to_owned(),
        _ => reply.outcome(),
    }
}

#[tokio::test]
async fn what_is_no_ticket_is_no_session_and_no_error() {
    let scene = Scene::start().await;
    let person = scene.signed_in("alice").await;
    let good = person.session().to_owned();
    let mut flipped = good.clone().into_bytes();
    flipped[40] = if flipped[40] == b'A' { b'B' } else { b'A' };
    let mut swapped = good.clone().into_bytes();
    swapped.rotate_left(32);
    let mut values: Vec<Vec<u8>> = [
        "",
        " ",
        "=",
        "==",
        "\"\"",
        "\"",
        "x",
        ".",
        "..",
        "null",
        "%",
        "%00",
        "%0d%0a",
        "eyJhbGciOiJub25lIn0.e30.",
        "../../etc/passwd",
        "' OR 1=1 --",
        "{}",
        "[]",
        "\t",
        "a b c",
        "?=&",
        "*",
        "doorward=doorward",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    values.extend((1..good.len()).step_by(7).map(|length| good.as_bytes()[..length].to_vec()));
    values.extend([
        flipped,
        swapped,
        format!("{good}A").into_bytes(),
        format!("{good}=").into_bytes(),
        format!("{good}{good}").into_bytes(),
        good.to_ascii_lowercase().into_bytes(),
        vec![b'A'; 64],
        vec![b'A'; 8192],
        vec![b'-'; 63],
        vec![0xff; 64],
        vec![0xc3, 0x28],
        "é".repeat(32).into_bytes(),
        vec![0x80],
        [good.as_bytes(), &[0xfe]].concat(),
    ]);
    for value in values {
        let reply = with_cookie(&person, &[b"doorward=".as_slice(), &value].concat()).await;
        assert_eq!(reply.outcome(), "401 login_required", "{:?}", String::from_utf8_lossy(&value));
        assert_eq!(reply.header("set-cookie"), None, "a dead cookie is not cleared");
    }
    assert_eq!(scene.app.count(), 0);
    for header in ["doorward", ";", ";;;=;", "=doorward", "doorward;=", &"; ".repeat(4000), &"a=b; ".repeat(1600)] {
        assert_eq!(with_cookie(&person, header.as_bytes()).await.outcome(), "401 login_required", "{header:.40}");
    }
    assert_eq!(user_of(&scene, &person, &format!("doorward={good}")).await, "alice");
    assert_eq!(user_of(&scene, &person, &format!("doorward=\"{good}\"")).await, "alice", "in quotes it is the same");
}

#[tokio::test]
async fn flow_cookies_of_any_shape_are_no_error() {
    let scene = Scene::start().await;
    let person = scene.person();
    for value in ["", "x", ".", "1.", "1.AAAA", ".AAAA", "99999999999999999999.AAAA", "-1.x", "\"", "1.!!!!", "1.é"] {
        for id in ["", "000000000000", "zz", "../x", "ffffffffffffffffffffffff"] {
            let cookie = format!("doorward_flow_{id}={value}");
            assert_eq!(with_cookie(&person, cookie.as_bytes()).await.outcome(), "401 login_required", "{cookie}");
            let callback = get("/oauth2/callback?state=x&code=y").page().with("Cookie", &cookie);
            assert_eq!(person.ask(&callback).await.outcome(), "400 state_mismatch", "{cookie}");
            let start = get("/oauth2/start").page().with("Cookie", &cookie);
            assert_eq!(person.ask(&start).await.outcome(), "302 login_required", "{cookie}");
        }
    }
}

#[tokio::test]
async fn of_two_cookies_of_one_name_a_valid_one_is_found_and_never_a_mix() {
    let scene = Scene::start().await;
    let (alice, bob) = (scene.signed_in("alice").await, scene.signed_in("bob").await);
    let (a, b) = (alice.session(), bob.session());
    let mixed = format!("{}{}", &a[..22], &b[22..]);
    for (cookie, expected) in [
        (format!("doorward=junk; doorward={a}"), "alice"),
        (format!("doorward={a}; doorward=junk"), "alice"),
        (format!("doorward={a}; doorward={b}"), "alice"),
        (format!("doorward={b}; doorward={a}"), "bob"),
        (format!("doorward={mixed}; doorward={b}"), "bob"),
        (format!("doorward={mixed}"), "401 login_required"),
        (format!("Doorward={a}"), "401 login_required"),
        (format!("__Host-doorward={a}"), "401 login_required"),
        (format!("doorward_flow_x={a}"), "401 login_required"),
        (format!("x=doorward={a}"), "401 login_required"),
    ] {
        assert_eq!(user_of(&scene, &alice, &cookie).await, expected, "{cookie}");
    }
    // HTTP/2 may send them in several fields, and so may anybody.
    let two = get("/x").with("Cookie", "doorward=junk").with("Cookie", &format!("doorward={a}"));
    assert_eq!(alice.ask(&two).await.outcome(), "200");
    assert_eq!(scene.app.last().header("cookie"), None);
}

/// L14: a site beside ours sets cookies of our names, as many as it likes.
#[tokio::test]
async fn tossed_cookies_hide_no_session() {
    let scene = Scene::start().await;
    let person = scene.signed_in("alice").await;
    let good = person.session();
    let junk = |n: usize| format!("doorward=junk-{n}; ");
    let ticket = |n: usize| format!("doorward={}{n:03}; ", &"A".repeat(61));
    let doubled = format!("doorward={}; ", "A".repeat(64));
    for (what, tossed) in [
        ("four", (0..4).map(junk).collect::<String>()),
        ("five hundred", (0..500).map(junk).collect()),
        ("tickets", (0..12).map(ticket).collect()),
        ("one ticket again and again", doubled.repeat(100)),
        ("both", (0..100).map(junk).chain((0..12).map(ticket)).collect()),
    ] {
        assert_eq!(user_of(&scene, &person, &format!("{tossed}doorward={good}")).await, "alice", "{what}");
    }
    // The same of a login under way.
    let mut another = scene.person();
    let begun = another.begin("/wanted").await;
    let answer = super::person::consent(&scene.provider, &begun, "bob").await;
    let (name, value) = another.jar[0].clone();
    another.jar = (0..8).map(|n| (name.clone(), format!("{n}.junk"))).chain([(name.clone(), value)]).collect();
    let reply = another.go_back(&answer).await;
    assert_eq!((reply.outcome().as_str(), reply.header("location")), ("302", Some("/wanted")));
}

/// Grafana's addresses are long: the login leads back to them, by cookies that browsers keep.
#[tokio::test]
async fn a_long_target_is_remembered_in_several_cookies() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let long = |n: usize| format!("/explore?panes={n}{}", "a".repeat(5900));
    let reply = person.visit(&long(0)).await;
    assert_eq!(reply.outcome(), "302 login_required");
    let set = reply.all("set-cookie");
    assert!(set.len() > 1 && set.iter().all(|cookie| cookie.len() < 4096), "{:?}", set.iter().map(|c| c.len()));
    let begun = url::Url::parse(reply.header("location").unwrap()).unwrap();
    let answer = super::person::consent(&scene.provider, &begun, "alice").await;
    let reply = person.go_back(&answer).await;
    assert_eq!(reply.header("location"), Some(long(0).as_str()));
    assert!(person.flows().is_empty(), "every part is cleared: {:?}", person.flows());
    // As many at once as a head has room for; the oldest give way with all their parts.
    let mut crowd = scene.person();
    for n in 0..6 {
        crowd.begin(&long(n)).await;
        let bytes: usize = crowd.jar.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes < 25 * 1024, "{n}: {bytes}");
    }
    let begun = crowd.begin(&long(7)).await;
    let answer = super::person::consent(&scene.provider, &begun, "alice").await;
    assert_eq!(crowd.go_back(&answer).await.header("location"), Some(long(7).as_str()));
}

/// B18: of several that are begun within one second the oldest gives way.
#[tokio::test]
async fn the_oldest_login_gives_way() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let mut tabs = Vec::new();
    for n in 0..7 {
        let begun = person.begin(&format!("/tab/{n}")).await;
        tabs.push(super::person::consent(&scene.provider, &begun, "alice").await);
        // Two of one millisecond are equally old.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    for (n, answer) in tabs.iter().enumerate().skip(2) {
        let reply = person.go_back(answer).await;
        assert_eq!(reply.header("location"), Some(format!("/tab/{n}").as_str()));
    }
}

/// Scripts write what they like into cookies; browsers send it as UTF-8.
#[tokio::test]
async fn an_apps_cookie_in_another_script_does_not_hide_the_session() {
    let scene = Scene::start().await;
    let person = scene.signed_in("alice").await;
    let session = person.session();
    for cookie in [format!("name=Jürgen; doorward={session}"), format!("doorward={session}; 名=王")] {
        assert_eq!(user_of(&scene, &person, &cookie).await, "alice", "{cookie}");
        let theirs = scene.app.last().header("cookie").unwrap().to_owned();
        assert!(!theirs.contains("doorward") && theirs.contains('='), "{theirs}");
    }
}

#[tokio::test]
async fn at_most_five_logins_are_under_way_in_one_browser() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    for n in 1..=9_usize {
        person.begin(&format!("/page/{n}")).await;
        assert_eq!(person.flows().len(), n.min(5), "after {n}");
    }
    // The last one is among those that were kept.
    person.sign_in(&scene.provider, "alice").await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
}

#[tokio::test]
async fn the_app_cannot_set_our_cookies() {
    let scene = Scene::start().await;
    let mut person = scene.signed_in("alice").await;
    let before = person.session().to_owned();
    for (target, status) in [("/x", "200"), ("/public/x", "200")] {
        let wish = [
            "Set-Cookie: doorward=planted; Path=/",
            "set-cookie: theme=dark",
            "Set-Cookie: doorward_flow_000000000000=planted",
            "Set-Cookie: __Host-doorward=planted; Secure; Path=/",
            "Set-Cookie:  doorward = planted",
            "Set-Cookie: doorwardish=1; Path=/",
        ];
        let request = get(target).with("X-App", &format!("field {}", wish.join(" | ")));
        let reply = person.send(request).await;
        assert_eq!(reply.outcome(), status);
        assert_eq!(reply.all("set-cookie"), ["theme=dark", "doorwardish=1; Path=/"], "{target}");
        assert_eq!(person.session(), before);
    }
}

/// What was made for one cookie opens nothing under another, though provider and client are the same.
#[tokio::test]
async fn a_ticket_counts_in_its_own_realm_alone() {
    let (provider, app) = (crate::world::provider().await, App::start().await);
    register(&provider, &format!("http://{HOST}"));
    let config = Config::default().provider("corp", provider.issuer(), "");
    let other = format!("{AUTH}, session: {{cookie: {{name: other}}}}");
    let config = main_route(config.route("other", "http://other.test/", &app.origin, &other), &app, "");
    let scene = Scene { gateway: Gateway::start(&config).await, provider, app };
    let person = scene.signed_in("alice").await;
    let at_other = |name: &str| {
        let cookie = format!("{name}={}", person.session());
        get("/x").set("Host", "other.test").with("Cookie", &cookie)
    };
    for name in ["other", SESSION] {
        assert_eq!(person.ask(&at_other(name)).await.outcome(), "401 login_required", "{name}");
    }
    assert_eq!(scene.app.count(), 0);
    assert_eq!(person.ask(&at_other(SESSION).set("Host", HOST)).await.outcome(), "200");
}
