//! Access tokens of the gateway's own for an app: by its client's credentials (RFC 6749, 4.4), or for the caller in
//! exchange for theirs (RFC 8693). One is fetched once for all requests and replicas, and renewed before it ends.

use crate::kit::cache::{self, Cache};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::digest::{Fingerprint, TokenDigest};
use crate::kit::entropy::Entropy;
use crate::kit::seal::Secrets;
use crate::kit::secret::Secret;
use crate::kit::singleflight::Singleflight;
use crate::provider::jwt::Unverified;
use crate::provider::settings::ClientProof;
use crate::provider::{CallFailed, GrantError, Provider, Tokens};
use crate::store::kv::{Entry, Key, Kv, Space, Unavailable};
use crate::store::lease::{Lease, Taken};
use crate::telemetry::metrics::ProviderMetrics;
use crate::telemetry::reason::Reason;
use data_encoding::HEXLOWER;
use http::HeaderValue;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

/// How a token is obtained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// One token for all callers.
    #[default]
    ClientCredentials,
    /// One for each caller.
    TokenExchange,
}

/// What tokens a route wants.
pub struct Wanted {
    pub provider: Arc<dyn Provider>,
    pub metrics: ProviderMetrics,
    pub secrets: Secrets,
    pub grant: Grant,
    /// With blanks between them.
    pub scope: String,
    pub audience: Option<String>,
    /// Of all of it, the client's secret included.
    pub id: Fingerprint,
}

/// The caller for whom a token is wanted.
pub struct Subject {
    pub token: Secret,
    /// Their `sub`, if it is known.
    pub name: Option<String>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoToken {
    Unavailable,
    /// By the provider, or because what it sent cannot be used.
    Refused,
}

pub struct ServiceTokens {
    kv: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// `None`: replicas do not wait for each other.
    lease: Option<Duration>,
    /// By the caller's credential, so that a hit reads no session.
    held: Cache<TokenDigest, Arc<Held>>,
    /// What failed a moment ago.
    failed: Cache<TokenDigest, NoToken>,
    under_way: Singleflight<TokenDigest, Result<Arc<Held>, NoToken>>,
    /// Renewals that have been begun, and until when no other is.
    renewing: Mutex<HashMap<TokenDigest, Timestamp>>,
}

/// A token with its times.
pub struct Held {
    pub token: Secret,
    expires: Timestamp,
    renew_from: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    token: Zeroizing<String>,
    /// In milliseconds since the Unix epoch, and its whole life.
    expires: i64,
    life: u64,
}

/// A token is renewed when less than this is left, or half its life.
const EARLY: Duration = Duration::from_secs(300);
/// A request waits for its provider's time-out plus this, however many replicas there are.
const SPARE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// A renewal is begun again after that time, and so many are remembered.
const AGAIN: Duration = Duration::from_secs(5);
const MOST_RENEWING: usize = 10_000;
const PURPOSE: &[&[u8]] = &[b"service token"];

/// Each until its own end.
type HeldSettings = cache::Settings<10_000, 86_400>;
/// A provider that refuses is asked again after so many seconds.
type FailedSettings = cache::Settings<10_000, 5>;

impl Wanted {
    pub fn new(
        provider: Arc<dyn Provider>,
        metrics: ProviderMetrics,
        secrets: Secrets,
        grant: Grant,
        scope: String,
        audience: Option<String>,
    ) -> Self {
        let settings = provider.settings();
        let proof = match settings.client_proof() {
            Some(ClientProof::Basic(secret) | ClientProof::Post(secret)) => TokenDigest::of(secret.expose().as_bytes()),
            // The id of a key; the key itself is not shown.
            _ => TokenDigest::of(format!("{:?} {:?}", settings.client_auth, settings.private_key).as_bytes()),
        };
        let id = Fingerprint::of()
            .part(settings.issuer.as_str())
            .part(settings.endpoint("token_endpoint").map_or("", |url| url.as_str()))
            .part(settings.client_id.as_str())
            .part(proof.bytes())
            .part(format!("{grant:?}"))
            .part(&scope)
            .parts(audience.iter())
            .finish();
        Wanted { provider, metrics, secrets, grant, scope, audience, id }
    }

    /// The digest by which this replica remembers the token of a caller's credential.
    pub fn place(&self, credential: Option<TokenDigest>) -> TokenDigest {
        let credential = credential.map_or([0; 32], |credential| *credential.bytes());
        TokenDigest::of(&[format!("{:?}", self.id).as_bytes(), &credential].concat())
    }

    /// The digest by which all replicas know it.
    fn shared_place(&self, subject: Option<&Subject>) -> [u8; 32] {
        let id = format!("{:?}", self.id);
        let token = subject.map_or("", |subject| subject.token.expose().as_str());
        self.secrets.digest(b"service token place", &[id.as_bytes(), b" ", token.as_bytes()].concat())
    }
}

impl ServiceTokens {
    pub fn new(
        kv: Arc<dyn Kv>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        lease: Option<Duration>,
    ) -> Arc<Self> {
        Arc::new(ServiceTokens {
            kv,
            clock,
            entropy,
            lease,
            held: Cache::new(&HeldSettings::default()),
            failed: Cache::new(&FailedSettings::default()),
            under_way: Singleflight::default(),
            renewing: Mutex::default(),
        })
    }

    /// A token that needs no renewal yet.
    pub fn recall(&self, place: TokenDigest) -> Option<Arc<Held>> {
        let now = self.clock.now();
        self.good(place).filter(|held| now < held.renew_from)
    }

    /// A token that is good, perhaps not for long.
    pub fn good(&self, place: TokenDigest) -> Option<Arc<Held>> {
        self.held.find(&place, self.clock.now())
    }

    /// Whether this request is the one that has another token fetched; one in a few seconds is.
    pub fn may_renew(&self, place: TokenDigest) -> bool {
        let mut renewing = self.renewing.lock();
        let now = self.clock.now();
        if renewing.len() >= MOST_RENEWING {
            renewing.retain(|_, until| now < *until);
        }
        let is_free = renewing.get(&place).is_none_or(|until| *until <= now) && renewing.len() < MOST_RENEWING;
        if is_free {
            renewing.insert(place, now.plus(AGAIN));
        }
        is_free
    }

    /// Has a token fetched for this caller, once for all who want it.
    pub async fn renew(
        self: &Arc<Self>,
        wanted: &Arc<Wanted>,
        place: TokenDigest,
        subject: Option<Subject>,
    ) -> Result<Arc<Held>, NoToken> {
        let shared = wanted.shared_place(subject.as_ref());
        let flight = TokenDigest::of(&shared);
        let longest = *wanted.provider.settings().timeout + SPARE;
        let (this, wish) = (self.clone(), wanted.clone());
        let work = || async move {
            let name = HEXLOWER.encode(&shared);
            this.fetch(&wish, &name, flight, subject.as_ref(), longest).await.map(Arc::new)
        };
        let fetched = match timeout(longest, self.under_way.join(flight, work)).await {
            Ok(Ok((fetched, _))) => fetched,
            Ok(Err(_)) | Err(_) => Err(NoToken::Unavailable),
        };
        if let Ok(held) = &fetched {
            self.held.keep(place, held.clone(), held.expires, self.held.begin(), self.clock.now());
        }
        fetched
    }

    /// From the store; else from the provider, by one replica at a time. Where that fails, one from the store that is
    /// still good.
    async fn fetch(
        &self,
        wanted: &Wanted,
        name: &str,
        flight: TokenDigest,
        subject: Option<&Subject>,
        longest: Duration,
    ) -> Result<Held, NoToken> {
        let (ends, mut pause) = (Instant::now() + longest, FIRST_PAUSE);
        loop {
            let (stored, is_there) = match self.stored(wanted, name, subject).await {
                Ok(stored) => (stored, true),
                Err(Unavailable) => (None, false),
            };
            let old = match stored {
                Some(held) if self.clock.now() < held.renew_from => return Ok(held),
                old => old,
            };
            if let Some(failed) = self.failed.find(&flight, self.clock.now()) {
                return old.ok_or(failed);
            }
            let lease = self.lease.filter(|_| is_there && self.kv.is_shared());
            let Some(lives) = lease else { return self.try_to_ask(wanted, name, flight, subject, old).await };
            match Lease::take(&self.kv, self.entropy.as_ref(), name, lives).await {
                Ok(Taken::Ours(lease)) => {
                    // Another replica may have brought it between the look and the lease.
                    let fetched = match self.stored(wanted, name, subject).await {
                        Ok(Some(held)) if self.clock.now() < held.renew_from => Ok(held),
                        _ => self.try_to_ask(wanted, name, flight, subject, old).await,
                    };
                    lease.let_go().await;
                    return fetched;
                }
                Ok(Taken::Until(_) | Taken::Unknown) => {}
                Err(Unavailable) => return self.try_to_ask(wanted, name, flight, subject, old).await,
            }
            if Instant::now() + pause >= ends {
                return old.ok_or(NoToken::Unavailable);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_to_ask(
        &self,
        wanted: &Wanted,
        name: &str,
        flight: TokenDigest,
        subject: Option<&Subject>,
        old: Option<Held>,
    ) -> Result<Held, NoToken> {
        let asked = self.ask(wanted, name, subject).await;
        asked.or_else(|failed| {
            self.failed.keep(flight, failed, Timestamp::FAR, self.failed.begin(), self.clock.now());
            old.ok_or(failed)
        })
    }

    async fn ask(&self, wanted: &Wanted, name: &str, subject: Option<&Subject>) -> Result<Held, NoToken> {
        let (provider, audience) = (&wanted.provider, wanted.audience.as_deref());
        let granted = match subject {
            Some(subject) => provider.exchange_token(&subject.token, &wanted.scope, audience).await,
            None => provider.client_token(&wanted.scope, audience).await,
        };
        let judged = granted.map_err(|CallFailed { error, why }| match error {
            GrantError::Unavailable => (NoToken::Unavailable, why),
            _ => (NoToken::Refused, why),
        });
        let now = self.clock.now();
        let judged = judged.and_then(|tokens| match fault_of(&tokens, subject, now) {
            Some(fault) => Err((NoToken::Refused, fault.into())),
            None => Ok(tokens),
        });
        let provider = &provider.settings().name;
        match judged {
            Ok(tokens) => {
                wanted.metrics.fetched_for_upstream("ok");
                let life = tokens.life(now);
                let stored = Stored {
                    token: tokens.access.expose().clone().into(),
                    expires: now.plus(life).millis(),
                    life: u64::try_from(life.as_millis()).unwrap_or(u64::MAX),
                };
                self.put(wanted, name, subject, &stored, life).await;
                Ok(Held::of(stored))
            }
            Err((failed, problem)) => {
                wanted.metrics.fetched_for_upstream(failed.reason().word());
                tracing::warn!(%provider, grant = ?wanted.grant, problem, "there is no token for the app");
                Err(failed)
            }
        }
    }

    /// A token in the store that is good, perhaps not for long.
    async fn stored(
        &self,
        wanted: &Wanted,
        name: &str,
        subject: Option<&Subject>,
    ) -> Result<Option<Held>, Unavailable> {
        let Some(entry) = self.kv.get(&Key::of(Space::ServiceToken, name)).await? else { return Ok(None) };
        let plain = wanted.secrets.open(salt(subject), PURPOSE, name.as_bytes(), &entry.value).ok();
        let stored = plain.and_then(|plain| serde_json::from_slice::<Stored>(&plain).ok());
        if stored.is_none() {
            self.kv.count_unreadable();
        }
        let now = self.clock.now();
        Ok(stored.map(Held::of).filter(|held| now < held.expires))
    }

    /// Best effort: without the store each replica has its own.
    async fn put(&self, wanted: &Wanted, name: &str, subject: Option<&Subject>, stored: &Stored, life: Duration) {
        let Ok(plain) = serde_json::to_vec(stored).map(Zeroizing::new) else { return };
        if let Ok(value) = wanted.secrets.seal(salt(subject), PURPOSE, name.as_bytes(), &plain) {
            let _ = self.kv.put(&Key::of(Space::ServiceToken, name), Entry { generation: 0, value }, life).await;
        }
    }
}

/// Whoever reads the store and knows its secret still needs the caller's token.
fn salt(subject: Option<&Subject>) -> &[u8] {
    subject.map_or(b"", |subject| subject.token.expose().as_bytes())
}

/// Why a token cannot be used.
fn fault_of(tokens: &Tokens, subject: Option<&Subject>, now: Timestamp) -> Option<&'static str> {
    let token = tokens.access.expose();
    if token.is_empty() || HeaderValue::from_str(token).is_err() {
        return Some("the token cannot stand in a header");
    }
    if tokens.life(now).is_zero() {
        return Some("the token has expired already, by this machine's clock");
    }
    is_of_other(tokens, subject).then_some("the token is another subject's")
}

/// Whether an exchange brought a token that names somebody else. One that cannot be read names nobody.
fn is_of_other(tokens: &Tokens, subject: Option<&Subject>) -> bool {
    let Some(asked) = subject.and_then(|subject| subject.name.as_deref()) else { return false };
    let named = |token: &Unverified<'_>| token.claims().get("sub").and_then(Value::as_str).map(str::to_owned);
    Unverified::read(tokens.access.expose()).ok().as_ref().and_then(named).is_some_and(|named| named != asked)
}

impl Held {
    fn of(stored: Stored) -> Self {
        let expires = Timestamp::from_millis(stored.expires);
        let early = EARLY.min(Duration::from_millis(stored.life / 2));
        Held { token: stored.token.as_str().to_string().into(), expires, renew_from: expires.minus(early) }
    }
}

impl NoToken {
    pub fn reason(self) -> Reason {
        match self {
            NoToken::Unavailable => Reason::ProviderUnavailable,
            NoToken::Refused => Reason::UpstreamUnreachable,
        }
    }
}

#[cfg(test)]
mod tests;
