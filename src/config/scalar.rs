//! The types of single values: durations, sizes, one or many; and what may stand in a value: `${env:NAME}`,
//! `${env:NAME:-default}`, `${file:path}`, `$$`.

use crate::config::diagnostics::Problems;
use crate::config::reader::PLACES;
use crate::config::tree::{Node, Value, join};
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{self, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

/// One integer and one unit: `250ms`, `30s`, `5m`, `12h`, `7d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]+(ms|s|m|h|d)$"))]
pub struct Span(#[schemars(skip)] pub Duration);

/// Bytes: `64KiB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB)$"))]
pub struct Size(#[schemars(skip)] pub usize);

/// A list, or one of its items alone.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A list whose items keep their place in the file, also where one could not be read.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(transparent)]
pub struct Items<T>(#[schemars(with = "Vec<T>")] Vec<(usize, T)>);

impl Span {
    pub const fn seconds(seconds: u64) -> Self {
        Span(Duration::from_secs(seconds))
    }

    pub const fn millis(millis: u64) -> Self {
        Span(Duration::from_millis(millis))
    }

    fn parse(text: &str) -> Option<Span> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = number.parse().ok()?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(millis).filter(|ms| *ms <= LONGEST).map(Span::millis)
    }
}

/// A hundred years: beyond it sums with the time of day would lose their meaning.
const LONGEST: u64 = 100 * 365 * 86_400_000;

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no duration; write one integer and one unit: 250ms, 30s, 5m, 12h, 7d"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.find(|c: char| !c.is_ascii_digit()).and_then(|at| {
            let (number, unit) = text.split_at(at);
            let factor = match unit {
                "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                _ => return None,
            };
            number.parse::<usize>().ok()?.checked_mul(factor)
        });
        parsed.map(Size).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no size; write an integer and B, KiB, MiB or GiB: 64KiB"))
        })
    }
}

impl<T> OneOrMany<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let text: StrDeserializer<'_, E> = text.into_deserializer();
                T::deserialize(text).map(OneOrMany::One)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(OneOrMany::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// A mapping, or a text that stands for one.
pub(crate) fn text_or_map<'de, D, T, M>(
    deserializer: D,
    text: fn(&str) -> Result<T, String>,
    map: fn(M) -> T,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    M: Deserialize<'de>,
{
    struct Either<T, M>(fn(&str) -> Result<T, String>, fn(M) -> T);
    impl<'de, T, M: Deserialize<'de>> Visitor<'de> for Either<T, M> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a mapping")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            M::deserialize(MapAccessDeserializer::new(map)).map(self.1)
        }
    }
    deserializer.deserialize_any(Either(text, map))
}

impl<T> Items<T> {
    pub fn one(item: T) -> Self {
        Items(vec![(0, item)])
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0.iter().map(|(i, item)| (*i, item))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Items(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Places<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Places<T> {
            type Value = Vec<Option<T>>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list))
            }
        }
        let items = deserializer.deserialize_newtype_struct(PLACES, Places(PhantomData))?;
        Ok(Items(items.into_iter().enumerate().filter_map(|(i, item)| Some((i, item?))).collect()))
    }
}

/// Replaces what stands in `${...}` of every scalar, once.
pub(crate) fn interpolate(root: &mut Node, env: &[(String, String)], folder: &Path, problems: &mut Problems) {
    walk(root, "", &mut |text, path| {
        let (filled, faults) = fill(text, env, folder);
        for fault in faults {
            problems.add(path, fault);
        }
        filled
    });
}

fn walk(node: &mut Node, path: &str, fill: &mut impl FnMut(&str, &str) -> String) {
    match &mut node.value {
        Value::Scalar { text, .. } if text.contains('$') => *text = fill(text, path),
        Value::Scalar { .. } => {}
        Value::List(items) => {
            items.iter_mut().enumerate().for_each(|(i, item)| walk(item, &join(path, &i.to_string()), fill))
        }
        Value::Map(entries) => entries.iter_mut().for_each(|(key, node)| walk(node, &join(path, &key.name), fill)),
    }
}

fn fill(text: &str, env: &[(String, String)], folder: &Path) -> (String, Vec<String>) {
    let (mut out, mut faults, mut rest) = (String::new(), Vec::new(), text);
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (dollar, after) = from.split_at(1);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let known = reference.filter(|(inner, _)| inner.starts_with("env:") || inner.starts_with("file:"));
        let Some((inner, after)) = known else {
            out.push_str(dollar); // a lone dollar is itself
            rest = after;
            continue;
        };
        match resolve(inner, env, folder) {
            Ok(value) => out.push_str(&value),
            Err(fault) => faults.push(fault),
        }
        rest = after;
    }
    out.push_str(rest);
    (out, faults)
}

fn resolve(reference: &str, env: &[(String, String)], folder: &Path) -> Result<String, String> {
    if let Some(path) = reference.strip_prefix("file:") {
        let text =
            std::fs::read_to_string(folder.join(path)).map_err(|e| format!("the file {path} cannot be read: {e}"))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(text.strip_suffix('\r').unwrap_or(text).to_string());
    }
    let reference = reference.strip_prefix("env:").unwrap_or(reference);
    let (name, default) = reference.split_once(":-").map_or((reference, None), |(name, default)| (name, Some(default)));
    let value = env.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str());
    match (value, default) {
        (Some(value), _) if !value.is_empty() => Ok(value.into()),
        (_, Some(default)) => Ok(default.into()),
        (Some(empty), None) => Ok(empty.into()),
        (None, None) => Err(format!("the environment has no {name}; set it, or write ${{env:{name}:-default}}")),
    }
}
