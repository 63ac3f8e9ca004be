//! A provider's metadata (OpenID Connect Discovery 1.0, 3 and 4).

use crate::provider::settings::Settings;
use openidconnect::{
    AuthUrl, EndSessionUrl, IntrospectionUrl, IssuerUrl, JsonWebKeySetUrl, RevocationUrl, Scope, TokenUrl, UserInfoUrl,
};
use serde::Deserialize;
use url::Url;

/// The metadata in use. Other fields, present or absent, are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    pub issuer: IssuerUrl,
    pub jwks_uri: JsonWebKeySetUrl,
    pub authorization_endpoint: Option<AuthUrl>,
    pub token_endpoint: Option<TokenUrl>,
    pub userinfo_endpoint: Option<UserInfoUrl>,
    pub introspection_endpoint: Option<IntrospectionUrl>,
    pub revocation_endpoint: Option<RevocationUrl>,
    pub end_session_endpoint: Option<EndSessionUrl>,
    pub scopes_supported: Option<Vec<Scope>>,
    /// The provider sends `iss` in its authorization responses (RFC 9207, 3).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    /// `aud` of the client's assertions.
    #[serde(skip)]
    pub assertion_audience: Option<String>,
}

/// Why a document is not this provider's metadata.
#[derive(Debug)]
pub enum DiscoveryError {
    Unreadable(serde_json::Error),
    OtherIssuer(String),
}

impl Metadata {
    /// The document's URL: the issuer followed by `/.well-known/openid-configuration`, or as configured.
    pub fn location(settings: &Settings) -> Result<Url, url::ParseError> {
        match settings.endpoint("discovery") {
            Some(url) => Ok(url.clone()),
            // The document common to all tenants of Microsoft Entra.
            None => Url::parse(&format!(
                "{}/.well-known/openid-configuration",
                settings.issuer.as_str().replacen("{tenantid}", "common", 1).trim_end_matches('/')
            )),
        }
    }

    /// Reads the document; its issuer must equal the configured one exactly.
    pub fn read(json: &[u8], settings: &Settings) -> Result<Metadata, DiscoveryError> {
        let metadata: Metadata = serde_json::from_slice(json).map_err(DiscoveryError::Unreadable)?;
        if metadata.issuer.as_str() != settings.issuer.as_str() {
            return Err(DiscoveryError::OtherIssuer(metadata.issuer.to_string()));
        }
        Ok(metadata.overridden(settings))
    }

    /// The configured metadata, for a provider that publishes none; `None` without a `jwks_uri`.
    pub fn configured(settings: &Settings) -> Option<Metadata> {
        let keys = settings.endpoint("jwks_uri")?.clone();
        let metadata = Metadata {
            issuer: IssuerUrl::new(settings.issuer.as_str().to_string()).ok()?,
            jwks_uri: JsonWebKeySetUrl::from_url(keys),
            authorization_endpoint: None,
            token_endpoint: None,
            userinfo_endpoint: None,
            introspection_endpoint: None,
            revocation_endpoint: None,
            end_session_endpoint: None,
            scopes_supported: None,
            authorization_response_iss_parameter_supported: false,
            assertion_audience: None,
        };
        Some(metadata.overridden(settings))
    }

    fn overridden(mut self, settings: &Settings) -> Metadata {
        let set = |name: &str| settings.endpoint(name).cloned();
        let m = &mut self;
        // Before the override: a provider expects the URL that it publishes itself.
        let own = m.token_endpoint.as_ref().map(|endpoint| endpoint.to_string());
        m.assertion_audience =
            settings.assertion_audience.clone().or(own).or(set("token_endpoint").map(|url| url.to_string()));
        m.jwks_uri = set("jwks_uri").map_or_else(|| m.jwks_uri.clone(), JsonWebKeySetUrl::from_url);
        m.authorization_endpoint =
            set("authorization_endpoint").map(AuthUrl::from_url).or(m.authorization_endpoint.take());
        m.token_endpoint = set("token_endpoint").map(TokenUrl::from_url).or(m.token_endpoint.take());
        m.userinfo_endpoint = set("userinfo_endpoint").map(UserInfoUrl::from_url).or(m.userinfo_endpoint.take());
        m.introspection_endpoint =
            set("introspection_endpoint").map(IntrospectionUrl::from_url).or(m.introspection_endpoint.take());
        m.revocation_endpoint =
            set("revocation_endpoint").map(RevocationUrl::from_url).or(m.revocation_endpoint.take());
        m.end_session_endpoint =
            set("end_session_endpoint").map(EndSessionUrl::from_url).or(m.end_session_endpoint.take());
        self
    }
}

impl std::fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DiscoveryError::Unreadable(error) => write!(f, "the metadata cannot be read: {error}"),
            DiscoveryError::OtherIssuer(issuer) => write!(f, "the metadata is of another issuer: {issuer:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::settings;

    #[test]
    fn the_issuer_must_match_to_the_letter() {
        let ours = settings("https://id.test/realms/a");
        let read = |issuer: &str| {
            let json = format!(r#"{{"issuer": "{issuer}", "jwks_uri": "https://id.test/jwks", "extra": [1]}}"#);
            Metadata::read(json.as_bytes(), &ours)
        };
        assert!(read("https://id.test/realms/a").is_ok());
        for other in ["https://id.test/realms/a/", "https://id.test/realms/b", "https://ID.test/realms/a"] {
            assert!(matches!(read(other), Err(DiscoveryError::OtherIssuer(_))), "{other}");
        }
        assert!(matches!(Metadata::read(b"{\"issuer\": ", &ours), Err(DiscoveryError::Unreadable(_))));
    }

    #[test]
    fn the_document_stands_behind_the_issuer_or_where_the_operator_says() {
        let at = |settings: &Settings| Metadata::location(settings).unwrap().to_string();
        assert_eq!(at(&settings("https://id.test/a/")), "https://id.test/a/.well-known/openid-configuration");
        let mut inner = settings("https://id.test/a");
        let elsewhere = Url::parse("http://keycloak:8080/x").unwrap();
        inner.endpoints.insert("discovery".to_string().try_into().unwrap(), elsewhere.into());
        assert_eq!(at(&inner), "http://keycloak:8080/x");
    }
}
