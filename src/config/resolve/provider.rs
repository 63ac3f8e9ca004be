//! From `providers` as it is written to a provider's settings.

use crate::config::Folder;
use crate::config::diagnostics::Problems;
use crate::config::raw::{self, Algorithm, PrivateKey};
use crate::config::resolve::{http_url, positive};
use crate::config::scalar::OneOrMany;
use crate::provider;
use crate::provider::assertion::{BadKey, SigningKey};
use crate::provider::claims::ClaimPath;
use crate::provider::discovery::ENDPOINT_NAMES;
use crate::provider::settings::{Audiences, ClientAuth, Mapping};
use std::collections::BTreeMap;
use url::Url;

/// Secrets below it can be guessed one by one.
const SHORT_SECRET: usize = 16;

pub(super) fn provider(
    name: &str,
    raw: &raw::Provider,
    kept: &BTreeMap<String, Vec<ClaimPath>>,
    folder: &Folder,
    problems: &mut Problems,
) -> Option<provider::settings::Settings> {
    let path = format!("providers.{name}");
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        problems.add(
            &path,
            "the name of a provider is made of letters, digits, `-`, `.` and `_`: it becomes part of a cookie's name",
        );
    }
    if raw.client_id.is_empty() {
        problems.add(&format!("{path}.client_id"), "is empty; write the id under which the provider knows the gateway");
    }
    if raw.client_secret.as_ref().is_some_and(|secret| !secret.is_empty() && secret.len() < SHORT_SECRET) {
        problems.warn(
            &format!("{path}.client_secret"),
            "is shorter than 16 bytes: whoever guesses it reads what is sealed with it; have the provider make a longer one",
        );
    }
    let client_auth = client_auth(raw, &path, folder, problems);
    positive(raw.timeout.0, &format!("{path}.timeout"), problems);
    if raw.algorithms.is_empty() {
        problems.add_empty(
            &format!("{path}.algorithms"),
            "without an algorithm no token verifies; name one, or leave the key out",
        );
    }
    login_values(raw, &path, problems);
    end_session_params(raw, &path, problems);
    if raw.discovery == raw::Discovery::Never && !raw.endpoints.contains_key("jwks_uri") {
        problems.add(
            &format!("{path}.endpoints"),
            "needs `jwks_uri`: with `discovery: never` nobody else says where the keys are",
        );
    }
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
    Some(provider::settings::Settings {
        name: name.into(),
        issuer: raw.issuer.clone(),
        tenants: raw.tenants.clone(),
        bearer_issuer: raw.bearer_issuer.clone(),
        client_id: raw.client_id.clone(),
        client_auth: client_auth?,
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
        assertion_audience: raw.assertion_audience.clone(),
        discovery: raw.discovery == raw::Discovery::Auto,
        end_session_params: raw.end_session_params.clone().into_iter().collect(),
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

fn client_auth(raw: &raw::Provider, path: &str, folder: &Folder, problems: &mut Problems) -> Option<ClientAuth> {
    let secret = raw.client_secret.as_ref().filter(|secret| !secret.is_empty());
    if raw.client_auth != raw::ClientAuth::PrivateKeyJwt {
        if raw.client_auth == raw::ClientAuth::None {
            return Some(ClientAuth::None);
        }
        let Some(secret) = secret else {
            problems.add(
                &format!("{path}.client_secret"),
                "is required for this client_auth; add it, or write `client_auth: none` for a public client",
            );
            return None;
        };
        let secret = secret.clone().into();
        return Some(match raw.client_auth {
            raw::ClientAuth::ClientSecretPost => ClientAuth::Post(secret),
            _ => ClientAuth::Basic(secret),
        });
    }
    match (&raw.private_key, &raw.client_assertion_file) {
        (Some(_), Some(_)) => {
            problems.add(
                &format!("{path}.client_assertion_file"),
                "stands beside `private_key`; one of them proves who the client is",
            );
            None
        }
        (None, Some(file)) => Some(ClientAuth::AssertionFile(folder.join(file))),
        (Some(keys), None) => signing_key(keys, &format!("{path}.private_key"), problems),
        (None, None) => {
            problems.add(
                &format!("{path}.private_key"),
                "is required for private_key_jwt; add it as PEM text, such as ${file:key.pem}, or name a client_assertion_file",
            );
            None
        }
    }
}

/// The first of the keys; all are read.
fn signing_key(keys: &OneOrMany<PrivateKey>, path: &str, problems: &mut Problems) -> Option<ClientAuth> {
    let many = matches!(keys, OneOrMany::Many(_));
    if keys.as_slice().is_empty() {
        problems.add(path, "the list is empty; add a key");
    }
    let mut read = Vec::new();
    for (i, key) in keys.as_slice().iter().enumerate() {
        let path = if many { format!("{path}.{i}") } else { path.to_string() };
        let (pem, kid, certificate) = match key {
            PrivateKey::Pem(pem) => (pem, None, None),
            PrivateKey::Full(full) => (&full.key, full.kid.as_deref(), full.certificate.as_deref()),
        };
        match SigningKey::read(pem, kid, certificate) {
            Ok(key) => read.push(key),
            Err(BadKey::OldForm) => problems.add(
                &path,
                "is a key in a form that cannot sign here; `openssl pkcs8 -topk8 -nocrypt -in key.pem` makes the right one of it",
            ),
            Err(BadKey::Unreadable) => problems.add(
                &path,
                "is not a private key that signs (RSA, P-256, P-384 or Ed25519, in PEM form); `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one",
            ),
            Err(BadKey::Certificate) => problems.add(&path, "has a `certificate` that cannot be read or is not of this key"),
        }
    }
    read.into_iter().next().map(|key| ClientAuth::PrivateKeyJwt(Box::new(key)))
}

fn end_session_params(raw: &raw::Provider, path: &str, problems: &mut Problems) {
    for (name, value) in &raw.end_session_params {
        let path = format!("{path}.end_session_params.{name}");
        if name == "state" {
            problems.add(&path, "is set by the gateway itself; remove it");
        }
        let known = ["{client_id}", "{post_logout_redirect_uri}", "{id_token_hint}"];
        let rest = known.iter().fold(value.clone(), |rest, placeholder| rest.replace(placeholder, ""));
        if rest.contains(['{', '}']) {
            problems
                .add(&path, format!("`{value}` has a placeholder that is not known; known are {}", known.join(", ")));
        }
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
pub(crate) fn authorization_params(params: &BTreeMap<String, OneOrMany<String>>, path: &str, problems: &mut Problems) {
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
        if name == "response_mode"
            && !matches!(value.as_slice(), [mode] if matches!(mode.as_str(), "query" | "form_post"))
        {
            problems.add(&path, "such a mode cannot be answered here; write query or form_post");
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
