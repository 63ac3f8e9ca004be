//! Header values made of text and an identity's claims: `Name: "{user} of {claims.org.unit}"`.

use crate::gate::encode::{encode, encode_list};
use crate::gate::passed_tokens::Tokens;
use crate::provider::claims::ClaimPath;
use crate::provider::identity::Identity;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A parsed `headers.set` value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    User,
    Email,
    Name,
    Username,
    Groups,
    Claim(ClaimPath),
    AccessToken,
    IdToken,
}

/// What is wrong with a template, for the operator.
#[derive(Debug, PartialEq, Eq)]
pub enum TemplateError {
    Unclosed,
    Unknown(String),
    Unprintable,
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        let part = |part: &Part| match part {
            Part::Text(text) => text.replace('{', "{{").replace('}', "}}"),
            Part::User => "{user}".into(),
            Part::Email => "{email}".into(),
            Part::Name => "{name}".into(),
            Part::Username => "{username}".into(),
            Part::Groups => "{groups}".into(),
            Part::Claim(path) => format!("{{claims.{}}}", path.as_str()),
            Part::AccessToken => "{access_token}".into(),
            Part::IdToken => "{id_token}".into(),
        };
        template.0.iter().map(part).collect()
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;
    fn try_from(text: String) -> Result<Self, TemplateError> {
        Template::parse(&text)
    }
}

impl Template {
    /// `{name}` is a placeholder, `{{` and `}}` are braces.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        if !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(TemplateError::Unprintable);
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix('}') {
                literal.push('}');
                rest = after.strip_prefix('}').unwrap_or(after);
            } else {
                let (name, after) = from.get(1..).and_then(|f| f.split_once('}')).ok_or(TemplateError::Unclosed)?;
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::named(name)?);
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Template(parts))
    }

    /// The unmapped claims that it uses.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimPath> {
        self.0.iter().filter_map(|part| match part {
            Part::Claim(path) => Some(path),
            _ => None,
        })
    }

    /// Whether a value is that of one request: it holds a token.
    pub fn has_access_token(&self) -> bool {
        self.0.contains(&Part::AccessToken)
    }

    pub fn has_id_token(&self) -> bool {
        self.0.contains(&Part::IdToken)
    }

    /// `None` if a placeholder has no value. `groups`: those that the app is told of.
    pub fn render(&self, identity: &Identity, groups: Option<&str>, tokens: &Tokens) -> Option<HeaderValue> {
        let mut out = String::new();
        for part in &self.0 {
            let present = |text: &Option<Box<str>>| text.as_deref().map(encode);
            match part {
                Part::Text(text) => out.push_str(text),
                Part::User => out.push_str(&encode(&identity.user)),
                Part::Email => out.push_str(&present(&identity.email)?),
                Part::Name => out.push_str(&present(&identity.name)?),
                Part::Username => out.push_str(&present(&identity.username)?),
                Part::Groups => out.push_str(groups?),
                Part::Claim(path) => out.push_str(&encode_list(identity.claim(path))?),
                Part::AccessToken => out.push_str(tokens.access.as_ref()?.expose()),
                Part::IdToken => out.push_str(tokens.id.as_ref()?.expose()),
            }
        }
        HeaderValue::from_str(&out).ok()
    }
}

impl Part {
    fn named(name: &str) -> Result<Part, TemplateError> {
        Ok(match name {
            "user" => Part::User,
            "email" => Part::Email,
            "name" => Part::Name,
            "username" => Part::Username,
            "groups" => Part::Groups,
            "access_token" => Part::AccessToken,
            "id_token" => Part::IdToken,
            _ => match name.strip_prefix("claims.") {
                Some(path) if !path.is_empty() => Part::Claim(ClaimPath::new(path)),
                _ => return Err(TemplateError::Unknown(name.into())),
            },
        })
    }
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: &str =
            "{user}, {email}, {name}, {username}, {groups}, {access_token}, {id_token} or {claims.<path>}";
        match self {
            TemplateError::Unclosed => f.write_str("a `{` without its `}`; a brace itself is written `{{`"),
            TemplateError::Unknown(name) => write!(f, "unknown placeholder {{{name}}}; use {NAMES}"),
            TemplateError::Unprintable => f.write_str("only printable ASCII may stand in a header's value"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::identity_headers::tests::an_identity;
    use serde_json::json;

    #[test]
    fn placeholders_are_filled() {
        let identity = an_identity(json!({"org": {"units": ["a,b", "c"]}, "name": null}), &["org.units"]);
        let check = |text: &str, expected: Option<&str>| {
            let groups = encode_list(&identity.groups);
            let value = Template::parse(text).unwrap().render(&identity, groups.as_deref(), &Tokens::default());
            assert_eq!(value.as_ref().map(|v| v.to_str().unwrap()), expected, "{text}");
        };
        check("{user}|{email}|{username}|{groups}", Some("alice-1|alice@corp.test|alice|dev,ops"));
        check("{claims.org.units}", Some("a%2Cb,c"));
        check("{{{user}}}", Some("{alice-1}"));
        check("plain", Some("plain"));
        check("a {name}", None);
        check("{claims.nothing} b", None);
    }

    #[test]
    fn mistakes_are_told() {
        assert_eq!(Template::parse("{user"), Err(TemplateError::Unclosed));
        assert_eq!(Template::parse("{nobody}"), Err(TemplateError::Unknown("nobody".into())));
        assert_eq!(Template::parse("{claims.}"), Err(TemplateError::Unknown("claims.".into())));
        assert_eq!(Template::parse("a\r\nb"), Err(TemplateError::Unprintable));
    }
}
