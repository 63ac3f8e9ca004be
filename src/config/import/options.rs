//! The options of oauth2-proxy, whichever of its forms they were written in, under the names of its TOML file.

use crate::config::tree::{self, Node, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Each option with its values.
#[derive(Debug, Default)]
pub(super) struct Options {
    values: BTreeMap<String, Vec<String>>,
    /// Of an alpha configuration; those of the other forms are values of `upstreams`.
    pub(super) upstreams: Vec<Upstream>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) id: String,
    pub(super) path: String,
    pub(super) uri: String,
    pub(super) timeout: Option<String>,
    pub(super) keeps_host: bool,
}

const PREFIX: &str = "OAUTH2_PROXY_";
/// Options whose name as a flag or in the environment may lack the plural of the TOML file.
const LISTS: [&str; 16] = [
    "upstream",
    "email_domain",
    "allowed_group",
    "allowed_role",
    "whitelist_domain",
    "cookie_domain",
    "skip_auth_route",
    "extra_jwt_issuer",
    "oidc_extra_audience",
    "oidc_audience_claim",
    "trusted_ip",
    "trusted_proxy_ip",
    "api_route",
    "redis_sentinel_connection_url",
    "redis_cluster_connection_url",
    "google_group",
];

impl Options {
    /// # Errors
    /// The text is not of its form.
    pub(super) fn read(&mut self, file: &Path, text: &str) -> Result<(), String> {
        match form_of(file, text) {
            Form::Toml => self.read_toml(text),
            Form::Yaml => self.read_yaml(text),
            Form::Environment => self.read_environment(text),
        }
    }

    /// Takes an option's only value.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.take_all(name).into_iter().next()
    }

    /// Takes an option's values; those of a text are separated by commas.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        let all = self.values.remove(name).unwrap_or_default();
        all.into_iter().filter(|value| !value.is_empty()).collect()
    }

    /// Takes a flag; `None` where it is not set.
    pub(super) fn take_flag(&mut self, name: &str) -> Option<bool> {
        self.take(name).map(|value| ["true", "1", "t"].iter().any(|yes| value.eq_ignore_ascii_case(yes)))
    }

    pub(super) fn left(self) -> impl Iterator<Item = String> {
        self.values.into_keys()
    }

    fn put(&mut self, name: &str, values: Vec<String>) {
        let name = name.to_ascii_lowercase().replace('-', "_");
        let is_list = LISTS.iter().any(|list| *list == name || name.strip_suffix('s') == Some(list));
        let values = match is_list {
            true => values.iter().flat_map(|value| value.split(',')).map(|value| value.trim().to_owned()).collect(),
            false => values,
        };
        let name = if LISTS.contains(&name.as_str()) { format!("{name}s") } else { name };
        self.values.entry(name).or_default().extend(values);
    }

    fn read_toml(&mut self, text: &str) -> Result<(), String> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string().trim_end().to_owned())?;
        for (name, value) in table {
            let values = match value {
                toml::Value::Array(items) => items.iter().filter_map(plain).collect(),
                toml::Value::Table(_) => {
                    self.notes.push(format!("{name}: is a table, which oauth2-proxy does not know"));
                    continue;
                }
                value => plain(&value).into_iter().collect(),
            };
            self.put(&name, values);
        }
        Ok(())
    }

    fn read_environment(&mut self, text: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim().trim_start_matches("export ").trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or_else(|| format!("line {}: has no `=`", number + 1))?;
            let value = value.trim();
            let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            match name.trim().strip_prefix(PREFIX) {
                Some(name) => self.put(name, vec![quoted.unwrap_or(value).to_owned()]),
                None => self.notes.push(format!("{}: is no variable of oauth2-proxy", name.trim())),
            }
        }
        Ok(())
    }

    fn read_yaml(&mut self, text: &str) -> Result<(), String> {
        let root = tree::parse(text)
            .map_err(|e| format!("line {}, column {}: {}", e.position.line, e.position.column, e.message))?;
        for (name, node) in entries(&root) {
            match name {
                "upstreamConfig" | "upstreams" => self.read_upstreams(node),
                "providers" => self.read_providers(node),
                "server" => self.read_server(node, "http_address", "https_address"),
                "metricsServer" => self.read_server(node, "metrics_address", "metrics_secure_address"),
                name => self.notes.push(format!("{name}: write `headers` of the route, where its preset does not do")),
            }
        }
        Ok(())
    }

    fn read_upstreams(&mut self, node: &Node) {
        let listed = node.at("upstreams").unwrap_or(node);
        for upstream in items(listed) {
            let get = |name| text_at(upstream, name).unwrap_or_default();
            let (id, path, uri) = (get("id"), get("path"), get("uri"));
            if text_at(upstream, "static").is_some_and(|flag| flag == "true") || uri.starts_with("file:") {
                self.notes.push(format!("upstream {id}: Doorward serves no files and no fixed answers"));
                continue;
            }
            if text_at(upstream, "rewriteTarget").is_some() {
                self.notes
                    .push(format!("upstream {id}: rewriteTarget; see `upstream.strip_prefix` and the path of `to`"));
            }
            let keeps_host = text_at(upstream, "passHostHeader").is_none_or(|flag| flag == "true");
            self.upstreams.push(Upstream { id, path, uri, timeout: text_at(upstream, "timeout"), keeps_host });
        }
    }

    fn read_providers(&mut self, node: &Node) {
        const NAMES: [(&str, &str); 13] = [
            ("provider", "provider"),
            ("clientID", "client_id"),
            ("clientSecret", "client_secret"),
            ("clientSecretFile", "client_secret_file"),
            ("scope", "scope"),
            ("name", "provider_display_name"),
            ("oidcConfig.issuerURL", "oidc_issuer_url"),
            ("oidcConfig.emailClaim", "oidc_email_claim"),
            ("oidcConfig.groupsClaim", "oidc_groups_claim"),
            ("oidcConfig.userIDClaim", "user_id_claim"),
            ("oidcConfig.insecureAllowUnverifiedEmail", "insecure_oidc_allow_unverified_email"),
            ("oidcConfig.skipDiscovery", "skip_oidc_discovery"),
            ("backendLogoutURL", "backend_logout_url"),
        ];
        let all = items(node);
        for other in all.iter().skip(1) {
            let id = text_at(other, "id").unwrap_or_default();
            self.notes.push(format!("provider {id}: oauth2-proxy itself uses the first one alone"));
        }
        let Some(own) = all.first() else { return };
        for (path, name) in NAMES {
            if let Some(value) = text_at(own, path) {
                self.put(name, vec![value]);
            }
        }
        for (path, name) in [("allowedGroups", "allowed_groups"), ("oidcConfig.extraAudiences", "oidc_extra_audiences")]
        {
            let values: Vec<String> =
                own.at(path).map(items).unwrap_or_default().into_iter().filter_map(text).collect();
            if !values.is_empty() {
                self.put(name, values);
            }
        }
    }

    fn read_server(&mut self, node: &Node, plain: &str, secure: &str) {
        let names = [
            ("bindAddress", plain),
            ("BindAddress", plain),
            ("SecureBindAddress", secure),
            ("secureBindAddress", secure),
        ];
        for (key, name) in names {
            if let Some(address) = text_at(node, key) {
                self.put(name, vec![address]);
            }
        }
        for (path, name) in [("TLS.Cert.fromFile", "tls_cert_file"), ("TLS.Key.fromFile", "tls_key_file")] {
            if let Some(file) = text_at(node, path)
                .or_else(|| text_at(node, &path.to_ascii_lowercase().replace("fromfile", "fromFile")))
            {
                self.put(name, vec![file]);
            }
        }
    }
}

enum Form {
    Toml,
    Yaml,
    Environment,
}

/// By its name, else by what its lines look like.
fn form_of(file: &Path, text: &str) -> Form {
    let of = |ending: &[&str]| {
        file.extension().is_some_and(|known| ending.iter().any(|own| known.eq_ignore_ascii_case(own)))
    };
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    if of(&["yaml", "yml"]) {
        Form::Yaml
    } else if of(&["env"]) || first.trim_start_matches("export ").starts_with(PREFIX) {
        Form::Environment
    } else if !of(&["toml", "cfg", "conf"]) && first.ends_with(':') {
        Form::Yaml
    } else {
        Form::Toml
    }
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn entries(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let all: &[_] = match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    };
    all.iter().map(|(key, node)| (key.name.as_str(), node))
}

fn items(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::List(items) => items.iter().collect(),
        _ => Vec::new(),
    }
}

fn text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

fn text_at(node: &Node, path: &str) -> Option<String> {
    node.at(path).and_then(text)
}
