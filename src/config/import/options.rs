//! The options of oauth2-proxy, whichever of its forms they were written in, under the names of its TOML file.

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
    /// In the form that is read here.
    pub(super) timeout: Option<String>,
    pub(super) keeps_host: bool,
}

/// A flag, as Go reads it.
pub(super) const YES: &[&str] = &["true", "1", "t"];
pub(super) const NO: &[&str] = &["false", "0", "f"];

const PREFIX: &str = "OAUTH2_PROXY_";
/// Options whose name as a flag or in the environment may lack the plural of the TOML file.
const LISTS: [&str; 24] = [
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
    "keycloak_group",
    "gitlab_group",
    "provider_ca_file",
    "oidc_public_key_file",
    "oidc_enabled_signing_alg",
    "entra_id_allowed_tenant",
    "htpasswd_user_group",
    "tls_cipher_suite",
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
        self.take(name).map(|value| is_among(&value, YES))
    }

    pub(super) fn left(self) -> impl Iterator<Item = String> {
        self.values.into_keys()
    }

    pub(super) fn put(&mut self, name: &str, values: Vec<String>) {
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

/// Without regard to case.
pub(super) fn is_among(value: &str, all: &[&str]) -> bool {
    all.iter().any(|known| value.eq_ignore_ascii_case(known))
}
