//! The interface of every store.

use async_trait::async_trait;
use std::fmt;
use std::time::Duration;
use tokio::sync::broadcast;

/// A value, and the generation of the write that put it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub generation: u64,
    pub value: Vec<u8>,
}

/// The store is unavailable: nothing is known of any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// What a key is for. The set is closed, so that it can be said of each what survives an outage of a shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// The hot part of a session, by its place.
    Session,
    /// Its cold part.
    Tokens,
    /// A login that has been completed.
    Used,
    /// Who refreshes a session.
    Lease,
    /// What a refresh brought.
    Refresh,
    ApiKey,
    ApiKeys,
    /// A secret that was generated.
    Secret,
    /// Which data a shared store holds: another epoch, other data.
    Epoch,
    /// The sessions of a user, a subject or a provider's session: a set of places.
    Index,
    /// The keys that sign assertions.
    SigningKeys,
    /// A token of the gateway's own for an app.
    ServiceToken,
}

/// A key of the store. The names are the same in every version: replicas of two versions share a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    space: Space,
    name: String,
}

/// A change that other replicas may have cached otherwise. It carries nothing to believe: it makes a replica read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A session, by its place.
    Session(String),
    /// An API key, by its id.
    ApiKey(String),
}

/// What another replica announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidation {
    Key(Change),
    /// Invalidations may have been missed.
    All,
}

impl Space {
    pub const ALL: [Space; 12] = [
        Space::Session,
        Space::Tokens,
        Space::Used,
        Space::Lease,
        Space::Refresh,
        Space::ApiKey,
        Space::ApiKeys,
        Space::Secret,
        Space::Epoch,
        Space::Index,
        Space::SigningKeys,
        Space::ServiceToken,
    ];

    const fn name(self) -> &'static str {
        match self {
            Space::Session => "session",
            Space::Tokens => "tokens",
            Space::Used => "used",
            Space::Lease => "lease",
            Space::Refresh => "refresh",
            Space::ApiKey => "api_key",
            Space::ApiKeys => "api_keys",
            Space::Secret => "secret",
            Space::Epoch => "epoch",
            Space::Index => "index",
            Space::SigningKeys => "signing_keys",
            Space::ServiceToken => "service_token",
        }
    }

    /// Whether a replica may answer for it while a shared store is unavailable. A lease that other replicas cannot see is
    /// worthless.
    pub const fn survives_outage(self) -> bool {
        matches!(self, Space::Session | Space::Tokens | Space::Used)
    }
}

impl Key {
    pub fn of(space: Space, id: impl fmt::Display) -> Self {
        Key { space, name: format!("{}:{id}", space.name()) }
    }

    /// The one key of a space.
    pub fn only(space: Space) -> Self {
        Key { space, name: space.name().into() }
    }

    pub fn space(&self) -> Space {
        self.space
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Its name within the space; empty for the one key of a space.
    pub fn id(&self) -> &str {
        self.name.split_once(':').map_or("", |(_, id)| id)
    }
}

impl Change {
    /// As it is announced.
    pub fn text(&self) -> String {
        match self {
            Change::Session(place) => place.clone(),
            Change::ApiKey(id) => format!("{API_KEY}{id}"),
        }
    }

    pub fn read(text: &str) -> Self {
        match text.strip_prefix(API_KEY) {
            Some(id) => Change::ApiKey(id.into()),
            None => Change::Session(text.into()),
        }
    }
}

/// A set is read whole: no larger than that.
pub const MOST_MEMBERS: usize = 10_000;
/// What an announcement of an API key begins with; no place of a session does.
const API_KEY: &str = "key:";

/// A key-value store. Each operation is atomic: of two callers of `put_new` for one key, one succeeds. An expired entry
/// is absent, whether or not it was swept. An acknowledged write survives what the store promises: nothing (memory),
/// the end of the process (file), the end of this replica (Redis).
#[async_trait]
pub trait Kv: Send + Sync {
    /// The entry and its remaining time to live.
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Unavailable>;

    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Unavailable>;

    /// Writes only if the key is absent; returns whether it wrote.
    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable>;

    /// Writes only if the key exists with a lower generation; returns whether it wrote. A late write neither revives a
    /// deleted entry nor overwrites a newer one.
    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable>;

    /// Returns whether the key existed. A shared store keeps a tombstone for `remember`: see `restore`.
    async fn delete(&self, key: &Key, remember: Duration) -> Result<bool, Unavailable>;

    /// Writes unless the key has a tombstone or exists with the same or a higher generation; returns whether it wrote.
    /// For entries that a replica held during an outage of the store.
    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable>;

    /// Only if the key exists with this value: sets its time to live, or deletes it if `ttl` is zero.
    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Unavailable>;

    /// Adds a member to a set; it stays for `ttl` at least. False: the set has [`MOST_MEMBERS`] already.
    async fn add(&self, key: &Key, member: &str, ttl: Duration) -> Result<bool, Unavailable>;

    /// The members of a set, in no order.
    async fn members(&self, key: &Key) -> Result<Vec<String>, Unavailable>;

    async fn remove(&self, key: &Key, member: &str) -> Result<(), Unavailable>;

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Unavailable> {
        Ok(self.get_with_ttl(key).await?.map(|(entry, _)| entry))
    }

    /// Announces to the other replicas that this place has changed; delivery is not guaranteed.
    async fn announce(&self, _change: &Change) {}

    /// Invalidations from other replicas; None if there are no others.
    fn announcements(&self) -> Option<broadcast::Receiver<Invalidation>> {
        None
    }

    /// Whether the store was unavailable a moment ago, so that changes of other replicas may still be missing.
    fn is_settling(&self) -> bool {
        false
    }

    /// Counts an unreadable value: truncated, foreign, or of another version.
    fn count_unreadable(&self) {}

    /// Whether other replicas may use the same store.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether a shared store is unavailable, so that what is known here may be out of date.
    fn is_unavailable(&self) -> bool {
        false
    }
}

/// A key by its literal name; what is no space of ours counts as a lease.
#[cfg(test)]
pub(crate) fn key(name: &str) -> Key {
    let (space, _) = name.split_once(':').unwrap_or((name, ""));
    let space = Space::ALL.into_iter().find(|known| known.name() == space).unwrap_or(Space::Lease);
    Key { space, name: name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Old and new replicas share a store: these names never change.
    #[test]
    fn the_names_in_the_store_stay_as_they_are() {
        let names = Space::ALL.map(|space| Key::of(space, "x").as_str().to_string());
        assert_eq!(
            names,
            [
                "session:x",
                "tokens:x",
                "used:x",
                "lease:x",
                "refresh:x",
                "api_key:x",
                "api_keys:x",
                "secret:x",
                "epoch:x",
                "index:x",
                "signing_keys:x",
                "service_token:x"
            ]
        );
        assert_eq!(
            [Space::ApiKeys, Space::Secret, Space::Epoch].map(|s| Key::only(s).name),
            ["api_keys", "secret", "epoch"]
        );
        let kept: Vec<_> = Space::ALL.into_iter().filter(|space| space.survives_outage()).collect();
        assert_eq!(kept, [Space::Session, Space::Tokens, Space::Used]);
        for (change, text) in [(Change::Session("ab".into()), "ab"), (Change::ApiKey("ab".into()), "key:ab")] {
            assert_eq!((change.text().as_str(), Change::read(text)), (text, change));
        }
    }
}
