//! Judging for another proxy: nginx `auth_request` (`/auth`), Traefik ForwardAuth and Caddy forward_auth (`/forward`).
//! The request to judge is told by forwarding headers, which count from a trusted proxy alone; from anyone else they
//! are a way to ask about a request that nobody sent, and are refused.

use crate::gate::answer::Reply;
use crate::gate::host::Host;
use crate::gate::inject::{Preset, encode, encode_list};
use crate::gate::refusal::{REASON, own_headers};
use crate::gate::route::Route;
use crate::provider::identity::Identity;
use crate::watch::reason::Reason;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// The request that another proxy asks about.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) method: Method,
    pub(super) host: Host,
    pub(super) target: &'a str,
}

const FORWARDED: [&str; 4] = ["x-forwarded-method", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri"];
const IDENTITY: [&str; 4] =
    ["x-auth-request-user", "x-auth-request-email", "x-auth-request-preferred-username", "x-auth-request-groups"];

impl<'a> Subject<'a> {
    /// `Ok(None)`: nothing was forwarded.
    pub(super) fn of(headers: &'a HeaderMap, from_trusted: bool) -> Result<Option<Subject<'a>>, Reason> {
        if !FORWARDED.iter().any(|name| headers.contains_key(*name)) {
            return Ok(None);
        }
        let one = |name: &str| -> Result<Option<&'a str>, Reason> {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => Ok(None),
                (Some(value), None) => value.to_str().map(Some).map_err(|_| Reason::BadRequest),
                _ => Err(Reason::BadRequest),
            }
        };
        let host = one("x-forwarded-host")?.filter(|_| from_trusted).ok_or(Reason::BadRequest)?;
        Ok(Some(Subject {
            method: one("x-forwarded-method")?.unwrap_or("GET").parse().map_err(|_| Reason::BadRequest)?,
            host: Host::parse(host).map_err(|_| Reason::BadRequest)?,
            target: one("x-forwarded-uri")?.unwrap_or("/"),
        }))
    }
}

/// The 202 of both pages: who it is, absent claims as empty values, so that the other proxy overwrites what a client
/// sent. `who`: `None` for nobody on a route that lets everyone pass.
pub(super) fn accepted(request_id: &str, route: &Route, who: Option<&Identity>, is_public: bool) -> Reply {
    let mut headers = own_headers(request_id);
    if !is_public {
        let preset = route.headers.preset();
        let values = who.map_or([const { None }; 4], |who| preset.values(who));
        let preset = preset.names().into_iter().zip(values).filter(|_| preset != Preset::None);
        let identity = IDENTITY.into_iter().zip(who.map_or([const { None }; 4], identity_values));
        headers.extend(identity.chain(preset).filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value.unwrap_or_default()).ok()?))
        }));
        if let Some(who) = who {
            let set = route.headers.headers(who);
            headers.extend(set.iter().filter(|(name, _)| !preset_has(route, name)).cloned());
        }
    }
    Reply { status: StatusCode::ACCEPTED, headers, body: Bytes::new() }
}

/// A refusal, told in the few statuses that `auth_request` passes on.
pub(super) fn for_auth_request(mut refused: Reply) -> Reply {
    refused.status = match refused.status {
        StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE | StatusCode::FORBIDDEN => refused.status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::FOUND => StatusCode::UNAUTHORIZED,
        _ => StatusCode::FORBIDDEN,
    };
    debug_assert!(refused.headers.iter().any(|(name, _)| name == REASON));
    refused
}

fn preset_has(route: &Route, name: &HeaderName) -> bool {
    route.headers.preset().names().contains(&name.as_str())
}

fn identity_values(who: &Identity) -> [Option<String>; 4] {
    let text = |text: &Option<Box<str>>| text.as_deref().map(encode);
    [Some(encode(&who.user)), text(&who.email), text(&who.username), encode_list(&who.groups)]
}
