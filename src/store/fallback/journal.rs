//! What happened while the store was away, for the time when it is back.

use crate::kit::clock::Timestamp;
use crate::store::fallback::{MARK, MOST_MARKS};
use crate::store::kv::{Away, Entry};
use std::collections::{BTreeMap, BTreeSet};

/// In the order of the keys, so that a replay is the same each time.
pub(super) struct Journal {
    changes: BTreeMap<String, Change>,
    /// Places of which nobody could be told.
    unsaid: BTreeSet<String>,
    max_entries: usize,
    /// How many of the changes are marks of logins, which have room of their own.
    marks: usize,
}

/// What happened to a key while the store was away: the newest alone.
#[derive(Clone)]
pub(super) enum Change {
    Deleted(Timestamp),
    /// It was made here; the store has never seen it.
    Made(Entry, Timestamp),
    /// The store has, or had, an older one.
    Renewed(Entry, Timestamp),
}

impl Journal {
    pub(super) fn of(max_entries: u64) -> Self {
        let max_entries = usize::try_from(max_entries).unwrap_or(usize::MAX);
        Journal { changes: BTreeMap::new(), unsaid: BTreeSet::new(), max_entries, marks: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn has_deleted(&self, key: &str) -> bool {
        matches!(self.changes.get(key), Some(Change::Deleted(_)))
    }

    pub(super) fn has_made(&self, key: &str) -> bool {
        matches!(self.changes.get(key), Some(Change::Made(..)))
    }

    /// All of them, deletions first.
    pub(super) fn changes(&self) -> Vec<(String, Change)> {
        let mut changes: Vec<_> = self.changes.iter().map(|(key, change)| (key.clone(), change.clone())).collect();
        changes.sort_by_key(|(_, change)| !matches!(change, Change::Deleted(_)));
        changes
    }

    /// # Errors
    /// It is full: better told than lost.
    pub(super) fn note(&mut self, key: &str, change: Change) -> Result<(), Away> {
        let before = self.changes.get(key);
        let is_mark = key.starts_with(MARK);
        if before.is_none() {
            let is_full = match is_mark {
                true => self.marks as u64 >= MOST_MARKS,
                false => self.changes.len() - self.marks >= self.max_entries,
            };
            if is_full {
                return Err(Away);
            }
            self.marks += usize::from(is_mark);
        }
        let change = match (change, before) {
            (Change::Renewed(entry, ends), Some(Change::Made(..))) => Change::Made(entry, ends),
            (other, _) => other,
        };
        self.changes.insert(key.to_string(), change);
        Ok(())
    }

    /// Where there are too many, some are never told: others come to it when their copies are over.
    pub(super) fn say_later(&mut self, place: &str) {
        if self.unsaid.len() < self.max_entries {
            self.unsaid.insert(place.to_string());
        }
    }

    pub(super) fn unsaid(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.unsaid)
    }

    /// Takes a replayed change out, unless a newer one has come.
    pub(super) fn settle(&mut self, key: &str, replayed: &Change) {
        let same = match (self.changes.get(key), replayed) {
            (Some(Change::Deleted(_)), Change::Deleted(_)) => true,
            (
                Some(Change::Made(now, _) | Change::Renewed(now, _)),
                Change::Made(then, _) | Change::Renewed(then, _),
            ) => now.generation == then.generation,
            _ => false,
        };
        if same {
            self.changes.remove(key);
            self.marks -= usize::from(key.starts_with(MARK));
        }
    }
}
