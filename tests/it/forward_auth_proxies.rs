//! nginx and Caddy with the files of `deploy/examples/forward-auth`, which ask the gateway about each request and forward
//! it themselves: nothing passes without an answer, and nothing that a client says of itself arrives.

use crate::app::App;
use crate::client::{Connection, Reply, Request, Secrets, ask, get};
use crate::gateway::{Folder, Gateway};
use crate::people::{Person, consent, register};
use crate::wait::{free_port, until_so};
use crate::world::provider;
use doorward::demo::{IssueOptions, Provider};
use serde_json::json;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const HOST: &str = "app.example.com";
/// Each under a name that an app may take for one of the gateway's headers, or for the request's own path.
const FORGED: [(&str, &str); 14] = [
    ("X-Forwarded-User", "root"),
    ("X_Forwarded_User", "root"),
    ("X-Forwarded_User", "root"),
    ("X.Forwarded.User", "root"),
    ("X-Forwarded-Groups", "root"),
    ("X-Auth-Request-User", "root"),
    ("X-Forwarded-Host", "public.example.com"),
    ("X-Forwarded-Uri", "/public/root"),
    ("X-Forwarded-Method", "HEAD"),
    ("X-Original-URL", "https://app.example.com/public/root"),
    ("X-Original-Method", "GET"),
    ("X-Rewrite-URL", "/public/root"),
    ("Connection", "X-Forwarded-User"),
    ("X-API-Key-2", "kept"),
];

/// A proxy that ends with its handle.
struct Proxy {
    process: Child,
    port: u16,
    _folder: Folder,
}

struct World {
    provider: Provider,
    app: App,
    gateway: Gateway,
    proxy: Proxy,
}

fn read(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/forward-auth").join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// The file with other ports. They are replaced in one pass: a new one may hold the digits of another.
fn placed(text: &str, ports: &[(&str, u16)]) -> String {
    let is_digit = |c: char| c.is_ascii_digit();
    let mut placed = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_digit) {
        let number = &rest[at..at + rest[at..].find(|c| !is_digit(c)).unwrap_or(rest.len() - at)];
        placed += &rest[..at];
        match ports.iter().find(|(known, _)| *known == number) {
            Some((_, port)) => placed += &port.to_string(),
            None => placed += number,
        }
        rest = &rest[at + number.len()..];
    }
    placed + rest
}

impl Proxy {
    async fn start(name: &str, gateway: &Gateway, app: &App) -> Proxy {
        let (folder, port) = (Folder::new(), free_port());
        let of = |origin: &str| origin.rsplit(':').next().unwrap().parse().unwrap();
        let ports =
            [("8000", port), ("8080", of(&gateway.address())), ("3000", of(&app.origin)), ("2019", free_port())];
        let home = folder.path("").display().to_string();
        let mut command = Command::new(name);
        if name == "nginx" {
            let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let paths: String = kinds.iter().map(|kind| format!("{kind}_temp_path {kind}; ")).collect();
            let text =
                placed(&read("nginx.conf"), &ports).replace("http {", &format!("http {{ access_log off; {paths}"));
            folder.write("nginx.conf", &text);
            let settings = "daemon off; master_process off; pid nginx.pid; error_log stderr;";
            command.args(["-p", &home, "-c", "nginx.conf", "-g", settings]);
        } else {
            let file = folder.write("Caddyfile", &placed(&read("Caddyfile"), &ports));
            command.args(["run", "--config", &file, "--adapter", "caddyfile"]);
        }
        for folder in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.env(folder, &home);
        }
        let out = std::fs::File::create(folder.path("log")).unwrap();
        let process = command.current_dir(&home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(out).spawn();
        let process = process.unwrap_or_else(|e| panic!("{name}: {e}; run ./test.sh once"));
        let proxy = Proxy { process, port, _folder: folder };
        until_so(name, async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        proxy
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl World {
    async fn start(proxy: &str) -> World {
        let (provider, app) = (provider().await, App::start().await);
        let env = [
            ("DOORWARD__PROVIDERS__CORP__ISSUER", provider.issuer()),
            ("DOORWARD__STORE__BACKEND", "memory"),
            ("CLIENT_SECRET", "doorward-secret"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let gateway = Gateway::of_text(&read("doorward.yaml"), &env).await;
        register(&provider, &format!("https://{HOST}"));
        let proxy = Proxy::start(proxy, &gateway, &app).await;
        World { provider, app, gateway, proxy }
    }

    async fn ask(&self, request: Request) -> Reply {
        Connection::open(&self.proxy.address(), &Secrets::default()).await.ask(&request.set("Host", HOST)).await
    }

    fn token(&self, user: &str) -> String {
        self.provider.issue_access_token(user, &IssueOptions::default())
    }

    /// Everything that the two files promise.
    async fn check(&self) {
        for request in [get("/x"), get("/x").with_all(&FORGED), get("/admin/x").with_all(&FORGED)] {
            assert_eq!(self.ask(request).await.outcome(), "401 login_required");
        }
        assert_eq!(self.ask(get("/x").bearer("no.such.token").page()).await.status, 401);
        self.check_a_login().await;
        self.check_forged_headers().await;
        let without_groups =
            IssueOptions { claims: crate::world::object(json!({"groups": null})), ..IssueOptions::default() };
        let without_groups = self.provider.issue_access_token("bob", &without_groups);
        assert_eq!(self.ask(get("/admin/x").bearer(&without_groups)).await.outcome(), "403 forbidden");
        let before = self.app.count();
        for path in ["/public/..%2fadmin/", "//admin/", "/public/%2e%2e/admin/"] {
            assert!([400, 401, 403].contains(&self.ask(get(path)).await.status), "{path}");
        }
        for path in ["/oauth2/auth", "/oauth2/%61uth", "/oauth2/forward", "/oauth2//auth"] {
            let reply = self.ask(get(path).bearer(&self.token("alice")).with_all(&FORGED)).await;
            assert!(reply.status >= 400, "{path}: {}", reply.status);
        }
        let page = self.ask(get("/oauth2/signed_out").page()).await;
        assert!(page.status == 200 && page.text().contains("You are signed out"), "{}", page.text());
        let posted = ask("POST", "/oauth2/backchannel_logout").body(b"logout_token=x");
        let posted = posted.with("Content-Type", "application/x-www-form-urlencoded");
        assert_eq!(self.ask(posted).await.status, 400, "the gateway read the form");
        assert_eq!(self.app.count(), before, "the app got none of these");
        let posted = self.ask(ask("POST", "/x").bearer(&self.token("alice")).body(b"the body")).await;
        assert_eq!((posted.status, self.app.last().body.as_slice()), (200, &b"the body"[..]));
    }

    async fn check_a_login(&self) {
        let mut person = Person::through(&self.gateway, &self.proxy.address(), HOST);
        let target = "/x?a=1&b=2%20c%26d";
        let begun = person.begin(target).await;
        let reply = person.go_back(&consent(&self.provider, &begun, "alice").await).await;
        assert_eq!((reply.status, reply.header("location")), (302, Some(target)));
        let asked = person.dressed(get("/x").page().with_all(&FORGED[..6]));
        assert_eq!(person.ask(&asked).await.status, 200);
        let told = self.app.last();
        assert_eq!(told.all("x-forwarded-user"), ["alice"]);
        assert_eq!(told.header("x-forwarded-groups"), Some("admins,dev"));
        assert!(told.all("cookie").iter().all(|cookie| !cookie.contains("__Host-doorward=")), "{told:?}");
        assert_eq!(person.visit("/oauth2/sign_out").await.status, 302);
        assert_eq!(person.ask(&asked).await.status, 302, "signed out here, too");
    }

    async fn check_forged_headers(&self) {
        let good = get("/x").bearer(&self.token("alice")).with_all(&FORGED);
        assert_eq!(self.ask(good).await.status, 200);
        let told = self.app.last();
        assert_eq!(told.all("x-forwarded-user"), ["alice"], "{told:?}");
        assert_eq!((told.header("authorization"), told.header("x-api-key-2")), (None, Some("kept")));
        assert_eq!(self.ask(get("/public/x").with_all(&FORGED)).await.status, 200);
        assert_eq!(self.app.last().header("x-forwarded-user").unwrap_or_default(), "");
        for received in [told, self.app.last()] {
            let forged = received.fields.iter().filter(|(_, value)| value.contains("root") || value == "HEAD");
            assert_eq!(forged.count(), 0, "{received:?}");
        }
    }

    /// Without an answer nothing passes.
    async fn check_that_it_fails_closed(mut self) {
        let (token, before) = (self.token("alice"), self.app.count());
        self.gateway.signal("KILL");
        self.gateway.ended().await;
        for path in ["/x", "/public/x"] {
            let refused = Connection::open(&self.proxy.address(), &Secrets::default()).await;
            let reply = { refused }.ask(&get(path).set("Host", HOST).bearer(&token)).await;
            assert!([500, 502].contains(&reply.status), "{path}: {}", reply.status);
        }
        assert_eq!(self.app.count(), before);
    }
}

#[tokio::test]
async fn nginx_asks_about_each_request() {
    let world = World::start("nginx").await;
    world.check().await;
    world.check_that_it_fails_closed().await;
}

#[tokio::test]
async fn caddy_asks_about_each_request() {
    let world = World::start("caddy").await;
    world.check().await;
    world.check_that_it_fails_closed().await;
}

/// What the document shows stands in the files.
#[test]
fn the_document_quotes_the_files() {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/forward-auth.md")).unwrap();
    let names = ["doorward.yaml", "nginx.conf", "Caddyfile", "traefik/traefik.yaml", "traefik/dynamic.yaml"];
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let files = names.map(|name| squeezed(&read(name)));
    let blocks = document.split("```").skip(1).step_by(2);
    let quoted = blocks
        .filter_map(|block| block.split_once('\n'))
        .filter(|(kind, text)| ["nginx", "yaml", ""].contains(kind) && !text.contains("metadata:"));
    let mut count = 0;
    for (_, text) in quoted {
        assert!(files.iter().any(|file| file.contains(&squeezed(text))), "no file has:\n{text}");
        count += 1;
    }
    assert_eq!(count, 7);
}
