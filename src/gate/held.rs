//! What let a stream in: whether it still holds, as long as the stream is open.

use crate::caller::rate_limit::{self, Account};
use crate::credential::api_key::keyring::KeyVerdict;
use crate::credential::api_key::{ApiKey, Presented as PresentedKey};
use crate::gate::authenticate::{Presented, presented, presented_key, token68};
use crate::gate::decision::{Audit, Forward, SignedIn};
use crate::gate::gate::Gate;
use crate::gate::route::{Access, Protected, Route};
use crate::kit::digest::TokenDigest;
use crate::kit::secret::Secret;
use crate::login::relying_party::RelyingParty;
use crate::provider::verdict::Verdict;
use crate::session::session::{Limits, Session};
use crate::session::sessions::{Found, Reading};
use crate::telemetry::metrics::Credential;
use http::HeaderMap;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;

pub struct Held {
    pub route: Arc<Route>,
    client: IpAddr,
    credential: Kept,
}

enum Kept {
    /// With the read of the store that last showed it; none: it was not read for this stream yet.
    Session(Arc<RelyingParty>, Mutex<(Arc<Session>, Option<Reading>)>),
    Token(Secret, TokenDigest),
    Key(PresentedKey),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    Over,
    /// The store or the provider must be asked, or could not be.
    Unknown,
}

impl Held {
    pub fn is_session(&self) -> bool {
        matches!(self.credential, Kept::Session(..))
    }
}

impl Gate {
    /// What let the request in; `None` if nothing did, because the route wants nothing, or nothing was presented.
    pub fn hold(&self, forward: &Forward, audit: &Audit, headers: &HeaderMap) -> Option<Held> {
        let Access::Protected(protected) = &forward.route.access else { return None };
        audit.identity.as_ref()?;
        let credential = match audit.credential {
            Credential::none => return None,
            Credential::session => {
                let SignedIn { site, session } = forward.session.clone()?;
                Kept::Session(site, Mutex::new((session, None)))
            }
            Credential::bearer => {
                let Presented::Token(token) = presented(headers) else { return None };
                Kept::Token(token68(token)?.to_string().into(), TokenDigest::of(token))
            }
            Credential::api_key => Kept::Key(ApiKey::parse(presented_key(protected, headers, &presented(headers))?)?),
        };
        Some(Held { route: forward.route.clone(), client: audit.client, credential })
    }

    /// Without asking anybody.
    pub fn glance(&self, held: &Held) -> Standing {
        let Access::Protected(protected) = &held.route.access else { return Standing::Good };
        let authenticator = &self.authenticator;
        match &held.credential {
            Kept::Session(site, last) => {
                let (sessions, last) = (&authenticator.sessions, last.lock());
                let (session, reading) = &*last;
                if !is_young(site, session, self) || sessions.has_ended(session) {
                    return Standing::Over;
                }
                sessions.touch(&site.realm, session, site.limits);
                match reading {
                    Some(reading) if sessions.is_unchanged(session, reading) => Standing::Good,
                    _ => Standing::Unknown,
                }
            }
            Kept::Token(_, digest) => match authenticator.verifier.is_verified(&protected.policy, *digest) {
                true => Standing::Good,
                false => Standing::Unknown,
            },
            Kept::Key(key) => match authenticator.keyring.as_ref().and_then(|keys| keys.peek(key)) {
                Some(verdict) => of_key(&verdict),
                None => Standing::Unknown,
            },
        }
    }

    pub async fn ask_about(&self, held: &Held) -> Standing {
        let Access::Protected(protected) = &held.route.access else { return Standing::Good };
        match &held.credential {
            Kept::Session(site, last) => {
                let (session, reading) = (last.lock().0.clone(), self.authenticator.sessions.begin_reading());
                match self.authenticator.sessions.read_again(&site.realm, &session).await {
                    Found::Live(session) if is_young(site, &session, self) => {
                        // What stands in for the store does not know what other replicas have ended.
                        let is_sure = !self.authenticator.sessions.kv.is_unavailable();
                        *last.lock() = (session, is_sure.then_some(reading));
                        if is_sure { Standing::Good } else { Standing::Unknown }
                    }
                    Found::Live(_) | Found::Absent => Standing::Over,
                    Found::Unavailable => {
                        last.lock().1 = None;
                        Standing::Unknown
                    }
                }
            }
            Kept::Token(token, digest) => self.ask_about_token(protected, held.client, token, *digest).await,
            Kept::Key(key) => {
                let Some(keys) = &self.authenticator.keyring else { return Standing::Over };
                keys.look_up(key, || Ok(())).await.map_or(Standing::Unknown, |verdict| of_key(&verdict))
            }
        }
    }

    async fn ask_about_token(
        &self,
        protected: &Protected,
        client: IpAddr,
        token: &Secret,
        digest: TokenDigest,
    ) -> Standing {
        // It was good when it was presented: its end costs the client nothing.
        let limit = rate_limit::Settings { enabled: false, ..protected.limit };
        let account = Account { limiter: &self.authenticator.limiter, limit: &limit, client };
        match self.authenticator.verifier.verify(&protected.policy, token.expose(), digest, &account).await {
            Verdict::Valid(_) => Standing::Good,
            Verdict::Rejected(_) => Standing::Over,
            Verdict::Unavailable(_) | Verdict::Limited(_) => Standing::Unknown,
        }
    }
}

/// Whoever has a stream open is not idle.
fn is_young(site: &RelyingParty, session: &Session, gate: &Gate) -> bool {
    session.is_within(Limits { idle_timeout: None, ..site.limits }, gate.clock.now())
}

fn of_key(verdict: &KeyVerdict) -> Standing {
    match verdict {
        KeyVerdict::Valid(_) => Standing::Good,
        KeyVerdict::Rejected(_) => Standing::Over,
        KeyVerdict::Unavailable => Standing::Unknown,
    }
}
