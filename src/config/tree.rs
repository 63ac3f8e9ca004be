//! YAML as a tree in which every key and value knows its line and column. Scalars are text until a key's type reads
//! them; aliases are copied in, within a bound that stops a bomb.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) value: Value,
    /// The environment variable that set it.
    pub(crate) from_env: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// `plain`: written without quotes, so that an empty one or `null` is nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) position: Position,
}

/// The file is no YAML, or not the kind of YAML that a configuration is.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) position: Position,
    pub(crate) message: String,
}

/// Nodes of the whole tree, copies by alias included.
const MOST_NODES: usize = 100_000;

impl Position {
    pub(crate) const START: Position = Position { line: 1, column: 1 };

    fn of(span: &Span) -> Self {
        Position { line: span.start.line(), column: span.start.col() + 1 }
    }
}

pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut composer = Composer { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let root = composer.document()?;
    match root.value {
        Value::Map(_) => Ok(root),
        _ => Err(SyntaxError {
            position: root.position,
            message: "a configuration is a mapping of keys, such as `routes:`".into(),
        }),
    }
}

struct Composer<'input> {
    parser: Parser<'input, granit_parser::StrInput<'input>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Composer<'_> {
    fn document(&mut self) -> Result<Node, SyntaxError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            let position = Position::of(&span);
            match event {
                Event::StreamEnd => {
                    let empty = Node { position: Position::START, value: Value::Map(Vec::new()), from_env: None };
                    return Ok(root.unwrap_or(empty));
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    return Err(SyntaxError { position, message: "only one document may stand in the file".into() });
                }
                event => root = Some(self.node(event, position)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'static>, Span), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((owned(event), span)),
            Some(Err(error)) => Err(SyntaxError::from(error)),
            None => Ok((Event::StreamEnd, Span::empty(granit_parser::Marker::new(0, 1, 0)))),
        }
    }

    fn node(&mut self, event: Event<'static>, position: Position) -> Result<Node, SyntaxError> {
        self.count(1, position)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list()?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map()?, anchor),
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node =
                    node.ok_or_else(|| SyntaxError { position, message: "an alias inside of its own anchor".into() })?;
                self.count(node.size(), position)?;
                return Ok(Node { position, ..node });
            }
            _ => return Err(SyntaxError { position, message: "a value is expected here".into() }),
        };
        let node = Node { position, value, from_env: None };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, Position::of(&span))?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, SyntaxError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merged: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let position = Position::of(&span);
            let (name, is_plain) = match event {
                Event::MappingEnd => {
                    let missing = |(key, _): &(Key, Node)| !entries.iter().any(|(own, _)| own.name == key.name);
                    let merged: Vec<_> = merged.into_iter().filter(missing).collect();
                    entries.extend(merged);
                    return Ok(Value::Map(entries));
                }
                Event::Scalar(text, style, ..) => (text.into_owned(), style == ScalarStyle::Plain),
                _ => return Err(SyntaxError { position, message: "a key must be plain text".into() }),
            };
            if name == "<<" && is_plain {
                let (event, span) = self.next()?;
                let node = self.node(event, Position::of(&span))?;
                self.merge(node, &mut merged)?;
                continue;
            }
            if entries.iter().any(|(key, _)| key.name == name) {
                return Err(SyntaxError {
                    position,
                    message: format!("the key `{name}` stands here a second time; keep one"),
                });
            }
            let (event, span) = self.next()?;
            let node = self.node(event, Position::of(&span))?;
            entries.push((Key { name, position }, node));
        }
    }

    /// The keys of a mapping, or of several of which the first counts (YAML's merge keys).
    fn merge(&self, node: Node, merged: &mut Vec<(Key, Node)>) -> Result<(), SyntaxError> {
        match node.value {
            Value::Map(entries) => {
                for entry in entries {
                    if !merged.iter().any(|(key, _)| key.name == entry.0.name) {
                        merged.push(entry);
                    }
                }
                Ok(())
            }
            Value::List(items) => items.into_iter().try_for_each(|item| self.merge(item, merged)),
            Value::Scalar { .. } => {
                let message = "`<<` merges a mapping, or a list of mappings".into();
                Err(SyntaxError { position: node.position, message })
            }
        }
    }

    fn count(&mut self, nodes: usize, position: Position) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES {
            return Err(SyntaxError {
                position,
                message: "the file is too large once its aliases are resolved".into(),
            });
        }
        Ok(())
    }
}

fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Scalar(text, style, anchor, _) => Event::Scalar(text.into_owned().into(), style, anchor, None),
        Event::SequenceStart(style, anchor, _) => Event::SequenceStart(style, anchor, None),
        Event::MappingStart(style, anchor, _) => Event::MappingStart(style, anchor, None),
        Event::Alias(id) => Event::Alias(id),
        Event::StreamStart => Event::StreamStart,
        Event::StreamEnd => Event::StreamEnd,
        Event::DocumentEnd => Event::DocumentEnd,
        Event::SequenceEnd => Event::SequenceEnd,
        Event::MappingEnd => Event::MappingEnd,
        // Document starts, and comments where the parser was built to tell of them.
        _ => Event::DocumentEnd,
    }
}

impl From<ScanError> for SyntaxError {
    fn from(error: ScanError) -> Self {
        let marker = error.marker();
        let position = Position { line: marker.line().max(1), column: marker.col() + 1 };
        SyntaxError { position, message: format!("is not YAML: {}", error.info()) }
    }
}

impl Node {
    /// The node at a dotted path; list items by index. Keys that hold dots themselves are found whole.
    pub(crate) fn at(&self, path: &str) -> Option<&Node> {
        if path.is_empty() {
            return Some(self);
        }
        self.children().find_map(|(name, node)| node.at(rest_of(path, &name)?))
    }

    pub(crate) fn at_mut(&mut self, path: &str) -> Option<&mut Node> {
        if path.is_empty() {
            return Some(self);
        }
        let named = self.children_mut();
        named.into_iter().find_map(|(name, node)| node.at_mut(rest_of(path, &name)?))
    }

    /// Where the key of a path stands, or its list item.
    pub(crate) fn position_of(&self, path: &str) -> Option<Position> {
        if path.is_empty() {
            return Some(self.position);
        }
        match &self.value {
            Value::Map(entries) => entries.iter().find_map(|(key, node)| match rest_of(path, &key.name)? {
                "" => Some(key.position),
                rest => node.position_of(rest),
            }),
            _ => self.children().find_map(|(name, node)| node.position_of(rest_of(path, &name)?)),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub(crate) fn children(&self) -> Box<dyn Iterator<Item = (String, &Node)> + '_> {
        match &self.value {
            Value::Scalar { .. } => Box::new(std::iter::empty()),
            Value::List(items) => Box::new(items.iter().enumerate().map(|(i, node)| (i.to_string(), node))),
            Value::Map(entries) => Box::new(entries.iter().map(|(key, node)| (key.name.clone(), node))),
        }
    }

    fn children_mut(&mut self) -> Vec<(String, &mut Node)> {
        match &mut self.value {
            Value::Scalar { .. } => Vec::new(),
            Value::List(items) => items.iter_mut().enumerate().map(|(i, node)| (i.to_string(), node)).collect(),
            Value::Map(entries) => entries.iter_mut().map(|(key, node)| (key.name.clone(), node)).collect(),
        }
    }

    fn size(&self) -> usize {
        1 + self.children().map(|(_, node)| node.size()).sum::<usize>()
    }
}

/// What follows `name` in a path that begins with it.
fn rest_of<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(name)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('.') }
}

impl Node {
    /// Takes a node out. A list item becomes nothing, so that the indices of the others stay.
    pub(crate) fn remove(&mut self, path: &str) -> bool {
        match &mut self.value {
            Value::Map(entries) => {
                if let Some(at) = entries.iter().position(|(key, _)| key.name == path) {
                    entries.remove(at);
                    return true;
                }
                entries.iter_mut().any(|(key, node)| {
                    rest_of(path, &key.name).is_some_and(|rest| !rest.is_empty() && node.remove(rest))
                })
            }
            Value::List(items) => items.iter_mut().enumerate().any(|(i, node)| match rest_of(path, &i.to_string()) {
                Some("") => {
                    node.value = Value::Scalar { text: REMOVED.into(), plain: true };
                    true
                }
                Some(rest) => node.remove(rest),
                None => false,
            }),
            Value::Scalar { .. } => false,
        }
    }

    pub(crate) fn is_removed(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, .. } if text == REMOVED)
    }
}

/// Stands where a list item was taken out; no file can hold it.
const REMOVED: &str = "\0removed";

impl Node {
    /// Takes the value of a key out of a mapping.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        let Value::Map(entries) = &mut self.value else { return None };
        let at = entries.iter().position(|(key, _)| key.name == name)?;
        Some(entries.remove(at).1)
    }

    pub(crate) fn put(&mut self, name: &str, node: Node) {
        if let Value::Map(entries) = &mut self.value {
            let key = Key { name: name.to_string(), position: node.position };
            entries.push((key, node));
        }
    }

    /// What `under` says and this does not, keys within keys included.
    pub(crate) fn overlay(&mut self, under: &Node) {
        if self.is_null() {
            *self = under.clone();
            return;
        }
        let (Value::Map(own), Value::Map(under)) = (&mut self.value, &under.value) else { return };
        for (key, node) in under {
            match own.iter_mut().find(|(known, _)| known.name == key.name) {
                Some((_, own)) => own.overlay(node),
                None => own.push((key.clone(), node.clone())),
            }
        }
    }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}
