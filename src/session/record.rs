//! The session record in the store, in two parts: hot (identity and deadlines), read by requests, and cold (the
//! tokens), read by refresh and sign-out. Each part is sealed with a key derived from the ticket's key and the store's
//! secret, and bound to its realm and part: copied to another place it does not open.

use crate::kit::clock::Timestamp;
use crate::kit::seal::{NotOurs, Secrets};
use crate::kit::secret::Secret;
use crate::provider::Tokens;
use crate::provider::identity::Identity;
use crate::session::ticket::Ticket;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The part that requests read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hot {
    pub identity: Arc<Identity>,
    /// The `sub` of the ID token: a refreshed ID token must have the same.
    pub subject: String,
    pub created: i64,
    /// When it was last used, to within the touch interval.
    pub seen: i64,
    pub access_expires: i64,
    /// The access token's full lifetime, in milliseconds.
    pub access_life: i64,
    pub has_refresh: bool,
    /// When UserInfo was last unavailable at a renewal, in milliseconds since the Unix epoch; None: up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<i64>,
}

/// The part that requests do not read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cold {
    pub access: String,
    pub id: Option<String>,
    pub refresh: Option<String>,
    /// When the refresh token was issued.
    pub refreshed: i64,
    pub session_id: Option<String>,
}

impl Cold {
    /// With what a refresh brought; what it did not bring stays.
    pub fn renewed(&self, tokens: &Tokens, now: i64) -> Cold {
        let text = |secret: &Secret| secret.expose().clone();
        Cold {
            access: text(&tokens.access),
            id: tokens.id.as_ref().map(text).or_else(|| self.id.clone()),
            refresh: tokens.refresh.as_ref().map(text).or_else(|| self.refresh.clone()),
            refreshed: if tokens.refresh.is_some() { now } else { self.refreshed },
            session_id: self.session_id.clone(),
        }
    }
}

/// Which part a sealed record is.
#[derive(Clone, Copy)]
pub enum Part {
    Hot,
    Cold,
}

/// The record format; a record of another version is treated as absent.
const VERSION: u8 = 1;

impl Part {
    fn purpose(self) -> &'static [u8] {
        match self {
            Part::Hot => b"session hot",
            Part::Cold => b"session cold",
        }
    }
}

/// The unencrypted part of a record, for anyone who may read the store: times, and keyed digests of the user's ids.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Envelope {
    pub version: u8,
    pub provider: String,
    pub created: i64,
    pub seen: i64,
    pub user: String,
    pub subject: String,
    pub session_id: Option<String>,
}

/// The keyed digest by which an envelope names an id.
fn named(digest: [u8; 32]) -> String {
    data_encoding::BASE64URL_NOPAD.encode(digest.split_at(16).0)
}

/// The same under each secret: a record keeps the digest that was made when it was.
pub fn names(secrets: &Secrets, purpose: &str, text: &str) -> Vec<String> {
    secrets.digests(purpose.as_bytes(), text.as_bytes()).map(named).collect()
}

impl Envelope {
    pub fn new(secrets: &Secrets, provider: &str, hot: &Hot, session_id: Option<&str>) -> Self {
        let digest = |purpose: &str, text: &str| named(secrets.digest(purpose.as_bytes(), text.as_bytes()));
        Envelope {
            version: VERSION,
            provider: provider.to_string(),
            created: hot.created,
            seen: hot.seen,
            user: digest("user", &hot.identity.user),
            subject: digest("sub", &hot.subject),
            session_id: session_id.map(|sid| digest("sid", sid)),
        }
    }
}

/// `<length of the label, 2 bytes><label><sealed>`.
pub fn seal<T: Serialize>(
    secrets: &Secrets,
    ticket: &Ticket,
    realm: &[u8],
    part: Part,
    label: &Envelope,
    record: &T,
) -> Result<Vec<u8>, NotOurs> {
    let label = serde_json::to_vec(label).map_err(|_| NotOurs)?;
    let record = zeroize::Zeroizing::new(serde_json::to_vec(record).map_err(|_| NotOurs)?);
    let sealed = secrets.seal(ticket.key(), &[part.purpose(), realm], &label, &record)?;
    let length = u16::try_from(label.len()).map_err(|_| NotOurs)?;
    Ok([&length.to_be_bytes()[..], &label, &sealed].concat())
}

/// The envelope alone. Nothing vouches for it without the ticket: it may serve to end a session, never to pass a request.
pub fn envelope(bytes: &[u8]) -> Option<Envelope> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let label = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    serde_json::from_slice(label).ok().filter(|label: &Envelope| label.version == VERSION)
}

pub fn open<T: DeserializeOwned>(
    secrets: &Secrets,
    ticket: &Ticket,
    realm: &[u8],
    part: Part,
    bytes: &[u8],
) -> Result<(Envelope, T), NotOurs> {
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or(NotOurs)?;
    let (label, sealed) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(NotOurs)?;
    let record = secrets.open(ticket.key(), &[part.purpose(), realm], label, sealed)?;
    let label: Envelope = serde_json::from_slice(label).map_err(|_| NotOurs)?;
    if label.version != VERSION {
        return Err(NotOurs);
    }
    Ok((label, serde_json::from_slice(&record).map_err(|_| NotOurs)?))
}

impl Hot {
    /// Whether the access token is due for refresh: at most `before` is left, and at most half of its lifetime.
    pub fn is_due(&self, before: std::time::Duration, now: Timestamp) -> bool {
        let before = i64::try_from(before.as_millis()).unwrap_or(i64::MAX).min(self.access_life / 2);
        self.access_expires.saturating_sub(now.millis()) <= before
    }

    pub fn has_expired(&self, now: Timestamp) -> bool {
        now.millis() >= self.access_expires
    }
}
