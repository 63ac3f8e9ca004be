//! Who was proved: an issuer's subject with its mapped claims, and those that a rule or a template names.

use crate::kit::digest::Fingerprint;
use crate::provider::Settings;
use crate::provider::claims::{ClaimPath, Claims};
use crate::provider::jwt::Verified;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// A person or a program that a provider vouches for. Made from verified claims alone.
#[derive(Debug)]
pub struct Identity {
    pub provider: Arc<str>,
    /// The mapped `user` claim; never empty.
    pub user: Arc<str>,
    pub email: Option<Box<str>>,
    /// The provider says that the address was not verified.
    pub email_unverified: bool,
    pub name: Option<Box<str>>,
    pub username: Option<Box<str>>,
    pub groups: Box<[Box<str>]>,
    /// The scopes of an access token (`scope`, or `scp` as text or list).
    pub scopes: Box<[Box<str>]>,
    kept: Box<[Kept]>,
    /// The headers that an app gets for it, made at its first use, and what they were made by.
    pub rendered: OnceLock<(Fingerprint, Rendered)>,
}

/// Headers with their values.
pub type Rendered = Arc<[(HeaderName, HeaderValue)]>;

/// A claim and its texts.
type Kept = (ClaimPath, Box<[Box<str>]>);

/// The mapped `user` claim is not there: nobody was proved.
#[derive(Debug, PartialEq, Eq)]
pub struct Nobody;

impl Identity {
    pub fn of_token(verified: &Verified, settings: &Settings) -> Result<Identity, Nobody> {
        let claims = verified.claims();
        let text = |path: &ClaimPath| path.text(claims).map(Box::from);
        Ok(Identity {
            provider: settings.name.clone(),
            user: settings.claims.user.text(claims).ok_or(Nobody)?.into(),
            email: text(&settings.claims.email),
            email_unverified: unverified(claims),
            name: text(&settings.claims.name),
            username: text(&settings.claims.username),
            groups: settings.claims.groups.texts(claims).into(),
            scopes: scopes(claims).into(),
            kept: kept(claims, &settings.kept),
            rendered: OnceLock::new(),
        })
    }

    /// The texts of a claim that a rule or a template names; empty where it is absent.
    pub fn claim(&self, path: &ClaimPath) -> &[Box<str>] {
        self.kept.iter().find(|(kept, _)| kept == path).map_or(&[], |(_, texts)| texts)
    }
}

fn kept(claims: &Claims, paths: &[ClaimPath]) -> Box<[Kept]> {
    paths.iter().map(|path| (path.clone(), path.texts(claims).into())).collect()
}

/// `email_verified: false`, also as text (some providers write it so).
fn unverified(claims: &Claims) -> bool {
    match claims.get("email_verified") {
        Some(Value::Bool(yes)) => !yes,
        Some(Value::String(text)) => !text.eq_ignore_ascii_case("true"),
        Some(Value::Null) | None => false,
        Some(_) => true,
    }
}

fn scopes(claims: &Claims) -> Vec<Box<str>> {
    let value = claims.get("scope").or_else(|| claims.get("scp"));
    match value {
        Some(Value::String(text)) => text.split_ascii_whitespace().map(Box::from).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(Box::from).collect(),
        _ => Vec::new(),
    }
}
