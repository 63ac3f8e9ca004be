//! From `providers` as it is written to a provider's settings.

use crate::config::Folder;
use crate::config::raw::{self, Algorithm};
use crate::config::report::Problems;
use crate::config::resolve::{http_url, positive};
use crate::provider;
use crate::provider::claims::ClaimPath;
use crate::provider::discovery::ENDPOINT_NAMES;
use crate::provider::{Audiences, ClientAuth, Mapping};
use std::collections::BTreeMap;
use url::Url;

pub(super) fn provider(
    name: &str,
    raw: &raw::Provider,
    kept: &BTreeMap<String, Vec<ClaimPath>>,
    folder: &Folder,
    problems: &mut Problems,
) -> Option<provider::Settings> {
    let path = format!("providers.{name}");
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        problems.add(
            &path,
            "the name of a provider is made of letters, digits, `-` and `_`: it becomes part of a cookie's name",
        );
    }
    if raw.client_id.is_empty() {
        problems.add(&format!("{path}.client_id"), "is empty; write the id under which the provider knows the gateway");
    }
    client_auth(raw, &path, problems);
    positive(raw.timeout.0, &format!("{path}.timeout"), problems);
    if raw.algorithms.is_empty() {
        problems.add_empty(
            &format!("{path}.algorithms"),
            "without an algorithm no token verifies; name one, or leave the key out",
        );
    }
    login_values(raw, &path, problems);
    let claim = |key: &str, claim: &String, problems: &mut Problems| {
        if claim.is_empty() {
            problems.add(&format!("{path}.claims.{key}"), "is empty; write the name of a claim");
        }
        ClaimPath::new(claim.clone())
    };
    let claims = Mapping {
        user: claim("user", &raw.claims.user, problems),
        email: claim("email", &raw.claims.email, problems),
        name: claim("name", &raw.claims.name, problems),
        username: claim("username", &raw.claims.username, problems),
        groups: claim("groups", &raw.claims.groups, problems),
    };
    let endpoints = endpoints(raw, &path, problems);
    issuer(&raw.issuer, &format!("{path}.issuer"), problems)?;
    if let Some(other) = &raw.bearer_issuer {
        issuer(other, &format!("{path}.bearer_issuer"), problems)?;
    }
    tenants(raw, &path, problems);
    Some(provider::Settings {
        name: name.into(),
        issuer: raw.issuer.clone(),
        tenants: raw.tenants.clone(),
        bearer_issuer: raw.bearer_issuer.clone(),
        client_id: raw.client_id.clone(),
        client_auth: proof(raw),
        scopes: raw.scopes.clone(),
        userinfo: raw.userinfo == raw::Userinfo::Auto,
        audiences: audiences(raw, &path, problems),
        bearer_id_tokens: raw.bearer_id_tokens,
        introspection: raw.introspection,
        algorithms: raw.algorithms.iter().map(|a| algorithm(*a)).collect(),
        clock_skew: raw.clock_skew.0,
        timeout: raw.timeout.0,
        ca_file: raw.ca_file.as_ref().map(|file| folder.join(file)),
        claims,
        kept: kept.get(name).cloned().unwrap_or_default(),
        endpoints,
    })
}

fn issuer(text: &str, path: &str, problems: &mut Problems) -> Option<Url> {
    let url = http_url(text).filter(|url| url.query().is_none() && url.fragment().is_none());
    if url.is_none() {
        problems.add(path, format!("`{text}` is no issuer; write the URL that the provider names itself by, such as https://id.example.com/realms/corp"));
    }
    url
}

fn tenants(raw: &raw::Provider, path: &str, problems: &mut Problems) {
    let path = format!("{path}.tenants");
    let many = [Some(&raw.issuer), raw.bearer_issuer.as_ref()].into_iter().flatten().any(|i| i.contains("{tenantid}"));
    match (many, raw.tenants.is_empty()) {
        (true, true) => problems.warn(&path, "people of every tenant are accepted; name the tenants that may sign in"),
        (false, false) => {
            problems.add(&path, "has a meaning only where the issuer has `{tenantid}`; remove one of them")
        }
        _ => {}
    }
    if let Some(i) =
        raw.tenants.iter().position(|id| !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') || id.is_empty())
    {
        problems.add(&format!("{path}.{i}"), "is not the id of a tenant; write it as it stands in the claim `tid`");
    }
}

fn client_auth(raw: &raw::Provider, path: &str, problems: &mut Problems) {
    let has = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    match raw.client_auth {
        raw::ClientAuth::ClientSecretBasic | raw::ClientAuth::ClientSecretPost if !has(&raw.client_secret) => {
            problems.add(
                &format!("{path}.client_secret"),
                "is required for this client_auth; add it, or write `client_auth: none` for a public client",
            );
        }
        raw::ClientAuth::PrivateKeyJwt if !has(&raw.private_key) => {
            problems.add(
                &format!("{path}.private_key"),
                "is required for private_key_jwt; add it as PEM text, such as ${file:key.pem}",
            );
        }
        raw::ClientAuth::PrivateKeyJwt => {
            let pem = raw.private_key.as_deref().unwrap_or_default().as_bytes();
            let is_key = jsonwebtoken::EncodingKey::from_rsa_pem(pem).is_ok()
                || jsonwebtoken::EncodingKey::from_ec_pem(pem).is_ok()
                || jsonwebtoken::EncodingKey::from_ed_pem(pem).is_ok();
            if !is_key {
                problems.add(&format!("{path}.private_key"), "is no private key in PEM form (RSA, EC or Ed25519)");
            }
        }
        _ => {}
    }
}

fn proof(raw: &raw::Provider) -> ClientAuth {
    let secret = || raw.client_secret.clone().unwrap_or_default().into();
    match raw.client_auth {
        raw::ClientAuth::ClientSecretBasic => ClientAuth::Basic(secret()),
        raw::ClientAuth::ClientSecretPost => ClientAuth::Post(secret()),
        raw::ClientAuth::None => ClientAuth::None,
        raw::ClientAuth::PrivateKeyJwt => ClientAuth::PrivateKeyJwt(raw.private_key.clone().unwrap_or_default().into()),
    }
}

/// What a login will use of a provider.
fn login_values(raw: &raw::Provider, path: &str, problems: &mut Problems) {
    if let Some(uri) = &raw.redirect_uri
        && http_url(uri).is_none_or(|url| url.query().is_some() || url.fragment().is_some())
    {
        problems.add(
            &format!("{path}.redirect_uri"),
            format!("`{uri}` is no URL of a callback; write one such as https://login.example.com/oauth2/callback"),
        );
    }
    for (i, scope) in raw.scopes.iter().enumerate() {
        // RFC 6749, 3.3
        if scope.is_empty() || !scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            problems.add(&format!("{path}.scopes.{i}"), format!("`{scope}` is no scope; write one word for each"));
        }
    }
    authorization_params(&raw.authorization_params, path, problems);
}

/// Parameters that the gateway itself decides on cannot be set from outside.
pub(crate) fn authorization_params(params: &BTreeMap<String, String>, path: &str, problems: &mut Problems) {
    const OURS: [&str; 10] = [
        "client_id",
        "redirect_uri",
        "response_type",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "request",
        "request_uri",
    ];
    for (name, value) in params {
        let path = format!("{path}.authorization_params.{name}");
        if OURS.contains(&name.as_str()) {
            problems.add(&path, "is set by the gateway itself; remove it");
        }
        if name == "response_mode" && !matches!(value.as_str(), "query" | "form_post") {
            problems.add(&path, format!("`{value}` cannot be answered here; write query or form_post"));
        }
    }
}

fn endpoints(raw: &raw::Provider, path: &str, problems: &mut Problems) -> BTreeMap<String, Url> {
    let mut endpoints = BTreeMap::new();
    for (name, text) in &raw.endpoints {
        let path = format!("{path}.endpoints.{name}");
        if !ENDPOINT_NAMES.contains(&name.as_str()) {
            problems.add(&path, format!("is no endpoint that is used; known are {}", ENDPOINT_NAMES.join(", ")));
            continue;
        }
        match http_url(text) {
            Some(url) => drop(endpoints.insert(name.clone(), url)),
            None => problems.add(&path, format!("`{text}` is no URL; write one with http:// or https://")),
        }
    }
    endpoints
}

fn audiences(raw: &raw::Provider, path: &str, problems: &mut Problems) -> Audiences {
    match raw.audiences.as_slice() {
        [] => Audiences::Client(raw.client_id.clone()),
        [star] if star == "*" => {
            problems.warn(&format!("{path}.audiences"), "the audience of bearer tokens is not checked: a token that the provider made for any other service is good here");
            Audiences::Any
        }
        list => {
            if let Some(i) = list.iter().position(|a| a == "*" || a.is_empty()) {
                problems.add(
                    &format!("{path}.audiences.{i}"),
                    "`*` stands alone or not at all, and an audience is not empty",
                );
            }
            Audiences::OneOf(list.to_vec())
        }
    }
}

fn algorithm(raw: Algorithm) -> jsonwebtoken::Algorithm {
    match raw {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}
