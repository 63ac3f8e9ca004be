//! A logout that begins at the provider: OpenID Connect Back-Channel Logout 1.0, and Front-Channel Logout 1.0.

use crate::kit::digest::TokenDigest;
use crate::login::relying_party::RelyingParty;
use crate::provider::jwt::{LogoutClaims, Unverified};
use crate::provider::keys::KeySet;
use crate::provider::{NotVerified, verify_at_hand, verify_with_fetched};
use crate::session::index::Of;
use crate::session::sessions::Sessions;
use crate::store::kv::{Entry, Key, Space, Unavailable};
use std::sync::Arc;
use std::time::Duration;

/// Why a logout was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEnded {
    /// The token is not a logout token of one of these providers, or it was used before.
    Invalid,
    ProviderUnavailable,
    StoreUnavailable,
}

/// Verifies a logout token, and ends what it names; also where that is nobody.
pub async fn backchannel(sites: &[Arc<RelyingParty>], token: &str, sessions: &Sessions) -> Result<(), NotEnded> {
    let token = Unverified::read(token).map_err(|_| NotEnded::Invalid)?;
    let (mut refused, mut verified_for) = (NotEnded::Invalid, Vec::new());
    for site in sites {
        let settings = site.realm.provider.settings();
        if !settings.is_issuer_of(token.claims()) {
            continue;
        }
        match verified(site, &token, sessions).await {
            Ok(claims) => verified_for.push((site, claims)),
            Err(NotVerified::Unavailable) => refused = NotEnded::ProviderUnavailable,
            Err(NotVerified::Refused(_)) => {}
        }
    }
    let Some((site, claims)) = verified_for.first() else { return Err(refused) };
    let mark = mark_of(site, claims);
    // A token counts once. Where the store is unavailable it may count again, for sessions begun before it did.
    let left = sessions.now().until(claims.expires.plus(*site.realm.provider.settings().clock_skew));
    if sessions.kv.put_new(&mark, Entry { generation: 0, value: Vec::new() }, left).await == Ok(false) {
        return Err(NotEnded::Invalid);
    }
    for (site, claims) in verified_for {
        let of = Of::Logout { session_id: claims.session_id, subject: claims.subject };
        if sessions.end_all_of(&site.realm, &of).await.is_err() {
            // The provider may try again.
            let _ = sessions.kv.delete(&mark, Duration::ZERO).await;
            return Err(NotEnded::StoreUnavailable);
        }
    }
    Ok(())
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
) -> Result<(), NotEnded> {
    let of = Of::SessionId(session_id.to_string());
    let mut outcome = Err(NotEnded::Invalid);
    for site in sites {
        if site.realm.provider.settings().is_response_issuer(issuer) {
            outcome = sessions.end_all_of(&site.realm, &of).await.map_err(|Unavailable| NotEnded::StoreUnavailable);
            outcome?;
        }
    }
    outcome
}
