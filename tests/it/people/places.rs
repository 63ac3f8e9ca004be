//! Logins for places of other kinds: cookies for our own site alone, a wildcard host, a bare path behind a public URL, one
//! callback for many hosts, other names for path and cookie.

use super::person::{Person, consent};
use super::{AUTH, Scene, main_route, register};
use crate::app::App;
use crate::client::{HOST, get};
use crate::gateway::{Config, Gateway};
use doorward::demo::{Client, Provider};
use url::form_urlencoded;

async fn started(origin: &str, configured: impl FnOnce(Config, &App) -> Config) -> (Provider, App, Gateway) {
    let (provider, app) = (crate::world::provider().await, App::start().await);
    register(&provider, origin);
    let config = configured(Config::default().provider("corp", provider.issuer(), ""), &app);
    let gateway = Gateway::start(&config).await;
    (provider, app, gateway)
}

/// Such a cookie is not sent with a redirect that another site began, so a page of ours goes on by itself.
#[tokio::test]
async fn a_cookie_for_our_own_site_alone() {
    let strict = "session: {cookie: {same_site: strict}}";
    let scene = Scene::with(|config, app| main_route(config, app, strict)).await;
    let mut person = scene.person();
    let begun = person.visit("/x?a=1&b=%22%3E%3Cb%3E").await;
    assert!(begun.header("set-cookie").unwrap().ends_with("; SameSite=Lax"), "the flow comes back from another site");
    let url = url::Url::parse(begun.header("location").unwrap()).unwrap();
    let reply = person.go_back(&consent(&scene.provider, &url, "alice").await).await;
    assert_eq!((reply.outcome().as_str(), reply.header("location")), ("200", None));
    let session = reply.all("set-cookie").into_iter().find(|field| field.starts_with("doorward=")).unwrap();
    assert!(session.ends_with("; SameSite=Strict"), "{session}");
    let page = reply.text();
    let target = "/x?a=1&#38;b=%22%3E%3Cb%3E";
    assert!(page.contains(&format!("<meta http-equiv=\"refresh\" content=\"0;url={target}\">")), "{page}");
    assert!(page.contains(&format!("<a href=\"{target}\">")) && !page.contains("<script"), "{page}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(person.fetch("/x").await.outcome(), "200");
}

#[tokio::test]
async fn a_wildcard_sends_people_back_to_the_host_they_came_from() {
    let configured = |config: Config, app: &App| config.route("wild", "http://*.app.test:8080/", &app.origin, AUTH);
    let (provider, app, gateway) = started("http://a.app.test:8080", configured).await;
    let person = Person::at(&gateway);
    let reply = person.ask(&get("/x").page().set("Host", "a.app.test:8080")).await;
    let url = url::Url::parse(reply.header("location").unwrap()).unwrap();
    let back = url.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    assert_eq!(back, "http://a.app.test:8080/oauth2/callback");
    let answer = consent(&provider, &url, "alice").await;
    assert!(answer.callback.as_str().starts_with(&back), "{answer:?}");
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn behind_a_public_url_whatever_the_host_says() {
    let configured =
        |config: Config, app: &App| config.more("public_url: https://public.test").route("any", "/", &app.origin, AUTH);
    let (provider, app, gateway) = started("https://public.test", configured).await;
    let person = Person::at(&gateway);
    for host in ["public.test", "evil.test", "127.0.0.1:1"] {
        let reply = person.ask(&get("/x").page().set("Host", host).with("X-Forwarded-Host", "evil.test")).await;
        let url = url::Url::parse(reply.header("location").unwrap()).unwrap();
        let back = url.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
        assert_eq!(back, "https://public.test/oauth2/callback", "{host}");
        assert!(reply.header("set-cookie").unwrap().starts_with("__Host-doorward_flow_"), "{host}");
    }
    let mut person = Person::at(&gateway);
    let reply = person.sign_in_for(&provider, "alice", "/x").await;
    assert!(
        reply.all("set-cookie").iter().any(|field| field.starts_with("__Host-doorward=") && field.contains("; Secure"))
    );
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(app.last().header("x-forwarded-proto"), Some("https"));
}

/// One callback for many hosts: the cookie is for their common domain, and the person ends at the host of the beginning.
#[tokio::test]
async fn one_callback_for_many_hosts() {
    let (provider, app) = (crate::world::provider().await, App::start().await);
    provider.set_client(Client {
        client_id: "doorward".to_owned(),
        client_secret: Some("doorward-secret".to_owned()),
        redirect_uris: vec!["http://login.corp.test/oauth2/callback".to_owned()],
        ..Client::default()
    });
    let keys = "redirect_uri: \"http://login.corp.test/oauth2/callback\"";
    let config = Config::default()
        .provider("corp", provider.issuer(), keys)
        .more("session: {cookie: {domain: corp.test}}")
        .route("one", "http://one.corp.test/", &app.origin, AUTH)
        .route("two", "http://two.corp.test/", &app.origin, AUTH);
    let gateway = Gateway::start(&config).await;
    let person = Person::at(&gateway);
    let cookies = |reply: &crate::client::Reply| -> Vec<String> {
        reply.all("set-cookie").iter().map(|field| (*field).to_owned()).collect()
    };
    let begun = person.ask(&get("/x?y=1").page().set("Host", "one.corp.test")).await;
    let flow = cookies(&begun).pop().unwrap();
    assert!(flow.contains("; Domain=corp.test;"), "{flow}");
    let url = url::Url::parse(begun.header("location").unwrap()).unwrap();
    let answer = consent(&provider, &url, "alice").await;
    assert!(answer.callback.as_str().starts_with("http://login.corp.test/oauth2/callback?"), "{answer:?}");
    let callback = get(&answer.callback[url::Position::BeforePath..]).page().set("Host", "login.corp.test");
    let ended = person.ask(&callback.with("Cookie", flow.split(';').next().unwrap())).await;
    assert_eq!((ended.outcome().as_str(), ended.header("location")), ("302", Some("http://one.corp.test/x?y=1")));
    let session = cookies(&ended).into_iter().find(|field| field.starts_with("doorward=")).unwrap();
    assert!(session.contains("; Domain=corp.test;"), "{session}");
    for host in ["one.corp.test", "two.corp.test"] {
        let request = get("/x").set("Host", host).with("Cookie", session.split(';').next().unwrap());
        assert_eq!(person.ask(&request).await.outcome(), "200", "{host}");
    }
}

#[tokio::test]
async fn other_names_for_path_and_cookie() {
    let (provider, app) = (crate::world::provider().await, App::start().await);
    provider.set_client(Client {
        client_id: "doorward".to_owned(),
        client_secret: Some("doorward-secret".to_owned()),
        redirect_uris: vec![format!("http://{HOST}/own/place/callback")],
        ..Client::default()
    });
    let config =
        Config::default().provider("corp", provider.issuer(), "authorization_params: {prompt: login, ui_locales: de}");
    let config = config.more("auth_path: /own/place").more("session: {cookie: {name: sid}}");
    let auth = "auth: {provider: corp, authorization_params: {ui_locales: fr, acr_values: gold}}";
    let gateway = Gateway::start(&config.route("main", "http://app.test/", &app.origin, auth)).await;
    let mut person = Person::at(&gateway);
    let url = person.begin("/x").await;
    let param = |name: &str| url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    assert_eq!(["prompt", "ui_locales", "acr_values"].map(|name| param(name).unwrap()), ["login", "fr", "gold"]);
    assert_eq!(param("redirect_uri").as_deref(), Some("http://app.test/own/place/callback"));
    let without_prompt = url.as_str().replace("prompt=login", "prompt=");
    let answer = consent(&provider, &url::Url::parse(&without_prompt).unwrap(), "alice").await;
    assert_eq!(person.go_back(&answer).await.outcome(), "302");
    assert_eq!(person.jar.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["sid", "sid_rounds"]);
    assert_eq!(person.fetch("/oauth2/userinfo").await.outcome(), "200", "the usual path is the app's");
    assert_eq!(app.last().target, "/oauth2/userinfo");
    assert_eq!(person.fetch("/own/place/userinfo").await.json()["user"], "alice");
}

/// B5: a login has the settings of the route that it leads to, wherever it was begun.
#[tokio::test]
async fn a_login_has_the_settings_of_its_target() {
    let early = format!(
        "{AUTH_KEYS}, session: {{max_age: 10m, cookie: {{same_site: strict}}, refresh: {{before_expiry: 1h}}}}",
        AUTH_KEYS = "auth: {provider: corp, authorization_params: {acr_values: high}}"
    );
    let scene = Scene::with(|config, app| {
        main_route(config.route("early", "http://app.test/early/", &app.origin, &early), app, "")
    })
    .await;
    let acr = |url: &url::Url| url.query_pairs().find(|(name, _)| name == "acr_values").map(|(_, v)| v.into_owned());
    for (target, level, cookie) in [
        ("/", None, ("Max-Age=43200", "SameSite=Lax")),
        ("/early/x", Some("high"), ("Max-Age=600", "SameSite=Strict")),
        ("/oauth2/start?rd=/", None, ("Max-Age=43200", "SameSite=Lax")),
        ("/oauth2/start?rd=/early/x", Some("high"), ("Max-Age=600", "SameSite=Strict")),
        ("/oauth2/sign_in?rd=/early/x", Some("high"), ("Max-Age=600", "SameSite=Strict")),
    ] {
        let mut person = scene.person();
        let begun = person.begin(target).await;
        assert_eq!(acr(&begun).as_deref(), level, "{target}");
        let reply = person.go_back(&consent(&scene.provider, &begun, "alice").await).await;
        let session = reply.all("set-cookie").into_iter().find(|field| field.starts_with("doorward=")).unwrap();
        let (max_age, same_site) = cookie;
        // Of max_age so much as is left of it.
        let lives: u64 = session.split("Max-Age=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
        let whole: u64 = max_age.trim_start_matches("Max-Age=").parse().unwrap();
        assert!((whole - 5..=whole).contains(&lives) && session.ends_with(same_site), "{target}: {session}");
    }
    // Refresh is judged by the route of each request: an hour before the end, or a minute.
    scene.provider_does(|faults| faults.access_token_lifetime = 1800);
    let mut person = scene.signed_in("alice").await;
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(scene.refreshes(), 0);
    scene.provider_does(|faults| faults.access_token_lifetime = 2);
    let mut person = scene.signed_in("alice").await;
    crate::wait::until_so("the refresh before the end", async || {
        assert_eq!(person.fetch("/early/x").await.outcome(), "200");
        scene.refreshes() > 0
    })
    .await;
}

/// A third party begins a login (OpenID Connect Core 1.0, 4).
#[tokio::test]
async fn a_third_party_may_begin_a_login() {
    let scene = Scene::start().await;
    let mut person = scene.person();
    let issuer: String = form_urlencoded::byte_serialize(scene.provider.issuer().as_bytes()).collect();
    let param = |url: &url::Url, name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned());
    let begun = person.begin(&format!("/oauth2/start?iss={issuer}&login_hint=alice%40x&target_link_uri=/wanted")).await;
    assert_eq!(param(&begun, "login_hint").as_deref(), Some("alice@x"));
    let reply = person.go_back(&consent(&scene.provider, &begun, "alice").await).await;
    assert_eq!(reply.header("location"), Some("/wanted"));
    for bad in ["https://evil.test", "x", ""] {
        let reply = person.visit(&format!("/oauth2/start?iss={bad}")).await;
        assert_eq!(reply.outcome(), "400 bad_request", "{bad:?}");
    }
    let begun = person.begin(&format!("/oauth2/start?iss={issuer}&target_link_uri=https://evil.test/")).await;
    let reply = person.go_back(&consent(&scene.provider, &begun, "alice").await).await;
    assert_eq!(reply.header("location"), Some("/"));
    let told = get("/oauth2/start").page().with("X-Auth-Request-Redirect", "/from-nginx");
    let reply = person.send(told).await;
    let begun = url::Url::parse(reply.header("location").unwrap()).unwrap();
    let reply = person.go_back(&consent(&scene.provider, &begun, "alice").await).await;
    assert_eq!(reply.header("location"), Some("/from-nginx"));
}
