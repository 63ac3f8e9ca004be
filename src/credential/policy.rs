//! Whose tokens count on a route.

use crate::kit::digest::Fingerprint;
use crate::provider::Provider;
use crate::provider::jwt::Unverified;
use crate::telemetry::metrics::ProviderMetrics;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Whose tokens count. Its id is part of every cache key.
#[derive(Clone)]
pub struct Policy {
    pub(super) id: Fingerprint,
    pub(super) issuers: Vec<Issuer>,
}

/// A provider and its handles.
#[derive(Clone)]
pub struct Issuer {
    pub provider: Arc<dyn Provider>,
    pub metrics: ProviderMetrics,
    pub(super) id: Fingerprint,
    /// Whether it was told that groups are left out of tokens.
    pub(super) overage: Arc<AtomicBool>,
}

impl Policy {
    pub fn new(issuers: Vec<Issuer>) -> Self {
        let ids: Vec<String> = issuers.iter().map(|issuer| format!("{:?}", issuer.id)).collect();
        Policy { id: Fingerprint::of().parts(ids).finish(), issuers }
    }

    /// The providers whose issuer the token names; reading that proves nothing.
    pub(super) fn of_token(&self, token: &str) -> impl Iterator<Item = &Issuer> {
        let read = Unverified::read(token).ok();
        self.issuers.iter().filter(move |issuer| {
            read.as_ref().is_some_and(|token| issuer.provider.settings().is_bearer_issuer_of(token.claims()))
        })
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

    /// Of its settings.
    pub fn fingerprint(&self) -> Fingerprint {
        self.id
    }
}
