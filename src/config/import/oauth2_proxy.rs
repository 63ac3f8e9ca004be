//! What each option of oauth2-proxy is here.

use crate::caller::address::{ForwardingHeader, Net};
use crate::config::file::AuthPath;
use crate::config::import::no_counterpart::{NOT_HERE, NOTHING_TO_DO};
use crate::config::import::options::{Options, is_among};
use crate::config::import::texts::{address, duration, literal};
use crate::edge::Address;
use crate::kit::setting::http_url;
use crate::login::cookie::SameSite;
use crate::login::settings::CookieName;
use crate::provider::settings::RedirectUri;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use url::Url;

/// The name of the only provider.
pub(super) const PROVIDER: &str = "main";
const PLACE: &str = "https://change-me.example.com";

pub(super) struct Conversion {
    pub(super) options: Options,
    pub(super) notes: Vec<String>,
}

impl Conversion {
    pub(super) fn new(mut options: Options) -> Self {
        let notes = std::mem::take(&mut options.notes);
        Conversion { options, notes }
    }

    /// The configuration, and what could not be carried over.
    pub(super) fn finish(mut self) -> (Value, Vec<String>) {
        let mut all = Map::new();
        put(&mut all, "listen", Some(self.listen()));
        put(&mut all, "admin", self.address("metrics_address").map(|at| json!({"address": at})));
        let prefix = self.options.take("proxy_prefix");
        let prefix = prefix.and_then(|prefix| self.known::<AuthPath>("proxy_prefix", prefix));
        let prefix = prefix.unwrap_or_else(|| "/oauth2".into());
        put(&mut all, "auth_path", (prefix != "/oauth2").then(|| json!(prefix)));
        let (place, redirect_uri) = self.place(&prefix);
        put(&mut all, "client_ip", self.client_ip());
        let provider = self.provider(redirect_uri, place.starts_with("https:"));
        all.insert("providers".into(), json!({PROVIDER: provider}));
        let routes = self.routes(&place, &prefix);
        put(&mut all, "session", self.session(&place));
        all.insert("store".into(), self.store());
        if self.options.take_flag("request_logging") == Some(false) {
            all.insert("logging".into(), json!({"access": "none"}));
        }
        all.insert("routes".into(), Value::Array(routes));
        self.tell();
        let unknown = self.options.left().map(|name| format!("{name}: is not known here"));
        self.notes.extend(unknown);
        (Value::Object(all), self.notes)
    }

    /// What has no counterpart, but for what is done anyway.
    fn tell(&mut self) {
        for name in NOTHING_TO_DO {
            self.options.take_all(name);
        }
        for (name, done, why) in NOT_HERE {
            if self.options.take_all(name).iter().any(|value| !is_among(value, done)) {
                self.notes.push(format!("{name}: {why}"));
            }
        }
    }

    /// A value that is good here, too; else it is told why not.
    pub(super) fn known<T: DeserializeOwned>(&mut self, option: &str, text: String) -> Option<String> {
        match serde_json::from_value::<T>(json!(text)) {
            Ok(_) => Some(text),
            Err(problem) => {
                self.notes.push(format!("{option} {text}: {problem}"));
                None
            }
        }
    }

    /// The public origin, and the callback where it is another than the route's own.
    fn place(&mut self, prefix: &str) -> (String, Option<String>) {
        let written = self.options.take("redirect_url");
        let Some(url) = written.as_deref().and_then(http_url) else {
            let what = if written.is_some() { "has no origin" } else { "is absent" };
            self.notes.push(format!("redirect_url: {what}; put the public address in place of {PLACE}"));
            return (PLACE.into(), None);
        };
        let place = url.origin().ascii_serialization();
        let own_callback = format!("{place}{prefix}/callback");
        // An origin alone stands for the callback below the prefix.
        let has_path = url.path() != "/";
        if has_path && url.path() != format!("{prefix}/callback") {
            let told = format!("redirect_url: the callback is {own_callback}; register that at the provider");
            self.notes.push(told);
            return (place, None);
        }
        let elsewhere = Some(String::from(url)).filter(|url| has_path && *url != own_callback);
        let elsewhere = elsewhere.and_then(|url| self.known::<RedirectUri>("redirect_url", url));
        (place, elsewhere)
    }

    /// Where oauth2-proxy would listen; `-` is nowhere.
    fn address(&mut self, option: &str) -> Option<String> {
        let written = self.options.take(option).filter(|at| at != "-")?;
        self.known::<Address>(option, address(&written))
    }

    fn listen(&mut self) -> Value {
        let (plain, secure) = (self.address("http_address"), self.address("https_address"));
        let (certificate, key) = (self.options.take("tls_cert_file"), self.options.take("tls_key_file"));
        let redirects = self.options.take_flag("force_https") == Some(true);
        let has_tls = certificate.is_some() && key.is_some();
        let mut all: Vec<Value> = Vec::new();
        if let Some(at) = plain {
            let mut own = Map::from_iter([("address".to_owned(), json!(at))]);
            put(&mut own, "redirect_to_https", (redirects && has_tls).then(|| json!(true)));
            all.push(own.into());
        }
        if redirects && !has_tls {
            self.notes.push("force_https: no listener has a certificate; see `redirect_to_https` of a listener".into());
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let at = secure.unwrap_or_else(|| address(":443"));
                all.push(json!({"address": at, "tls": {"certificate": certificate, "private_key": key}}));
            }
            (certificate, key) => {
                let alone = [
                    (certificate, "tls_cert_file: needs tls_key_file, too"),
                    (key, "tls_key_file: needs tls_cert_file, too"),
                    (secure, "https_address: needs tls_cert_file and tls_key_file, too"),
                ];
                let alone = alone.into_iter().filter(|(value, _)| value.is_some());
                self.notes.extend(alone.map(|(_, told)| format!("{told}; see `tls` of a listener")));
            }
        }
        if all.is_empty() {
            all.push(json!({"address": "127.0.0.1:4180"}));
        }
        Value::Array(all)
    }

    fn client_ip(&mut self) -> Option<Value> {
        let named = self.options.take_all("trusted_proxy_ips");
        let trusted: Vec<String> =
            named.into_iter().filter_map(|net| self.known::<Net>("trusted_proxy_ips", net)).collect();
        if self.options.take_flag("reverse_proxy") == Some(true) && trusted.is_empty() {
            self.notes
                .push("reverse_proxy: name the proxies in `client_ip.trusted_proxies`; nobody else is believed".into());
        }
        let header = self.options.take("real_client_ip_header").map(|header| header.to_ascii_lowercase());
        let header = header.and_then(|header| self.known::<ForwardingHeader>("real_client_ip_header", header));
        let mut own = Map::new();
        put(&mut own, "trusted_proxies", (!trusted.is_empty()).then(|| json!(trusted)));
        put(&mut own, "header", header.map(Value::from));
        (!own.is_empty()).then(|| own.into())
    }

    fn session(&mut self, place: &str) -> Option<Value> {
        let (mut own, cookie) = (Map::new(), self.cookie(place));
        put(&mut own, "cookie", (!cookie.is_empty()).then(|| cookie.into()));
        if let Some(written) = self.options.take("cookie_expire") {
            match duration(&written) {
                Some(life) => {
                    own.insert("max_age".into(), json!(life));
                    own.insert("idle_timeout".into(), json!("0s"));
                }
                None => self.notes.push(format!(
                    "cookie_expire {written}: a session has an end of its own; see `session.max_age` and `idle_timeout`"
                )),
            }
        }
        (!own.is_empty()).then(|| own.into())
    }

    fn cookie(&mut self, place: &str) -> Map<String, Value> {
        let mut own = Map::new();
        let name = self.options.take("cookie_name").and_then(|name| {
            let base = name.strip_prefix("__Host-").or_else(|| name.strip_prefix("__Secure-"));
            self.known::<CookieName>("cookie_name", base.unwrap_or(&name).to_owned())
        });
        put(&mut own, "name", name.map(Value::from));
        let host = Url::parse(place).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        let covers = |domain: &str| host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        let domains = self.options.take_all("cookie_domains").into_iter();
        let (good, other): (Vec<String>, Vec<String>) = domains
            .map(|domain| domain.trim_start_matches('.').to_ascii_lowercase())
            .partition(|domain| covers(domain));
        for domain in other {
            self.notes.push(format!(
                "cookie_domains {domain}: does not cover {host}; write `session.cookie.domain` for routes of its hosts"
            ));
        }
        // The longest, as oauth2-proxy takes it.
        put(&mut own, "domain", good.into_iter().max_by_key(String::len).map(Value::from));
        let same_site = self.options.take("cookie_samesite").map(|value| value.to_ascii_lowercase());
        let same_site = same_site.and_then(|value| self.known::<SameSite>("cookie_samesite", value));
        if same_site.as_deref() == Some("none") && place.starts_with("http:") {
            self.notes.push("cookie_samesite none: needs https, and redirect_url is http".into());
        } else {
            put(&mut own, "same_site", same_site.map(Value::from));
        }
        own
    }

    fn store(&mut self) -> Value {
        let urls = self.options.take("redis_connection_url");
        let (sentinels, cluster) = (
            self.options.take_all("redis_sentinel_connection_urls"),
            self.options.take_all("redis_cluster_connection_urls"),
        );
        let mut redis = Map::new();
        let listed = |urls: Vec<String>| {
            let urls: Vec<String> = urls.into_iter().map(literal).collect();
            (!urls.is_empty()).then(|| json!(urls))
        };
        if self.options.take_flag("redis_use_sentinel") == Some(true) {
            put(&mut redis, "urls", listed(sentinels));
            redis.insert("mode".into(), json!("sentinel"));
            put(&mut redis, "master_name", self.options.take("redis_sentinel_master_name").map(Value::from));
        } else if self.options.take_flag("redis_use_cluster") == Some(true) {
            put(&mut redis, "urls", listed(cluster));
            redis.insert("mode".into(), json!("cluster"));
        } else {
            put(&mut redis, "urls", listed(urls.into_iter().collect()));
        }
        put(&mut redis, "ca_file", self.options.take("redis_ca_path").map(Value::from));
        match self.options.take("session_store_type").as_deref() {
            Some("redis") => json!({"backend": "redis", "redis": redis}),
            _ => json!({"backend": "file"}),
        }
    }
}

pub(super) fn put(all: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        all.insert(name.to_owned(), value);
    }
}
