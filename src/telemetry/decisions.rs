//! The last requests that were not forwarded, for operators who ask why. Bounded in number, and each in size.

use crate::telemetry::record::Record;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::VecDeque;

#[derive(Default)]
pub struct Decisions {
    last: Mutex<VecDeque<Record>>,
}

/// How many are kept: some MB at most.
pub const MOST: usize = 1000;

impl Decisions {
    pub(super) fn keep(&self, record: &Record) {
        let mut last = self.last.lock();
        if last.len() >= MOST {
            last.pop_front();
        }
        last.push_back(record.clone());
    }

    /// So many, the newest first.
    pub fn records(&self, count: usize) -> Vec<Record> {
        self.last.lock().iter().rev().take(count).cloned().collect()
    }

    /// The same, as the API shows them.
    pub fn last(&self, count: usize) -> Vec<Value> {
        self.last.lock().iter().rev().take(count).map(shown).collect()
    }
}

fn shown(record: &Record) -> Value {
    json!({
        "time": record.rfc3339(), "request_id": record.request_id, "route": record.route, "method": record.method,
        "host": record.host, "path": record.path, "client": record.client, "user": record.user,
        "status": record.status, "outcome": record.outcome, "reason": record.reason, "rule": record.rule, "why": record.why,
    })
}
