//! One request's entry in the access log: prepared when the request is judged, written when it ends, however it ends.

use crate::gate::decision::Audit;
use crate::kit::clock::Timestamp;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use crate::telemetry::record::{LONGEST_PATH, LONGEST_WORD, Record, cut};
use std::sync::Arc;
use std::time::Instant;

/// Written on drop: if a connection is cut, its request is dropped without a last phase.
pub(super) struct AccessEntry {
    log: AccessLog,
    begun: Instant,
    record: Option<Box<Record>>,
}

impl AccessEntry {
    /// `None` if nobody wants it: a request that is forwarded, where such requests get no line.
    pub(super) fn of(
        log: &AccessLog,
        audit: &Audit,
        method: &str,
        target: &[u8],
        now: Timestamp,
        begun: Instant,
    ) -> Option<Self> {
        if audit.outcome == Outcome::forwarded && !log.wants_forwarded() {
            return None;
        }
        let (method, target) =
            audit.asked.as_ref().map_or((method, target), |(method, target)| (method.as_str(), target.as_bytes()));
        let path = target.split(|b| *b == b'?').next().unwrap_or_default();
        let record = Record {
            time: now,
            request_id: audit.request_id.clone(),
            route: audit.route.name().clone(),
            method: cut(method, LONGEST_WORD),
            host: audit.host.as_ref().map(|host| host.as_str().to_owned()).unwrap_or_default(),
            path: logged_path(path),
            status: 0,
            outcome: audit.outcome.word(),
            reason: audit.reason.map(Reason::word),
            credential: audit.credential.word(),
            user: audit.identity.as_ref().map(|who| logged_user(&who.user)),
            client: audit.client.to_string(),
            rule: None,
            why: None,
            duration_ms: 0.0,
        };
        Some(AccessEntry { log: log.clone(), begun, record: Some(Box::new(record)) })
    }

    /// Sets the status that the client gets, and updates the outcome and its reason.
    pub(super) fn told(&mut self, status: u16, audit: &Audit) {
        if let Some(record) = &mut self.record {
            record.status = status;
            record.outcome = audit.outcome.word();
            record.reason = audit.reason.map(Reason::word);
            if let Some(why) = &audit.why {
                (record.rule, record.why) = (why.rule.clone(), Some(why.text.clone()));
            }
        }
    }
}

/// Cuts the path before copying it: copying the longest path that fits into a head would be wasted work.
pub(super) fn logged_path(path: &[u8]) -> String {
    let head = path.get(..LONGEST_PATH + 4).unwrap_or(path);
    cut(&String::from_utf8_lossy(head), LONGEST_PATH)
}

fn logged_user(user: &Arc<str>) -> Arc<str> {
    if user.len() <= LONGEST_WORD { user.clone() } else { cut(user, LONGEST_WORD).into() }
}

impl Drop for AccessEntry {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            let took = self.begun.elapsed();
            record.time = record.time.plus(took);
            record.duration_ms = took.as_secs_f64() * 1000.0;
            self.log.write(record);
        }
    }
}
