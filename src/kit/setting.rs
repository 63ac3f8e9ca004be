//! The value types of settings: each is parsed from the configuration file, or refused with a message for the operator.
//! The reader of the file prefixes the message with the position.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{self, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use url::Url;

pub use crate::kit::quantity::{Count, Size, Span, Wait};

/// An absolute http or https URL without credentials in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct HttpUrl(Url);

/// A text that keeps a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "String", bound(deserialize = "R: Rule"))]
#[schemars(with = "String", inline)]
pub struct Text<R>(String, PhantomData<R>);

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

impl<R> Serialize for Text<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
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

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.0.into()
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

/// A URL of one host: a wildcard is none.
pub fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.contains('*'))
            && url.username().is_empty()
            && url.password().is_none()
    })
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    let name = url.host_str().unwrap_or_default();
    let ip: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
    ip.map_or(name == "localhost" || name.ends_with(".localhost"), |ip| ip.is_loopback())
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
