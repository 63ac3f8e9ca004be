//! Configurations of other gateways, as a configuration of this one.

mod alpha;
mod no_counterpart;
mod oauth2_proxy;
mod options;
mod provider;
mod routes;
mod texts;

use crate::config::effective::render;
use crate::telemetry::escape::{Form, escape};
use oauth2_proxy::Conversion;
use std::fmt::Write;
use std::path::PathBuf;

/// A configuration, and what could not be carried over.
pub struct Imported {
    pub yaml: String,
    /// Each an option and why.
    pub notes: Vec<String>,
}

/// What oauth2-proxy is configured by: TOML, alpha YAML and environment files, together.
///
/// # Errors
/// What of a file cannot be read.
pub fn of_oauth2_proxy(files: &[(PathBuf, String)]) -> Result<Imported, Vec<String>> {
    let (mut options, mut problems) = (options::Options::default(), Vec::new());
    for (file, text) in files {
        if let Err(problem) = options.read(file, text) {
            problems.push(format!("{}: {problem}", file.display()));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let (value, mut notes) = Conversion::new(options).finish();
    // An option's name may be any text, in TOML even several lines.
    for note in &mut notes {
        let mut line = String::new();
        escape(&std::mem::take(note), Form::Text, &mut line);
        *note = line.trim_end().to_owned();
    }
    let mut yaml = String::new();
    for note in &notes {
        let _ = writeln!(yaml, "# not carried over: {note}");
    }
    yaml.push_str(&render(&value, &|_, _| None));
    Ok(Imported { yaml, notes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, check};
    use std::path::Path;

    /// What is printed is a good configuration.
    fn imported(files: &[(&str, &str)]) -> Imported {
        let files: Vec<_> = files.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
        let imported = of_oauth2_proxy(&files).unwrap_or_else(|problems| panic!("{problems:?}"));
        let sources = Sources { file: Path::new("c.yaml"), text: &imported.yaml, env: Vec::new() };
        if let Err(problems) = check(&sources) {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{problems:#?}\n{}", imported.yaml);
        }
        imported
    }

    fn has(imported: &Imported, lines: &[&str]) {
        for line in lines {
            assert!(imported.yaml.lines().any(|known| known.trim() == *line), "{line}:\n{}", imported.yaml);
        }
    }

    const TOML: &str = r##"
        provider = "oidc"
        oidc_issuer_url = "https://id.example.com/realms/corp"
        client_id = "gate"
        client_secret = "a$ecret-of-16-bytes"
        redirect_url = "https://app.example.com/oauth2/callback"
        http_address = "0.0.0.0:4180"
        upstreams = ["http://127.0.0.1:8080/", "http://10.0.0.2:9090/api/", "file:///var/www#/static/"]
        email_domains = ["example.com"]
        allowed_groups = ["ops"]
        cookie_name = "__Host-gate"
        cookie_expire = "168h0m0s"
        cookie_secret = "0123456789abcdef"
        cookie_domains = [".example.com"]
        skip_jwt_bearer_tokens = true
        skip_auth_routes = ["GET=^/health$", "^/public/.*", "^/(a|b)/x"]
        pass_access_token = true
        reverse_proxy = true
        upstream_timeout = "30s"
        session_store_type = "redis"
        redis_connection_url = "redis://10.0.0.3:6379/1"
        htpasswd_file = "/etc/users"
        odd_option = 1
    "##;

    #[test]
    fn a_toml_file() {
        let imported = imported(&[("oauth2-proxy.cfg", TOML)]);
        has(
            &imported,
            &[
                "issuer: \"https://id.example.com/realms/corp\"",
                "client_secret: \"a$$ecret-of-16-bytes\"",
                "- address: \"0.0.0.0:4180\"",
                "from: \"https://app.example.com/api/\"",
                "to: \"http://10.0.0.2:9090\"",
                "from: \"https://app.example.com/health\"",
                "match: exact",
                "methods: [GET]",
                "from: \"https://app.example.com/public/\"",
                "groups: [ops]",
                "email_domains: [example.com]",
                "max_age: 7d",
                "domain: example.com",
                "access_token: X-Forwarded-Access-Token",
                "accept: [session, bearer]",
                "timeout: \"30s\"",
                "backend: redis",
            ]
            .map(|line| if line == "max_age: 7d" { "max_age: \"7d\"" } else { line }),
        );
        for option in ["file:///", "cookie_secret", "^/(a|b)/x", "htpasswd_file", "odd_option", "reverse_proxy"] {
            assert!(imported.notes.iter().any(|note| note.contains(option)), "{option}: {:#?}", imported.notes);
            assert!(
                imported.yaml.lines().any(|line| line.starts_with("# not carried over: ") && line.contains(option))
            );
        }
    }

    #[test]
    fn an_environment_file_completes_alpha_yaml() {
        let alpha = "
upstreamConfig:
  upstreams:
    - {id: app, path: /, uri: http://127.0.0.1:8080, timeout: 1m0s, passHostHeader: false}
    - {id: pages, path: /pages/, static: true}
injectRequestHeaders:
  - {name: X-User, values: [{claim: user}]}
providers:
  - id: corp
    provider: keycloak-oidc
    clientID: gate
    clientSecret: a-secret-of-16-bytes
    allowedGroups: [/ops]
    oidcConfig: {issuerURL: https://id.example.com/realms/corp, groupsClaim: roles}
server: {BindAddress: 127.0.0.1:4180}
";
        let env = "# oauth2-proxy\nexport OAUTH2_PROXY_REDIRECT_URL=\"https://app.example.com/oauth2/callback\"\n\
                   OAUTH2_PROXY_EMAIL_DOMAIN=a.test,b.test\nPATH=/bin\n";
        let imported = imported(&[("alpha.yaml", alpha), ("oauth2-proxy.env", env)]);
        has(
            &imported,
            &[
                "- name: app",
                "preserve_host: false",
                "timeout: \"60s\"",
                "groups: [\"/ops\"]",
                "groups: roles",
                "email_domains: [a.test, b.test]",
                "- address: \"127.0.0.1:4180\"",
            ],
        );
        for option in ["pages", "injectRequestHeaders", "PATH"] {
            assert!(imported.notes.iter().any(|note| note.contains(option)), "{option}: {:#?}", imported.notes);
        }
    }

    #[test]
    fn little_is_made_good_and_broken_files_are_told() {
        let imported = imported(&[("a.cfg", "")]);
        assert!(imported.notes.iter().any(|note| note.contains("redirect_url")), "{:?}", imported.notes);
        for (name, text) in [
            ("a.cfg", "upstreams = ["),
            ("a.toml", "= 1"),
            ("a.yaml", "- a\n- b"),
            ("a.yaml", "a: {"),
            ("a.env", "OAUTH2_PROXY_CLIENT_ID"),
        ] {
            assert!(of_oauth2_proxy(&[(name.into(), text.to_owned())]).is_err(), "{name}: {text}");
        }
        for (name, text) in [
            ("a.cfg", "upstreams = [1, [2], {a = 1}]\nclient_id = [\"a\"]\nhttp_address = \"unix:///x\""),
            ("a.yaml", "upstreamConfig: x\nproviders: {a: b}\nserver: [1]"),
        ] {
            assert!(of_oauth2_proxy(&[(name.into(), text.to_owned())]).is_ok(), "{name}: {text}");
        }
    }

    /// Each a line of TOML, a line of what it becomes (`!`: that is not there), and the option that is told of, if any.
    const ROWS: &[(&str, &str, &str)] = &[
        ("email_domains = ['*', 'a.test']", "!email_domains: [a.test]", ""),
        ("email_domains = ['*', 'a.test']", "!require:", ""),
        ("email_domains = ['a.test', '.b.test']", "email_domains: [a.test]", "email_domains .b.test"),
        ("email_domains = ['.b.test']", "emails: [\"change-me@example.com\"]", "email_domains .b.test"),
        ("authenticated_emails_file = 'x'", "emails: [\"change-me@example.com\"]", "authenticated_emails_file"),
        ("real_client_ip_header = 'X-Real-IP'", "header: x-real-ip", ""),
        ("real_client_ip_header = 'X-ProxyUser-IP'", "!header: x-proxyuser-ip", "real_client_ip_header"),
        ("trusted_proxy_ips = ['10.0.0.0/8', '0.0.0.0/0']", "trusted_proxies: [\"10.0.0.0/8\"]", "0.0.0.0/0"),
        ("skip_oidc_discovery = true", "!discovery: never", "skip_oidc_discovery"),
        ("skip_oidc_discovery = true\nlogin_url = 'https://id.test/a'", "!discovery: never", "skip_oidc_discovery"),
        (
            "skip_oidc_discovery = true\nlogin_url = 'https://id.test/a'\nredeem_url = 'https://id.test/t'\n\
             oidc_jwks_url = 'https://id.test/k'",
            "discovery: never",
            "",
        ),
        ("login_url = '/a'", "!endpoints:", "login_url"),
        ("cookie_name = '_foo'", "name: \"_foo\"", ""),
        ("cookie_name = '__Secure-foo'", "name: foo", ""),
        ("cookie_name = '__foo'", "!name: foo", "cookie_name"),
        ("cookie_samesite = 'odd'", "!same_site: odd", "cookie_samesite"),
        ("cookie_domains = ['other.test', 'example.com']", "domain: example.com", "cookie_domains other.test"),
        ("cookie_expire = '0'", "!max_age:", "cookie_expire"),
        ("cookie_expire = '1.5h'", "!max_age:", "cookie_expire"),
        ("cookie_secure = true", "", ""),
        ("cookie_secure = false", "", "cookie_secure"),
        ("cookie_httponly = true", "", ""),
        ("cookie_httponly = false", "", "cookie_httponly"),
        ("provider_display_name = 'Corp'", "label: Corp", ""),
        ("approval_prompt = 'auto'", "approval_prompt: auto", ""),
        ("approval_prompt = 'auto'\nprompt = 'login'", "!approval_prompt: auto", ""),
        ("auth_request_response_mode = 'fragment'", "!response_mode: fragment", "auth_request_response_mode"),
        ("oidc_enabled_signing_algs = ['ES256', 'HS256']", "algorithms: [ES256]", "HS256"),
        ("skip_claims_from_profile_url = true", "userinfo: never", ""),
        ("proxy_websockets = true", "", ""),
        ("proxy_websockets = false", "", "proxy_websockets"),
        ("auth_logging = false", "", "auth_logging"),
        ("standard_logging = false", "", "standard_logging"),
        ("standard_logging = true", "", ""),
        ("ssl_insecure_skip_verify = true", "", "ssl_insecure_skip_verify"),
        ("ssl_insecure_skip_verify = false", "", ""),
        ("whitelist_domains = ['.a.test']", "", "whitelist_domains"),
        ("prefer_email_to_user = true", "", "prefer_email_to_user"),
        ("pass_basic_auth = true", "", "pass_basic_auth"),
        ("pass_basic_auth = false", "", ""),
        ("basic_auth_password = 'hunter2'", "", "basic_auth_password"),
        ("session_cookie_minimal = true", "", "session_cookie_minimal"),
        ("flush_interval = '1s'", "", "flush_interval"),
        ("show_debug_on_error = true", "", "show_debug_on_error"),
        ("code_challenge_method = 'S256'", "", ""),
        ("code_challenge_method = 'plain'", "", "code_challenge_method"),
        ("https_address = ':8443'", "!- address: \"[::]:8443\"", "https_address"),
        ("tls_cert_file = 'a.pem'", "!tls:", "tls_cert_file"),
        ("tls_key_file = 'a.pem'", "!tls:", "tls_key_file"),
        ("force_https = true", "!redirect_to_https: true", "force_https"),
        ("http_address = 'gate.test:4180'", "- address: \"127.0.0.1:4180\"", "http_address"),
        ("http_address = 'unix:///run/a'", "- address: \"127.0.0.1:4180\"", "http_address"),
        ("metrics_address = 'gate.test:9'", "!admin:", "metrics_address"),
        ("proxy_prefix = '/auth/'", "!auth_path: \"/auth/\"", "proxy_prefix"),
        ("upstream_timeout = '1.5s'", "!upstream:", "upstream_timeout"),
        ("upstreams = ['unix:///run/app']", "to: \"unix:///run/app\"", ""),
        ("upstreams = ['http://127.0.0.1:1/a', 'http://127.0.0.1:2/a/']", "match: exact", ""),
        ("skip_auth_routes = ['^/x', '^/x/.*']", "from: \"https://app.example.com/x\"", "skip_auth_routes ^/x"),
        ("skip_auth_routes = ['^/.*']", "!auth: public", "skip_auth_routes ^/.*"),
        ("skip_auth_routes = ['^/oauth2/ping$']", "!auth: public", "skip_auth_routes ^/oauth2/ping$"),
        ("session_store_type = 'redis'\nredis_use_cluster = true", "mode: cluster", ""),
    ];

    #[test]
    fn each_option_is_carried_over_or_told_of() {
        for (option, line, told) in ROWS {
            let toml = format!(
                "provider = 'oidc'\noidc_issuer_url = 'https://id.test'\nclient_id = 'gate'\n\
                 client_secret = 'a-secret-of-16-bytes'\nredirect_url = 'https://app.example.com/oauth2/callback'\n\
                 {}{option}\n",
                if option.starts_with("upstreams") { "" } else { "upstreams = ['http://127.0.0.1:8080/']\n" }
            );
            let imported = imported(&[("a.cfg", &toml)]);
            match line.strip_prefix('!') {
                Some(absent) => {
                    assert!(imported.yaml.lines().all(|line| line.trim() != absent), "{option}:\n{}", imported.yaml)
                }
                None if line.is_empty() => {}
                None => has(&imported, &[*line]),
            }
            match told.is_empty() {
                true => assert!(imported.notes.is_empty(), "{option}: {:?}", imported.notes),
                false => {
                    let is_told = imported.notes.iter().any(|note| note.contains(*told));
                    assert!(is_told, "{option}: {:?}", imported.notes);
                }
            }
        }
    }

    #[test]
    fn keys_of_the_alpha_configuration_are_carried_over_or_told_of() {
        let alpha = "
upstreamConfig:
  upstreams:
    - {id: app, path: /app/, uri: http://127.0.0.1:8080/other, insecureSkipTLSVerify: true, oddKey: 1, timeout: 1x}
providers:
  - id: corp
    provider: oidc
    name: Corp
    clientID: gate
    clientSecret: a-secret-of-16-bytes
    loginURL: https://id.test/authorize
    loginURLParameters: [{name: prompt, default: [login]}, {name: hd}]
    oidcConfig: {issuerURL: https://id.test, insecureSkipNonce: true, insecureAllowUnverifiedEmail: false, oddClaim: x}
metricsServer: {BindAddress: 127.0.0.1:9100, TLS: {Key: {fromFile: k.pem}, Cert: {fromFile: c.pem}}}
server: {BindAddress: 127.0.0.1:4180}
";
        let imported = imported(&[("alpha.yaml", alpha)]);
        has(
            &imported,
            &[
                "to: \"http://127.0.0.1:8080\"",
                "label: Corp",
                "prompt: login",
                "authorization_endpoint: \"https://id.test/authorize\"",
                "address: \"127.0.0.1:9100\"",
            ],
        );
        for told in
            ["oddKey", "timeout 1x", "hd", "ssl_upstream", "skip_nonce", "oidcConfig.oddClaim", "metrics_tls_key_file"]
        {
            assert!(imported.notes.iter().any(|note| note.contains(told)), "{told}: {:#?}", imported.notes);
        }
        assert!(imported.notes.iter().all(|note| !note.contains("unverified")), "{:#?}", imported.notes);
    }

    /// A comment stays one, whatever an option is named.
    #[test]
    fn a_name_of_several_lines_adds_no_key() {
        let toml = format!("{TOML}\n\"a\\nshutdown_grace: 1s\\u007f\" = 1\n");
        let imported = imported(&[("a.cfg", &toml)]);
        has(&imported, &["# not carried over: a\\u{a}shutdown_grace: 1s\\u{7f}: is not known here"]);
    }
}
