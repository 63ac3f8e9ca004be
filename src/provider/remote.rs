//! The provider over HTTP. A background task reads the metadata and the keys from the start, backs off while the
//! provider is unavailable, and rereads them every hour; requests use the last known ones.

use crate::kit::clock::Clock;
use crate::kit::http_client;
use crate::kit::secret::Secret;
use crate::kit::singleflight::Singleflight;
use crate::provider::claims::Claims;
use crate::provider::discovery::Metadata;
use crate::provider::first_look::FirstLook;
use crate::provider::http::{Http, OnAnswer};
use crate::provider::keys::KeySet;
use crate::provider::settings::{Automatic, Settings};
use crate::provider::trouble::Trouble;
use crate::provider::{CallFailed, Demand, Fetched, GrantError, Provider, Tokens, UserInfo, token_endpoint};
use crate::telemetry::metrics::ProviderMetrics;
use crate::telemetry::spans;
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;

/// A provider, with its last known metadata and keys.
pub struct RemoteProvider {
    clock: Arc<dyn Clock>,
    settings: Settings,
    http: Http,
    metrics: ProviderMetrics,
    metadata: ArcSwapOption<Metadata>,
    keys: ArcSwapOption<KeySet>,
    first_look: FirstLook,
    /// Whether it has answered since the start.
    answered: AtomicBool,
    /// Whether its last answer was good.
    up: AtomicBool,
    introspection: Trouble,
    userinfo: Trouble,
    refreshes: Trouble,
    /// When a stranger's token last caused a key fetch, and one of the provider's own. Plain mutexes: held for a
    /// look-up or an update, never across an await.
    demanded: [Mutex<Option<Instant>>; 2],
    fetches: Singleflight<Demand, Fetched>,
    /// Wakes the task that reads metadata and keys.
    look: Notify,
    on_new_keys: OnNewKeys,
    this: std::sync::Weak<RemoteProvider>,
}

/// Called with a provider's name when its keys have changed.
pub type OnNewKeys = Arc<dyn Fn(&str) + Send + Sync>;

/// Strangers' tokens cause at most one key fetch in this time.
const DEMAND_WINDOW: Duration = Duration::from_secs(30);
/// The same for the provider's own tokens, which are as rare as logins and session refreshes.
const OWN_WINDOW: Duration = Duration::from_secs(5);
/// Keys are reread this often, so that a withdrawn key does not verify for ever.
const KEYS_LIVE: Duration = Duration::from_secs(3600);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

impl RemoteProvider {
    /// # Errors
    /// The provider's certificate authority cannot be read.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: ProviderMetrics,
        on_new_keys: OnNewKeys,
    ) -> Result<Arc<Self>, Box<dyn std::error::Error + Send + Sync>> {
        let client = http_client::client(*settings.timeout, settings.ca_file.as_deref())?;
        metrics.up(false);
        let noted = |this: std::sync::Weak<RemoteProvider>| -> OnAnswer {
            Box::new(move |outcome| {
                if let Some(provider) = this.upgrade() {
                    provider.answered(outcome);
                }
            })
        };
        Ok(Arc::new_cyclic(|this: &std::sync::Weak<RemoteProvider>| RemoteProvider {
            clock: clock.clone(),
            settings,
            http: Http::new(client, clock.clone(), noted(this.clone())),
            metrics,
            metadata: ArcSwapOption::empty(),
            keys: ArcSwapOption::empty(),
            first_look: FirstLook::default(),
            answered: AtomicBool::new(false),
            up: AtomicBool::new(false),
            introspection: Trouble::default(),
            userinfo: Trouble::default(),
            refreshes: Trouble::default(),
            demanded: Default::default(),
            fetches: Singleflight::default(),
            look: Notify::new(),
            on_new_keys,
            this: this.clone(),
        }))
    }

    /// Keeps metadata and keys fresh; runs until it is dropped.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut retry = FIRST_RETRY;
        loop {
            let begun = Instant::now();
            if self.refresh().await {
                // Until the hour is over, a request finds the provider unavailable, or an operator asks for it.
                let _ = tokio::time::timeout(KEYS_LIVE, self.look.notified()).await;
                if begun.elapsed() > LONGEST_RETRY {
                    retry = FIRST_RETRY;
                }
                if self.is_up() {
                    continue;
                }
            }
            // Back off also if metadata and keys can be read but other calls fail: not each failure may cause a reread.
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    /// Makes the background task reread metadata and keys.
    pub fn look_again(&self) {
        self.look.notify_one();
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub fn issuer(&self) -> &str {
        self.settings.issuer.as_str()
    }

    pub fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Reads metadata and keys.
    async fn refresh(&self) -> bool {
        let fetched = match self.read_metadata().await {
            Ok(metadata) => {
                self.metadata.store(Some(Arc::new(metadata)));
                self.read_keys().await
            }
            Err(problem) => Err(problem),
        };
        self.first_look.end();
        self.told(fetched.map(drop))
    }

    async fn read_metadata(&self) -> Result<Metadata, String> {
        if self.settings.discovery == Automatic::Never {
            return Metadata::configured(&self.settings).ok_or_else(|| "endpoints.jwks_uri is not written".into());
        }
        let location = Metadata::location(&self.settings).map_err(|e| e.to_string())?;
        let json = self.http.get(&location).await.map_err(|e| format!("metadata: {e}"))?;
        Metadata::read(&json, &self.settings).map_err(|e| e.to_string())
    }

    async fn read_keys(&self) -> Result<Arc<KeySet>, String> {
        let fetched = match self.metadata.load_full() {
            Some(metadata) => self.read_keys_at(metadata.jwks_uri.url()).await,
            None => Err("keys: the metadata is not known yet".into()),
        };
        self.metrics.fetched_keys(if fetched.is_ok() { "ok" } else { "provider_unavailable" });
        fetched
    }

    async fn read_keys_at(&self, location: &Url) -> Result<Arc<KeySet>, String> {
        let json = self.http.get(location).await.map_err(|e| format!("keys: {e}"))?;
        let before = self.keys.load_full();
        let keys = Arc::new(KeySet::parse(&json, before.as_deref()).map_err(|e| format!("keys: {e}"))?);
        if keys.is_empty() && before.as_ref().is_some_and(|before| !before.is_empty()) {
            return Err("keys: none, and there were some".into()); // a starting provider may have none yet
        }
        self.keys.store(Some(keys.clone()));
        if let Some(before) = before {
            before.retire(&keys);
            if !before.is_same(&keys) {
                (self.on_new_keys)(&self.settings.name);
            }
        }
        Ok(keys)
    }

    /// Records whether the provider answers, and logs each change once.
    fn told(&self, outcome: Result<(), String>) -> bool {
        let up = outcome.is_ok();
        let was = self.up.swap(up, Ordering::Relaxed);
        let first = up && !self.answered.swap(up || self.has_answered(), Ordering::Relaxed);
        self.metrics.up(up);
        self.http.clock_skew().into_iter().for_each(|skew| self.metrics.clock_skew(skew));
        match outcome {
            Ok(()) if first || !was => tracing::info!(provider = %self.settings.name, "the provider answers"),
            Err(problem) if was || !self.has_answered() => {
                tracing::warn!(provider = %self.settings.name, %problem, "the provider does not answer");
            }
            _ => {}
        }
        up
    }

    fn client<'a>(&'a self, metadata: &'a Metadata) -> token_endpoint::TokenEndpoint<'a> {
        token_endpoint::TokenEndpoint { http: &self.http, settings: &self.settings, clock: &self.clock, metadata }
    }

    /// Records whether the provider answered a call that a request waited for.
    fn answered(&self, outcome: Result<(), String>) {
        if !self.told(outcome) {
            self.look_again();
        }
    }

    async fn known_metadata(&self) -> Result<Arc<Metadata>, CallFailed> {
        if self.metadata.load().is_none() {
            self.first_look.wait(*self.settings.timeout).await;
        }
        self.metadata.load_full().ok_or_else(|| CallFailed::unavailable("its metadata is not known yet"))
    }

    async fn grant(&self, form: &[(&str, &str)]) -> Result<Tokens, CallFailed> {
        let metadata = self.known_metadata().await?;
        let endpoint = metadata
            .token_endpoint
            .as_ref()
            .ok_or_else(|| CallFailed::refused("its metadata names no token_endpoint"))?;
        spans::timed("provider token", token_endpoint::grant(&self.client(&metadata), endpoint.url(), form)).await
    }

    async fn fetch_on_demand(self: Arc<Self>) -> Fetched {
        match self.read_keys().await {
            Ok(keys) => {
                self.told(Ok(()));
                Fetched::Keys(keys)
            }
            Err(problem) => {
                self.told(Err(problem));
                self.look_again();
                Fetched::Unavailable
            }
        }
    }

    /// Whether a fetch is allowed now; if so, starts a new window.
    fn may_fetch(&self, demand: Demand) -> bool {
        let [by_strangers, own] = &self.demanded;
        let (mut demanded, window) = match demand {
            Demand::Stranger => (by_strangers.lock(), DEMAND_WINDOW),
            Demand::Own => (own.lock(), OWN_WINDOW),
        };
        let now = Instant::now();
        if demanded.is_some_and(|last| now.duration_since(last) < window) {
            return false;
        }
        *demanded = Some(now);
        true
    }
}

impl RemoteProvider {
    async fn ask_about(&self, token: &Secret) -> Result<Claims, CallFailed> {
        let metadata = self.known_metadata().await?;
        let endpoint = metadata
            .introspection_endpoint
            .as_ref()
            .ok_or_else(|| CallFailed::refused("its metadata names no introspection_endpoint"))?;
        token_endpoint::introspect(&self.client(&metadata), endpoint.url(), token).await
    }
}

/// RFC 8693, 3.
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

#[async_trait]
impl Provider for RemoteProvider {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.load_full()
    }

    fn clock_skew(&self) -> Option<i64> {
        self.http.clock_skew()
    }

    fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.load_full()
    }

    async fn exchange(&self, code: &str, verifier: &str, redirect_uri: &str) -> Result<Tokens, CallFailed> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
        ];
        self.grant(&form).await
    }

    async fn refresh(&self, token: &Secret) -> Result<Tokens, CallFailed> {
        let granted = self.grant(&[("grant_type", "refresh_token"), ("refresh_token", token.expose())]).await;
        // A refusal of one token is told where its session ends; of the client, here.
        let problem = granted.as_ref().err().filter(|failed| failed.error == GrantError::Refused);
        self.refreshes.note(&self.settings.name, "a refresh", problem);
        granted
    }

    async fn client_token(&self, scope: &str, audience: Option<&str>) -> Result<Tokens, CallFailed> {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(Some(("scope", scope)).filter(|_| !scope.is_empty()));
        form.extend(audience.map(|audience| ("audience", audience)));
        self.grant(&form).await
    }

    async fn exchange_token(
        &self,
        subject: &Secret,
        scope: &str,
        audience: Option<&str>,
    ) -> Result<Tokens, CallFailed> {
        let mut form = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", subject.expose().as_str()),
            ("subject_token_type", ACCESS_TOKEN_TYPE),
            ("requested_token_type", ACCESS_TOKEN_TYPE),
        ];
        form.extend(Some(("scope", scope)).filter(|_| !scope.is_empty()));
        form.extend(audience.map(|audience| ("audience", audience)));
        self.grant(&form).await
    }

    async fn userinfo(&self, token: &Secret) -> Result<UserInfo, CallFailed> {
        let metadata =
            self.metadata.load_full().ok_or_else(|| CallFailed::unavailable("its metadata is not known yet"))?;
        let endpoint = metadata
            .userinfo_endpoint
            .as_ref()
            .ok_or_else(|| CallFailed::refused("its metadata names no userinfo_endpoint"))?;
        let told = spans::timed("provider userinfo", token_endpoint::userinfo(&self.http, endpoint.url(), token)).await;
        self.userinfo.note(&self.settings.name, "UserInfo", told.as_ref().err());
        told
    }

    async fn introspect(&self, token: &Secret) -> Result<Claims, CallFailed> {
        let told = spans::timed("provider introspection", self.ask_about(token)).await;
        self.introspection.note(&self.settings.name, "an introspection", told.as_ref().err());
        told
    }

    async fn revoke(&self, token: &Secret) {
        let Some(metadata) = self.metadata.load_full() else { return };
        let Some(endpoint) = metadata.revocation_endpoint.as_ref() else { return };
        let form = [("token", token.expose().as_str()), ("token_type_hint", "refresh_token")];
        if let Err(CallFailed { why, .. }) = token_endpoint::post(&self.client(&metadata), endpoint.url(), &form).await
        {
            tracing::warn!(provider = %self.settings.name, why, "a refresh token could not be revoked");
        }
    }

    async fn fetch_keys(&self, demand: Demand) -> Fetched {
        let Some(this) = self.this.upgrade() else {
            return Fetched::Unavailable;
        };
        let work = || async move {
            if this.keys.load().is_none()
                && this.first_look.wait(*this.settings.timeout).await
                && let Some(keys) = this.keys.load_full()
            {
                return Fetched::Keys(keys);
            }
            if this.may_fetch(demand) {
                return this.fetch_on_demand().await;
            }
            // Within the window the known keys decide, unless an outage of the provider may have made them out of date.
            if this.is_up() { Fetched::Closed } else { Fetched::Unavailable }
        };
        spans::timed("provider jwks", self.fetches.join(demand, work))
            .await
            .map_or(Fetched::Unavailable, |(fetched, _)| fetched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::SystemClock;
    use crate::provider::fake::{RSA_JWK, settings};
    use crate::telemetry::metrics::Metrics;
    use std::sync::atomic::AtomicUsize;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A provider that counts how often its keys are read, and can be set to answer 500.
    struct Server {
        issuer: String,
        key_reads: Arc<AtomicUsize>,
        broken: Arc<AtomicBool>,
    }

    async fn server() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let (key_reads, broken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let server = Server { issuer: issuer.clone(), key_reads: key_reads.clone(), broken: broken.clone() };
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let n = stream.read(&mut head).await.unwrap();
                let is_keys = head[..n].starts_with(b"GET /jwks");
                key_reads.fetch_add(usize::from(is_keys), Ordering::SeqCst);
                let body = match is_keys {
                    true => format!(r#"{{"keys": [{RSA_JWK}]}}"#),
                    false => format!(r#"{{"issuer": "{issuer}", "jwks_uri": "{issuer}/jwks"}}"#),
                };
                let status = if broken.load(Ordering::SeqCst) { "500 No" } else { "200 OK" };
                let answer =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        server
    }

    fn provider(server: &Server) -> Arc<RemoteProvider> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let metrics = Metrics::default().provider("corp");
        RemoteProvider::new(settings(&server.issuer), Arc::new(SystemClock), metrics, Arc::new(|_| {})).unwrap()
    }

    #[tokio::test]
    async fn unknown_keys_are_fetched_once_in_the_window_by_all_who_ask() {
        let server = server().await;
        let provider = provider(&server);
        assert!(provider.refresh().await && provider.keys().is_some());
        assert_eq!(server.key_reads.load(Ordering::SeqCst), 1);
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let provider = provider.clone();
                tokio::spawn(async move { provider.fetch_keys(Demand::Stranger).await })
            })
            .collect();
        for asked in asking {
            assert!(matches!(asked.await.unwrap(), Fetched::Keys(_) | Fetched::Closed));
        }
        assert_eq!(server.key_reads.load(Ordering::SeqCst), 2, "the fetch at start does not count");
        assert!(matches!(provider.fetch_keys(Demand::Stranger).await, Fetched::Closed));
        tokio::time::pause();
        tokio::time::advance(DEMAND_WINDOW).await;
        tokio::time::resume();
        assert!(matches!(provider.fetch_keys(Demand::Stranger).await, Fetched::Keys(_)));
        assert_eq!(server.key_reads.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn strangers_do_not_keep_the_window_of_own_tokens_closed() {
        let server = server().await;
        let provider = provider(&server);
        assert!(provider.refresh().await);
        assert!(matches!(provider.fetch_keys(Demand::Stranger).await, Fetched::Keys(_)));
        assert!(matches!(provider.fetch_keys(Demand::Stranger).await, Fetched::Closed));
        assert!(matches!(provider.fetch_keys(Demand::Own).await, Fetched::Keys(_)));
        assert!(matches!(provider.fetch_keys(Demand::Own).await, Fetched::Closed));
        tokio::time::pause();
        tokio::time::advance(OWN_WINDOW).await;
        tokio::time::resume();
        assert!(matches!(provider.fetch_keys(Demand::Own).await, Fetched::Keys(_)));
        assert!(matches!(provider.fetch_keys(Demand::Stranger).await, Fetched::Closed));
        assert_eq!(server.key_reads.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn a_provider_that_fails_is_unavailable_and_comes_back() {
        let server = server().await;
        let provider = provider(&server);
        server.broken.store(true, Ordering::SeqCst);
        assert!(!provider.refresh().await && !provider.has_answered() && !provider.is_up());
        assert!(matches!(provider.fetch_keys(Demand::Stranger).await, Fetched::Unavailable));
        assert!(
            matches!(provider.fetch_keys(Demand::Stranger).await, Fetched::Unavailable),
            "also while the window is closed"
        );
        server.broken.store(false, Ordering::SeqCst);
        assert!(provider.refresh().await && provider.has_answered() && provider.is_up());
    }
}
