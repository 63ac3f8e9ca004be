//! What each option of oauth2-proxy is here.

use crate::config::import::no_counterpart::{NOT_HERE, NOTHING_TO_DO};
use crate::config::import::options::{Options, Upstream};
use crate::config::import::texts::{address, duration, literal, name, path_of};
use serde_json::{Map, Value, json};
use url::Url;

/// The name of the only provider.
const PROVIDER: &str = "main";
const PLACE: &str = "https://change-me.example.com";

pub(super) struct Conversion {
    options: Options,
    notes: Vec<String>,
}

impl Conversion {
    pub(super) fn new(mut options: Options) -> Self {
        let notes = std::mem::take(&mut options.notes);
        Conversion { options, notes }
    }

    /// The configuration, and what could not be carried over.
    pub(super) fn finish(mut self) -> (Value, Vec<String>) {
        let mut all = Map::new();
        put(&mut all, "listen", self.listen());
        put(&mut all, "admin", self.options.take("metrics_address").map(|to| json!({"address": address(&to)})));
        let prefix = self.options.take("proxy_prefix").unwrap_or_else(|| "/oauth2".into());
        let redirect = self.options.take("redirect_url").and_then(|url| Url::parse(&url).ok());
        if redirect.is_none() {
            self.notes.push(format!("redirect_url: is absent; put the public address in place of {PLACE}"));
        }
        let place = redirect.as_ref().map_or(PLACE.into(), |url| url.origin().ascii_serialization());
        put(&mut all, "auth_path", (prefix != "/oauth2").then(|| json!(prefix)));
        let own_callback = format!("{place}{prefix}/callback");
        let elsewhere = redirect.map(String::from).filter(|url| *url != own_callback);
        put(&mut all, "client_ip", self.client_ip());
        let provider = self.provider(elsewhere);
        all.insert("providers".into(), json!({PROVIDER: provider}));
        let routes = self.routes(&place);
        put(&mut all, "session", self.session());
        all.insert("store".into(), self.store());
        if self.options.take_flag("request_logging") == Some(false) {
            all.insert("logging".into(), json!({"access": "none"}));
        }
        all.insert("routes".into(), Value::Array(routes));
        for name in NOTHING_TO_DO {
            self.options.take_all(name);
        }
        for (name, why) in NOT_HERE {
            if !self.options.take_all(name).is_empty() {
                self.notes.push(format!("{name}: {why}"));
            }
        }
        let unknown = self.options.left().map(|name| format!("{name}: is not known here"));
        self.notes.extend(unknown);
        (Value::Object(all), self.notes)
    }

    fn listen(&mut self) -> Option<Value> {
        let plain = self.options.take("http_address").filter(|at| at != "-");
        let secure = self.options.take("https_address").filter(|at| at != "-");
        let (certificate, key) = (self.options.take("tls_cert_file"), self.options.take("tls_key_file"));
        let mut all = Vec::new();
        if plain.as_ref().is_some_and(|at| at.starts_with("unix:") || at.starts_with("fd:")) {
            self.notes.push("http_address: Doorward listens on TCP alone".into());
        } else if let Some(at) = plain {
            all.push(json!({"address": address(&at)}));
        }
        if let (Some(certificate), Some(key)) = (certificate, key) {
            let at = secure.unwrap_or_else(|| ":443".into());
            all.push(json!({"address": address(&at), "tls": {"certificate": certificate, "private_key": key}}));
        }
        if all.is_empty() {
            all.push(json!({"address": "127.0.0.1:4180"}));
        }
        Some(Value::Array(all))
    }

    fn client_ip(&mut self) -> Option<Value> {
        let trusted = self.options.take_all("trusted_proxy_ips");
        let header = self.options.take("real_client_ip_header").map(|header| header.to_ascii_lowercase());
        if self.options.take_flag("reverse_proxy") == Some(true) && trusted.is_empty() {
            self.notes
                .push("reverse_proxy: name the proxies in `client_ip.trusted_proxies`; nobody else is believed".into());
        }
        let mut own = Map::new();
        put(&mut own, "trusted_proxies", (!trusted.is_empty()).then(|| json!(trusted)));
        put(&mut own, "header", header.map(Value::from));
        (!own.is_empty()).then(|| own.into())
    }

    fn provider(&mut self, redirect_uri: Option<String>) -> Value {
        let kind = self.options.take("provider").unwrap_or_else(|| "google".into());
        let known = match kind.as_str() {
            "google" => Some("https://accounts.google.com"),
            "gitlab" => Some("https://gitlab.com"),
            _ => None,
        };
        let issuer = self.options.take("oidc_issuer_url").or(known.map(Into::into)).unwrap_or_else(|| {
            self.notes
                .push(format!("provider {kind}: is no OpenID provider, or oidc_issuer_url is absent; name an issuer"));
            "https://change-me-issuer.example.com".into()
        });
        let mut own = Map::from_iter([("issuer".into(), json!(issuer))]);
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
        self.parameters(&mut own);
        own.into()
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
    }

    fn parameters(&mut self, own: &mut Map<String, Value>) {
        let mut parameters = Map::new();
        for name in ["prompt", "acr_values", "login_hint"] {
            put(&mut parameters, name, self.options.take(name).map(Value::from));
        }
        put(own, "authorization_params", (!parameters.is_empty()).then(|| parameters.into()));
        let endpoints = [
            ("login_url", "authorization_endpoint"),
            ("redeem_url", "token_endpoint"),
            ("oidc_jwks_url", "jwks_uri"),
            ("profile_url", "userinfo_endpoint"),
        ];
        let endpoints =
            endpoints.into_iter().filter_map(|(option, key)| Some((key.to_owned(), self.options.take(option)?.into())));
        let endpoints: Map<String, Value> = endpoints.collect();
        put(own, "endpoints", (!endpoints.is_empty()).then(|| endpoints.into()));
        if self.options.take_flag("skip_oidc_discovery") == Some(true) {
            own.insert("discovery".into(), json!("never"));
        }
        if let Some(url) = self.options.take("backend_logout_url") {
            self.notes.push(format!(
                "backend_logout_url {url}: /oauth2/sign_out signs out at the provider, as its metadata say"
            ));
        }
        put(own, "ca_file", self.options.take_all("provider_ca_files").first().map(|file| json!(file)));
    }

    fn routes(&mut self, place: &str) -> Vec<Value> {
        let mut accept = vec!["session"];
        if self.options.take_flag("skip_jwt_bearer_tokens") == Some(true) {
            accept.push("bearer");
        }
        let auth = json!({"provider": PROVIDER, "accept": accept});
        let (require, headers, timeout) = (self.require(), self.headers(), self.options.take("upstream_timeout"));
        let keeps_host = self.options.take_flag("pass_host_header") != Some(false);
        let mut upstreams = std::mem::take(&mut self.options.upstreams);
        for (n, url) in self.options.take_all("upstreams").into_iter().enumerate() {
            match Url::parse(&url) {
                Ok(parsed) if ["http", "https"].contains(&parsed.scheme()) => upstreams.push(Upstream {
                    id: format!("upstream-{}", n + 1),
                    path: parsed.path().to_owned(),
                    uri: parsed.origin().ascii_serialization(),
                    timeout: timeout.clone(),
                    keeps_host,
                }),
                Ok(parsed) if parsed.scheme() == "static" => {
                    self.notes.push(format!(
                        "upstreams {url}: for forward-auth see /oauth2/auth; Doorward makes no fixed answers"
                    ));
                }
                _ => self.notes.push(format!("upstreams {url}: Doorward forwards to http and https alone")),
            }
        }
        if upstreams.is_empty() {
            self.notes.push("upstreams: there is none; name the app in `to`".into());
            upstreams.push(Upstream {
                id: "app".into(),
                path: "/".into(),
                uri: "http://127.0.0.1:8080".into(),
                timeout,
                keeps_host,
            });
        }
        let mut routes = self.public_routes(place, &upstreams);
        for upstream in upstreams {
            let from = path_of(&upstream.path);
            if !from.starts_with('/') || from.contains(['^', '*', '(']) {
                self.notes.push(format!(
                    "upstream {}: its path {from} is a pattern; write a route for each prefix",
                    upstream.id
                ));
                continue;
            }
            let mut route = Map::from_iter([
                ("name".to_owned(), json!(name(&upstream.id, routes.len()))),
                ("from".into(), json!(format!("{place}{from}"))),
                ("to".into(), json!(upstream.uri)),
                ("auth".into(), auth.clone()),
            ]);
            put(&mut route, "require", require.clone());
            put(&mut route, "headers", headers.clone());
            let mut own = Map::new();
            put(&mut own, "timeout", upstream.timeout.as_deref().and_then(duration).map(Value::from));
            put(&mut own, "preserve_host", (!upstream.keeps_host).then(|| false.into()));
            put(&mut route, "upstream", (!own.is_empty()).then(|| own.into()));
            routes.push(route.into());
        }
        routes
    }

    /// `skip_auth_routes`: a method and a pattern; patterns that are a path and no more become routes.
    fn public_routes(&mut self, place: &str, upstreams: &[Upstream]) -> Vec<Value> {
        let mut routes = Vec::new();
        for rule in self.options.take_all("skip_auth_routes") {
            let (method, pattern) = match rule.split_once('=') {
                Some((method, pattern)) if method.bytes().all(|b| b.is_ascii_uppercase()) => (Some(method), pattern),
                _ => (None, rule.as_str()),
            };
            let is_exact = pattern.ends_with('$');
            let path = pattern.trim_start_matches('^').trim_end_matches('$').trim_end_matches(".*").replace("\\.", ".");
            let is_plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b));
            let to = upstreams.iter().filter(|upstream| path.starts_with(path_of(&upstream.path).as_str()));
            let to = to.max_by_key(|upstream| upstream.path.len());
            let (true, true, Some(to)) = (pattern.starts_with("^/"), is_plain, to) else {
                self.notes.push(format!("skip_auth_routes {rule}: is a pattern; write a route with `auth: public`"));
                continue;
            };
            if !is_exact && !path.ends_with('/') {
                self.notes.push(format!("skip_auth_routes {rule}: is taken as the path {path} and what is below it"));
            }
            let mut route = Map::from_iter([
                ("name".to_owned(), json!(format!("public-{}", routes.len() + 1))),
                ("from".into(), json!(format!("{place}{path}"))),
                ("to".into(), json!(to.uri)),
                ("auth".into(), json!("public")),
            ]);
            put(&mut route, "match", (is_exact && !pattern.ends_with(".*$")).then(|| json!("exact")));
            put(&mut route, "methods", method.map(|method| json!([method])));
            routes.push(route.into());
        }
        routes
    }

    fn require(&mut self) -> Option<Value> {
        let mut own = Map::new();
        let mut groups = self.options.take_all("allowed_groups");
        groups.extend(self.options.take_all("google_groups"));
        put(&mut own, "groups", (!groups.is_empty()).then(|| json!(groups)));
        let mut domains = self.options.take_all("email_domains");
        domains.retain(|domain| domain != "*");
        let (below, domains): (Vec<String>, Vec<String>) =
            domains.into_iter().partition(|domain| domain.starts_with(['.', '*']));
        for domain in below {
            self.notes.push(format!("email_domains {domain}: name each domain; subdomains are not covered"));
        }
        put(&mut own, "email_domains", (!domains.is_empty()).then(|| json!(domains)));
        let roles = self.options.take_all("allowed_roles");
        put(&mut own, "claims", (!roles.is_empty()).then(|| json!({"realm_access.roles": roles})));
        (!own.is_empty()).then(|| own.into())
    }

    fn headers(&mut self) -> Option<Value> {
        let mut own = Map::new();
        let passes = self.options.take_flag("pass_access_token") == Some(true);
        put(&mut own, "access_token", passes.then(|| json!("X-Forwarded-Access-Token")));
        let passes =
            [self.options.take_flag("pass_authorization_header"), self.options.take_flag("set_authorization_header")];
        put(&mut own, "id_token", passes.contains(&Some(true)).then(|| json!(true)));
        let none = self.options.take_flag("pass_user_headers") == Some(false);
        put(&mut own, "preset", none.then(|| json!("none")));
        (!own.is_empty()).then(|| own.into())
    }

    fn session(&mut self) -> Option<Value> {
        let (mut own, mut cookie) = (Map::new(), Map::new());
        let base = self.options.take("cookie_name").map(|name| {
            name.trim_start_matches("__Host-").trim_start_matches("__Secure-").trim_start_matches('_').to_owned()
        });
        put(&mut cookie, "name", base.filter(|name| !name.is_empty()).map(Value::from));
        let domains = self.options.take_all("cookie_domains");
        if domains.len() > 1 {
            self.notes
                .push("cookie_domains: the first one is taken; write `session.cookie.domain` for each route".into());
        }
        put(&mut cookie, "domain", domains.first().map(|domain| json!(domain.trim_start_matches('.'))));
        let same_site = self.options.take("cookie_samesite").map(|value| value.to_ascii_lowercase());
        put(&mut cookie, "same_site", same_site.map(Value::from));
        put(&mut own, "cookie", (!cookie.is_empty()).then(|| cookie.into()));
        if let Some(life) = self.options.take("cookie_expire").as_deref().and_then(duration) {
            own.insert("max_age".into(), json!(life));
            own.insert("idle_timeout".into(), json!("0s"));
        }
        (!own.is_empty()).then(|| own.into())
    }

    fn store(&mut self) -> Value {
        let urls = self.options.take("redis_connection_url");
        let (sentinels, cluster) = (
            self.options.take_all("redis_sentinel_connection_urls"),
            self.options.take_all("redis_cluster_connection_urls"),
        );
        let mut redis = Map::new();
        if self.options.take_flag("redis_use_sentinel") == Some(true) {
            redis.insert("urls".into(), json!(sentinels));
            redis.insert("mode".into(), json!("sentinel"));
            put(&mut redis, "master_name", self.options.take("redis_sentinel_master_name").map(Value::from));
        } else if self.options.take_flag("redis_use_cluster") == Some(true) {
            redis.insert("urls".into(), json!(cluster));
            redis.insert("mode".into(), json!("cluster"));
        } else {
            put(&mut redis, "urls", urls.map(|url| json!([literal(url)])));
        }
        put(&mut redis, "ca_file", self.options.take("redis_ca_path").map(Value::from));
        for name in ["redis_password", "redis_username", "redis_sentinel_password"] {
            if self.options.take(name).is_some() {
                self.notes.push(format!("{name}: write it into the URL of `store.redis.urls`"));
            }
        }
        match self.options.take("session_store_type").as_deref() {
            Some("redis") => json!({"backend": "redis", "redis": redis}),
            _ => json!({"backend": "file"}),
        }
    }
}

fn put(all: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        all.insert(name.to_owned(), value);
    }
}
