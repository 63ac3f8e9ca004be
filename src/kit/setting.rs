//! The value types of settings: each is parsed from the configuration file, or refused with a message for the operator.
//! The reader of the file prefixes the message with the position.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{self, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

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

/// An absolute http or https URL without credentials in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct HttpUrl(Url);

/// A text that keeps a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", bound(deserialize = "R: Rule", serialize = ""))]
#[schemars(with = "String", inline)]
pub struct Text<R>(String, #[serde(skip)] PhantomData<R>);

/// What a [`Text`] must be.
pub trait Rule {
    /// # Errors
    /// What is wrong, and what to write instead.
    fn check(text: &str) -> Result<(), String>;
}

/// The path of a file; the reader resolves relative paths against the directory of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilePath(PathBuf);

/// A list, or a single item without a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A list whose items keep their index in the file, even if another could not be read.
#[derive(Clone, Debug)]
pub struct Items<T>(pub Vec<(usize, T)>);

/// The newtype name by which the reader recognises a [`FilePath`].
pub const FILE_PATH: &str = "FilePath";
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

impl<R> Text<R> {
    /// A constant that keeps the rule, or the empty text in place of one that could not be read.
    pub(crate) fn of(text: &str) -> Self {
        Text(text.into(), PhantomData)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn text(&self) -> &String {
        &self.0
    }
}

impl<R> Default for Text<R> {
    fn default() -> Self {
        Text::of("")
    }
}

impl<R: Rule> TryFrom<String> for Text<R> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        R::check(&text).map(|()| Text(text, PhantomData))
    }
}

/// What is told where a text does not keep its rule.
pub fn rule(holds: bool, told: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(told()) }
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

impl Deref for HttpUrl {
    type Target = Url;
    fn deref(&self) -> &Url {
        &self.0
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Deref for FilePath {
    type Target = Path;
    fn deref(&self) -> &Path {
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

impl From<Url> for HttpUrl {
    fn from(url: Url) -> Self {
        HttpUrl(url)
    }
}

impl<P: Into<PathBuf>> From<P> for FilePath {
    fn from(path: P) -> Self {
        FilePath(path.into())
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
        let whole = units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
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

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.0.into()
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

impl TryFrom<String> for HttpUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        http_url(&text)
            .map(HttpUrl)
            .ok_or_else(|| "is not a URL; write one with http:// or https://, without a user in it".into())
    }
}

pub fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Path;
        impl<'de> Visitor<'de> for Path {
            type Value = FilePath;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a file")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<FilePath, D::Error> {
                String::deserialize(deserializer).map(FilePath::from)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<FilePath, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_newtype_struct(FILE_PATH, Path)
    }
}

impl JsonSchema for FilePath {
    fn schema_name() -> Cow<'static, str> {
        FILE_PATH.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "path"})
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
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

/// Deserializes a mapping, or a text that is a short form of one.
pub fn text_or_map<'de, D, T, M>(
    deserializer: D,
    text: fn(&str) -> Result<T, String>,
    map: fn(M) -> Result<T, String>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    M: Deserialize<'de>,
{
    struct Either<T, M>(fn(&str) -> Result<T, String>, fn(M) -> Result<T, String>);
    impl<'de, T, M: Deserialize<'de>> Visitor<'de> for Either<T, M> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a mapping")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            (self.1)(M::deserialize(MapAccessDeserializer::new(map))?).map_err(de::Error::custom)
        }
    }
    deserializer.deserialize_any(Either(text, map))
}

impl<T> Items<T> {
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
        Vec::deserialize(deserializer).map(|items: Vec<T>| Items(items.into_iter().enumerate().collect()))
    }
}

impl<T: Serialize> Serialize for Items<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(_, item)| item))
    }
}

impl<T: JsonSchema> JsonSchema for Items<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Vec::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(generator)
    }
}
