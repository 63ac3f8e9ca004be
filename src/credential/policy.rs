//! The providers whose tokens a route accepts.

use crate::kit::digest::Fingerprint;
use crate::provider::Provider;
use crate::provider::jwt::Unverified;
use crate::telemetry::metrics::ProviderMetrics;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The providers whose tokens are accepted. The id tells apart cached results of different policies.
#[derive(Clone)]
pub struct Policy {
    pub(super) id: Fingerprint,
    pub(super) issuers: Vec<Issuer>,
}

/// A provider, its metrics and its state.
#[derive(Clone)]
pub struct Issuer {
    pub provider: Arc<dyn Provider>,
    pub metrics: ProviderMetrics,
    pub(super) id: Fingerprint,
    /// Whether the missing groups of overlarge tokens were logged already.
    pub(super) overage: Arc<AtomicBool>,
}

impl Policy {
    pub fn new(issuers: Vec<Issuer>) -> Self {
        let ids: Vec<String> = issuers.iter().map(|issuer| format!("{:?}", issuer.id)).collect();
        Policy { id: Fingerprint::of().parts(ids).finish(), issuers }
    }

    /// The providers that the unverified issuer names.
    pub(super) fn of_token(&self, token: &Unverified<'_>) -> impl Iterator<Item = &Issuer> {
        self.issuers.iter().filter(move |issuer| issuer.provider.settings().is_bearer_issuer_of(token.claims()))
    }

    pub(super) fn introspecting(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.iter().filter(|issuer| issuer.provider.settings().introspection)
    }
}

impl Issuer {
    pub fn new(provider: Arc<dyn Provider>, metrics: ProviderMetrics) -> Self {
        let id = provider.settings().fingerprint();
        Issuer { provider, metrics, id, overage: Arc::default() }
    }

    /// The fingerprint of the provider's settings.
    pub fn fingerprint(&self) -> Fingerprint {
        self.id
    }
}
