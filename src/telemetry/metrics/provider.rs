//! The metrics of one provider.

use crate::telemetry::metrics::labels::{LogoutLabels, ProviderLabel, ProviderResult, RefreshLabels, SessionLabels};
use crate::telemetry::metrics::{Logout, Metrics, Refresh, SessionEvent};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// The handles of one provider.
#[derive(Clone)]
pub struct ProviderMetrics {
    provider: String,
    verifications: Family<ProviderResult, Counter>,
    fetches: Family<ProviderResult, Counter>,
    logins: Family<ProviderResult, Counter>,
    refreshes: Family<RefreshLabels, Counter>,
    upstream_tokens: Family<ProviderResult, Counter>,
    sessions: Family<SessionLabels, Counter>,
    logouts: Family<LogoutLabels, Counter>,
    clock_skew: Gauge,
    up: Gauge,
}

/// The results that there are from the start, at 0.
const VERIFICATIONS: [&str; 7] =
    ["ok", "invalid_token", "unknown_token", "token_expired", "wrong_audience", "provider_unavailable", "rate_limited"];
const FETCHES: [&str; 2] = ["ok", "provider_unavailable"];
const LOGINS: [&str; 7] =
    ["ok", "login_failed", "forbidden", "state_mismatch", "rate_limited", "provider_unavailable", "store_unavailable"];

impl Metrics {
    pub fn provider(&self, name: &str) -> ProviderMetrics {
        let label = ProviderLabel { provider: name.to_string() };
        for (family, results) in
            [(&self.token_verifications, &VERIFICATIONS[..]), (&self.jwks_fetches, &FETCHES), (&self.logins, &LOGINS)]
        {
            for result in results {
                drop(family.get_or_create(&ProviderResult { provider: name.to_string(), result }));
            }
        }
        for result in Refresh::ALL {
            drop(self.refreshes.get_or_create(&RefreshLabels { provider: name.to_string(), result }));
        }
        for event in SessionEvent::ALL {
            drop(self.sessions.get_or_create(&SessionLabels { provider: name.to_string(), event }));
        }
        for kind in Logout::ALL {
            drop(self.logouts.get_or_create(&LogoutLabels { provider: name.to_string(), kind }));
        }
        ProviderMetrics {
            provider: name.to_string(),
            verifications: self.token_verifications.clone(),
            fetches: self.jwks_fetches.clone(),
            logins: self.logins.clone(),
            refreshes: self.refreshes.clone(),
            upstream_tokens: self.upstream_tokens.clone(),
            sessions: self.sessions.clone(),
            logouts: self.logouts.clone(),
            clock_skew: self.clock_skew.get_or_create_owned(&label),
            up: self.provider_up.get_or_create_owned(&label),
        }
    }
}

impl ProviderMetrics {
    pub fn name(&self) -> &str {
        &self.provider
    }

    /// `result` is `ok` or a reason's word.
    pub fn verified(&self, result: &'static str) {
        self.count(&self.verifications, result);
    }

    pub fn fetched_keys(&self, result: &'static str) {
        self.count(&self.fetches, result);
    }

    /// `result` is `ok` or a reason's word.
    pub fn logged_in(&self, result: &'static str) {
        self.count(&self.logins, result);
    }

    /// `result` is `ok` or a reason's word.
    pub fn fetched_for_upstream(&self, result: &'static str) {
        self.count(&self.upstream_tokens, result);
    }

    /// Makes the series of tokens for apps appear, at 0.
    pub fn fetches_for_upstream(&self) {
        for result in ["ok", "provider_unavailable", "upstream_unreachable"] {
            let labels = ProviderResult { provider: self.provider.clone(), result };
            drop(self.upstream_tokens.get_or_create(&labels));
        }
    }

    pub fn logged_out(&self, kind: Logout) {
        self.logouts.get_or_create(&LogoutLabels { provider: self.provider.clone(), kind }).inc();
    }

    pub fn session(&self, event: SessionEvent) {
        self.sessions.get_or_create(&SessionLabels { provider: self.provider.clone(), event }).inc();
    }

    /// The provider's clock less ours, in seconds.
    pub fn clock_skew(&self, seconds: i64) {
        self.clock_skew.set(seconds);
    }

    pub fn refreshed(&self, result: Refresh) {
        self.refreshes.get_or_create(&RefreshLabels { provider: self.provider.clone(), result }).inc();
    }

    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    fn count(&self, family: &Family<ProviderResult, Counter>, result: &'static str) {
        family.get_or_create(&ProviderResult { provider: self.provider.clone(), result }).inc();
    }
}
