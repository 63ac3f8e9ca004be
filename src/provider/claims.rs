//! Finds claims by path, into nested objects; no reading mistakes one type for another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub type Claims = Map<String, Value>;

/// The name of a claim. Dots reach into objects (`realm_access.roles`); a claim whose own name is the
/// whole path, dots and slashes included, is found first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct ClaimPath(String);

impl TryFrom<String> for ClaimPath {
    type Error = &'static str;
    fn try_from(path: String) -> Result<Self, Self::Error> {
        if path.is_empty() { Err("is empty; write the name of a claim") } else { Ok(ClaimPath(path)) }
    }
}

impl ClaimPath {
    pub fn new(path: impl Into<String>) -> Self {
        ClaimPath(path.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        find(claims, &self.0)
    }

    /// The claim, if it is a non-empty string.
    pub fn text<'a>(&self, claims: &'a Claims) -> Option<&'a str> {
        self.find(claims)?.as_str().filter(|text| !text.is_empty())
    }

    /// The claim as strings: a string, a list, or the keys of an object (some providers send roles so); numbers and
    /// booleans as they are written. Anything else is ignored.
    pub fn texts(&self, claims: &Claims) -> Vec<Box<str>> {
        match self.find(claims) {
            Some(Value::Array(list)) => list.iter().filter_map(scalar).collect(),
            Some(Value::Object(object)) => {
                object.keys().filter(|key| !key.is_empty()).map(|key| key.as_str().into()).collect()
            }
            Some(one) => scalar(one).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

fn find<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    // The longest name first, so that `https://a.b/c.d` may be an object, too.
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let (head, tail) = (path.get(..dot)?, path.get(dot + 1..)?);
        find(claims.get(head)?.as_object()?, tail)
    })
}

fn scalar(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(yes) => Some(if *yes { "true" } else { "false" }.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_reaches_into_objects() {
        let claims = json!({
            "a": {"b": ["x", 7, true, null, {"no": 1}], "c": "text"}, "a.c": "whole",
            "https://corp.test/roles": ["auditor"], "https://corp.test/o": {"p.q": {"r": 1}}, "empty": "", "n": 7
        });
        let claims = claims.as_object().unwrap();
        let check = |path: &str, expected: &[&str]| {
            let found = ClaimPath::new(path).texts(claims);
            assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), expected, "{path}");
        };
        check("a.b", &["x", "7", "true"]);
        check("a.c", &["whole"]);
        check("https://corp.test/roles", &["auditor"]);
        check("https://corp.test/o.p.q.r", &["1"]);
        check("a", &["b", "c"]);
        for absent in ["", ".", "a.", ".a", "a.b.c", "empty", "b", "a..b"] {
            check(absent, &[]);
        }
        assert_eq!(ClaimPath::new("n").text(claims), None);
    }
}
