//! Ends the session here, and then at the provider (OpenID Connect RP-Initiated Logout 1.0; RFC 7009).

use crate::kit::seal::Secrets;
use crate::kit::secret::Secret;
use crate::login::cookie::{named, named_like};
use crate::login::relying_party::RelyingParty;
use crate::session::sessions::Sessions;
use crate::session::ticket::Ticket;
use crate::store::kv::Unavailable;
use crate::telemetry::metrics::Logout;
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// The least that servers and proxies accept in a request line, in bytes.
const LONGEST_URL: usize = 3800;

pub struct SignedOut {
    pub location: String,
    /// Of each session that was ended, its provider.
    pub ended: Vec<Arc<str>>,
    pub cookies: Vec<HeaderValue>,
}

/// Ends the sessions of all `sites`; the browser is redirected to the provider of the first that had one.
pub async fn sign_out(
    sites: &[Arc<RelyingParty>],
    origin: &str,
    target: &str,
    headers: &HeaderMap,
    sessions: &Sessions,
) -> Result<SignedOut, Unavailable> {
    let (mut set, mut all_ended) = (Vec::new(), Vec::new());
    let mut ended: Option<(&Arc<RelyingParty>, Option<String>)> = None;
    for site in sites {
        let had = named_like(headers, &site.cookie.name, |_| true).next().is_some();
        for value in named_like(headers, &site.cookie.name, Ticket::is_like) {
            let Some(cold) = sessions.end(&site.realm, value).await? else { continue };
            if let Some(token) = cold.refresh.map(Secret::from) {
                let provider = site.realm.provider.clone();
                // In the background: a slow revocation must not delay the reply.
                tokio::spawn(async move { provider.revoke(&token).await });
            }
            all_ended.push(site.realm.provider.settings().name.clone());
            site.realm.metrics.logged_out(Logout::sign_out);
            ended.get_or_insert((site, cold.id));
        }
        if had {
            set.extend(site.cookie.clear());
        }
        if named(headers, &site.cookie.rounds_name()).next().is_some() {
            set.extend(site.cookie.set_rounds("", Duration::ZERO, site.answers_by_form()));
        }
    }
    let (site, hint) = match ended {
        Some((site, hint)) => (Some(site), hint),
        None => (sites.first(), None),
    };
    let location = site.map_or_else(|| "/".to_string(), |site| goes_to(site, origin, target, hint.as_deref()));
    Ok(SignedOut { location, ended: all_ended, cookies: set })
}

/// The URL of the provider's end-session endpoint, or of the gateway's `signed_out` without one.
fn goes_to(site: &RelyingParty, origin: &str, target: &str, hint: Option<&str>) -> String {
    let back = format!("{origin}{}/signed_out", site.auth_path);
    let state = remember(&site.realm.secrets, target);
    let provider = &site.realm.provider;
    let endpoint = provider.metadata().and_then(|m| Some(m.end_session_endpoint.as_ref()?.url().clone()));
    let mut url = match endpoint.or_else(|| Url::parse(&back).ok()) {
        Some(url) => url,
        None => return back,
    };
    if url.as_str() == back {
        url.query_pairs_mut().extend_pairs(state.map(|state| ("state", state)));
        return url.into();
    }
    let settings = provider.settings();
    let written = |hint: Option<&str>, state: Option<&String>| {
        let mut url = url.clone();
        let mut query = url.query_pairs_mut();
        query.append_pair("client_id", settings.client_id.as_str()).append_pair("post_logout_redirect_uri", &back);
        query.extend_pairs(state.map(|state| ("state", state)));
        for (name, value) in &settings.end_session_params {
            let value = value.as_str();
            if value.contains("{id_token_hint}") && hint.is_none() {
                continue;
            }
            let value =
                value.replace("{client_id}", settings.client_id.as_str()).replace("{post_logout_redirect_uri}", &back);
            query.append_pair(name, &value.replace("{id_token_hint}", hint.unwrap_or_default()));
        }
        query.extend_pairs(hint.map(|hint| ("id_token_hint", hint)));
        drop(query);
        url
    };
    // Users in many groups have long ID tokens, and a sign-out with too long a URL fails. The hint matters more than
    // the state with the return URL.
    let tried = [(hint, state.as_ref()), (hint, None), (None, state.as_ref())];
    let short =
        tried.into_iter().map(|(hint, state)| written(hint, state)).find(|url| url.as_str().len() < LONGEST_URL);
    short.unwrap_or_else(|| written(None, None)).into()
}

/// The target as the provider's `state`: sealed, so that it cannot be forged.
fn remember(secrets: &Secrets, target: &str) -> Option<String> {
    let sealed = secrets.seal(b"", &[b"sign out"], b"", target.as_bytes()).ok()?;
    Some(BASE64URL_NOPAD.encode(&sealed))
}

/// The target of a sign-out, if one of these relying parties started it.
pub fn remembered(sites: &[Arc<RelyingParty>], state: &str) -> Option<String> {
    let sealed = BASE64URL_NOPAD.decode(state.as_bytes()).ok()?;
    let plain = sites.iter().find_map(|site| site.realm.secrets.open(b"", &[b"sign out"], b"", &sealed).ok())?;
    String::from_utf8(plain.to_vec()).ok()
}
