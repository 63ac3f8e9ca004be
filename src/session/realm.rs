//! The scope in which a session is valid: an issuer's client and a cookie.

use crate::kit::clock::Timestamp;
use crate::kit::digest::{Fingerprint, TokenDigest};
use crate::kit::seal::Secrets;
use crate::provider::Provider;
use crate::session::record::{Envelope, Hot, Part, seal};
use crate::session::ticket::Ticket;
use crate::store::kv::Unavailable;
use crate::telemetry::metrics::ProviderMetrics;
use std::sync::Arc;
use std::time::Duration;

/// The scope of a session. A record sealed for one realm opens in no other.
pub struct Realm {
    pub provider: Arc<dyn Provider>,
    pub metrics: ProviderMetrics,
    /// The cookie's full name.
    pub cookie: String,
    pub secrets: Secrets,
    /// The longest `max_age` of its routes: a session record lives no longer.
    pub max_age: Duration,
    pub(super) id: Vec<u8>,
    /// Fingerprint of the provider settings that shape an identity; part of the cache key, so a change causes misses.
    shape: Vec<u8>,
    /// Stands for `id` and `shape`.
    pub(super) key: Fingerprint,
}

impl Realm {
    pub fn new(
        provider: Arc<dyn Provider>,
        metrics: ProviderMetrics,
        cookie: String,
        secrets: Secrets,
        max_age: Duration,
    ) -> Self {
        let settings = provider.settings();
        let id = [settings.issuer.as_str(), settings.client_id.as_str(), &cookie].join("\n").into_bytes();
        let shape = format!("{:?}", settings.fingerprint()).into_bytes();
        let key = Fingerprint::of().part(&id).part(&shape).finish();
        Realm { provider, metrics, cookie, secrets, max_age, id, shape, key }
    }

    pub(crate) fn seal<T: serde::Serialize>(
        &self,
        ticket: &Ticket,
        part: Part,
        label: &Envelope,
        record: &T,
    ) -> Result<Vec<u8>, Unavailable> {
        seal(&self.secrets, ticket, &self.id, part, label, record).map_err(|_| Unavailable)
    }

    pub(crate) fn label(&self, hot: &Hot, session_id: Option<&str>) -> Envelope {
        Envelope::new(&self.secrets, &self.provider.settings().name, hot, session_id)
    }

    pub(super) fn cache_key(&self, ticket: &Ticket) -> TokenDigest {
        TokenDigest::of(&[ticket.cookie().expose().as_bytes(), b"\n", &self.id, &self.shape].concat())
    }

    /// The record's remaining time to live.
    pub fn ttl(&self, created: i64, now: Timestamp) -> Duration {
        now.until(Timestamp::from_millis(created).plus(self.max_age))
    }
}
