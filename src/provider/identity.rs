//! The authenticated identity: an issuer's subject with its mapped claims, and those that a rule or a template names.

use crate::kit::digest::Fingerprint;
use crate::provider::claims::{ClaimPath, Claims};
use crate::provider::jwt::Verified;
use crate::provider::settings::Settings;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// A user or a program. Made only from verified or introspected claims, or from an API key.
#[derive(Debug, Serialize, Deserialize)]
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
    /// The scopes of an access token (`scope`, or `scp` as string or list).
    pub scopes: Box<[Box<str>]>,
    kept: Box<[Kept]>,
    /// The token has no room for the groups: the provider names a place to request them instead (Entra).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub groups_left_out: bool,
    /// The identity headers for the upstream app, rendered at first use, and the fingerprint of their configuration.
    #[serde(skip)]
    pub rendered: OnceLock<(Fingerprint, Rendered)>,
}

/// Headers with their values.
pub type Rendered = Arc<[(HeaderName, HeaderValue)]>;

/// A claim and its values.
type Kept = (ClaimPath, Box<[Box<str>]>);

/// The mapped `user` claim is missing: there is no identity.
#[derive(Debug, PartialEq, Eq)]
pub struct Nobody;

impl Identity {
    pub fn of_token(verified: &Verified, settings: &Settings) -> Result<Identity, Nobody> {
        Self::of_claims(verified.claims(), scopes(verified.claims()), settings)
    }

    /// For an API key: the gateway vouches for it, in place of a provider.
    pub fn of_api_key(user: &str, email: Option<&str>, groups: &[String], scopes: &[String]) -> Identity {
        let texts = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
        Identity {
            provider: "api_key".into(),
            user: user.into(),
            email: email.map(Box::from),
            email_unverified: false,
            name: None,
            username: None,
            groups: texts(groups),
            scopes: texts(scopes),
            kept: Box::default(),
            groups_left_out: false,
            rendered: OnceLock::new(),
        }
    }

    /// For the introspection response of an opaque token.
    pub(super) fn of_introspection(claims: &Claims, settings: &Settings) -> Result<Identity, Nobody> {
        Self::of_claims(claims, scopes(claims), settings)
    }

    /// Of somebody who is assumed to have these claims; for explanations alone. `has_scopes`: of a bearer token.
    pub fn assumed(claims: &Claims, has_scopes: bool, settings: &Settings) -> Result<Identity, Nobody> {
        Self::of_claims(claims, if has_scopes { scopes(claims) } else { Vec::new() }, settings)
    }

    /// For a login: the ID token's claims, and those that UserInfo adds to them. Logins have no scopes.
    pub fn of_login(verified: &Verified, userinfo: Option<&Claims>, settings: &Settings) -> Result<Identity, Nobody> {
        let Some(userinfo) = userinfo else {
            return Self::of_claims(verified.claims(), Vec::new(), settings);
        };
        // The ID token takes precedence: it is signed.
        let mut claims = userinfo.clone();
        claims.extend(verified.claims().clone());
        Self::of_claims(&claims, Vec::new(), settings)
    }

    /// For a session whose provider sends no ID token with a refresh: UserInfo is newer than the last ID token, and
    /// takes precedence.
    pub fn renewed(mut before: Claims, userinfo: Claims, settings: &Settings) -> Result<Identity, Nobody> {
        before.extend(userinfo);
        Self::of_claims(&before, Vec::new(), settings)
    }

    /// Fills in what `told` lacks from an older identity of the same user.
    pub fn complete(&mut self, before: &Identity, told: &Claims, settings: &Settings) {
        let mapped = &settings.claims;
        if mapped.email.find(told).is_none() {
            (self.email, self.email_unverified) = (before.email.clone(), before.email_unverified);
        }
        if mapped.name.find(told).is_none() {
            self.name.clone_from(&before.name);
        }
        if mapped.username.find(told).is_none() {
            self.username.clone_from(&before.username);
        }
        if mapped.groups.find(told).is_none() && !self.groups_left_out {
            self.groups.clone_from(&before.groups);
        }
        for (path, texts) in self.kept.iter_mut().filter(|(path, _)| path.find(told).is_none()) {
            *texts = before.claim(path).into();
        }
    }

    /// Whether the token lacks a mapped claim, or one that a rule or a template names.
    pub fn lacks_claims(verified: &Verified, settings: &Settings) -> bool {
        let m = &settings.claims;
        let mapped = [&m.user, &m.email, &m.name, &m.username, &m.groups];
        mapped.into_iter().chain(&settings.kept).any(|path| path.find(verified.claims()).is_none())
    }

    fn of_claims(claims: &Claims, scopes: Vec<Box<str>>, settings: &Settings) -> Result<Identity, Nobody> {
        let text = |path: &ClaimPath| path.text(claims).map(Box::from);
        Ok(Identity {
            provider: settings.name.clone(),
            user: settings.claims.user.text(claims).ok_or(Nobody)?.into(),
            email: text(&settings.claims.email),
            email_unverified: unverified(claims),
            name: text(&settings.claims.name),
            username: text(&settings.claims.username),
            groups: settings.claims.groups.texts(claims).into(),
            scopes: scopes.into(),
            kept: kept(claims, &settings.kept),
            groups_left_out: are_left_out(&settings.claims.groups, claims),
            rendered: OnceLock::new(),
        })
    }

    /// The values of a claim that a rule or a template names; empty if it is absent.
    pub fn claim(&self, path: &ClaimPath) -> &[Box<str>] {
        self.kept.iter().find(|(kept, _)| kept == path).map_or(&[], |(_, texts)| texts)
    }
}

fn kept(claims: &Claims, paths: &[ClaimPath]) -> Box<[Kept]> {
    paths.iter().map(|path| (path.clone(), path.texts(claims).into())).collect()
}

/// OpenID Connect Core 1.0, 5.6.2: aggregated and distributed claims.
fn are_left_out(groups: &ClaimPath, claims: &Claims) -> bool {
    let elsewhere = claims.get("_claim_names").and_then(Value::as_object);
    groups.find(claims).is_none() && elsewhere.is_some_and(|names| names.contains_key(groups.as_str()))
}

/// `email_verified: false`, also as a string (some providers send it so).
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
