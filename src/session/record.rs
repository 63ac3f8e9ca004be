//! What the store keeps of a session, in two parts: the hot one (identity and deadlines), which requests read, and the
//! cold one (the tokens), which refresh and sign-out read. Each is sealed with a key that follows from the ticket's key
//! and the store's secret, and bound to its realm and its part: copied elsewhere it opens nowhere.

use crate::kit::clock::Timestamp;
use crate::kit::seal::{NotOurs, Secrets};
use crate::provider::identity::Identity;
use crate::session::ticket::Ticket;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The part that requests read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hot {
    pub identity: Arc<Identity>,
    /// The `sub` of the ID token: a refreshed one must have the same.
    pub subject: String,
    pub created: i64,
    /// When it was last used, to within the touch interval.
    pub seen: i64,
    pub access_expires: i64,
    /// How long the access token lived when it was new, in milliseconds.
    pub access_life: i64,
    pub has_refresh: bool,
    /// Since when what the provider says of the person could not be had, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<i64>,
}

/// The part that requests do not read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cold {
    pub access: String,
    pub id: Option<String>,
    pub refresh: Option<String>,
    /// When the refresh token was given.
    pub refreshed: i64,
    pub session_id: Option<String>,
}

/// Which part a sealed record is.
#[derive(Clone, Copy)]
pub enum Part {
    Hot,
    Cold,
}

/// The form of the record; another is foreign, and treated as absent.
const VERSION: u8 = 1;

impl Part {
    fn purpose(self) -> &'static [u8] {
        match self {
            Part::Hot => b"session hot",
            Part::Cold => b"session cold",
        }
    }
}

/// What stands beside the seal for everyone who may look into the store: when, and keyed digests of whom.
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

impl Envelope {
    pub fn new(secrets: &Secrets, provider: &str, hot: &Hot, session_id: Option<&str>) -> Self {
        let digest = |purpose: &str, text: &str| {
            let digest = secrets.digest(purpose.as_bytes(), text.as_bytes());
            data_encoding::BASE64URL_NOPAD.encode(digest.split_at(16).0)
        };
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
    /// Whether the access token is to be renewed: less than `before` is left, and less than half of its life.
    pub fn is_due(&self, before: std::time::Duration, now: Timestamp) -> bool {
        let before = i64::try_from(before.as_millis()).unwrap_or(i64::MAX).min(self.access_life / 2);
        self.access_expires.saturating_sub(now.millis()) <= before
    }

    pub fn has_expired(&self, now: Timestamp) -> bool {
        now.millis() >= self.access_expires
    }
}
