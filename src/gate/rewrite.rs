//! How a request goes to the app: headers removed, headers set, the target as it was judged.

use crate::caller::address::Caller;
use crate::gate::authenticate::{X_API_KEY, holds_key};
use crate::gate::cookies::{Kept, OwnCookies};
use crate::gate::decision::{Audit, Forward};
use crate::gate::identity_headers::{HeaderFilter, overrides_method};
use crate::gate::path::CanonicalPath;
use crate::gate::protocol;
use crate::gate::refusal::REQUEST_ID;
use crate::gate::request::RequestHead;
use crate::gate::route::{Access, Route};
use crate::telemetry::metrics::Credential;
use http::{HeaderName, HeaderValue, header};
use std::sync::Arc;

pub struct Rewrite {
    pub header_filter: HeaderFilter,
    pub cookies: OwnCookies,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

impl Rewrite {
    /// `by_method`: routes differ by method here, so that no header may change the method that was judged.
    pub(super) fn forward(
        &self,
        route: &Arc<Route>,
        head: &RequestHead<'_>,
        path: &CanonicalPath<'_>,
        caller: &Caller,
        audit: &Audit,
        by_method: bool,
    ) -> Forward {
        let mut remove = self.header_filter.of(head.headers);
        let is_judged_key = match &route.access {
            Access::Protected(protected) => holds_key(protected, head.headers, audit.credential),
            Access::Public => false,
        };
        if route.takes_authorization(audit.credential == Credential::bearer) || is_judged_key {
            remove.push(header::AUTHORIZATION);
        }
        if let Access::Protected(protected) = &route.access
            && protected.accepts_api_key
            && head.headers.contains_key(&X_API_KEY)
        {
            remove.push(X_API_KEY);
        }
        if head.headers.contains_key(header::UPGRADE) && !protocol::is_websocket(head) {
            remove.push(header::UPGRADE);
        }
        if by_method {
            remove.extend(head.headers.keys().filter(|name| overrides_method(name)).cloned());
        }
        let mut set = Vec::with_capacity(12);
        match self.cookies.kept(head.headers) {
            Kept::AsSent => {}
            Kept::Instead(value) => set.push((header::COOKIE, value)),
            Kept::Nothing => remove.push(header::COOKIE),
        }
        let text = |value: &str| HeaderValue::from_str(value).ok();
        set.extend(HeaderValue::try_from(caller.chain()).ok().map(|value| (FORWARDED_FOR, value)));
        set.push((FORWARDED_PROTO, route.scheme.clone()));
        // The field itself where it says the same: a copy of it costs nothing.
        let sent = head.headers.get(header::HOST);
        let host = audit.host.as_ref().and_then(|host| match sent {
            Some(sent) if sent.as_bytes() == host.as_str().as_bytes() => Some(sent.clone()),
            _ => text(host.as_str()),
        });
        set.extend(host.map(|value| (FORWARDED_HOST, value)));
        set.extend(text(&audit.request_id).map(|value| (REQUEST_ID, value)));
        if route.strip_prefix {
            set.extend(text(route.prefix()).map(|value| (FORWARDED_PREFIX, value)));
        }
        if let Some(who) = &audit.identity {
            let identity = route.headers.headers(who);
            route.note_size(&identity);
            set.extend_from_slice(&identity);
        }
        let sent_as_is = path.authority().is_none() && !route.strip_prefix;
        let target = (!sent_as_is).then(|| format!("{}{}", route.path_for_app(path.as_str()), path.query()));
        Forward { route: route.clone(), target, remove, set, stream: protocol::is_stream(head), session: None }
    }
}
