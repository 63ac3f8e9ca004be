//! The alpha configuration of oauth2-proxy, under the names of its TOML file.

use crate::config::import::options::{Options, Upstream};
use crate::config::import::texts::duration;
use crate::config::tree::{self, Node, Value};

/// Keys, without regard to case, and the options that they are; an empty name is read by other means.
type Keys = &'static [(&'static str, &'static str)];

const UPSTREAM: Keys = &[
    ("id", ""),
    ("path", ""),
    ("uri", ""),
    ("static", ""),
    ("staticCode", ""),
    ("rewriteTarget", ""),
    ("passHostHeader", ""),
    ("timeout", ""),
    ("insecureSkipTLSVerify", "ssl_upstream_insecure_skip_verify"),
    ("proxyWebSockets", "proxy_websockets"),
    ("flushInterval", "flush_interval"),
    ("disableKeepAlives", "disable_keep_alives"),
];
const PROVIDER: Keys = &[
    ("id", ""),
    ("loginURLParameters", ""),
    ("provider", "provider"),
    ("clientID", "client_id"),
    ("clientSecret", "client_secret"),
    ("clientSecretFile", "client_secret_file"),
    ("scope", "scope"),
    ("name", "provider_display_name"),
    ("caFiles", "provider_ca_files"),
    ("useSystemTrustStore", "use_system_trust_store"),
    ("loginURL", "login_url"),
    ("redeemURL", "redeem_url"),
    ("profileURL", "profile_url"),
    ("validateURL", "validate_url"),
    ("skipClaimsFromProfileURL", "skip_claims_from_profile_url"),
    ("resource", "resource"),
    ("allowedGroups", "allowed_groups"),
    ("code_challenge_method", "code_challenge_method"),
    ("backendLogoutURL", "backend_logout_url"),
    ("authRequestResponseMode", "auth_request_response_mode"),
    ("keycloakConfig.groups", "keycloak_groups"),
    ("keycloakConfig.roles", "allowed_roles"),
    ("gitlabConfig.group", "gitlab_groups"),
    ("googleConfig.group", "google_groups"),
    ("azureConfig.tenant", "azure_tenant"),
    ("microsoftEntraIDConfig.allowedTenants", "entra_id_allowed_tenants"),
    ("microsoftEntraIDConfig.federatedTokenAuth", "entra_id_federated_token_auth"),
    ("oidcConfig.issuerURL", "oidc_issuer_url"),
    ("oidcConfig.jwksURL", "oidc_jwks_url"),
    ("oidcConfig.emailClaim", "oidc_email_claim"),
    ("oidcConfig.groupsClaim", "oidc_groups_claim"),
    ("oidcConfig.userIDClaim", "user_id_claim"),
    ("oidcConfig.audienceClaims", "oidc_audience_claims"),
    ("oidcConfig.extraAudiences", "oidc_extra_audiences"),
    ("oidcConfig.publicKeyFiles", "oidc_public_key_files"),
    ("oidcConfig.enabledSigningAlgs", "oidc_enabled_signing_algs"),
    ("oidcConfig.insecureAllowUnverifiedEmail", "insecure_oidc_allow_unverified_email"),
    ("oidcConfig.insecureSkipIssuerVerification", "insecure_oidc_skip_issuer_verification"),
    ("oidcConfig.insecureSkipNonce", "insecure_oidc_skip_nonce"),
    ("oidcConfig.skipDiscovery", "skip_oidc_discovery"),
    ("loginGovConfig.jwtKey", "jwt_key"),
    ("loginGovConfig.jwtKeyFile", "jwt_key_file"),
    ("loginGovConfig.pubjwkURL", "pubjwk_url"),
];
const SERVER: Keys = &[
    ("bindAddress", "http_address"),
    ("secureBindAddress", "https_address"),
    ("tls.cert.fromFile", "tls_cert_file"),
    ("tls.key.fromFile", "tls_key_file"),
    ("tls.minVersion", "tls_min_version"),
    ("tls.cipherSuites", "tls_cipher_suites"),
];
const METRICS_SERVER: Keys = &[
    ("bindAddress", "metrics_address"),
    ("secureBindAddress", "metrics_secure_address"),
    ("tls.cert.fromFile", "metrics_tls_cert_file"),
    ("tls.key.fromFile", "metrics_tls_key_file"),
];
/// Parameters of the authorization request that are options of the TOML file, too.
const PARAMETERS: [&str; 3] = ["prompt", "approval_prompt", "acr_values"];

impl Options {
    pub(super) fn read_yaml(&mut self, text: &str) -> Result<(), String> {
        let root = tree::parse(text)
            .map_err(|e| format!("line {}, column {}: {}", e.position.line, e.position.column, e.message))?;
        for (name, node) in entries(&root) {
            match name {
                "upstreamConfig" | "upstreams" => self.read_upstreams(node),
                "providers" => self.read_providers(node),
                "server" => self.read_keys("server", node, SERVER),
                "metricsServer" => self.read_keys("metricsServer", node, METRICS_SERVER),
                "injectRequestHeaders" | "injectResponseHeaders" => {
                    self.notes.push(format!("{name}: write `headers` of the route, where its preset does not do"));
                }
                name => self.notes.push(format!("{name}: is not known here")),
            }
        }
        Ok(())
    }

    /// Each value below a node as the option that it is.
    fn read_keys(&mut self, what: &str, node: &Node, known: Keys) {
        let mut found = Vec::new();
        leaves(node, "", &mut found);
        for (path, node) in found {
            match known.iter().find(|(key, _)| key.eq_ignore_ascii_case(&path)) {
                Some((_, "")) => {}
                Some((_, name)) => self.put(name, values(node)),
                None => self.notes.push(format!("{what}: {path}: is not known here")),
            }
        }
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
            self.read_keys(&format!("upstream {id}"), upstream, UPSTREAM);
            let written = text_at(upstream, "timeout");
            let timeout = written.as_deref().and_then(duration);
            if let (Some(written), None) = (&written, &timeout) {
                self.notes.push(format!("upstream {id}: timeout {written}: see `upstream.timeout`"));
            }
            let keeps_host = text_at(upstream, "passHostHeader").is_none_or(|flag| flag == "true");
            self.upstreams.push(Upstream { id, path, uri, timeout, keeps_host });
        }
    }

    fn read_providers(&mut self, node: &Node) {
        let all = items(node);
        for other in all.iter().skip(1) {
            let id = text_at(other, "id").unwrap_or_default();
            self.notes.push(format!("provider {id}: oauth2-proxy itself uses the first one alone"));
        }
        let Some(own) = all.first() else { return };
        self.read_keys("provider", own, PROVIDER);
        for parameter in own.at("loginURLParameters").map(items).unwrap_or_default() {
            let name = text_at(parameter, "name").unwrap_or_default();
            let default = parameter.at("default").map(values).unwrap_or_default();
            if PARAMETERS.contains(&name.as_str()) && default.len() == 1 && parameter.at("allow").is_none() {
                self.put(&name, default);
            } else {
                self.notes.push(format!("loginURLParameters {name}: see `authorization_params`"));
            }
        }
    }
}

/// What is no mapping, with its path.
fn leaves<'a>(node: &'a Node, path: &str, found: &mut Vec<(String, &'a Node)>) {
    for (key, below) in entries(node) {
        let path = tree::join(path, key);
        match &below.value {
            Value::Map(_) => leaves(below, &path, found),
            _ => found.push((path, below)),
        }
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
        Value::Scalar { text, .. } if !node.is_null() => Some(text.clone()),
        _ => None,
    }
}

/// Of a value or a list.
fn values(node: &Node) -> Vec<String> {
    match text(node) {
        Some(text) => vec![text],
        None => items(node).into_iter().filter_map(text).collect(),
    }
}

fn text_at(node: &Node, path: &str) -> Option<String> {
    node.at(path).and_then(text)
}
