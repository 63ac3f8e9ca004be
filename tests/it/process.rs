//! How the process begins and ends: exit codes, what is printed, and that nobody who is being served is cut off.

use crate::client::{Connection, Secrets, get};
use crate::gateway::{Folder, Gateway, run};
use crate::wait::{free_port, stays_silent, until_so};
use crate::world::{World, usual};
use std::time::{Duration, Instant};

/// A configuration that is good as it stands.
fn good(port: u16, admin: u16) -> String {
    format!(
        "listen: [\"127.0.0.1:{port}\"]\nadmin: {{address: \"127.0.0.1:{admin}\"}}\nstore: {{backend: memory}}\n\
         routes:\n  - {{name: main, from: \"http://app.test/\", to: \"http://127.0.0.1:1\", auth: public}}\n"
    )
}

#[tokio::test]
async fn a_taken_port_ends_the_process_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (listen, admin) in [(port, free_port()), (free_port(), port)] {
        let folder = Folder::new();
        folder.write("config.yaml", &good(listen, admin));
        let begun = Instant::now();
        let (code, _, complaint) = run(&folder, &["run"], &[]).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(code, 1, "{complaint}");
        assert!(complaint.contains(&format!("127.0.0.1:{port}")), "{complaint}");
    }
}

#[tokio::test]
async fn a_bad_configuration_is_told_with_its_place() {
    let text = good(free_port(), free_port());
    for (bad, place) in [
        (text.replace("auth: public", "auth: publick"), "config.yaml:5:"),
        (format!("{text}odd: 1\n"), "config.yaml:6:1: odd"),
        (text.replace("http://127.0.0.1:1", "gopher://x"), "config.yaml:5:"),
        (text.replace("127.0.0.1:1\"", "${env:NOT_SET}\""), "NOT_SET"),
        ("listen: [".to_owned(), "config.yaml:1:"),
        (text.replace("auth: public", "auth: {provider: nobody}"), "nobody"),
    ] {
        let folder = Folder::new();
        folder.write("config.yaml", &bad);
        for arguments in [&["run", "-c", "config.yaml"][..], &["-c", "config.yaml"], &[]] {
            let (code, _, complaint) = run(&folder, arguments, &[]).await;
            assert_eq!(code, 2, "{complaint}");
            assert!(complaint.lines().any(|line| line.contains(place)), "{place}: {complaint}");
        }
        let (code, printed, _) = run(&folder, &["check"], &[]).await;
        assert_eq!(code, 2);
        assert!(printed.contains(place), "{place}: {printed}");
    }
    let (code, _, complaint) = run(&Folder::new(), &["run", "-c", "none.yaml"], &[]).await;
    assert!(code == 2 && complaint.contains("none.yaml"), "{code}: {complaint}");
}

#[tokio::test]
async fn check_prints_every_mistake_and_contacts_nothing() {
    let asked = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", asked.local_addr().unwrap());
    let text = format!(
        "listen: [\"127.0.0.1:1\"]
workers: many
providers:
  corp: {{issuer: \"{origin}\", client_id: doorward, client_secret: s, clock_skew: 1 minute}}
routes:
  - {{name: one, from: \"http://app.test/\", to: \"{origin}\", auth: {{provider: nobody}}}}
  - {{name: two, from: \"http://app.test/two/\", to: \"{origin}\", auth: public, unknown: 1}}
  - {{name: two, from: \"http://app.test/three/\", to: \"{origin}\", auth: public}}
"
    );
    let folder = Folder::new();
    folder.write("bad.yaml", &text);
    let (code, printed, complaint) = run(&folder, &["check", "-c", "bad.yaml"], &[]).await;
    assert_eq!(code, 2);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 5, "{printed}{complaint}");
    let expected = [
        ("bad.yaml:2:", "workers"),
        ("bad.yaml:4:", "providers.corp.clock_skew"),
        ("bad.yaml:6:", "routes.0.auth.provider"),
        ("bad.yaml:7:", "routes.1"),
        ("bad.yaml:8:", "routes.2.name"),
    ];
    for (line, (place, path)) in lines.iter().zip(expected) {
        assert!(line.starts_with(place) && line.contains(&format!(": {path}")), "{place} {path}: {line}");
    }
    let mend = text.replace("many", "1").replace("1 minute", "1m").replace("provider: nobody", "provider: corp");
    folder.write("good.yaml", &mend.replace(", unknown: 1", "").replacen("name: two", "name: other", 1));
    let (code, printed, complaint) = run(&folder, &["check", "-c", "good.yaml"], &[]).await;
    assert_eq!(code, 0, "{printed}{complaint}");
    assert!(stays_silent(asked.accept()).await, "nobody is contacted");
}

/// The environment stands over the file, and what leads nowhere is refused.
#[tokio::test]
async fn the_environment_overrides_the_file() {
    let folder = Folder::new();
    folder.write("config.yaml", &good(1, 2));
    for (name, value, code, told) in [
        ("DOORWARD__LOGGING__LEVEL", "debug", 0, "good"),
        ("DOORWARD__LOGGING__LEVEL", "loud", 2, "env:DOORWARD__LOGGING__LEVEL"),
        ("DOORWARD__NO__SUCH_KEY", "1", 2, "env:DOORWARD__NO__SUCH_KEY"),
        ("DOORWARD__ROUTES__0__TO", "http://127.0.0.1:2", 0, "good"),
        ("DOORWARD__ROUTES__7__TO", "http://127.0.0.1:2", 2, "env:DOORWARD__ROUTES__7__TO"),
    ] {
        let (got, printed, _) = run(&folder, &["check"], &[(name, value)]).await;
        assert!(got == code && printed.contains(told), "{name}={value}: {got} {printed}");
    }
}

#[tokio::test]
async fn the_schema_knows_every_key() {
    let (code, printed, _) = run(&Folder::new(), &["schema"], &[]).await;
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&printed).unwrap();
    for key in ["listen", "admin", "providers", "routes", "session", "store", "caches", "limits", "api_keys"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

/// SIGTERM: nobody new is let in, who is being served is served, and the process ends with 0.
#[tokio::test]
async fn a_request_in_flight_is_finished_before_the_end() {
    for signal in ["TERM", "INT"] {
        let World { provider: _provider, app, mut gateway } = World::start().await;
        let mut idle = gateway.connect().await;
        assert_eq!(idle.ask(&get("/public/x")).await.status, 200);
        let mut slow = gateway.connect().await;
        slow.send(&get("/public/slow").with("X-App", "wait")).await;
        until_so("the request at the app", async || app.count() == 2).await;
        gateway.signal(signal);
        let address = gateway.address();
        until_so("new connections refused", async || tokio::net::TcpStream::connect(&address).await.is_err()).await;
        app.say_the_word();
        let reply = slow.reply().await.expect("the answer to the request in flight");
        assert_eq!((reply.status, reply.header("x-answered-by")), (200, Some("app")), "{signal}");
        assert_eq!(gateway.ended().await.code(), Some(0), "{signal}: {}", gateway.log());
    }
}

/// Probes learn of the drain: nobody new is to be sent here.
#[tokio::test]
async fn a_draining_gateway_is_not_ready() {
    let World { provider: _provider, app, mut gateway } = World::start().await;
    let mut slow = gateway.connect().await;
    slow.send(&get("/public/slow").with("X-App", "wait")).await;
    until_so("the request at the app", async || app.count() == 1).await;
    gateway.signal("TERM");
    until_so("readiness is over", async || gateway.admin("/readyz").await.status == 503).await;
    assert_eq!(gateway.admin("/readyz").await.json()["draining"], true);
    assert_eq!(gateway.admin("/livez").await.status, 200);
    app.say_the_word();
    assert_eq!(slow.reply().await.unwrap().status, 200);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

/// What takes longer than `shutdown_grace` is cut.
#[tokio::test]
async fn what_outlives_the_grace_is_cut() {
    let (provider, app) = (crate::world::provider().await, crate::app::App::start().await);
    let mut gateway = Gateway::start(&usual(&provider, &app).more("shutdown_grace: 1s")).await;
    let mut stuck = gateway.connect().await;
    stuck.send(&get("/public/stuck").with("X-App", "never")).await;
    until_so("the request at the app", async || app.count() == 1).await;
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    let took = begun.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert!(stuck.reply().await.is_none_or(|reply| reply.status >= 500), "cut, or told so");
    assert!(gateway.log().contains("\"path\":\"/public/stuck\""), "it has its line in the access log");
}

/// A process with nothing in flight ends at once, whatever connections are open.
#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let World { provider: _provider, app: _app, mut gateway } = World::start().await;
    let mut idle = gateway.connect().await;
    assert_eq!(idle.ask(&get("/public/x")).await.status, 200);
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(idle.rest().await, b"");
}

/// Whoever is answered in the drain is told that the connection ends: another request on it would be lost.
#[tokio::test]
async fn answers_of_a_draining_gateway_say_close() {
    let World { provider: _provider, app, mut gateway } = World::start().await;
    let (mut slow, mut kept) = (gateway.connect().await, gateway.connect().await);
    assert_eq!(kept.ask(&get("/public/x")).await.header("connection"), Some("keep-alive"));
    slow.send(&get("/public/slow").with("X-App", "wait")).await;
    kept.send(&get("/public/slow").with("X-App", "wait")).await;
    until_so("the requests at the app", async || app.count() == 3).await;
    gateway.signal("TERM");
    until_so("the drain", async || gateway.admin("/readyz").await.json()["draining"] == true).await;
    (0..2).for_each(|_| app.say_the_word());
    for connection in [&mut slow, &mut kept] {
        let reply = connection.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
}

/// `shutdown_delay`: balancers learn of the end before it begins, and all is served as before meanwhile.
#[tokio::test]
async fn the_end_is_told_before_it_begins() {
    let (provider, app) = (crate::world::provider().await, crate::app::App::start().await);
    let mut gateway = Gateway::start(&usual(&provider, &app).more("shutdown_delay: 2s")).await;
    let mut kept = gateway.connect().await;
    assert_eq!(kept.ask(&get("/public/x")).await.status, 200);
    gateway.signal("USR1");
    let begun = Instant::now();
    gateway.signal("TERM");
    until_so("readiness is over", async || gateway.admin("/readyz").await.status == 503).await;
    let reply = kept.ask(&get("/public/x")).await;
    assert_eq!(
        (reply.status, reply.header("connection")),
        (200, Some("close")),
        "served as before, and the last on this connection"
    );
    assert_eq!(gateway.ask(&get("/public/x")).await.status, 200, "who is new is served");
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!((Duration::from_millis(1_900)..Duration::from_secs(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

/// A hand-over costs nobody a request, and the new process knows its provider's keys before it takes the first.
#[tokio::test]
async fn a_hand_over_costs_no_request() {
    let World { provider: _provider, app, mut gateway } = World::start().await;
    let token = _provider.issue_access_token("alice", &doorward::demo::IssueOptions::default());
    let (address, secrets) = (gateway.address(), gateway.secrets.clone());
    let asking = tokio::spawn({
        let token = token.clone();
        async move {
            let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
            loop {
                let mut connection = Connection::open(&address, &secrets).await;
                let status = connection.ask(&get("/x").bearer(&token).with("Connection", "close")).await.status;
                *statuses.entry(status).or_default() += 1;
                if status != 200 {
                    return statuses;
                }
            }
        }
    });
    gateway.upgrade().await;
    let before = app.count();
    until_so("requests of the new process", async || app.count() > before + 100).await;
    assert!(!asking.is_finished(), "{:?}", asking.await);
    asking.abort();
    assert_eq!(gateway.ask(&get("/x").bearer(&token)).await.status, 200);
    assert_eq!(gateway.admin("/readyz").await.status, 200);
}

/// Probes hear that a process is ready when every listener takes connections.
#[tokio::test]
async fn who_is_ready_accepts() {
    let (provider, app) = (crate::world::provider().await, crate::app::App::start().await);
    for _ in 0..5 {
        let config = usual(&provider, &app).more("workers: 4").another_listener("");
        let gateway = Gateway::start_at_readiness(&config).await;
        for listener in 0..2 {
            let opened = tokio::net::TcpStream::connect(gateway.address_of(listener)).await;
            assert!(opened.is_ok(), "{opened:?}");
        }
    }
}

/// `doorward demo`: everything in one process, as it is printed.
#[tokio::test]
async fn the_demo_serves_what_it_prints() {
    let folder = Folder::new();
    let port = free_port();
    let out = std::fs::File::create(folder.path("out")).unwrap();
    let mut command = tokio::process::Command::from(crate::gateway::doorward(&folder));
    let mut demo = command
        .args(["demo", "--port", &port.to_string()])
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let address = format!("127.0.0.1:{port}");
    until_so("the demo listens", async || tokio::net::TcpStream::connect(&address).await.is_ok()).await;
    let printed = folder.read("out");
    let token = printed.split("Bearer ").nth(1).and_then(|rest| rest.split('"').next()).expect("a token is printed");
    let host = format!("localhost:{port}");
    let secrets = Secrets::default();
    for (request, status) in [(get("/").bearer(token), 200), (get("/"), 401), (get("/public/"), 200)] {
        let request = request.set("Host", &host);
        until_so("the demo's answer", async || {
            Connection::open(&address, &secrets).await.ask(&request).await.status == status
        })
        .await;
    }
    demo.start_kill().unwrap();
    demo.wait().await.unwrap();
}
