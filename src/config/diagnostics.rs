//! What is wrong, where it stands, and the mend: `file:line:column: path.to.key: what is wrong`.

use crate::config::reference::sources;
use crate::config::settings::Settings;
use crate::config::tree::{Node, Position, Value};
use anstyle::{AnsiColor, Style};
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// One line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    place: Place,
    pub(crate) path: String,
    pub(crate) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    File(PathBuf, Position),
    Environment(String),
}

/// A configuration that holds for itself, with what the operator should hear about it.
pub struct Checked {
    pub settings: Settings,
    pub warnings: Vec<Problem>,
    pub written: Written,
}

/// Where each value comes from.
pub struct Written {
    file: PathBuf,
    as_written: Node,
    completed: Node,
}

impl Written {
    /// `file:line`, `env:NAME`, `file:path`, or `default`; several where the text of the file refers to others.
    pub(crate) fn source(&self, path: &str, value: &serde_json::Value) -> String {
        let node = self.completed.at(path);
        if let Some(name) = node.and_then(|node| node.from_env.as_ref()) {
            return format!("env:{name}");
        }
        let items: Vec<_> =
            node.into_iter().flat_map(Node::children).filter_map(|(_, item)| item.from_env.clone()).collect();
        if let (false, Some(position)) = (items.is_empty(), self.as_written.position_of(path)) {
            return format!("{}, env:{}", self.line(position), items.join(", env:"));
        }
        if let Some(position) = self.as_written.position_of(path) {
            let line = std::iter::once(self.line(position));
            return line.chain(self.references(path)).collect::<Vec<_>>().join(", ");
        }
        // A short form, such as an address for a listener.
        let whole = path.rsplit_once('.').and_then(|(whole, _)| self.as_written.at(whole));
        if let Some(Node { value: Value::Scalar { text, .. }, position, .. }) = whole
            && value.as_str() == Some(text)
        {
            return self.line(*position);
        }
        // A route has the global `session` and `limits` where it says nothing of its own.
        let global = path.strip_prefix("routes.").and_then(|rest| rest.split_once('.')).map(|(_, rest)| rest);
        match global.filter(|rest| rest.starts_with("session.") || rest.starts_with("limits.")) {
            Some(global) => self.source(global, value),
            None => "default".into(),
        }
    }

    /// What the text at a path refers to, or the items of a list.
    fn references(&self, path: &str) -> Vec<String> {
        let Some(node) = self.as_written.at(path) else { return Vec::new() };
        let items = node.children().map(|(_, item)| item);
        let texts = std::iter::once(node).chain(items).filter_map(|node| match &node.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        });
        texts.flat_map(|text| sources(text)).collect()
    }

    pub(crate) fn is_from_env(&self, path: &str) -> bool {
        self.completed.at(path).is_some_and(|node| node.from_env.is_some())
    }

    /// A text of the file that refers to the environment or another file, as it is written there.
    pub(crate) fn reference(&self, path: &str) -> Option<&str> {
        self.text(path).filter(|text| !sources(text).is_empty())
    }

    fn text(&self, path: &str) -> Option<&str> {
        match &self.as_written.at(path)?.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    fn line(&self, position: Position) -> String {
        format!("{}:{}", self.file.display(), position.line)
    }
}

/// Collects problems, and knows where every path of the file stands.
pub(crate) struct Problems {
    file: PathBuf,
    as_written: Node,
    completed: Node,
    found: Vec<Problem>,
    paths: HashSet<String>,
    warnings: Vec<Problem>,
}

impl Problem {
    /// For a terminal; `colour` says how bad it is.
    pub fn styled(&self, colour: AnsiColor) -> String {
        let (soft, path) = (Style::new().dimmed(), colour.on_default().bold());
        let place = match &self.place {
            Place::File(file, at) => format!("{}:{}:{}: ", file.display(), at.line, at.column),
            Place::Environment(name) => format!("env:{name}: "),
        };
        let named = if self.path.is_empty() { String::new() } else { format!("{path}{}{path:#}: ", self.path) };
        format!("{soft}{place}{soft:#}{named}{}", self.text)
    }

    pub(crate) fn of_file(file: &Path, text: &str) -> Self {
        Problem::at(file, Position::START, "", text.to_string())
    }

    pub(crate) fn at(file: &Path, position: Position, path: &str, text: String) -> Self {
        Problem { place: Place::File(file.to_path_buf(), position), path: path.to_string(), text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(file, at) => write!(f, "{}:{}:{}: ", file.display(), at.line, at.column)?,
            Place::Environment(name) => write!(f, "env:{name}: ")?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

impl Problem {
    /// It is legal, and dangerous.
    pub fn is_warning(&self) -> bool {
        self.text.starts_with("warning: ")
    }

    /// As an object for programs.
    pub fn json(&self, severity: &str) -> serde_json::Value {
        let (file, line, column) = match &self.place {
            Place::File(file, at) => (file.display().to_string(), Some(at.line), Some(at.column)),
            Place::Environment(name) => (format!("env:{name}"), None, None),
        };
        let message = self.text.strip_prefix("warning: ").unwrap_or(&self.text);
        serde_json::json!({
            "severity": severity, "file": file, "line": line, "column": column, "path": self.path, "message": message,
        })
    }
}

impl Problems {
    pub(crate) fn new(file: &Path, as_written: Node) -> Self {
        Problems {
            file: file.to_path_buf(),
            completed: as_written.clone(),
            as_written,
            found: Vec::new(),
            paths: HashSet::new(),
            warnings: Vec::new(),
        }
    }

    /// The tree with what the environment added: its paths may be asked for, too.
    pub(crate) fn known(&mut self, completed: Node) {
        self.completed = completed;
    }

    pub(crate) fn add(&mut self, path: &str, text: impl Into<String>) {
        // What comes of a mistake is no second mistake: the first at a path is the one to mend.
        if self.paths.insert(path.to_string()) {
            let problem = self.locate(path, text.into());
            self.found.push(problem);
        }
    }

    /// For what may come of a mistake below the path, such as a list that is empty because its items were refused.
    pub(crate) fn add_below(&mut self, path: &str, text: &str) {
        if !self.has_below(path) {
            self.add(path, text);
        }
    }

    pub(crate) fn has_below(&self, path: &str) -> bool {
        let below = format!("{path}.");
        self.found.iter().any(|known| known.path.starts_with(&below))
    }

    pub(crate) fn add_env(&mut self, name: &str, path: &str, text: impl Into<String>) {
        self.found.push(Problem { place: Place::Environment(name.into()), path: path.into(), text: text.into() });
    }

    pub(crate) fn warn(&mut self, path: &str, text: &str) {
        let problem = self.locate(path, format!("warning: {text}"));
        self.warnings.push(problem);
    }

    /// Whether the operator wrote something there, be it right or wrong.
    pub(crate) fn is_written(&self, path: &str) -> bool {
        self.completed.at(path).is_some()
    }

    /// In the order of the file, then of the environment's names.
    pub(crate) fn sorted(mut self) -> Vec<Problem> {
        self.found.append(&mut self.warnings);
        self.found.sort_by(|a, b| (&a.place, &a.path).cmp(&(&b.place, &b.path)));
        self.found
    }

    pub(crate) fn finish(self, settings: Settings) -> Result<Checked, Vec<Problem>> {
        if !self.found.is_empty() {
            return Err(self.sorted());
        }
        let written = Written { file: self.file, as_written: self.as_written, completed: self.completed };
        Ok(Checked { settings, warnings: self.warnings, written })
    }

    /// At the path, or at the nearest thing above it that stands in the file.
    fn locate(&self, path: &str, text: String) -> Problem {
        if let Some(name) = self.completed.at(path).and_then(|node| node.from_env.clone()) {
            return Problem { place: Place::Environment(name), path: path.into(), text };
        }
        let mut above = path;
        let position = loop {
            if let Some(position) = self.as_written.position_of(above) {
                break position;
            }
            match above.rsplit_once('.') {
                Some((parent, _)) => above = parent,
                None => break Position::START,
            }
        };
        Problem::at(&self.file, position, path, text)
    }
}
