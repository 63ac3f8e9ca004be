//! Changes made during an outage of the store, to be replayed when it is back.

use crate::kit::clock::Timestamp;
use crate::store::fallback::MOST_MARKS;
use crate::store::kv::{Change as Announced, Entry, Key, Space, Unavailable};
use std::collections::{BTreeMap, BTreeSet};

/// Ordered by key, so that a replay is deterministic.
pub(super) struct Journal {
    changes: BTreeMap<Key, Replay>,
    /// Places whose invalidation could not be announced.
    unsaid: BTreeSet<Announced>,
    /// Members of sets: until when they were added, or that they were removed.
    members: BTreeMap<(Key, String), Option<Timestamp>>,
    max_entries: usize,
    /// How many of the changes are login marks, which have a limit of their own.
    marks: usize,
}

/// The newest change to a key during an outage.
#[derive(Clone)]
pub(super) enum Replay {
    Deleted(Timestamp),
    /// Created here; the store has never had it.
    Made(Entry, Timestamp),
    /// The store has, or had, an older entry.
    Renewed(Entry, Timestamp),
}

impl Journal {
    pub(super) fn of(max_entries: u64) -> Self {
        let max_entries = usize::try_from(max_entries).unwrap_or(usize::MAX);
        Journal { changes: BTreeMap::new(), unsaid: BTreeSet::new(), members: BTreeMap::new(), max_entries, marks: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.members.is_empty()
    }

    pub(super) fn has_deleted(&self, key: &Key) -> bool {
        matches!(self.changes.get(key), Some(Replay::Deleted(_)))
    }

    pub(super) fn has_made(&self, key: &Key) -> bool {
        matches!(self.changes.get(key), Some(Replay::Made(..)))
    }

    /// All changes, deletions first.
    pub(super) fn changes(&self) -> Vec<(Key, Replay)> {
        let mut changes: Vec<_> = self.changes.iter().map(|(key, change)| (key.clone(), change.clone())).collect();
        changes.sort_by_key(|(_, change)| !matches!(change, Replay::Deleted(_)));
        changes
    }

    /// # Errors
    /// The journal is full: failing is better than losing a change.
    pub(super) fn note(&mut self, key: &Key, change: Replay) -> Result<(), Unavailable> {
        let before = self.changes.get(key);
        let is_mark = key.space() == Space::Used;
        if before.is_none() {
            let is_full = match is_mark {
                true => self.marks as u64 >= MOST_MARKS,
                false => self.changes.len() - self.marks >= self.max_entries,
            };
            if is_full {
                return Err(Unavailable);
            }
            self.marks += usize::from(is_mark);
        }
        let change = match (change, before) {
            (Replay::Renewed(entry, ends), Some(Replay::Made(..))) => Replay::Made(entry, ends),
            (other, _) => other,
        };
        self.changes.insert(key.clone(), change);
        Ok(())
    }

    /// Announcements beyond the limit are dropped: other replicas see the change when their cache entries expire.
    pub(super) fn say_later(&mut self, change: &Announced) {
        if self.unsaid.len() < self.max_entries {
            self.unsaid.insert(change.clone());
        }
    }

    pub(super) fn unsaid(&mut self) -> BTreeSet<Announced> {
        std::mem::take(&mut self.unsaid)
    }

    /// Beyond the limit it is dropped: a session that is in no index is ended by its own cookie or lifetime.
    pub(super) fn note_member(&mut self, key: &Key, member: &str, until: Option<Timestamp>) {
        let at = (key.clone(), member.to_string());
        if self.members.len() < self.max_entries || self.members.contains_key(&at) {
            self.members.insert(at, until);
        }
    }

    pub(super) fn members(&self) -> Vec<((Key, String), Option<Timestamp>)> {
        self.members.iter().map(|(at, until)| (at.clone(), *until)).collect()
    }

    /// Removes a replayed change of a set, unless there is a newer one.
    pub(super) fn settle_member(&mut self, at: &(Key, String), replayed: Option<Timestamp>) {
        if self.members.get(at) == Some(&replayed) {
            self.members.remove(at);
        }
    }

    /// Removes a replayed change, unless there is a newer one.
    pub(super) fn settle(&mut self, key: &Key, replayed: &Replay) {
        let same = match (self.changes.get(key), replayed) {
            (Some(Replay::Deleted(_)), Replay::Deleted(_)) => true,
            (
                Some(Replay::Made(now, _) | Replay::Renewed(now, _)),
                Replay::Made(then, _) | Replay::Renewed(then, _),
            ) => now.generation == then.generation,
            _ => false,
        };
        if same {
            self.changes.remove(key);
            self.marks -= usize::from(key.space() == Space::Used);
        }
    }
}
