//! The provider: who it is, what it is asked for, and what is read of its tokens.

use crate::config::import::oauth2_proxy::{Conversion, put};
use crate::config::import::texts::literal;
use crate::kit::setting::HttpUrl;
use crate::provider::settings::{Issuer, SignatureAlgorithm};
use serde_json::{Map, Value, json};

/// Each with its name in the provider's metadata; without the first three there must be discovery.
const ENDPOINTS: [(&str, &str); 4] = [
    ("login_url", "authorization_endpoint"),
    ("redeem_url", "token_endpoint"),
    ("oidc_jwks_url", "jwks_uri"),
    ("profile_url", "userinfo_endpoint"),
];

impl Conversion {
    pub(super) fn provider(&mut self, redirect_uri: Option<String>, is_https: bool) -> Value {
        let mut own = Map::from_iter([("issuer".into(), json!(self.issuer()))]);
        put(&mut own, "label", self.options.take("provider_display_name").map(|label| json!(literal(label))));
        let client = self.options.take("client_id").unwrap_or_else(|| "change-me".into());
        let secret = self.options.take("client_secret");
        let file = self.options.take("client_secret_file").map(|file| format!("${{file:{file}}}"));
        match secret.map(literal).or(file) {
            Some(secret) => drop(own.insert("client_secret".into(), json!(secret))),
            None => drop(own.insert("client_auth".into(), json!("none"))),
        }
        own.insert("client_id".into(), json!(client));
        put(&mut own, "redirect_uri", redirect_uri.map(Value::from));
        let scope = self.options.take("scope");
        put(&mut own, "scopes", scope.map(|scope| json!(scope.split_whitespace().collect::<Vec<_>>())));
        let mut audiences = self.options.take_all("oidc_extra_audiences");
        if !audiences.is_empty() {
            audiences.insert(0, client);
            own.insert("audiences".into(), json!(audiences));
        }
        self.claims(&mut own);
        self.parameters(&mut own, is_https);
        self.endpoints(&mut own);
        self.trust(&mut own);
        own.into()
    }

    fn issuer(&mut self) -> String {
        let kind = self.options.take("provider").unwrap_or_else(|| "google".into());
        let known = match kind.as_str() {
            "google" => Some("https://accounts.google.com"),
            "gitlab" => Some("https://gitlab.com"),
            _ => None,
        };
        let issuer = self.options.take("oidc_issuer_url").or(known.map(Into::into));
        let issuer = issuer.and_then(|issuer| self.known::<Issuer>("oidc_issuer_url", issuer));
        issuer.unwrap_or_else(|| {
            self.notes
                .push(format!("provider {kind}: is no OpenID provider, or oidc_issuer_url is absent; name an issuer"));
            "https://change-me-issuer.example.com".into()
        })
    }

    fn claims(&mut self, own: &mut Map<String, Value>) {
        let mut claims = Map::new();
        for (option, claim) in
            [("user_id_claim", "user"), ("oidc_email_claim", "email"), ("oidc_groups_claim", "groups")]
        {
            put(&mut claims, claim, self.options.take(option).map(Value::from));
        }
        let audience = self.options.take_all("oidc_audience_claims");
        if audience.iter().any(|claim| claim != "aud") {
            self.notes.push("oidc_audience_claims: the audience is `aud`, or `client_id` of an introspection".into());
        }
        put(own, "claims", (!claims.is_empty()).then(|| claims.into()));
        if self.options.take_flag("skip_claims_from_profile_url") == Some(true) {
            own.insert("userinfo".into(), json!("never"));
        }
    }

    fn parameters(&mut self, own: &mut Map<String, Value>, is_https: bool) {
        let mut parameters = Map::new();
        for name in ["prompt", "acr_values", "login_hint"] {
            put(&mut parameters, name, self.options.take(name).map(Value::from));
        }
        // Where there is a prompt, oauth2-proxy leaves this one out, too.
        let approval = self.options.take("approval_prompt").filter(|_| !parameters.contains_key("prompt"));
        put(&mut parameters, "approval_prompt", approval.map(Value::from));
        match self.options.take("auth_request_response_mode") {
            Some(mode) if mode == "query" || (mode == "form_post" && is_https) => {
                parameters.insert("response_mode".into(), json!(mode));
            }
            Some(mode) => self.notes.push(format!(
                "auth_request_response_mode {mode}: is not answered here; an answer is a query, or on https a form_post"
            )),
            None => {}
        }
        put(own, "authorization_params", (!parameters.is_empty()).then(|| parameters.into()));
    }

    fn endpoints(&mut self, own: &mut Map<String, Value>) {
        let mut endpoints = Map::new();
        for (option, key) in ENDPOINTS {
            let url = self.options.take(option).and_then(|url| self.known::<HttpUrl>(option, url));
            put(&mut endpoints, key, url.map(Value::from));
        }
        let is_whole = ENDPOINTS.iter().take(3).all(|(_, key)| endpoints.contains_key(*key));
        match self.options.take_flag("skip_oidc_discovery") {
            Some(true) if is_whole => drop(own.insert("discovery".into(), json!("never"))),
            Some(true) => self.notes.push(
                "skip_oidc_discovery: needs login_url, redeem_url and oidc_jwks_url; so the metadata are read".into(),
            ),
            _ => {}
        }
        put(own, "endpoints", (!endpoints.is_empty()).then(|| endpoints.into()));
        if let Some(url) = self.options.take("backend_logout_url") {
            self.notes.push(format!(
                "backend_logout_url {url}: /oauth2/sign_out signs out at the provider, as its metadata say"
            ));
        }
    }

    /// Whose certificates and which signatures are accepted.
    fn trust(&mut self, own: &mut Map<String, Value>) {
        let mut files = self.options.take_all("provider_ca_files").into_iter();
        put(own, "ca_file", files.next().map(Value::from));
        for file in files {
            self.notes.push(format!("provider_ca_files {file}: `ca_file` is one file; put all certificates into it"));
        }
        let named = self.options.take_all("oidc_enabled_signing_algs").into_iter();
        let known: Vec<String> =
            named.filter_map(|name| self.known::<SignatureAlgorithm>("oidc_enabled_signing_algs", name)).collect();
        put(own, "algorithms", (!known.is_empty()).then(|| json!(known)));
    }
}
