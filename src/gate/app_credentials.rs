//! What the app is given beside the identity headers: the caller's tokens, a signed assertion of who it is, a token of the
//! gateway's own.

use crate::credential::api_key::ApiKey;
use crate::gate::authenticate::tokens::Caller;
use crate::gate::authenticate::{Presented, presented, presented_key};
use crate::gate::decision::{Audit, SignedIn};
use crate::gate::gate::Gate;
use crate::gate::outbound_headers::{Assertion, ServiceToken};
use crate::gate::passed_tokens::PassToken;
use crate::gate::refusal::Refusal;
use crate::gate::route::{Access, Route};
use crate::kit::digest::{Fingerprint, TokenDigest};
use crate::outbound::assertion::Statement;
use crate::outbound::service_token::{Grant, Held, Subject};
use crate::provider::identity::Identity;
use crate::provider::jwt::Unverified;
use crate::store::kv::Unavailable;
use crate::telemetry::metrics::Credential;
use crate::telemetry::reason::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;
use std::sync::Arc;

impl Route {
    /// The headers of the assertion and of the service token.
    pub fn outbound_names(&self) -> impl Iterator<Item = &HeaderName> {
        let assertion = self.assertion.iter().map(|assertion| &assertion.header);
        assertion.chain(self.service_token.iter().map(|token| &token.header))
    }

    /// Whether the app is given anything that costs more than the identity.
    pub(super) fn gives_credentials(&self) -> bool {
        self.assertion.is_some() || self.service_token.is_some() || self.headers.gives_tokens()
    }

    /// Whether the client's own `Authorization` is to be removed.
    pub(super) fn takes_authorization(&self, was_judged: bool) -> bool {
        self.headers.takes_authorization(was_judged) || self.outbound_names().any(|name| name == header::AUTHORIZATION)
    }
}

impl Gate {
    /// All that the app is given beside the identity, in its headers.
    pub(super) async fn credentials(
        &self,
        route: &Route,
        signed_in: Option<&SignedIn>,
        headers: &HeaderMap,
        audit: &Audit,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let mut set = self.outbound(route, signed_in, headers, audit).await?;
        if let Some(who) = &audit.identity {
            let tokens = self.authenticator.tokens(route, signed_in, audit.credential, headers).await?;
            set.extend(route.headers.with_tokens(who, &tokens));
        }
        Ok(set)
    }

    /// The assertion and the service token of a route, in their headers.
    pub(super) async fn outbound(
        &self,
        route: &Route,
        signed_in: Option<&SignedIn>,
        headers: &HeaderMap,
        audit: &Audit,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let mut set = Vec::new();
        if route.assertion.is_none() && route.service_token.is_none() {
            return Ok(set); // `mark_of` digests the whole token
        }
        let mark = mark_of(route, signed_in, headers, audit.credential);
        if let (Some(assertion), Some(who), Some(mark)) = (&route.assertion, &audit.identity, mark) {
            let value = self.assertion(route, assertion, who, mark, audit).await;
            let value = value.map_err(|Unavailable| Refusal::of(Reason::StoreUnavailable))?;
            set.push((assertion.header.clone(), value));
        }
        if let Some(token) = &route.service_token
            && let Some(held) = self.service_token(token, signed_in, headers, audit, mark).await?
        {
            let way = match token.header == header::AUTHORIZATION {
                true => PassToken::Bearer,
                false => PassToken::In(token.header.clone()),
            };
            set.extend(way.value(&held.token).map(|value| (token.header.clone(), value)));
        }
        Ok(set)
    }

    async fn assertion(
        &self,
        route: &Route,
        own: &Assertion,
        who: &Identity,
        mark: TokenDigest,
        audit: &Audit,
    ) -> Result<HeaderValue, Unavailable> {
        let origin = own.origin.for_host(audit.host.as_ref().map(|host| host.name()).unwrap_or_default());
        let (issuer, audience) = (own.issuer.as_ref().unwrap_or(&origin), own.audience.as_ref().unwrap_or(&origin));
        let groups: Vec<&str> = route.headers.told_groups(who).map(|group| &**group).collect();
        let statement = Statement::of(who, issuer, audience, groups);
        // All that it says, so that what is known anew of somebody is said at once.
        let place = Fingerprint::of()
            .parts([issuer.as_str(), audience, statement.subject])
            .parts([statement.email, statement.name, statement.preferred_username].map(Option::unwrap_or_default))
            .parts(&statement.groups)
            .part(own.ttl.as_millis().to_string())
            .part(mark.bytes())
            .finish();
        let place = TokenDigest::of(format!("{place:?}").as_bytes());
        self.assertions.of(place, &statement, own.ttl).await
    }

    /// `None`: an exchange needs the caller's access token, and there is none.
    async fn service_token(
        &self,
        own: &ServiceToken,
        signed_in: Option<&SignedIn>,
        headers: &HeaderMap,
        audit: &Audit,
        mark: Option<TokenDigest>,
    ) -> Result<Option<Arc<Held>>, Refusal> {
        let is_exchange = own.wanted.grant == Grant::TokenExchange;
        if is_exchange && !matches!(audit.credential, Credential::session | Credential::bearer) {
            return Ok(None);
        }
        // A provider exchanges its own tokens; another one's are not shown to it.
        let provider = &own.wanted.provider.settings().name;
        if is_exchange && audit.identity.as_ref().is_none_or(|who| who.provider != *provider) {
            return Ok(None);
        }
        let place = own.wanted.place(mark.filter(|_| is_exchange));
        if let Some(held) = own.tokens.recall(place) {
            return Ok(Some(held));
        }
        let held = match own.tokens.good(place) {
            // It is nearly over: one request has another fetched, beside itself.
            Some(held) => {
                if own.tokens.may_renew(place) {
                    let caller = self.authenticator.caller(signed_in, audit.credential, headers);
                    let own = own.clone();
                    tokio::spawn(async move {
                        if let Ok(subject) = subject(is_exchange, caller).await
                            && (subject.is_some() || !is_exchange)
                        {
                            let _ = own.tokens.renew(&own.wanted, place, subject).await; // it is told where it fails
                        }
                    });
                }
                return Ok(Some(held));
            }
            None => {
                let caller = self.authenticator.caller(signed_in, audit.credential, headers);
                let subject = subject(is_exchange, caller).await?;
                if subject.is_none() && is_exchange {
                    return Ok(None);
                }
                own.tokens.renew(&own.wanted, place, subject).await
            }
        };
        held.map(Some).map_err(|none| Refusal::of(none.reason()))
    }
}

/// What the app would be given beside the identity, in words.
pub(super) fn describe(route: &Route, audit: &Audit) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if let Some(assertion) = route.assertion.as_ref().filter(|_| audit.identity.is_some()) {
        all.push((assertion.header.to_string(), "<an assertion, signed by the gateway>".to_owned()));
    }
    if let Some(token) = &route.service_token {
        let provider = &token.wanted.provider.settings().name;
        let text = match token.wanted.grant {
            Grant::ClientCredentials => Some(format!("<a token of the gateway's own from {provider}>")),
            Grant::TokenExchange => {
                let has_token = matches!(audit.credential, Credential::session | Credential::bearer);
                has_token.then(|| format!("<a token for the caller from {provider}>"))
            }
        };
        all.extend(text.map(|text| (token.header.to_string(), text)));
    }
    let of_caller = route.headers.names_with_tokens().filter(|_| audit.identity.is_some());
    all.extend(of_caller.map(|name| (name.to_string(), "<with the caller's token>".to_owned())));
    all
}

/// The caller of an exchange; none without an access token.
async fn subject(is_exchange: bool, caller: Caller) -> Result<Option<Subject>, Refusal> {
    if !is_exchange {
        return Ok(None);
    }
    let name = caller.signed_in.as_ref().map(|signed_in| signed_in.session.hot.subject.clone());
    let Some(token) = caller.access_token().await? else { return Ok(None) };
    let of_token = || {
        let token = Unverified::read(token.expose()).ok()?;
        token.claims().get("sub").and_then(Value::as_str).map(str::to_owned)
    };
    Ok(Some(Subject { name: name.or_else(of_token), token }))
}

/// A digest of the credential that let the request in; another one after a session's refresh.
fn mark_of(
    route: &Route,
    signed_in: Option<&SignedIn>,
    headers: &HeaderMap,
    credential: Credential,
) -> Option<TokenDigest> {
    let Access::Protected(protected) = &route.access else { return None };
    match credential {
        Credential::none => None,
        Credential::session => Some(signed_in?.session.mark()),
        Credential::bearer => match presented(headers) {
            Presented::Token(token) => Some(TokenDigest::of(token)),
            Presented::Nothing | Presented::Unusable => None,
        },
        Credential::api_key => {
            let key = presented_key(protected, headers, &presented(headers))?;
            ApiKey::parse(key).map(|_| TokenDigest::of(key.as_bytes()))
        }
    }
}
