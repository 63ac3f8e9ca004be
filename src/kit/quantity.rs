//! Durations, sizes and counts, as settings have them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::time::Duration;

/// One integer and one unit: `250ms`, `30s`, `5m`, `12h`, `7d`. `0s` means none only where the key says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9]+(ms|s|m|h|d)$"))]
pub struct Span(Duration);

/// A duration longer than `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Span", into = "Span")]
#[schemars(with = "Span")]
pub struct Wait(Duration);

/// Bytes: `64KiB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB)$"))]
pub struct Size(pub usize);

/// A number from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "u32")]
#[schemars(with = "u32", extend("minimum" = 1))]
pub struct Count(u32);

/// A hundred years: sums of longer durations and the current time could overflow.
const LONGEST: u64 = 100 * 365 * 86_400_000;

impl Span {
    pub const NONE: Span = Span(Duration::ZERO);

    pub const fn seconds(seconds: u64) -> Self {
        Span(Duration::from_secs(seconds))
    }

    /// `None` for `0s`.
    pub fn some(self) -> Option<Duration> {
        Some(self.0).filter(|span| !span.is_zero())
    }
}

impl Wait {
    pub const fn seconds(seconds: u64) -> Self {
        Wait(Duration::from_secs(seconds))
    }

    pub const fn millis(millis: u64) -> Self {
        Wait(Duration::from_millis(millis))
    }
}

impl Count {
    pub const fn of(number: u32) -> Self {
        Count(if number == 0 { 1 } else { number })
    }

    pub fn get(self) -> u32 {
        self.0
    }

    pub fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Deref for Span {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl Deref for Wait {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl From<Duration> for Wait {
    fn from(duration: Duration) -> Self {
        Wait(duration)
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Span(duration)
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let span = split(&text).and_then(|(number, unit)| {
            let millis = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            number.checked_mul(millis).filter(|millis| *millis <= LONGEST)
        });
        let span = span.map(|millis| Span(Duration::from_millis(millis)));
        span.ok_or_else(|| {
            format!("`{text}` is not a duration; write one integer and one unit: 250ms, 30s, 5m, 12h, 7d")
        })
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        let millis = span.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
        // A minute alone is 60s, as people write it.
        let fits = |(unit, _): &(u128, &str)| millis.is_multiple_of(*unit) && millis != 60_000 || *unit == 1000;
        let whole = units.into_iter().find(|one| millis > 0 && millis.is_multiple_of(one.0) && fits(one));
        whole.map_or_else(|| "0s".into(), |(unit, name)| format!("{}{name}", millis / unit))
    }
}

impl From<Wait> for Span {
    fn from(wait: Wait) -> Self {
        Span(wait.0)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let whole = units.into_iter().find(|(unit, _)| size.0 > 0 && size.0.is_multiple_of(*unit));
        whole.map_or_else(|| format!("{}B", size.0), |(unit, name)| format!("{}{name}", size.0 / unit))
    }
}

impl TryFrom<Span> for Wait {
    type Error = &'static str;
    fn try_from(span: Span) -> Result<Self, Self::Error> {
        span.some().map(Wait).ok_or("must be longer than 0s")
    }
}

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let size = split(&text).and_then(|(number, unit)| {
            let factor = match unit {
                "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                _ => return None,
            };
            usize::try_from(number).ok()?.checked_mul(factor)
        });
        size.map(Size).ok_or_else(|| format!("`{text}` is not a size; write an integer and B, KiB, MiB or GiB: 64KiB"))
    }
}

/// The leading integer, and the text behind it.
fn split(text: &str) -> Option<(u64, &str)> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    Some((number.parse().ok()?, unit))
}

impl TryFrom<u32> for Count {
    type Error = &'static str;
    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if number == 0 { Err("must be at least 1") } else { Ok(Count(number)) }
    }
}
