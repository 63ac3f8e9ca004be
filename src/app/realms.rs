//! Realms: one per provider and session cookie, shared by all routes that use both.

use crate::app::services::{Providers, Services};
use crate::config::settings::Settings;
use crate::gate::route::{AccessSettings, SessionSettings};
use crate::kit::seal::{Secrets, derive};
use crate::login::relying_party::RelyingParty;
use crate::provider::Provider;
use crate::provider::settings::ClientProof;
use crate::session::realm::Realm;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Realms(BTreeMap<(Arc<str>, String), Arc<Realm>>);

impl Realms {
    pub(super) fn new(settings: &Settings, services: &Services, providers: &Providers) -> Self {
        let mut widest: BTreeMap<(Arc<str>, String), Duration> = BTreeMap::new();
        for session in settings.routes.iter().flat_map(|route| sessions_of(&route.gate.access)) {
            let key = (session.provider.clone(), session.cookie.name.clone());
            let max_age = widest.entry(key).or_insert(Duration::ZERO);
            // Each route enforces its own limit; the session record must live as long as the longest of them.
            *max_age = session.limits.max_age.max(*max_age);
        }
        let realm = |((name, cookie), max_age): ((Arc<str>, String), Duration)| {
            let provider: Arc<dyn Provider> = providers.get(&name)?.clone();
            let secrets = secrets(services, provider.as_ref());
            let metrics = services.metrics.provider(&name);
            let realm = Realm::new(provider, metrics, cookie.clone(), secrets, max_age);
            Some(((name, cookie), Arc::new(realm)))
        };
        Realms(widest.into_iter().filter_map(realm).collect())
    }

    pub(super) fn all(&self) -> Vec<Arc<Realm>> {
        self.0.values().cloned().collect()
    }

    /// The relying parties of a route; none if the route has no sessions.
    pub(super) fn sites(&self, access: &AccessSettings, auth_path: &str) -> Vec<Arc<RelyingParty>> {
        let AccessSettings::Protected(protected) = access else { return Vec::new() };
        let site = |session: &SessionSettings| {
            let realm = self.0.get(&(session.provider.clone(), session.cookie.name.clone()))?.clone();
            Some(Arc::new(RelyingParty {
                realm,
                cookie: session.cookie.clone(),
                limits: session.limits,
                refresh: session.refresh,
                origin: session.origin.clone(),
                redirect_uri: session.redirect_uri.clone(),
                shares_jar: session.shares_jar,
                limit: protected.limit,
                auth_path: auth_path.to_string(),
                params: session.params.clone(),
            }))
        };
        sessions_of(access).iter().filter_map(site).collect()
    }
}

fn sessions_of(access: &AccessSettings) -> &[SessionSettings] {
    match access {
        AccessSettings::Protected(protected) => &protected.sessions,
        AccessSettings::Public => &[],
    }
}

/// The store's secrets, else the generated one, else those derived from the client secrets: what belongs to no provider
/// is sealed with these.
pub(super) fn common_secrets(services: &Services, providers: &Providers) -> Secrets {
    if !services.secrets.is_empty() {
        // The generated one lies in the store: beside a configured one it must open nothing.
        return Secrets::new(services.secrets.iter().map(|secret| secret.expose().clone().into_bytes()));
    }
    let made = services.made_secret.expose();
    if !made.is_empty() {
        return Secrets::new([made.clone()]);
    }
    let of_clients = providers.values().filter_map(|provider| match provider.settings().client_proof() {
        Some(ClientProof::Basic(secret) | ClientProof::Post(secret)) => {
            let name = provider.settings().issuer.as_str().as_bytes();
            Some(derive(secret.expose().as_bytes(), b"common secret", &[name]).to_vec())
        }
        _ => None,
    });
    Secrets::new(of_clients)
}

/// The store's secrets, else one derived from the client secret, else the generated one.
pub(super) fn secrets(services: &Services, provider: &dyn Provider) -> Secrets {
    let own = &services.secrets;
    if !own.is_empty() {
        return Secrets::new(own.iter().map(|secret| secret.expose().clone().into_bytes()));
    }
    let provider = provider.settings();
    match provider.client_proof() {
        Some(ClientProof::Basic(secret) | ClientProof::Post(secret)) => {
            let mut parts = vec![provider.issuer.as_str().as_bytes(), provider.client_id.as_str().as_bytes()];
            // A weak client secret could be guessed offline from one of our cookies; a generated secret prevents that.
            let made = services.made_secret.expose().as_slice();
            if !made.is_empty() {
                parts.push(made);
            }
            Secrets::new([derive(secret.expose().as_bytes(), b"store secret", &parts).to_vec()])
        }
        _ => Secrets::new([services.made_secret.expose().clone()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::settings::Backend;
    use std::path::Path;

    /// Who can write the store knows the secret that is kept in it.
    #[test]
    fn beside_a_configured_secret_the_generated_one_opens_nothing() {
        for (store, opens) in [("", true), ("store: {secret: 0123456789abcdef0123456789abcdef}\n", false)] {
            let text =
                format!("{store}routes: [{{name: a, from: \"http://a.test/\", to: \"http://a\", auth: public}}]");
            let sources = crate::config::Sources { file: Path::new("test.yaml"), text: &text, env: Vec::new() };
            let mut settings = crate::config::check(&sources).unwrap_or_else(|all| panic!("{all:#?}")).settings;
            settings.file.store.backend = Backend::Memory;
            let services = Services::new(&settings).unwrap();
            let made = Secrets::new([services.made_secret.expose().clone()]);
            let sealed = made.seal(b"", &[b"test"], b"", b"text").unwrap();
            let opened = common_secrets(&services, &Providers::new()).open(b"", &[b"test"], b"", &sealed);
            assert_eq!(opened.is_ok(), opens, "{store}");
        }
    }
}
