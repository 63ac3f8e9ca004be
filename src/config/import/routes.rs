//! The routes: one for each app, and one for each path that needs no session.

use crate::config::import::oauth2_proxy::{Conversion, PROVIDER, put};
use crate::config::import::options::Upstream;
use crate::config::import::texts::{duration, name, path_of};
use crate::edge::upstream::Origin;
use crate::gate::place::is_plain_path;
use crate::gate::rules::Domain;
use serde_json::{Map, Value, json};
use url::Url;

/// Where a route stands: its path, whether it is the whole path, and its method.
type Place = (String, bool, Option<String>);

/// Nobody has it: what cannot be carried over must not leave the gateway open until somebody reads the comment.
const NOBODY: &str = "change-me@example.com";

impl Conversion {
    pub(super) fn routes(&mut self, place: &str, auth_path: &str) -> Vec<Value> {
        let mut accept = vec!["session"];
        if self.options.take_flag("skip_jwt_bearer_tokens") == Some(true) {
            accept.push("bearer");
        }
        let auth = json!({"provider": PROVIDER, "accept": accept});
        let (require, headers) = (self.require(), self.headers());
        let upstreams = self.upstreams();
        let mut routes = self.public_routes(place, auth_path, &upstreams);
        for upstream in upstreams {
            let mut route = Map::from_iter([
                ("name".to_owned(), json!(name(&upstream.id, routes.len()))),
                ("from".into(), json!(format!("{place}{}", upstream.path))),
                ("to".into(), json!(upstream.uri)),
                ("auth".into(), auth.clone()),
            ]);
            put(&mut route, "match", (!upstream.path.ends_with('/')).then(|| json!("exact")));
            put(&mut route, "require", require.clone());
            put(&mut route, "headers", headers.clone());
            let mut own = Map::new();
            put(&mut own, "timeout", upstream.timeout.map(Value::from));
            put(&mut own, "preserve_host", (!upstream.keeps_host).then(|| false.into()));
            put(&mut route, "upstream", (!own.is_empty()).then(|| own.into()));
            routes.push(route.into());
        }
        routes
    }

    /// At least one.
    fn upstreams(&mut self) -> Vec<Upstream> {
        let timeout = self.options.take("upstream_timeout").and_then(|text| {
            let known = duration(&text);
            if known.is_none() {
                self.notes.push(format!("upstream_timeout {text}: see `upstream.timeout`"));
            }
            known
        });
        let keeps_host = self.options.take_flag("pass_host_header") != Some(false);
        let mut all = std::mem::take(&mut self.options.upstreams);
        for (n, url) in self.options.take_all("upstreams").into_iter().enumerate() {
            let path = match Url::parse(&url) {
                Ok(parsed) if ["http", "https"].contains(&parsed.scheme()) => parsed.path().to_owned(),
                Ok(parsed) if parsed.scheme() == "unix" => "/".into(),
                Ok(parsed) if parsed.scheme() == "static" => {
                    self.notes.push(format!(
                        "upstreams {url}: for forward-auth see /oauth2/auth; Doorward makes no fixed answers"
                    ));
                    continue;
                }
                _ => {
                    self.notes.push(format!("upstreams {url}: Doorward forwards to http, https and unix alone"));
                    continue;
                }
            };
            all.push(Upstream {
                id: format!("upstream-{}", n + 1),
                path,
                uri: url,
                timeout: timeout.clone(),
                keeps_host,
            });
        }
        let mut known: Vec<Upstream> = all.into_iter().filter_map(|upstream| self.upstream(upstream)).collect();
        if known.is_empty() {
            self.notes.push("upstreams: there is none; name the app in `to`".into());
            let (id, path, uri) = ("app".into(), "/".into(), "http://127.0.0.1:8080".into());
            known.push(Upstream { id, path, uri, timeout, keeps_host });
        }
        known
    }

    /// Its path as that of a route, and its origin alone: oauth2-proxy sends the path as it came.
    fn upstream(&mut self, upstream: Upstream) -> Option<Upstream> {
        let path = path_of(&upstream.path);
        if !path.starts_with('/') || path.contains(['^', '*', '(']) || !is_plain_path(&path) {
            let id = upstream.id;
            self.notes.push(format!("upstream {id}: its path {path} is a pattern; write a route for each prefix"));
            return None;
        }
        let origin = Url::parse(&upstream.uri).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let uri = match origin {
            Some(url) => url.origin().ascii_serialization(),
            None => upstream.uri,
        };
        let uri = self.known::<Origin>(&format!("upstream {}", upstream.id), uri)?;
        Some(Upstream { path, uri, ..upstream })
    }

    /// `skip_auth_routes`: a method and a pattern; patterns that are a path and no more become routes.
    fn public_routes(&mut self, place: &str, auth_path: &str, upstreams: &[Upstream]) -> Vec<Value> {
        let (mut routes, mut taken) = (Vec::new(), Vec::<Place>::new());
        for rule in self.options.take_all("skip_auth_routes") {
            let (method, pattern) = match rule.split_once('=') {
                Some((method, pattern)) if method.bytes().all(|b| b.is_ascii_uppercase()) => (Some(method), pattern),
                _ => (None, rule.as_str()),
            };
            let is_exact = pattern.ends_with('$') && !pattern.ends_with(".*$");
            let path = pattern.trim_start_matches('^').trim_end_matches('$').trim_end_matches(".*").replace("\\.", ".");
            let is_plain =
                path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b)) && is_plain_path(&path);
            let to = upstreams.iter().filter(|upstream| path.starts_with(upstream.path.as_str()));
            let to = to.max_by_key(|upstream| upstream.path.len());
            let (true, true, Some(to)) = (pattern.starts_with("^/"), is_plain, to) else {
                self.notes.push(format!("skip_auth_routes {rule}: is a pattern; write a route with `auth: public`"));
                continue;
            };
            if path.strip_prefix(auth_path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                self.notes.push(format!("skip_auth_routes {rule}: the gateway's own pages are there"));
                continue;
            }
            let own = place_of(&path, is_exact, method);
            if upstreams.iter().any(|other| own == place_of(&other.path, !other.path.ends_with('/'), None)) {
                self.notes.push(format!("skip_auth_routes {rule}: is a whole app; write `auth: public` for its route"));
                continue;
            }
            if taken.contains(&own) {
                continue;
            }
            taken.push(own);
            if !is_exact && !path.ends_with('/') {
                self.notes.push(format!("skip_auth_routes {rule}: is taken as the path {path} and what is below it"));
            }
            let mut route = Map::from_iter([
                ("name".to_owned(), json!(format!("public-{}", routes.len() + 1))),
                ("from".into(), json!(format!("{place}{path}"))),
                ("to".into(), json!(to.uri)),
                ("auth".into(), json!("public")),
            ]);
            put(&mut route, "match", is_exact.then(|| json!("exact")));
            put(&mut route, "methods", method.map(|method| json!([method])));
            routes.push(route.into());
        }
        routes
    }

    fn require(&mut self) -> Option<Value> {
        let (mut own, mut groups) = (Map::new(), Vec::new());
        for option in ["allowed_groups", "google_groups", "keycloak_groups", "gitlab_groups"] {
            groups.extend(self.options.take_all(option));
        }
        let roles = self.options.take_all("allowed_roles");
        if !groups.is_empty() && !roles.is_empty() {
            self.notes.push("allowed_roles: the rules of `require` must all hold, those of groups and of roles".into());
        }
        put(&mut own, "groups", (!groups.is_empty()).then(|| json!(groups)));
        self.emails(&mut own);
        put(&mut own, "claims", (!roles.is_empty()).then(|| json!({"realm_access.roles": roles})));
        (!own.is_empty()).then(|| own.into())
    }

    fn emails(&mut self, own: &mut Map<String, Value>) {
        let domains = self.options.take_all("email_domains");
        let file = self.options.take("authenticated_emails_file");
        if file.is_some() {
            self.notes.push("authenticated_emails_file: write the addresses into `require.emails`".into());
        }
        // It admits everybody, whatever stands beside it.
        if domains.iter().any(|domain| domain == "*") {
            return;
        }
        let is_limited = file.is_some() || !domains.is_empty();
        let mut known = Vec::new();
        for domain in domains {
            match domain.starts_with(['.', '*']) {
                true => {
                    self.notes.push(format!("email_domains {domain}: name each domain; subdomains are not covered"))
                }
                false => known.extend(self.known::<Domain>("email_domains", domain)),
            }
        }
        put(own, "emails", (is_limited && known.is_empty()).then(|| json!([NOBODY])));
        put(own, "email_domains", (!known.is_empty()).then(|| json!(known)));
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
}

/// Prefixes with and without a slash at their end are one place.
fn place_of(path: &str, is_exact: bool, method: Option<&str>) -> Place {
    let path = if is_exact { path } else { path.trim_end_matches('/') };
    (path.to_owned(), is_exact, method.map(str::to_owned))
}
