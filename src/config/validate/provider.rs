//! What contradicts itself, or is dangerous, in one provider.

use crate::config::diagnostics::Problems;
use crate::config::validate::response_mode;
use crate::edge::upstream;
use crate::kit::setting::{OneOrMany, http_url, is_loopback};
use crate::provider::settings::{Audiences, Automatic, ClientAuth, Settings as Provider};

/// Secrets below it can be guessed one by one.
const SHORT_SECRET: usize = 16;

pub(super) fn find(name: &str, provider: &Provider, problems: &mut Problems) {
    let path = format!("providers.{name}");
    let at = |key: &str| format!("{path}.{key}");
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        let told =
            "the name of a provider is made of letters, digits, `-`, `.` and `_`: it becomes part of a cookie's name";
        problems.add(&path, told);
    }
    let secret = provider.client_secret.as_ref().map_or(0, |secret| secret.expose().len());
    if (1..SHORT_SECRET).contains(&secret) {
        problems.warn(&at("client_secret"), "is shorter than 16 bytes: whoever guesses it can read what is sealed with it; let the provider generate a longer one");
    }
    client_auth(provider, &path, problems);
    if provider.audiences == Audiences::Any {
        problems.warn(&at("audiences"), "the audience of bearer tokens is not checked: a token that the provider made for any other service is accepted");
    }
    let issuer = http_url(provider.issuer.as_str());
    if issuer.is_some_and(|url| url.scheme() == "http" && !is_loopback(&url)) {
        problems.warn(&at("issuer"), "is http: whoever is on the way can forge its keys; write https");
    }
    let issuers = [Some(&provider.issuer), provider.bearer_issuer.as_ref()];
    let has_tenants = issuers.into_iter().flatten().any(|issuer| issuer.as_str().contains("{tenantid}"));
    match (has_tenants, provider.tenants.is_empty()) {
        (true, true) => {
            problems.warn(&at("tenants"), "users of every tenant are accepted; name the tenants that may sign in")
        }
        (false, false) => {
            problems.add(&at("tenants"), "has a meaning only where the issuer has `{tenantid}`; remove one of them")
        }
        _ => {}
    }
    if provider.end_session_params.contains_key("state") {
        problems.add(&at("end_session_params.state"), "is set by the gateway itself; remove it");
    }
    response_mode(provider.authorization_params.get("response_mode"), &path, problems);
    if provider.discovery == Automatic::Never && provider.endpoint("jwks_uri").is_none() {
        problems
            .add(&at("endpoints"), "needs `jwks_uri`: with `discovery: never` nothing else says where the keys are");
    }
    if let Some(file) = &provider.ca_file
        && let Err(problem) = upstream::read_authorities(file)
    {
        problems.add(&at("ca_file"), problem);
    }
}

fn client_auth(provider: &Provider, path: &str, problems: &mut Problems) {
    let is_empty = |keys: &OneOrMany<_>| keys.as_slice().is_empty();
    if provider.private_key.as_ref().is_some_and(is_empty) {
        problems.add_below(&format!("{path}.private_key"), "the list is empty; add a key");
    }
    if provider.client_proof().is_some() {
        return;
    }
    match (provider.client_auth, &provider.private_key, &provider.client_assertion_file) {
        (ClientAuth::PrivateKeyJwt, Some(_), Some(_)) => problems.add(
            &format!("{path}.client_assertion_file"),
            "stands beside `private_key`; one of them proves that the gateway is the client",
        ),
        (ClientAuth::PrivateKeyJwt, ..) => problems.add_below(
            &format!("{path}.private_key"),
            "is required for private_key_jwt; add it as PEM text, such as ${file:key.pem}, or name a client_assertion_file",
        ),
        _ => problems.add(
            &format!("{path}.client_secret"),
            "is required for this client_auth; add it, or write `client_auth: none` for a public client",
        ),
    }
}
