//! Begins a login: the redirect to the provider (OpenID Connect Core 1.0, 3.1.2.1), and the cookie that remembers it.

use crate::kit::entropy::Entropy;
use crate::login::cookie::cookies;
use crate::login::flow::{Flow, LIFE, id_of};
use crate::login::relying_party::RelyingParty;
use crate::provider::settings::Scope;
use crate::session::sessions::Sessions;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// The redirect's location, and the cookies to set.
pub struct Started {
    pub location: HeaderValue,
    pub cookies: Vec<HeaderValue>,
}

/// The provider's endpoints are not known: discovery has not succeeded yet.
#[derive(Debug)]
pub struct NotYet;

/// Concurrent logins of one browser, and the bytes of their cookies; beyond either limit the oldest is dropped.
const FLOWS: usize = 5;
const FLOW_BYTES: usize = 24 * 1024;

/// `target`: checked by [`crate::login::return_url`]; `hint`: the `login_hint` for the provider.
pub fn start(
    site: &RelyingParty,
    origin: &str,
    target: String,
    hint: Option<&str>,
    headers: &HeaderMap,
    sessions: &Sessions,
    entropy: &Arc<dyn Entropy>,
) -> Result<Started, NotYet> {
    let provider = &site.realm.provider;
    let metadata = provider.metadata().ok_or(NotYet)?;
    let mut url = metadata.authorization_endpoint.as_ref().ok_or(NotYet)?.url().clone();
    let callback = site.callback(origin);
    // The login may end on another host, where a path would refer to that host.
    let elsewhere = !callback.starts_with(&format!("{origin}/")) && target.starts_with('/');
    let target = if elsewhere { format!("{origin}{target}") } else { target };
    let flow = Flow::new(entropy.as_ref(), site.provider(), target, callback, sessions.now());
    let settings = provider.settings();
    let known = metadata.scopes_supported.as_deref();
    let offered = |scope: &&str| {
        *scope != "offline_access" || known.is_none_or(|known| known.iter().any(|k| k.as_str() == "offline_access"))
    };
    let scopes: Vec<&str> = settings.scopes.iter().map(Scope::as_str).filter(offered).collect();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", settings.client_id.as_str())
        .append_pair("redirect_uri", &flow.redirect_uri)
        .append_pair("scope", &scopes.join(" "))
        .append_pair("state", &flow.state())
        .append_pair("nonce", &flow.nonce())
        .append_pair("code_challenge", &flow.challenge())
        .append_pair("code_challenge_method", "S256")
        .extend_pairs(site.params.iter().filter(|(name, _)| hint.is_none() || name != "login_hint"))
        .extend_pairs(hint.map(|hint| ("login_hint", hint)));
    let sealed = flow.sealed(&site.realm.secrets, &site.cookie).map_err(|_| NotYet)?;
    let mut set = forgotten(site, headers, sealed.len());
    set.extend(site.cookie.set_flow(&id_of(&flow.state()), &sealed, LIFE, site.answers_by_form()));
    Ok(Started { location: HeaderValue::from_str(url.as_str()).map_err(|_| NotYet)?, cookies: set })
}

/// So many cookies of logins are looked at; a browser has five logins, in at most four cookies each.
const MOST_COOKIES: usize = 40;

/// A login under way, by its cookies.
struct UnderWay<'h> {
    begun: u64,
    id: &'h str,
    bytes: usize,
    names: Vec<&'h str>,
}

/// Clears the cookies of the oldest logins to make room for one more.
fn forgotten(site: &RelyingParty, headers: &HeaderMap, bytes: usize) -> Vec<HeaderValue> {
    let prefix = site.cookie.flow_name("");
    let is_id = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
    let mut under_way: Vec<UnderWay<'_>> = Vec::new();
    let flows = cookies(headers).filter_map(|(name, value)| {
        let id = name.strip_prefix(&prefix)?;
        let (id, is_first) = id.split_once('_').map_or((id, true), |(id, _)| (id, false));
        is_id(id).then_some((name, id, is_first, value))
    });
    for (name, id, is_first, value) in flows.take(MOST_COOKIES) {
        let at = under_way.iter().position(|known| known.id == id).unwrap_or(under_way.len());
        if at == under_way.len() {
            under_way.push(UnderWay { begun: 0, id, bytes: 0, names: Vec::new() });
        }
        let Some(flow) = under_way.get_mut(at) else { continue };
        let begun = value.split('.').next().and_then(|begun| begun.parse().ok()).filter(|_| is_first);
        flow.begun = begun.unwrap_or(flow.begun);
        flow.bytes += value.len();
        if !flow.names.contains(&name) {
            flow.names.push(name);
        }
    }
    under_way.sort_unstable_by_key(|flow| (flow.begun, flow.id));
    let mut left = under_way.len() + 1;
    let mut total = bytes + under_way.iter().map(|flow| flow.bytes).sum::<usize>();
    let mut gone = Vec::new();
    for flow in under_way {
        if left <= FLOWS && total <= FLOW_BYTES {
            break;
        }
        (left, total) = (left - 1, total - flow.bytes);
        gone.extend(flow.names.iter().filter_map(|name| site.cookie.clear_named(name)));
    }
    gone
}
