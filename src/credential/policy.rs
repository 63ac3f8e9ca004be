//! The providers whose tokens a route accepts.

use crate::kit::digest::Fingerprint;
use crate::provider::Provider;
use crate::provider::jwt::Unverified;
use crate::provider::settings::Settings;
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
    /// The `aud`s that it accepts here beside those of the provider's settings.
    pub(super) resources: Arc<[String]>,
    /// Whether the missing groups of overlarge tokens were logged already.
    pub(super) overage: Arc<AtomicBool>,
}

impl Policy {
    /// Of the providers whose tokens are accepted.
    pub fn providers(&self) -> impl Iterator<Item = &Settings> {
        self.issuers.iter().map(|issuer| issuer.provider.settings())
    }

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
    /// `resources`: further `aud`s to accept.
    pub fn new(provider: Arc<dyn Provider>, metrics: ProviderMetrics, resources: &[String]) -> Self {
        let own = provider.settings().fingerprint();
        let id = match resources {
            [] => own,
            _ => Fingerprint::of().part(format!("{own:?}")).parts(resources).finish(),
        };
        Issuer { provider, metrics, id, resources: resources.into(), overage: Arc::default() }
    }

    /// The fingerprint of all that decides whether a token is accepted.
    pub fn fingerprint(&self) -> Fingerprint {
        self.id
    }
}
