//! How many sessions each provider has, for operators: counted while they are few, else estimated.

use crate::session::index::line_of_all;
use crate::session::sessions::Sessions;
use crate::store::kv::Unavailable;
use futures_util::future::try_join_all;
use std::collections::BTreeMap;

/// The sessions of each provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub by_provider: BTreeMap<String, u64>,
    /// There are more than were looked at.
    pub is_estimate: bool,
}

/// Parts of the index read at once, and records looked at.
const AT_ONCE: u16 = 16;
const PARTS: u16 = 256;
const LOOKED_AT: usize = 512;

impl Sessions {
    /// Reads parts of the index until enough records are known to tell for the rest: places are random, so that each part
    /// is a fair sample.
    pub async fn census(&self) -> Result<Census, Unavailable> {
        let (mut places, mut parts) = (Vec::new(), 0);
        while parts < PARTS && places.len() < LOOKED_AT {
            let lines: Vec<_> = (parts..parts + AT_ONCE).map(|part| line_of_all(&format!("{part:02x}"))).collect();
            let read = try_join_all(lines.iter().map(|line| self.kv.members(line))).await?;
            places.extend(read.into_iter().flatten());
            parts += AT_ONCE;
        }
        let looked_at = places.iter().take(LOOKED_AT);
        let labels = try_join_all(looked_at.map(|place| self.label_at(place))).await?;
        let mut by_provider: BTreeMap<String, u64> = BTreeMap::new();
        for label in labels.iter().flatten() {
            *by_provider.entry(label.provider.clone()).or_default() += 1;
        }
        let is_estimate = parts < PARTS || places.len() > labels.len();
        if is_estimate {
            let scale = f64::from(PARTS) / f64::from(parts) * places.len() as f64 / labels.len().max(1) as f64;
            by_provider.values_mut().for_each(|count| *count = (*count as f64 * scale).round() as u64);
        }
        Ok(Census { by_provider, is_estimate })
    }
}
