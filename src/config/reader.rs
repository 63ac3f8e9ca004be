//! Reads a tree into the rooms' settings. What cannot be read is reported at its place, taken out, and the rest is read again,
//! so that one mistake hides no other.

use crate::config::diagnostics::Problems;
use crate::config::tree::{Key, Node, Value, join};
use crate::kit::setting::FILE_PATH;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use std::fmt;
use std::path::Path;

#[derive(Debug)]
struct ReadError {
    path: String,
    message: String,
    /// The key that is missing from the mapping at `path`.
    missing: Option<&'static str>,
    located: bool,
}

/// Reads the node at `path`, and leaves in it what could be read. `None`: the whole could not; why has been reported.
pub(crate) fn read<T: DeserializeOwned>(
    node: &mut Node,
    path: &str,
    folder: &Path,
    problems: &mut Problems,
) -> Option<T> {
    let mut removed: Vec<String> = Vec::new();
    loop {
        let error = match T::deserialize(Reader { node, path: path.to_string(), folder }) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let told = error.missing.map_or_else(|| error.path.clone(), |field| join(&error.path, field));
        if !removed.contains(&told) {
            problems.add_below(&told, &error.message);
        }
        let below = match path {
            "" => Some(error.path.as_str()),
            _ => error.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.')),
        };
        if !below.is_some_and(|below| !below.is_empty() && node.remove(below)) {
            return None;
        }
        removed.push(error.path);
    }
}

impl ReadError {
    fn new(message: String) -> Self {
        ReadError { path: String::new(), message, missing: None, located: false }
    }

    fn at(mut self, path: &str) -> Self {
        if !self.located {
            self.path = path.to_string();
            self.located = true;
        }
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ReadError::new(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        ReadError { missing: Some(field), ..ReadError::new("is required and missing; add it".into()) }
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        ReadError::new(format!("unknown key; known here: {}", expected.join(", ")))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        ReadError::new(format!("`{variant}` is not one of {}", expected.join(", ")))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        ReadError::new(format!("{found} stands here; write {expected}"))
    }
}

struct Reader<'a> {
    node: &'a Node,
    path: String,
    /// Where relative paths of files start.
    folder: &'a Path,
}

impl<'a> Reader<'a> {
    fn items(&self, items: &'a [Node]) -> Items<'a> {
        Items { items: items.iter(), index: 0, path: self.path.clone(), folder: self.folder }
    }

    fn entries(&self, entries: &'a [(Key, Node)]) -> Entries<'a> {
        Entries { entries: entries.iter(), current: None, path: self.path.clone(), folder: self.folder }
    }

    /// The text of a scalar; anything else is not what the key takes.
    fn text(&self, wanted: &str) -> Result<&'a str, ReadError> {
        match &self.node.value {
            _ if self.node.is_null() => {
                Err(ReadError::new(format!("nothing stands here; write {wanted}")).at(&self.path))
            }
            Value::Scalar { text, .. } => Ok(text),
            Value::List(_) => Err(ReadError::new(format!("a list stands here; write {wanted}")).at(&self.path)),
            Value::Map(_) => Err(ReadError::new(format!("a mapping stands here; write {wanted}")).at(&self.path)),
        }
    }

    fn number<T: std::str::FromStr>(&self) -> Result<T, ReadError> {
        let text = self.text("a whole number")?;
        text.parse()
            .map_err(|_| ReadError::new(format!("`{text}` is not a whole number that fits here")).at(&self.path))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            visitor.$visit(self.number::<$type>()?).map_err(|e: ReadError| e.at(&self.path))
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let path = self.path.clone();
        let read = match &self.node.value {
            Value::Scalar { text, .. } => visitor.visit_str(text),
            Value::List(items) => visitor.visit_seq(self.items(items)),
            Value::Map(entries) => visitor.visit_map(self.entries(entries)),
        };
        read.map_err(|e: ReadError| e.at(&path))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.text("true or false")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            other => Err(ReadError::new(format!("`{other}` is neither true nor false")).at(&self.path)),
        }
    }

    numbers!(deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64, deserialize_u8 visit_u8 u8);

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        // An empty value is an empty text: `token: ${env:TOKEN:-}`.
        let text = match &self.node.value {
            Value::Scalar { text, .. } if text.is_empty() => "",
            _ => self.text("a text")?,
        };
        visitor.visit_str(text).map_err(|e: ReadError| e.at(&self.path))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.node.is_null() || self.node.is_removed() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Scalar { .. } if self.node.is_null() => visitor.visit_seq(self.items(&[])),
            Value::List(_) => self.deserialize_any(visitor),
            _ => Err(ReadError::new("one value stands here; write a list: [a, b]".into()).at(&self.path)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let path = self.path.clone();
        match &self.node.value {
            Value::Scalar { .. } if self.node.is_null() => {
                visitor.visit_map(self.entries(&[])).map_err(|e: ReadError| e.at(&path))
            }
            Value::Map(_) => self.deserialize_any(visitor),
            _ => Err(ReadError::new("a mapping of keys belongs here".into()).at(&self.path)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let text: StrDeserializer<'_, ReadError> = self.text("one word")?.into_deserializer();
        visitor.visit_enum(text).map_err(|e| e.at(&self.path))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name != FILE_PATH {
            return visitor.visit_newtype_struct(self);
        }
        let path = self.folder.join(self.text("the path of a file")?);
        visitor.visit_str(&path.to_string_lossy()).map_err(|e: ReadError| e.at(&self.path))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    index: usize,
    path: String,
    folder: &'a Path,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let (node, index) = loop {
            let Some(node) = self.items.next() else { return Ok(None) };
            self.index += 1;
            if !node.is_removed() {
                break (node, self.index - 1);
            }
        };
        let path = join(&self.path, &index.to_string());
        let reader = Reader { node, path: path.clone(), folder: self.folder };
        seed.deserialize(reader).map(Some).map_err(|e| e.at(&path))
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Key, Node)>,
    current: Option<&'a (Key, Node)>,
    path: String,
    folder: &'a Path,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        self.current = self.entries.next();
        let Some((key, _)) = self.current else { return Ok(None) };
        let name: StrDeserializer<'_, ReadError> = key.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|e| e.at(&join(&self.path, &key.name)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (key, node) = self.current.ok_or_else(|| ReadError::new("a value without its key".into()))?;
        let path = join(&self.path, &key.name);
        seed.deserialize(Reader { node, path: path.clone(), folder: self.folder }).map_err(|e| e.at(&path))
    }
}
