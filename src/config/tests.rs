mod corpus;

use super::*;

const GOOD: &str = "\
listen:
  - address: 127.0.0.1:8080
admin:
  address: 127.0.0.1:9080
providers:
  corp:
    issuer: https://id.test/
    client_id: doorward
    client_secret: secret
routes:
  - name: main
    from: https://app.test/
    to: http://127.0.0.1:3000
    auth:
      provider: corp
";

fn read(text: &str, env: &[(&str, &str)]) -> Result<Checked, Vec<String>> {
    let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mistakes = |all: Vec<Problem>| {
        all.iter().filter(|problem| !problem.is_warning()).map(ToString::to_string).collect::<Vec<_>>()
    };
    check(&Sources { file: Path::new("c.yaml"), text, env }).map_err(mistakes)
}

#[test]
fn warnings_are_told_beside_mistakes() {
    let text = with("to: ", "colour: red\n    to: ");
    let all = check(&Sources { file: Path::new("c.yaml"), text: &text, env: Vec::new() }).err().unwrap();
    assert_eq!(all.iter().map(Problem::is_warning).collect::<Vec<_>>(), [true, false], "{all:#?}");
}

#[test]
fn routes_that_a_port_alone_tells_apart_are_warned_of() {
    let warned = |of_the_second: &str| {
        let second =
            format!("  - {{name: b, from: 'http://app.test:8443/', to: 'http://127.0.0.1:1', {of_the_second}}}\n");
        let first = "  - {name: a, from: 'http://app.test/', to: 'http://127.0.0.1:1', auth: {accept: [bearer]}}\n";
        let head = GOOD.split_once("routes:\n").unwrap().0;
        let checked = read(&format!("{head}routes:\n{first}{second}"), &[]).unwrap_or_else(|all| panic!("{all:#?}"));
        checked.warnings.iter().any(|warning| warning.path == "routes.1.from")
    };
    assert!(warned("auth: public") && warned("auth: {accept: [bearer]}, require: {groups: [a]}"));
    assert!(warned("auth: {accept: [session, bearer]}") && !warned("auth: {accept: [bearer]}"));
}

/// Each problem starts with one of these, in this order, and there are no others.
fn refused(text: &str, env: &[(&str, &str)], expected: &[&str]) {
    let problems = read(text, env).err().unwrap_or_default();
    let told = problems.len() == expected.len()
        && problems.iter().zip(expected).all(|(problem, start)| problem.starts_with(start));
    assert!(told, "{problems:#?}\nexpected {expected:#?} in\n{text}");
}

fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    GOOD.replacen(old, new, 1)
}

#[test]
fn a_good_file_is_good() {
    let warned = |text: &str| -> Vec<String> {
        let checked = read(text, &[]).unwrap_or_else(|problems| panic!("{problems:#?}"));
        checked.warnings.iter().map(ToString::to_string).collect()
    };
    let long = with("client_secret: secret", "client_secret: a-secret-that-nobody-guesses");
    assert_eq!(warned(&long), [""; 0]);
    let short = warned(GOOD);
    assert!(short.len() == 1 && short[0].contains("providers.corp.client_secret: warning: is shorter"), "{short:?}");
    let shared = warned(&long.replace("routes:\n", "store: {backend: redis}\nroutes:\n"));
    assert!(shared.len() == 1 && shared[0].contains("set `store.secret`"), "{shared:?}");
    let checked = read(GOOD, &[]).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(checked.settings.routes[0].upstream.timeout.as_secs(), 60);
}

#[test]
fn a_mapped_network_is_an_ipv4_network() {
    let text = with("admin:\n", "client_ip: {trusted_proxies: ['::ffff:10.0.0.0/104', 'fd00::/8']}\nadmin:\n");
    let settings = read(&text, &[]).unwrap_or_else(|problems| panic!("{problems:#?}")).settings;
    let networks: Vec<String> = settings.file.client_ip.trusted_proxies.iter().map(|net| format!("{net:?}")).collect();
    assert_eq!(networks, ["Net(10.0.0.0/8)", "Net(fd00::/8)"]);
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let text = with("client_id: doorward", "client_idd: doorward")
        .replace("provider: corp\n", "provider: other\n")
        .replace("admin:\n", "shutdown_grace: soon\nadmin:\n")
        .replace("address: 127.0.0.1:9080", "address: here")
        .replace("to: http://127.0.0.1:3000", "to: gopher://x");
    refused(
        &text,
        &[],
        &[
            "c.yaml:3:1: shutdown_grace: `soon` is not a duration",
            "c.yaml:5:3: admin.address: `here` is not an address",
            "c.yaml:9:5: providers.corp.client_idd: unknown key; did you mean `client_id`?",
            "c.yaml:14:5: routes.0.to: is not the address of an app",
            "c.yaml:16:7: routes.0.auth.provider: no provider is called `other`; there is corp",
        ],
    );
}

#[test]
fn single_mistakes_stand_where_they_are() {
    for (old, new, expected) in [
        ("    to: http://127.0.0.1:3000\n", "", "c.yaml:11:5: routes.0.to: is required and missing"),
        ("    issuer: https://id.test/\n", "", "c.yaml:6:3: providers.corp.issuer: is required and missing"),
        ("issuer: https://id.test/", "issuer: [a]", "c.yaml:7:5: providers.corp.issuer: a list stands here"),
        (
            "  - address: 127.0.0.1:8080\n",
            "  - address: 127.0.0.1:8080\n    max_head: 64 horses\n",
            "c.yaml:3:5: listen.0.max_head: ",
        ),
        ("admin:\n", "workers: many\nadmin:\n", "c.yaml:3:1: workers: `many` is not a whole number"),
        ("admin:\n", "session: {max_age: 0s}\nadmin:\n", "c.yaml:3:11: session.max_age: must be longer than 0s"),
        (
            "admin:\n",
            "caches: {verified_tokens: {enabled: yes}}\nadmin:\n",
            "c.yaml:3:28: caches.verified_tokens.enabled: `yes` is neither true nor false",
        ),
        (
            "admin:\n",
            "client_ip: {trusted_proxies: [0.0.0.0/0]}\nadmin:\n",
            "c.yaml:3:31: client_ip.trusted_proxies.0: trusts everyone",
        ),
        ("admin:\n", "admin:\n", ""),
        (
            "provider: corp\n",
            "provider: corp\n    headers: {set: {Cookie: x}}\n",
            "c.yaml:16:21: routes.0.headers.set.Cookie: is set by the proxy itself",
        ),
        (
            "provider: corp\n",
            "provider: corp\n    headers: {set: {X-A: '{who}'}}\n",
            "c.yaml:16:21: routes.0.headers.set.X-A: unknown placeholder {who}",
        ),
        (
            "provider: corp\n",
            "accept: [session, magic]\n",
            "c.yaml:15:25: routes.0.auth.accept.1: `magic` is not one of session, bearer, api_key",
        ),
        ("from: https://app.test/", "from: /bare/", "c.yaml:12:5: routes.0.from: a bare path needs `public_url`"),
        (
            "from: https://app.test/",
            "from: https://app.test/oauth2/x",
            "c.yaml:12:5: routes.0.from: lies inside `auth_path`",
        ),
        (
            "    client_secret: secret\n",
            "",
            "c.yaml:6:3: providers.corp.client_secret: is required for this client_auth",
        ),
        (
            "    client_secret: secret\n",
            "    client_secret: ${env:NOT_SET}\n",
            "c.yaml:9:5: providers.corp.client_secret: the environment has no NOT_SET",
        ),
        (
            "    client_secret: secret\n",
            "    client_secret: ${file:none.txt}\n",
            "c.yaml:9:5: providers.corp.client_secret: the file none.txt cannot be read",
        ),
    ] {
        let expected: Vec<&str> = Some(expected).filter(|e| !e.is_empty()).into_iter().collect();
        refused(&with(old, new), &[], &expected);
    }
}

#[test]
fn what_is_no_configuration_is_told_in_one_line() {
    for (text, expected) in [
        ("listen: [", "c.yaml:1:"),
        ("- a\n- b\n", "c.yaml:1:1: a configuration is a mapping"),
        ("a: 1\na: 2\n", "c.yaml:2:1: the key `a` stands here a second time"),
        ("", "c.yaml:1:1: routes: is required and missing"),
        ("routes: &a [*a]\n", "c.yaml:1:13: an alias inside of its own anchor"),
    ] {
        refused(text, &[], &[expected]);
    }
    let bomb: String = (0..40).fold("a0: &a0 [x, x, x, x, x, x]\n".to_string(), |text, i| {
        format!("{text}a{}: &a{} [*a{i}, *a{i}, *a{i}]\n", i + 1, i + 1)
    });
    assert!(read(&bomb, &[]).is_err_and(|problems| problems[0].contains("too large once its aliases are resolved")));
}

#[test]
fn contradictions_are_told() {
    let more = |from: &str| {
        format!("provider: corp\n  - {{name: more, from: '{from}', to: 'http://127.0.0.1:1', auth: public}}\n")
    };
    for (new, expected) in [
        (
            "on_unauthenticated: pass\n    require: {groups: [a]}\n".to_string(),
            "c.yaml:15:7: routes.0.auth.on_unauthenticated: `pass` lets everyone in",
        ),
        (
            "accept: [bearer]\n      on_unauthenticated: login\n".into(),
            "c.yaml:16:7: routes.0.auth.on_unauthenticated: `login` ends in a session",
        ),
        (
            "provider: corp\n    require: {scopes: [a]}\n".into(),
            "c.yaml:16:15: routes.0.require.scopes: scopes belong to",
        ),
        (
            "provider: corp\n    cors: {origins: ['*'], credentials: true}\n".into(),
            "c.yaml:16:28: routes.0.cors.credentials: with `*`",
        ),
        (more("https://app.test/"), "c.yaml:16:18: routes.1.from: stands in the same place as routes.0"),
        (more("http://app.test"), "c.yaml:16:18: routes.1.from: differs only in its scheme from routes.0"),
        (
            more("https://app.test/b/").replace("name: more", "name: main"),
            "c.yaml:16:6: routes.1.name: `main` is the name of routes.0, too",
        ),
        (
            "provider: corp\nrefresh_dedup: {lease: 5s}\n".into(),
            "c.yaml:16:17: refresh_dedup.lease: must be longer than the timeout of every provider",
        ),
        (
            "provider: corp\nsession: {cookie: {domain: other.test}}\n".into(),
            "c.yaml:16:20: session.cookie.domain: `other.test` does not cover app.test",
        ),
        ("provider: corp\nstore: {secret: short}\n".into(), "c.yaml:16:9: store.secret: must have 32 bytes or more"),
        (
            "provider: corp\nstore: {backend: redis, redis: {key_prefix: 'app{1:'}}\n".into(),
            "c.yaml:16:33: store.redis.key_prefix: must have no braces",
        ),
        (
            "provider: corp\nclient_ip: {trusted_proxies: ['::ffff:0.0.0.0/96']}\n".into(),
            "c.yaml:16:31: client_ip.trusted_proxies.0: trusts everyone",
        ),
    ] {
        refused(&with("provider: corp\n", &new), &[], &[expected]);
    }
    for address in ["redis://:p@ss/w@h/0", "redis://h/x", "redis://h:port/0", "http://h/0"] {
        let new = format!("provider: corp\nstore: {{backend: redis, redis: {{urls: ['{address}']}}}}\n");
        refused(
            &with("provider: corp\n", &new),
            &[],
            &["c.yaml:16:40: store.redis.urls.0: is not an address of a Redis"],
        );
    }
    let half = "provider: corp\nstore: {backend: redis, redis: {certificate: c.pem}}\n";
    refused(&with("provider: corp\n", half), &[], &["c.yaml:16:25: store.redis.private_key: is missing"]);
    let redis = with("    client_secret: secret\n", "    client_auth: none\nstore: {backend: redis}\n");
    refused(&redis, &[], &["c.yaml:10:1: store.secret: is required"]);
    let callback = with(
        "    client_secret: secret\n",
        "    client_secret: secret\n    redirect_uri: https://login.test/oauth2/callback\n",
    );
    refused(&callback, &[], &["c.yaml:10:5: providers.corp.redirect_uri: ends logins on login.test"]);
}

#[test]
fn values_come_from_the_environment_and_from_files() {
    let secret = |value: &str, env: &[(&str, &str)]| {
        let text = with("client_id: doorward", &format!("client_id: {value}"));
        read(&text, env).map(|checked| checked.settings.file.providers["corp"].client_id.as_str().to_string())
    };
    assert_eq!(secret("${env:ID}", &[("ID", "one")]).as_deref(), Ok("one"));
    assert_eq!(secret("a-${env:ID:-two}-b", &[("ID", "")]).as_deref(), Ok("a-two-b"));
    assert_eq!(secret("'5$ a $ $$ ${x}'", &[]).as_deref(), Ok("5$ a $ $ ${x}"));
    assert_eq!(secret("${env:ID}", &[("ID", "${env:OTHER}")]).as_deref(), Ok("${env:OTHER}"), "replaced once");
    assert_eq!(secret("${file:Cargo.toml}", &[]).map(|text| text.starts_with("[package]")), Ok(true));
    assert!(
        secret("${file:/dev/zero}", &[]).is_err_and(|told| told.iter().any(|line| line.contains("longer than 1 MiB")))
    );
}

#[test]
fn any_scalar_can_be_overridden() {
    let env = [
        ("DOORWARD__CACHES__VERIFIED_TOKENS__ENABLED", "false"),
        ("DOORWARD__PROVIDERS__CORP__CLAIMS__USER", "email"),
        ("doorward__routes__0__upstream__timeout", "5s"),
        ("DOORWARD__LISTEN__0__ADDRESS", "127.0.0.1:1234"),
        ("DOORWARD__ROUTES__0__HEADERS__SET__X_A", "{user}"),
    ];

    let settings = read(GOOD, &env).unwrap_or_else(|problems| panic!("{problems:#?}")).settings;
    assert!(
        !settings.file.caches.verified_tokens.enabled && settings.listeners().next().unwrap().address.port() == 1234
    );
    assert_eq!(settings.file.providers["corp"].claims.user.as_str(), "email");
    assert_eq!(settings.routes[0].upstream.timeout.as_secs(), 5);
    for (name, value, expected) in [
        ("DOORWARD__NOTHING", "1", "env:DOORWARD__NOTHING: nothing: leads nowhere"),
        (
            "DOORWARD__PROVIDERS__OTHER__ISSUER",
            "x",
            "env:DOORWARD__PROVIDERS__OTHER__ISSUER: providers.other: leads nowhere; the file must have",
        ),
        ("DOORWARD__ROUTES__7__NAME", "x", "env:DOORWARD__ROUTES__7__NAME: routes.7: the list has 1 items"),
        ("DOORWARD__CACHES", "x", "env:DOORWARD__CACHES: caches: leads to no single value"),
        ("DOORWARD__SHUTDOWN_GRACE", "soon", "env:DOORWARD__SHUTDOWN_GRACE: shutdown_grace: `soon` is not a duration"),
    ] {
        refused(GOOD, &[(name, value)], &[expected]);
    }
    let twice = [("DOORWARD__AUTH_PATH", "/a"), ("Doorward__Auth_Path", "/b")];
    refused(GOOD, &twice, &["env:Doorward__Auth_Path: auth_path: DOORWARD__AUTH_PATH sets the same value"]);
    let whole_and_part = [("DOORWARD__LISTEN__0", "127.0.0.1:1"), ("DOORWARD__LISTEN__0__ADDRESS", "127.0.0.1:2")];
    let told = "env:DOORWARD__LISTEN__0__ADDRESS: listen.0.address: DOORWARD__LISTEN__0 sets the same value";
    refused(GOOD, &whole_and_part, &[told]);
    let both = [("DOORWARD__ROUTES__0__AUTH", "public"), ("DOORWARD__ROUTES__0__AUTH__PROVIDER", "corp")];
    let told =
        "env:DOORWARD__ROUTES__0__AUTH__PROVIDER: routes.0.auth.provider: DOORWARD__ROUTES__0__AUTH sets the same";
    refused(GOOD, &both, &[told]);
}

#[test]
fn keys_of_the_file_are_such_as_the_command_makes() {
    let keys = |key: &str| format!("api_keys:\n  - {key}\nadmin:\n");
    let digest = "ab".repeat(32);
    let good = keys(&format!("{{id: 0123456789ab, digest: {digest}, user: bob, expires_at: 2030-01-31T12:00:00Z}}"));
    let checked = read(&with("admin:\n", &good), &[]).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let (_, key) = checked.settings.file.api_keys.iter().next().unwrap();
    assert_eq!(crate::credential::api_key::Record::from(key).expires_at, Some(1_896_091_200));
    let bad = keys("{id: 01, digest: ab, user: '', expires_at: soon}");
    refused(
        &with("admin:\n", &bad),
        &[],
        &[
            "c.yaml:4:6: api_keys.0.id: ",
            "c.yaml:4:14: api_keys.0.digest: ",
            "c.yaml:4:26: api_keys.0.user: ",
            "c.yaml:4:36: api_keys.0.expires_at: ",
        ],
    );
}

#[test]
fn the_schema_knows_every_part() {
    let schema = schema::json();
    for name in ["listen", "admin", "providers", "routes", "session", "store", "caches", "limits", "client_ip"] {
        assert!(schema.pointer(&format!("/properties/{name}")).is_some(), "{name}");
    }
}

#[test]
fn the_example_at_the_root_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let checked = check(&Sources { file: &file, text: &text, env: Vec::new() });
    // Its certificates are on no machine of ours.
    let told: Vec<String> = checked.err().unwrap_or_default().iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("listen.0.tls: /etc/doorward/tls/fullchain.pem"), "{told:#?}");
}

const SIGNING: &str = include_str!("../provider/testdata/p256.pem");

/// The keys of the provider `corp` in flow style.
fn with_provider(keys: &str) -> String {
    with("    client_secret: secret\n", &format!("    {}\n", keys.replace("PEM", &format!("{SIGNING:?}"))))
}

#[test]
fn the_ways_of_real_providers_can_be_said() {
    for keys in [
        "client_secret: s, discovery: never, endpoints: {jwks_uri: 'https://id.test/jwks', authorization_endpoint: 'https://id.test/a', token_endpoint: 'https://id.test/t'}",
        "client_secret: s, bearer_issuer: 'http://id.test/adfs/services/trust'",
        "client_auth: private_key_jwt, private_key: PEM",
        "client_auth: private_key_jwt, private_key: {key: PEM, kid: k1}, assertion_audience: 'https://id.test/'",
        "client_auth: private_key_jwt, private_key: [{key: PEM}, PEM]",
        "client_auth: private_key_jwt, client_assertion_file: /var/run/secrets/token",
        "client_secret: s, authorization_params: {resource: [a, b], prompt: login}",
        "client_secret: s, end_session_params: {logout_uri: '{post_logout_redirect_uri}', x: '{client_id}{id_token_hint}'}",
    ] {
        let keys = keys.replace(", ", "\n    ").replace("{key: PEM\n    kid", "{key: PEM, kid");
        let keys = keys
            .replace("[{key: PEM}\n    PEM]", "[{key: PEM}, PEM]")
            .replace("[a\n    b]\n    prompt", "[a, b], prompt");
        let keys = keys
            .replace("uri}'\n    x:", "uri}', x:")
            .replace("'\n    authorization_endpoint", "', authorization_endpoint");
        let keys = keys.replace("'\n    token_endpoint", "', token_endpoint");
        let told = read(&with_provider(&keys), &[]);
        assert!(told.is_ok(), "{keys}: {:#?}", told.err());
    }
    let entra = with("issuer: https://id.test/", "issuer: https://id.test/{tenantid}/v2.0");
    let checked = read(&entra, &[]).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(
        checked.warnings.iter().any(|w| w.to_string().contains("providers.corp.tenants")),
        "{:?}",
        checked.warnings
    );
    let named = entra.replace("    client_id", "    tenants: [4f0c-1]\n    client_id");
    let named = read(&named, &[]).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(!named.warnings.iter().any(|w| w.to_string().contains("tenants")), "{:?}", named.warnings);
    assert!(read(&GOOD.replace("corp", "my.corp"), &[]).is_ok(), "a name may have a dot");
}

#[test]
fn what_such_a_provider_lacks_is_told() {
    for (keys, place, expected) in [
        ("client_secret: s\n    discovery: never", "providers.corp.endpoints", "needs `jwks_uri`"),
        (
            "client_secret: s\n    discovery: never\n    endpoints: {jwks_uri: 'https://id.test/jwks'}",
            "providers.corp.endpoints",
            "needs `authorization_endpoint`",
        ),
        ("client_secret: s\n    tenants: [a]", "providers.corp.tenants", "only where the issuer has"),
        ("client_secret: s\n    bearer_issuer: x", "providers.corp.bearer_issuer", "is not an issuer"),
        ("client_auth: private_key_jwt", "providers.corp.private_key", "is required"),
        ("client_auth: private_key_jwt\n    private_key: x", "providers.corp.private_key", "openssl genpkey"),
        (
            "client_auth: private_key_jwt\n    private_key: '-----BEGIN EC PRIVATE KEY-----'",
            "providers.corp.private_key",
            "openssl pkcs8",
        ),
        (
            "client_auth: private_key_jwt\n    private_key: [PEM, {key: PEM, certificate: x}]",
            "providers.corp.private_key.1",
            "has a `certificate`",
        ),
        (
            "client_auth: private_key_jwt\n    private_key: PEM\n    client_assertion_file: f",
            "providers.corp.client_assertion_file",
            "beside `private_key`",
        ),
        (
            "client_secret: s\n    end_session_params: {state: x}",
            "providers.corp.end_session_params.state",
            "is set by",
        ),
        ("client_secret: s\n    end_session_params: {a: '{b}'}", "providers.corp.end_session_params.a", "placeholder"),
        (
            "client_secret: s\n    authorization_params: {response_mode: [query, form_post]}",
            "providers.corp.authorization_params.response_mode",
            "cannot be answered",
        ),
    ] {
        let problems = read(&with_provider(keys), &[]).err().unwrap_or_default();
        let told = problems.len() == 1 && problems[0].contains(&format!("{place}: ")) && problems[0].contains(expected);
        assert!(told, "{keys}: {problems:#?}");
    }
}
