//! What the commands tell an operator is what the gateway does: `explain`, `check`, `config`, `completions`, `man`.

use crate::client::ask;
use crate::gateway::{Config, Folder, run};
use crate::world::{PUBLIC, World};
use doorward::demo::IssueOptions;
use proptest::sample::select;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{self, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

const REQUESTS: usize = 240;
const METHODS: [&str; 5] = ["GET", "POST", "DELETE", "OPTIONS", "get"];
const HOSTS: [&str; 4] = ["app.test", "api.test", "APP.test:80", "other.test"];
const PATHS: [&str; 27] = [
    "/",
    "/public/x",
    "/public/../ruled/x",
    "/public%2fx",
    "/ruled/x?a=1",
    "/ruled/%61",
    "/ruled/scoped",
    "/items",
    "/items/1",
    "/items/%2e%2e/x",
    "/stripped/x%20y?q",
    "/cors/x",
    "/app/page",
    "/other",
    "/.doorward/logout",
    "/.doorward/nothing",
    "/oauth2/start?rd=/app/x",
    "/oauth2/sign_in",
    "/oauth2/callback?code=x&state=y",
    "/oauth2/sign_out",
    "/oauth2/signed_out",
    "/oauth2/userinfo",
    "/oauth2/auth",
    "/oauth2/frontchannel_logout?iss=x",
    "/oauth2/backchannel_logout",
    "/%00",
    "/%zz",
];
/// Who asks: nobody, or somebody with these claims.
const CLAIMS: [&str; 4] =
    ["", r#"{}"#, r#"{"groups": ["ops"], "email": "a@b.test"}"#, r#"{"groups": ["dev"], "scope": "read"}"#];
/// The client of these tests asks for JSON, where it is not told otherwise.
const HEADERS: [&str; 5] = [
    "Accept: application/json",
    "Origin: https://a.test",
    "Accept: text/html",
    "X-Forwarded-User: mallory",
    "Access-Control-Request-Method: PUT",
];
/// What a gateway tells an app, and a client might.
const TOLD: [&str; 3] = ["x-forwarded-", "x-real-ip", "forwarded"];

fn routes(config: Config, origin: &str) -> Config {
    let bearer = |keys: &str| format!("auth: {{accept: [bearer]}}, {keys}");
    config
        .route("ruled", "http://app.test/ruled/", origin, &bearer("require: {groups: [ops]}"))
        .route("scoped", "http://app.test/ruled/scoped", origin, &bearer("require: {scopes: [read]}"))
        .route("items", "http://app.test/items/", origin, &bearer("methods: [GET, HEAD]"))
        .route(
            "write",
            "http://app.test/items/",
            origin,
            &bearer("methods: [POST], require: {email_domains: [b.test]}"),
        )
        .route(
            "stripped",
            "http://app.test/stripped/",
            origin,
            "auth: public, upstream: {strip_prefix: true, preserve_host: false}",
        )
        .route("cors", "http://app.test/cors/", origin, &bearer("cors: {origins: [\"https://a.test\"]}"))
        .route("person", "http://app.test/app/", origin, "auth: {provider: corp, accept: [session, bearer]}")
        .route("api", "http://api.test/ruled/", origin, PUBLIC)
}

struct Judged<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    claims: &'a str,
    header: &'a str,
}

impl Judged<'_> {
    /// What `explain` says; also that its exit code agrees with it.
    async fn explained(&self, folder: &Folder) -> Value {
        let url = format!("http://{}{}", self.host, self.path);
        let mut arguments = vec!["explain", "--format", "json", self.method, &url];
        if !self.claims.is_empty() {
            folder.write("claims.json", &self.full_claims());
            arguments.extend(["--claims", "claims.json"]);
        }
        arguments.extend(["-H", self.header]);
        let (code, printed, complaint) = run(folder, &arguments, &[]).await;
        let told: Value = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed} {complaint}"));
        let outcome = told["answer"]["outcome"].as_str().unwrap();
        assert_eq!(code, if ["forwarded", "own_page"].contains(&outcome) { 0 } else { 3 }, "{told}");
        told
    }

    /// The token says who alice is; a file of claims must.
    fn full_claims(&self) -> String {
        let mut claims: Value = serde_json::from_str(self.claims).unwrap();
        claims["sub"] = json!("alice");
        let usual = [
            ("groups", json!(["admins", "dev"])),
            ("email", json!("alice@example.com")),
            ("preferred_username", json!("Alice Archer")),
        ];
        for (name, value) in usual {
            claims.as_object_mut().unwrap().entry(name).or_insert(value);
        }
        claims.to_string()
    }
}

#[tokio::test]
async fn explain_says_what_the_gateway_does() {
    let world = World::with(|config, app| routes(config, &app.origin)).await;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(test_runner::Config::default(), rng);
    let cases =
        (select(&METHODS[..]), select(&HOSTS[..]), select(&PATHS[..]), select(&CLAIMS[..]), select(&HEADERS[..]));
    let (mut forwarded, mut refused) = (0, 0);
    // Chance seldom makes a navigation to the login.
    let navigation = ("GET", "app.test", "/app/page", "", "Accept: text/html");
    let by_chance = (0..REQUESTS).map(|_| cases.new_tree(&mut runner).unwrap().current());
    for (method, host, path, claims, header) in std::iter::once(navigation).chain(by_chance) {
        let case = Judged { method, host, path, claims, header };
        let told = case.explained(&world.gateway.folder).await;
        let (name, value) = header.split_once(": ").unwrap();
        let mut request = ask(method, path).set("Host", host).set(name, value);
        if !claims.is_empty() {
            let claims = serde_json::from_str(&case.full_claims()).unwrap();
            let options = IssueOptions { claims, ..IssueOptions::default() };
            request = request.bearer(&world.provider.issue_access_token("alice", &options));
        }
        let before = world.app.count();
        let reply = world.ask(&request).await;
        let answer = &told["answer"];
        if path == "/oauth2/userinfo" && !claims.is_empty() {
            assert!([200, 404, 405].contains(&answer["status"].as_u64().unwrap()), "for a session: {told}");
            continue;
        }
        let what = format!("{method} {host}{path} {header} {claims}: {told}\n{} {:?}", reply.outcome(), reply.fields);
        assert_eq!(reply.header("x-doorward-reason"), answer["reason"].as_str(), "{what}");
        let is_forwarded = answer["outcome"] == "forwarded";
        assert_eq!(world.app.count() > before, is_forwarded, "{what}");
        if is_forwarded {
            forwarded += 1;
            let received = world.app.last();
            assert!(told["headers"].as_array().unwrap().iter().any(|header| header["name"] == "host"), "{what}");
            for header in told["headers"].as_array().unwrap() {
                let (name, value) = (header["name"].as_str().unwrap(), header["value"].as_str().unwrap());
                if name != "x-request-id" {
                    assert_eq!(received.header(name), Some(value), "{what}");
                }
            }
            for (name, _) in &received.fields {
                let name = name.to_ascii_lowercase();
                let is_told = told["headers"].as_array().unwrap().iter().any(|header| header["name"] == name);
                assert!(is_told || !TOLD.iter().any(|told| name.starts_with(told)), "{name} is not told: {what}");
            }
        } else {
            refused += 1;
            assert_eq!(json!(reply.status), answer["status"], "{what}");
        }
    }
    assert!(forwarded > 30 && refused > 40, "{forwarded} forwarded, {refused} refused");
}

/// Each answer, for claims and a URL; the header is of nobody without claims.
#[tokio::test]
async fn explain_assumes_a_credential_that_the_route_accepts() {
    let folder = Folder::new();
    let provider = |name: &str| {
        format!(
            "  {name}: {{issuer: \"https://{name}.test\", client_id: gate, client_secret: 0123456789abcdef, \
             claims: {{user: {name}_user}}}}\n"
        )
    };
    let route = |name: &str, keys: &str| {
        format!("  - {{name: {name}, from: \"http://app.test/{name}/\", to: \"http://127.0.0.1:1\", {keys}}}\n")
    };
    let text = [
        "listen: [{address: \"127.0.0.1:8080\", redirect_to_https: true}, \"127.0.0.1:8081\"]\nproviders:\n".to_owned(),
        provider("alpha"),
        provider("zeta"),
        "routes:\n".into(),
        route("bearer", "auth: {provider: zeta, accept: [bearer]}"),
        route("either", "auth: {provider: [alpha, zeta], accept: [session]}"),
        route("key", "auth: {accept: [api_key]}, require: {claims: {level: [a]}}"),
        route("groups", "auth: {provider: zeta, accept: [session]}, require: {groups: [a]}"),
    ];
    folder.write("config.yaml", &text.concat());
    let of = |name: &str| format!("{{\"iss\": \"https://{name}.test\", \"{name}_user\": \"u\"}}");
    let overage = "{\"zeta_user\": \"u\", \"_claim_names\": {\"groups\": \"src1\"}}".to_owned();
    for (claims, place, line) in [
        (of("alpha"), ":8081/bearer/", "answer: 401 unauthorized invalid_token"),
        (of("zeta"), ":8081/bearer/", "header: x-forwarded-user: u"),
        ("{\"zeta_user\": \"u\"}".into(), ":8081/bearer/", "header: x-forwarded-user: u"),
        (of("zeta"), ":8081/either/", "header: x-forwarded-user: u"),
        (of("alpha"), ":8081/either/", "header: x-forwarded-user: u"),
        ("{}".into(), ":8081/either/", "credential: none: the claims lack the one that is mapped to `user`"),
        (
            "{\"user\": \"u\", \"level\": \"a\"}".into(),
            ":8081/key/",
            "rule claims.level: no (wanted any of a, has none)",
        ),
        (
            overage,
            ":8081/groups/",
            "rule groups: no (wanted any of a, has overage: the provider leaves the groups out, there are too many of them)",
        ),
        ("{}".into(), "/either/", "answer: 308 own_page"),
        ("{}".into(), ":8080/either/", "answer: 308 own_page"),
    ] {
        folder.write("claims.json", &claims);
        let url = format!("http://app.test{place}");
        let (_, told, complaint) = run(&folder, &["explain", "--claims", "claims.json", "GET", &url], &[]).await;
        assert!(told.lines().any(|known| known == line), "{claims} {place}: {line}\n{told}{complaint}");
    }
}

/// Good, with a warning: the secret is short.
const TEXT: &str = "\
listen: [\"127.0.0.1:8443\"]
store: {backend: memory}
client_ip: {trusted_proxies: [\"10.0.0.0/8\"]}
providers:
  corp: {issuer: \"https://id.test\", client_id: gate, client_secret: short-secret, audiences: [apps]}
routes:
  - {name: main, from: \"http://app.test/\", to: \"http://127.0.0.1:1\", auth: {accept: [bearer]}, require: {emails: [\"a@b.test\"]}}
";

#[tokio::test]
async fn check_is_told_to_programs() {
    let folder = Folder::new();
    folder.write("good.yaml", TEXT);
    folder.write("bad.yaml", &TEXT.replace("backend", "backed").replace("routes:", "odd: 1\nroutes:"));
    let (code, printed, _) = run(&folder, &["check", "-c", "bad.yaml", "--format", "json"], &[]).await;
    let all: Value = serde_json::from_str(&printed).unwrap();
    let (mistakes, warnings): (Vec<_>, Vec<_>) =
        all.as_array().unwrap().iter().partition(|problem| problem["severity"] == "error");
    assert!(!warnings.is_empty() && warnings.iter().all(|problem| problem["severity"] == "warning"), "{all}");
    let places = mistakes.iter().map(|p| (p["line"].clone(), p["column"].clone(), p["path"].clone()));
    let expected = [(json!(2), json!(9), json!("store.backed")), (json!(6), json!(1), json!("odd"))];
    assert_eq!(places.collect::<Vec<_>>(), expected);
    assert!(all[0]["file"] == "bad.yaml" && all[0]["severity"] == "error" && all[0]["message"].is_string(), "{all}");
    assert_eq!(code, 2);
    let (code, printed, _) = run(&folder, &["-c", "good.yaml", "check", "--format", "json"], &[]).await;
    let warnings: Value = serde_json::from_str(&printed).unwrap();
    assert!(code == 0 && warnings[0]["severity"] == "warning", "{printed}");
    for (arguments, expected) in
        [(&["check", "-c", "good.yaml"][..], 0), (&["check", "-c", "good.yaml", "--strict"], 2)]
    {
        let (code, _, complaint) = run(&folder, arguments, &[]).await;
        assert_eq!(code, expected, "{complaint}");
    }
}

#[tokio::test]
async fn a_configuration_is_read_from_standard_input() {
    let folder = Folder::new();
    for (text, code) in [(TEXT.to_owned(), 0), (TEXT.replace("backend", "backed"), 2)] {
        let path = folder.write("any.yaml", &text);
        let mut command = crate::gateway::doorward(&folder);
        let output = command.args(["check", "-c", "-"]).stdin(std::fs::File::open(path).unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[tokio::test]
async fn config_says_where_each_value_is_from_and_no_secret() {
    let folder = Folder::new();
    let key = "api_keys: [{id: 0123456789ab, digest: ".to_owned()
        + &"a".repeat(64)
        + ", user: u, expires_at: 2031-01-31T00:00:00Z}]\n";
    let more = key
        + "tracing: {otlp: \"http://c.test/${env:COLLECTOR}?key=the-key\"}\npages: {name: \"${env:NAME} $${env:X}\"}\nlogging: {level: \"${env:LEVEL:-warn}\"}\n";
    let text = TEXT.replace("require:", "headers: {set: {X-Team: \"team ${env:TEAM}\"}}, require:");
    folder.write("config.yaml", &format!("{text}{more}"));
    let env = [
        ("DOORWARD__SHUTDOWN_GRACE", "7s"),
        ("DOORWARD__CLIENT_IP__TRUSTED_PROXIES__0", "192.0.2.0/24"),
        ("DOORWARD__ADMIN__TOKEN", "the-admin-token-of-these-tests"),
        ("NAME", "a ${env:Y} name"),
        ("TEAM", "what-a-reference-holds"),
        ("COLLECTOR", "what-a-path-holds"),
        ("DOORWARD__PROVIDERS__CORP__AUTHORIZATION_PARAMS__X", "what-a-variable-holds"),
    ];
    let (code, printed, complaint) = run(&folder, &["config"], &env).await;
    assert_eq!(code, 0, "{complaint}");
    let held = ["what-a-reference-holds", "what-a-path-holds", "what-a-variable-holds"];
    for secret in ["short-secret", "the-admin-token-of-these-tests", "the-key"].iter().chain(&held) {
        assert!(!printed.contains(secret), "{printed}");
    }
    for line in [
        "client_secret: \"***\"  # config.yaml:5",
        "shutdown_grace: \"7s\"  # env:DOORWARD__SHUTDOWN_GRACE",
        "shutdown_delay: \"0s\"  # default",
        "trusted_proxies: [\"192.0.2.0/24\"]  # config.yaml:3, env:DOORWARD__CLIENT_IP__TRUSTED_PROXIES__0",
        "expires_at: \"2031-01-31T00:00:00Z\"  # config.yaml:8",
        "- address: \"127.0.0.1:8443\"  # config.yaml:1",
        "backend: memory  # config.yaml:2",
        "level: warn  # config.yaml:11, env:LEVEL",
        r#"otlp: "http://c.test/${env:COLLECTOR}?***"  # config.yaml:9, env:COLLECTOR"#,
        r#"x: "***"  # env:DOORWARD__PROVIDERS__CORP__AUTHORIZATION_PARAMS__X"#,
        r#"name: "a $${env:Y} name $${env:X}"  # config.yaml:10, env:NAME"#,
        r#"X-Team: "team ${env:TEAM}"  # config.yaml:7, env:TEAM"#,
    ] {
        assert!(printed.lines().any(|known| known.trim() == line), "{line}: {printed}");
    }
    // What is printed is a configuration itself, with the same values, once it has its secrets.
    folder.write("again.yaml", &printed);
    let (code, again, complaint) = run(&folder, &["config", "-c", "again.yaml"], &env).await;
    assert_eq!(code, 0, "{complaint}");
    let values = |text: &str| text.lines().map(|line| line.split("  #").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&printed), values(&again));
}

#[tokio::test]
async fn explain_reads_a_url_as_clients_do() {
    let folder = Folder::new();
    folder.write(
        "config.yaml",
        "routes:\n  - {name: main, from: \"http://app.test/a\", to: \"http://127.0.0.1:1\", auth: public}\n",
    );
    for (url, more, answer) in [
        ("http://app.test/a#/b", &[][..], Some("200 forwarded")),
        ("http://app.test/a?x#y", &[], Some("200 forwarded")),
        ("http://app.test?x=/a", &[], Some("404 no_route no_route")),
        ("http://other.test/a", &["-H", "Host: app.test"], Some("200 forwarded")),
        ("http://alice:x@app.test/a", &[], None),
    ] {
        let arguments = [&["explain", "GET", url][..], more].concat();
        let (code, printed, complaint) = run(&folder, &arguments, &[]).await;
        assert_eq!(printed.lines().find_map(|line| line.strip_prefix("answer: ")), answer, "{url}: {printed}");
        assert!(answer.is_some() || code == 2 && complaint.contains("as a header"), "{url}: {complaint}");
    }
}

/// Every whole configuration of the documents.
#[tokio::test]
async fn examples_in_documents_are_good() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let folder = Folder::new();
    let mut checked = 0;
    for document in documents.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = std::fs::read_to_string(&document).unwrap();
        let blocks = text.split("\n```yaml\n").skip(1).filter_map(|rest| rest.split_once("\n```"));
        let is_whole = |block: &str| ["providers:", "routes:"].iter().all(|key| block.lines().any(|line| line == *key));
        for (block, _) in blocks.filter(|(block, _)| is_whole(block)) {
            folder.write("config.yaml", block);
            let env = [("CLIENT_SECRET", "a-secret-of-the-client-in-the-docs")];
            let (code, printed, complaint) = run(&folder, &["check", "--strict"], &env).await;
            assert_eq!(code, 0, "{}:\n{block}\n{printed}{complaint}", document.display());
            checked += 1;
        }
    }
    assert!(checked >= 10, "{checked}");
}

#[tokio::test]
async fn shells_and_man_know_every_command() {
    let folder = Folder::new();
    let commands = ["check", "explain", "config", "completions", "man", "api-key", "schema"];
    for arguments in [&["completions", "bash"][..], &["completions", "zsh"], &["completions", "fish"], &["man"]] {
        let (code, printed, _) = run(&folder, arguments, &[]).await;
        assert_eq!(code, 0);
        let printed = printed.replace('\\', "");
        commands.iter().for_each(|command| assert!(printed.contains(command), "{arguments:?}: {command}"));
        assert!(printed.contains("peer"), "{arguments:?}: the options of `explain`");
    }
}

#[tokio::test]
async fn another_gateways_configuration_is_carried_over() {
    let folder = Folder::new();
    folder.write(
        "oauth2-proxy.cfg",
        "provider = \"oidc\"\noidc_issuer_url = \"https://id.test\"\nclient_id = \"gate\"\nclient_secret = \"0123456789abcdef\"\n\
         redirect_url = \"https://app.test/oauth2/callback\"\nupstreams = [\"http://127.0.0.1:8080/\"]\nhtpasswd_file = \"x\"\n",
    );
    folder.write("broken.cfg", "upstreams = [");
    let (code, printed, complaint) = run(&folder, &["import", "oauth2-proxy", "oauth2-proxy.cfg"], &[]).await;
    assert_eq!((code, complaint.lines().count()), (0, 1), "{complaint}");
    assert!(complaint.starts_with("htpasswd_file: ") && printed.starts_with("# not carried over: htpasswd_file: "));
    folder.write("config.yaml", &printed);
    let (code, _, complaint) = run(&folder, &["check", "--strict"], &[]).await;
    assert_eq!(code, 0, "{complaint}\n{printed}");
    let (code, told, _) = run(&folder, &["explain", "GET", "https://app.test/x", "-H", "Accept: text/html"], &[]).await;
    assert!(code == 3 && told.contains("answer: 302 login"), "{told}");
    for file in ["broken.cfg", "nowhere.cfg"] {
        let (code, printed, complaint) = run(&folder, &["import", "oauth2-proxy", "oauth2-proxy.cfg", file], &[]).await;
        assert!(code == 2 && printed.is_empty() && complaint.starts_with(file), "{complaint}");
    }
}

/// What another proxy would be told of a request that it asks about.
#[tokio::test]
async fn explain_answers_questions_of_proxies() {
    let folder = Folder::new();
    folder.write(
        "config.yaml",
        "client_ip: {trusted_proxies: [192.0.2.0/24]}\nproviders: {corp: {issuer: https://id.test, client_id: gate, \
         client_secret: 0123456789abcdef}}\nroutes:\n  - {name: main, from: \"http://app.test/\", to: \
         \"http://127.0.0.1:1\", require: {groups: [ops]}}\n  - {name: open, from: \"http://app.test/public/\", to: \
         \"http://127.0.0.1:1\", auth: public}\n",
    );
    folder.write("ops.json", r#"{"sub": "alice", "groups": ["ops"]}"#);
    folder.write("dev.json", r#"{"sub": "alice", "groups": ["dev"]}"#);
    let (page, program) = (["-H", "Accept: text/html"], ["-H", "Accept: application/json"]);
    for (endpoint, peer, uri, more, answer) in [
        ("auth", "192.0.2.1", "/x", &program[..], "401 unauthorized login_required"),
        ("forward", "192.0.2.1", "/x", &program, "401 unauthorized login_required"),
        ("auth", "192.0.2.1", "/x", &page, "401 unauthorized login_required"),
        ("forward", "192.0.2.1", "/x", &page, "302 login login_required"),
        ("auth", "192.0.2.1", "/x", &["--claims", "ops.json"], "202 own_page"),
        ("auth?allowed_groups=ops", "192.0.2.1", "/x", &["--claims", "ops.json"], "202 own_page"),
        ("auth?allowed_groups=root", "192.0.2.1", "/x", &["--claims", "ops.json"], "403 forbidden forbidden"),
        ("auth?allowed_groups=ops", "192.0.2.1", "/public/x", &[], "403 forbidden forbidden"),
        ("auth?groups=ops", "192.0.2.1", "/x", &["--claims", "ops.json"], "403 bad_request bad_request"),
        ("forward", "192.0.2.1", "/x", &["--claims", "dev.json"], "403 forbidden forbidden"),
        ("forward", "192.0.2.1", "/public/x", &[], "202 own_page"),
        ("forward?x=1", "192.0.2.1", "/public/x", &[], "202 own_page"),
        ("auth", "192.0.2.1", "/public%2f..%2fx", &[], "403 bad_request bad_request"),
        ("forward", "192.0.2.1", "/public%2f..%2fx", &[], "400 bad_request bad_request"),
        ("forward", "198.51.100.1", "/x", &[], "403 bad_request bad_request"),
        ("forward", "192.0.2.1", "/oauth2/start", &[], "302 login login_required"),
        ("forward", "192.0.2.1", "/oauth2/signed_out", &[], "401 own_page"),
        ("forward", "192.0.2.1", "/oauth2/forward", &[], "403 bad_request bad_request"),
        ("auth", "192.0.2.1", "/oauth2/auth", &[], "403 bad_request bad_request"),
        ("auth", "192.0.2.1", "/oauth2/signed_out", &[], "403 bad_request bad_request"),
    ] {
        let uri = format!("X-Forwarded-Uri: {uri}");
        let url = format!("http://app.test/oauth2/{endpoint}");
        let mut arguments = vec!["explain", "--peer", peer, "GET", &url, "-H", "X-Forwarded-Method: GET"];
        arguments.extend(["-H", "X-Forwarded-Host: app.test", "-H", &uri]);
        arguments.extend(more);
        let (_, printed, complaint) = run(&folder, &arguments, &[]).await;
        let told = printed.lines().find_map(|line| line.strip_prefix("answer: "));
        assert_eq!(told, Some(answer), "{endpoint} {peer} {uri} {more:?}: {printed}{complaint}");
    }
}
