//! What is logged of a request that has ended, and how texts that strangers choose are cut.

use crate::kit::clock::Timestamp;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The longest logged path, and the longest of other texts that clients choose, in bytes.
pub const LONGEST_PATH: usize = 2048;
pub const LONGEST_WORD: usize = 256;

/// A request that has ended. It contains no query and no credential value: both may be secrets.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    #[serde(serialize_with = "at")]
    #[serde(rename = "timestamp")]
    pub time: Timestamp,
    pub request_id: String,
    pub route: Arc<str>,
    pub method: String,
    pub host: String,
    pub path: String,
    pub status: u16,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    pub credential: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    pub client: String,
    /// The rule that did not hold, and why the request was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Arc<str>>,
    /// With three digits.
    #[serde(serialize_with = "thousandths")]
    pub duration_ms: f64,
}

impl Record {
    /// Its approximate size in memory.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.request_id, &self.method, &self.host, &self.path, &self.client];
        let why = self.why.as_ref().map_or(0, |why| why.len());
        size_of::<Record>() + why + texts.iter().map(|text| text.capacity()).sum::<usize>()
    }

    pub fn rfc3339(&self) -> String {
        rfc3339(self.time).to_string()
    }
}

/// Truncates a text to at most `most` bytes, at a character boundary; three dots mark that it was longer.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().map(|(at, _)| at).take_while(|at| *at <= most).last() {
        Some(at) if text.len() > most => format!("{}...", text.get(..at).unwrap_or_default()),
        _ => text.to_owned(),
    }
}

fn thousandths<S: serde::Serializer>(ms: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((ms * 1000.0).round() / 1000.0)
}

fn at<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&rfc3339(*time))
}

fn rfc3339(time: Timestamp) -> impl std::fmt::Display {
    let since = Duration::from_millis(u64::try_from(time.millis()).unwrap_or(0));
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since)
}
