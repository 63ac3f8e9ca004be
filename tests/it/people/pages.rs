//! The gateway's own pages: what operators add to them, and the ways on that they offer.

use super::{AUTH, Scene, main_route};
use crate::client::{Request, ask, get};
use crate::gateway::{Config, run};
use aws_lc_rs::digest::{SHA256, digest};

const DEAD: &str = "http://127.0.0.1:1";
const PAGES: &str =
    "pages: {name: \"Example & Co\", contact: help@example.com, logo_file: logo.svg, css_file: own.css}";

fn more_routes(config: Config, app: &crate::app::App) -> Config {
    let reject = format!("{AUTH}, require: {{groups: [nobody]}}");
    let config = config.route("dead", "http://app.test/dead/", DEAD, "auth: public");
    let config = config.route("closed", "http://app.test/closed/", &app.origin, &reject);
    main_route(config, app, "")
}

#[tokio::test]
async fn they_look_as_the_operator_wants() {
    let scene = Scene::with(more_routes).await;
    let folder = &scene.gateway.folder;
    folder.write("logo.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"><path d=\"M0 0\"/></svg>");
    folder.write("own.css", "main>h1{color:#123}");
    let text = format!("{}{PAGES}\n", folder.read("config.yaml"));
    scene.gateway.reload_text(&text, "ok").await;
    let reply = scene.gateway.ask(&get("/dead/x").page()).await;
    let page = reply.text();
    for part in [
        " · Example &#38; Co</title>",
        "<img src=\"data:image/svg+xml;base64,",
        "<a href=\"mailto:help@example.com\">help@example.com</a>",
        "main>h1{color:#123}",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = data_encoding::BASE64.encode(digest(&SHA256, style.as_bytes()).as_ref());
    let policy = reply.header("content-security-policy").unwrap();
    assert!(policy.contains(&format!("style-src 'sha256-{hash}'")) && policy.contains("img-src data:"), "{policy}");

    // Files are read anew by a reload; those that would spoil a page are refused, and all of them are named.
    folder.write("own.css", "main{color:red}");
    scene.gateway.reload_text(&text, "ok").await;
    assert!(scene.gateway.ask(&get("/dead/x").page()).await.text().contains("main{color:red}"));
    folder.write("own.css", "</style><script>alert(1)</script>");
    folder.write("logo.svg", &format!("<svg>{}</svg>", "x".repeat(10_000_000)));
    scene.gateway.reload_text(&text, "refused").await;
    let (code, printed, _) = run(folder, &["check"], &[]).await;
    for problem in ["pages.logo_file: ", "pages.css_file: "] {
        assert!(code == 2 && printed.contains(problem), "{printed}");
    }
    assert!(scene.gateway.ask(&get("/dead/x").page()).await.text().contains("main{color:red}"));
}

#[tokio::test]
async fn they_lead_on() {
    let scene = Scene::with(more_routes).await;
    let link = |text: &str, target: &str| format!("<a href=\"{target}\">{text}</a>");
    let cases: [(Request, &str, Option<String>); 4] = [
        (get("/dead/x?a=1&b=2"), "502 upstream_unreachable", Some(link("Try again", "/dead/x?a=1&#38;b=2"))),
        (ask("POST", "/dead/x"), "502 upstream_unreachable", None),
        (get("/dead//evil.test/"), "502 upstream_unreachable", Some(link("Try again", "/dead//evil.test/"))),
        (ask("POST", "/x?a=1"), "401 login_required", Some(link("Sign in", "/oauth2/start?rd=%2Fx%3Fa%3D1"))),
    ];
    for (request, outcome, expected) in cases {
        let reply = scene.gateway.ask(&request.page()).await;
        assert_eq!(reply.outcome(), outcome);
        let page = reply.text();
        match expected {
            Some(link) => assert!(page.contains(&link), "{link}: {page}"),
            None => assert!(!page.contains("<a "), "{page}"),
        }
    }
    let mut alice = scene.signed_in("alice").await;
    let reply = alice.visit("/closed/x").await;
    assert_eq!(reply.outcome(), "403 forbidden");
    let page = reply.text();
    assert!(page.contains("<dt>Signed in as</dt><dd>alice@example.com</dd>"), "{page}");
    assert!(page.contains(&link("Sign out", "/oauth2/sign_out")), "{page}");
}
