//! A logout that begins at the provider: OpenID Connect Back-Channel Logout 1.0, and Front-Channel Logout 1.0.

use crate::kit::digest::TokenDigest;
use crate::login::relying_party::RelyingParty;
use crate::provider::jwt::{LogoutClaims, Unverified};
use crate::provider::keys::KeySet;
use crate::provider::{NotVerified, verify_at_hand, verify_with_fetched};
use crate::session::index::Of;
use crate::session::sessions::Sessions;
use crate::store::kv::{Entry, Key, Space, Unavailable};
use crate::telemetry::metrics::Logout;
use std::sync::Arc;
use std::time::Duration;

/// Why a logout was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotEnded {
    /// The token is not a logout token of one of these providers, or it was used before; which of these, in words.
    Invalid(String),
    ProviderUnavailable,
    StoreUnavailable,
}

/// A logout that was carried out, or is kept until it can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub provider: Arc<str>,
    /// The sessions that were found.
    pub count: usize,
}

impl NotEnded {
    pub fn words(&self) -> String {
        match self {
            NotEnded::Invalid(why) => why.clone(),
            NotEnded::ProviderUnavailable => "the provider's keys cannot be had".into(),
            NotEnded::StoreUnavailable => "the store is unavailable, and there is no room to keep the logout".into(),
        }
    }
}

/// Verifies a logout token, and ends what it names; also where that is nobody.
pub async fn backchannel(sites: &[Arc<RelyingParty>], token: &str, sessions: &Sessions) -> Result<Ended, NotEnded> {
    let no_jwt = |_| NotEnded::Invalid("logout_token: is no JWT".into());
    let token = Unverified::read(token).map_err(no_jwt)?;
    let known = sites.iter().map(|site| site.realm.provider.settings());
    let (mut refused, mut verified_for) = (NotEnded::Invalid(token.why_no_issuer(known)), Vec::new());
    for site in sites {
        let settings = site.realm.provider.settings();
        if !settings.is_issuer_of(token.claims()) {
            continue;
        }
        match verified(site, &token, sessions).await {
            Ok(claims) => verified_for.push((site, claims)),
            Err(NotVerified::Unavailable) => refused = NotEnded::ProviderUnavailable,
            Err(NotVerified::Refused(refusal)) => {
                refused = NotEnded::Invalid(token.why_no_own_token(settings, None, refusal, sessions.now()));
            }
        }
    }
    let Some((site, claims)) = verified_for.first() else { return Err(refused) };
    let mark = mark_of(site, claims);
    // A token counts once. Where the store is unavailable it may count again, for sessions begun before it did.
    let left = sessions.now().until(claims.expires.plus(*site.realm.provider.settings().clock_skew));
    if sessions.kv.put_new(&mark, Entry { generation: 0, value: Vec::new() }, left).await == Ok(false) {
        return Err(NotEnded::Invalid("jti: the token was used before".into()));
    }
    let mut ended = Ended { provider: site.realm.provider.settings().name.clone(), count: 0 };
    for (site, claims) in verified_for {
        let of = Of::Logout { session_id: claims.session_id, subject: claims.subject };
        match sessions.end_all_of(&site.realm, &of).await {
            Ok(count) => ended.count += count,
            Err(Unavailable) => {
                // The provider may try again.
                let _ = sessions.kv.delete(&mark, Duration::ZERO).await;
                return Err(NotEnded::StoreUnavailable);
            }
        }
        site.realm.metrics.logged_out(Logout::backchannel);
    }
    Ok(ended)
}

fn mark_of(site: &RelyingParty, claims: &LogoutClaims) -> Key {
    let settings = site.realm.provider.settings();
    let id = [settings.issuer.as_str(), settings.client_id.as_str(), &claims.id].join("\n");
    let id = TokenDigest::of(id.as_bytes());
    Key::of(Space::Used, format!("logout:{}", data_encoding::HEXLOWER.encode(id.bytes())))
}

async fn verified(
    site: &RelyingParty,
    token: &Unverified<'_>,
    sessions: &Sessions,
) -> Result<LogoutClaims, NotVerified> {
    let (provider, now) = (site.realm.provider.as_ref(), sessions.now());
    let read = |keys: &KeySet| token.verify_logout(keys, provider.settings(), now);
    match verify_at_hand(provider, read) {
        Some(decided) => decided,
        None => verify_with_fetched(provider, read).await,
    }
}

/// The provider has the browser load this in a frame: `iss` and `sid` name the session.
pub async fn frontchannel(
    sites: &[Arc<RelyingParty>],
    issuer: &str,
    session_id: &str,
    sessions: &Sessions,
) -> Result<Ended, NotEnded> {
    let of = Of::SessionId(session_id.to_string());
    let mut outcome = Err(NotEnded::Invalid("iss: is no provider's of this host".into()));
    for site in sites {
        let settings = site.realm.provider.settings();
        if settings.is_response_issuer(issuer) {
            let ended = sessions.end_all_of(&site.realm, &of).await;
            let count = ended.map_err(|Unavailable| NotEnded::StoreUnavailable)?;
            site.realm.metrics.logged_out(Logout::frontchannel);
            outcome = Ok(Ended { provider: settings.name.clone(), count });
        }
    }
    outcome
}
