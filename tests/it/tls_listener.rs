//! TLS listeners: the certificate by the name that is asked for, HTTP/2 by ALPN, certificates renewed by a reload, and
//! the plain listener that sends everyone there.

use crate::app::App;
use crate::client::{Connection, Secrets, get};
use crate::gateway::{Config, Folder, Gateway};
use crate::tls::{Certificate, client, connect, stream_as};
use crate::wait::until_so;
use crate::world::{BEARER, PUBLIC, provider};
use doorward::demo::{IssueOptions, Provider};
use std::net::SocketAddr;
use tokio_rustls::rustls::HandshakeKind;

/// A plain listener that redirects, and a TLS listener with two certificates, for `one.test` and `two.test`.
struct Encrypted {
    provider: Provider,
    app: App,
    gateway: Gateway,
    one: Certificate,
    two: Certificate,
    folder: Folder,
}

impl Encrypted {
    async fn start() -> Self {
        let (provider, app, folder) = (provider().await, App::start().await, Folder::new());
        let (one, two) = (Certificate::of("one.test"), Certificate::of("two.test"));
        let tls = format!("tls: [{}, {}]", one.write(&folder, "one"), two.write(&folder, "two"));
        let config = Config::default()
            .listener("redirect_to_https: true")
            .another_listener(&tls)
            .provider("corp", provider.issuer(), "")
            .route("one", "https://one.test/", &app.origin, BEARER)
            .route("two", "https://two.test/", &app.origin, PUBLIC)
            .route("odd", "https://odd.test:8443/", &app.origin, PUBLIC);
        let gateway = Gateway::start(&config).await;
        Encrypted { provider, app, gateway, one, two, folder }
    }

    fn address(&self) -> String {
        self.gateway.address_of(1)
    }

    /// A client that speaks HTTP/2 where it is offered.
    fn http2(&self) -> reqwest::Client {
        crate::tls::install_crypto();
        let address: SocketAddr = self.address().parse().unwrap();
        let roots = [&self.one, &self.two].map(|c| reqwest::Certificate::from_pem(c.pem.as_bytes()).unwrap());
        let builder =
            reqwest::Client::builder().no_proxy().tls_certs_only(roots).redirect(reqwest::redirect::Policy::none());
        builder.resolve("one.test", address).resolve("two.test", address).build().unwrap()
    }
}

#[tokio::test]
async fn the_name_chooses_the_certificate_and_alpn_the_protocol() {
    let world = Encrypted::start().await;
    let trusted = [&world.one, &world.two];
    for (name, expected) in [("one.test", &world.one), ("two.test", &world.two)] {
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&["http/1.1", "h2"], Some("h2")),
            (&[], None),
        ] {
            let encrypted = connect(&world.address(), name, offered, &trusted).await.unwrap();
            assert_eq!(encrypted.protocol.as_deref(), agreed, "{name} {offered:?}");
            assert_eq!(encrypted.certificate, expected.der, "{name}");
        }
    }
    assert!(
        connect(&world.address(), "three.test", &[], &trusted).await.is_err(),
        "a certificate for another name is shown"
    );
    let mut encrypted = connect(&world.address(), "two.test", &["http/1.1"], &trusted).await.unwrap();
    let reply = encrypted.connection.ask(&get("/x").set("Host", "two.test")).await;
    assert_eq!((reply.status, world.app.last().header("x-forwarded-proto")), (200, Some("https")));
}

#[tokio::test]
async fn http_2_is_judged_like_http_1() {
    let world = Encrypted::start().await;
    let client = world.http2();
    let token = world.provider.issue_access_token("alice", &IssueOptions::default());
    world.gateway.secrets.lock().unwrap().insert(token.clone());
    let ask = async |url: &str, token: Option<&str>| {
        let request = client
            .get(url)
            .header("accept", "application/json")
            .header("x-forwarded-user", "evil")
            .header("x_forwarded_groups", "evil");
        let reply =
            token.map_or(request.try_clone().unwrap(), |token| request.bearer_auth(token)).send().await.unwrap();
        assert_eq!(reply.version(), reqwest::Version::HTTP_2);
        let reason = reply
            .headers()
            .get("x-doorward-reason")
            .map(|word| format!(" {}", word.to_str().unwrap()))
            .unwrap_or_default();
        format!("{}{reason}", reply.status().as_u16())
    };
    assert_eq!(ask("https://one.test/x?a=b", None).await, "401 login_required");
    assert_eq!(ask("https://two.test/a//b/c;d%2fe?f=/g", None).await, "200");
    let received = world.app.last();
    assert_eq!(
        (received.target.as_str(), received.header("host")),
        ("/a//b/c;d%2fe?f=/g", Some("two.test")),
        "byte for byte"
    );
    assert!(received.all("x-forwarded-user").is_empty() && received.all("x_forwarded_groups").is_empty());
    assert_eq!(ask("https://one.test/x?a=b", Some(&token)).await, "200");
    let received = world.app.last();
    assert_eq!((received.target.as_str(), received.version.as_str()), ("/x?a=b", "HTTP/1.1"));
    assert_eq!(
        (received.header("x-forwarded-user"), received.header("x-forwarded-groups")),
        (Some("alice"), Some("admins,dev"))
    );
    assert_eq!(ask("https://two.test/%00", None).await, "400 bad_request");
    assert_eq!(ask("https://two.test/oauth2/%61uth", None).await, "200", "no own pages on a public host");
    assert_eq!(ask("https://one.test/oauth2/%61uth", Some(&token)).await, "400 bad_request");
}

#[tokio::test]
async fn bodies_pass_over_http_2() {
    let world = Encrypted::start().await;
    let client = world.http2();
    let body = crate::app::pattern(300_000);
    let reply = client.post("https://two.test/x").body(body.clone()).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(world.app.last().body, body);
    let reply = client.get("https://two.test/x").header("x-app", "chunked 300000").send().await.unwrap();
    assert_eq!(reply.bytes().await.unwrap(), body);
    let many = (0..50).map(|_| client.get("https://two.test/x").send());
    let all = futures_util::future::join_all(many).await;
    assert!(all.into_iter().all(|reply| reply.unwrap().status() == 200), "many streams on one connection");
}

/// The files are written anew and the process is told: the next handshake shows the new certificate.
#[tokio::test]
async fn a_renewed_certificate_needs_no_restart() {
    let world = Encrypted::start().await;
    let text = world.gateway.folder.read("config.yaml");
    let mut old = connect(&world.address(), "two.test", &["http/1.1"], &[&world.two]).await.unwrap();
    let renewed = Certificate::of("two.test");
    renewed.write(&world.folder, "two");
    let before = connect(&world.address(), "two.test", &[], &[&world.two]).await.unwrap();
    assert_eq!(before.certificate, world.two.der, "nobody has said so yet");
    world.gateway.reload_text(&text, "ok").await;
    let after = connect(&world.address(), "two.test", &[], &[&renewed]).await.unwrap();
    assert_eq!(after.certificate, renewed.der);
    let other = connect(&world.address(), "one.test", &[], &[&world.one]).await.unwrap();
    assert_eq!(other.certificate, world.one.der);
    let reply = old.connection.ask(&get("/x").set("Host", "two.test")).await;
    assert_eq!(reply.status, 200, "an open connection goes on");

    std::fs::copy(world.folder.path("two.pem"), world.folder.path("moved.pem")).unwrap();
    world.gateway.reload_text(&text.replace("two.pem", "moved.pem"), "ok").await;
    let metrics = world.gateway.admin("/metrics").await.text();
    let series = |file: &str| metrics.contains(&format!("{file}\"}}"));
    assert!(series("moved.pem") && !series("two.pem"), "no alert stands for a file that is in use no more: {metrics}");

    world.folder.write("two.key", "no key at all");
    world.gateway.reload_text(&text, "refused").await;
    let still = connect(&world.address(), "two.test", &[], &[&renewed]).await.unwrap();
    assert_eq!(still.certificate, renewed.der, "a bad file changes nothing");
    until_so("the file in the log", async || world.gateway.log().contains("two.key")).await;
}

#[tokio::test]
async fn the_plain_listener_redirects_all_but_acme() {
    let world = Encrypted::start().await;
    for (host, target, location) in [
        ("one.test", "/", "https://one.test/"),
        ("ONE.test.:80", "/a//b/%2e?c=d", "https://one.test/a//b/%2e?c=d"),
        ("two.test", "/oauth2/auth", "https://two.test/oauth2/auth"),
        ("odd.test", "/x", "https://odd.test:8443/x"),
        ("one.test", "/.well-known/acme-challenges/x", "https://one.test/.well-known/acme-challenges/x"),
    ] {
        let reply = world.gateway.ask(&get(target).set("Host", host)).await;
        assert_eq!((reply.status, reply.header("location")), (308, Some(location)), "{host} {target}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    assert_eq!(world.app.count(), 0);
    let challenge = world.gateway.ask(&get("/.well-known/acme-challenge/token-17").set("Host", "two.test")).await;
    assert_eq!((challenge.status, world.app.last().target.as_str()), (200, "/.well-known/acme-challenge/token-17"));
    let protected = world.gateway.ask(&get("/.well-known/acme-challenge/token-17").set("Host", "one.test")).await;
    assert_eq!(protected.outcome(), "401 login_required", "not redirected, and not let in either");
    assert_eq!(world.app.count(), 1);
}

/// Who speaks plainly to a TLS listener, or says nothing, is let go and harms nobody.
#[tokio::test]
async fn noise_on_a_tls_listener_harms_nobody() {
    let world = Encrypted::start().await;
    for noise in [&b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"[..], &[0x16, 0x03, 0x01, 0xff, 0xff, 0x01], &[0; 512]] {
        let mut connection = Connection::open(&world.address(), &Secrets::default()).await;
        connection.send_bytes(noise).await;
        let mut encrypted = connect(&world.address(), "two.test", &["http/1.1"], &[&world.two]).await.unwrap();
        assert_eq!(encrypted.connection.ask(&get("/x").set("Host", "two.test")).await.status, 200);
    }
}

/// Each worker resumes what any other has begun; other certificates end that, a reload that changes none does not.
#[tokio::test]
async fn a_session_is_resumed_by_every_worker() {
    let world = Encrypted::start().await;
    let renewed = Certificate::of("two.test");
    let client = client(&["http/1.1"], &[&world.two, &renewed]);
    let handshakes = async |count: usize| {
        let mut kinds = Vec::new();
        for _ in 0..count {
            let stream = stream_as(&client, &world.address(), "two.test").await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
            // The tickets come with the answer.
            let mut connection = Connection::over(stream, &Secrets::default());
            assert_eq!(connection.ask(&get("/").set("Host", "two.test")).await.outcome(), "200");
        }
        kinds
    };
    let resumed = [HandshakeKind::Resumed; 11];
    assert_eq!(handshakes(12).await, [&[HandshakeKind::Full][..], &resumed].concat());
    let text = world.gateway.folder.read("config.yaml");
    world.gateway.reload_text(&text, "ok").await;
    assert_eq!(handshakes(11).await, resumed);
    renewed.write(&world.folder, "two");
    world.gateway.reload_text(&text, "ok").await;
    assert_eq!(handshakes(12).await, [&[HandshakeKind::Full][..], &resumed].concat());
}

/// A handshake has the time of a request head.
#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut() {
    let (app, folder) = (App::start().await, Folder::new());
    let tls = Certificate::of("one.test").write(&folder, "one");
    let config = Config::default().listener(&format!("tls: {tls}, head_timeout: 500ms")).route(
        "main",
        "https://one.test/",
        &app.origin,
        PUBLIC,
    );
    let gateway = Gateway::start(&config).await;
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    for sent in [&[][..], &hello[..1], &hello] {
        let mut connection = Connection::open(&gateway.address(), &Secrets::default()).await;
        connection.send_bytes(sent).await;
        assert!(connection.head().await.is_none(), "closed without a word after {} bytes", sent.len());
    }
}
