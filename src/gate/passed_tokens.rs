//! Tokens that the app gets: the session's access and ID token, or the bearer token that was judged.

use crate::gate::set_name::SetNameRule;
use crate::kit::secret::Secret;
use crate::kit::setting::Rule;
use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a token is passed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "Written")]
#[schemars(with = "Written")]
pub enum PassToken {
    #[default]
    No,
    /// `Authorization: Bearer <token>`.
    Bearer,
    /// The token alone, in this header.
    In(HeaderName),
}

/// As it stands in the file.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    Whether(bool),
    Header(String),
}

/// The tokens of one request.
#[derive(Debug, Default)]
pub struct Tokens {
    pub access: Option<Secret>,
    pub id: Option<Secret>,
}

impl TryFrom<String> for PassToken {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "true" => Ok(PassToken::Bearer),
            "false" => Ok(PassToken::No),
            // Else a misspelt `false` would pass the token in a header of that name.
            flag if ["true", "false", "yes", "no", "on", "off", "0", "1", "null", "~"]
                .iter()
                .any(|other| flag.eq_ignore_ascii_case(other)) =>
            {
                Err(format!("`{flag}` is neither true nor false, nor the name of a header"))
            }
            name => {
                SetNameRule::check(name)?;
                name.parse().map(PassToken::In).map_err(|_| format!("`{name}` is not the name of a header"))
            }
        }
    }
}

impl From<PassToken> for Written {
    fn from(pass: PassToken) -> Self {
        match pass {
            PassToken::No => Written::Whether(false),
            PassToken::Bearer => Written::Whether(true),
            PassToken::In(name) => Written::Header(name.to_string()),
        }
    }
}

impl PassToken {
    pub fn is_on(&self) -> bool {
        *self != PassToken::No
    }

    /// The header that the token is in.
    pub fn name(&self) -> Option<&HeaderName> {
        const AUTHORIZATION: &HeaderName = &header::AUTHORIZATION;
        match self {
            PassToken::No => None,
            PassToken::Bearer => Some(AUTHORIZATION),
            PassToken::In(name) => Some(name),
        }
    }

    pub(super) fn value(&self, token: &Secret) -> Option<HeaderValue> {
        let mut value = match self {
            PassToken::No => return None,
            PassToken::Bearer => HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?,
            PassToken::In(_) => HeaderValue::from_str(token.expose()).ok()?,
        };
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_passed_as_it_is_written() {
        let read = |text: &str| PassToken::try_from(text.to_string());
        assert_eq!((read("false"), read("true")), (Ok(PassToken::No), Ok(PassToken::Bearer)));
        let named = read("X-Token").unwrap();
        assert_eq!(named.name().map(HeaderName::as_str), Some("x-token"));
        let token = Secret::from("a.b".to_string());
        let value = |pass: &PassToken| pass.value(&token).map(|value| value.to_str().unwrap().to_string());
        assert_eq!(value(&named).as_deref(), Some("a.b"));
        assert_eq!((value(&PassToken::Bearer).as_deref(), value(&PassToken::No)), (Some("Bearer a.b"), None));
        for wrong in ["", "False", "no", "OFF", "yes", "0", "Cookie", "host", "a b", "content-length"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
