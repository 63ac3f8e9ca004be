//! Configurations of other gateways, as a configuration of this one.

mod no_counterpart;
mod oauth2_proxy;
mod options;
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
        email_domains = ["example.com", "*"]
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

    /// A comment stays one, whatever an option is named.
    #[test]
    fn a_name_of_several_lines_adds_no_key() {
        let toml = format!("{TOML}\n\"a\\nshutdown_grace: 1s\\u007f\" = 1\n");
        let imported = imported(&[("a.cfg", &toml)]);
        has(&imported, &["# not carried over: a\\u{a}shutdown_grace: 1s\\u{7f}: is not known here"]);
    }
}
