//! `/sign_out` and `/signed_out`.

use crate::gate::decision::{Audit, Reply, Why};
use crate::gate::endpoints::parameters::{Parameters, origin_of, redirect};
use crate::gate::gate::Endpoints;
use crate::gate::html::Message;
use crate::gate::refusal::{Refusal, own_headers};
use crate::gate::request::{Body, RequestHead};
use crate::login::backchannel::{Ended, NotEnded, backchannel, frontchannel};
use crate::login::relying_party::RelyingParty;
use crate::login::sign_out::{remembered, sign_out};
use crate::login::signed_in::any_session;
use crate::store::kv::Unavailable;
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use std::sync::Arc;
use url::Url;

impl Endpoints {
    pub(super) async fn sign_out_page(
        &self,
        sites: &[Arc<RelyingParty>],
        query: &Parameters,
        head: &RequestHead<'_>,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let site = sites.first().ok_or(Refusal::of(Reason::BadRequest))?;
        let origin = origin_of(site, audit);
        let posted = match head.body {
            Body::Whole(body) => Parameters::of(&String::from_utf8_lossy(body)),
            _ => Parameters::default(),
        };
        let target = self.return_urls.checked(posted.get("rd").or(query.get("rd")).unwrap_or(""), &origin);
        if *head.method == Method::POST {
            if !is_from(head.headers, &origin) {
                return Err(Refusal { status: StatusCode::FORBIDDEN, ..Refusal::of(Reason::BadRequest) });
            }
        } else if *head.method == Method::HEAD || is_unasked(head.headers, &origin) {
            return Ok(self.html.say(
                &Message::ReallySignOut { action: &format!("{}/sign_out", self.path), target: &target },
                &audit.request_id,
            ));
        }
        if let Some(Ok((_, session))) = any_session(sites, head.headers, &self.sessions).await {
            audit.identity = Some(session.hot.identity.clone());
        }
        let out = sign_out(sites, &origin, &target, head.headers, &self.sessions)
            .await
            .map_err(|Unavailable| Refusal::of(Reason::StoreUnavailable))?;
        if let Some(provider) = out.ended.first() {
            let user = audit.identity.as_ref().map(|who| &*who.user);
            tracing::info!(
                event = "logout", kind = "sign_out", count = out.ended.len(), request_id = %audit.request_id, %provider,
                user, client = %audit.client, "a user has signed out"
            );
        }
        let mut reply = redirect(&out.location, audit);
        reply.headers.extend(out.cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
        Ok(reply)
    }

    /// OpenID Connect Back-Channel Logout 1.0, 2.5 and 2.8.
    pub(super) async fn backchannel_logout(
        &self,
        sites: &[Arc<RelyingParty>],
        head: &RequestHead<'_>,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let Body::Whole(body) = head.body else { return Err(Refusal::of(Reason::BadRequest)) };
        let form = Parameters::of(std::str::from_utf8(body).map_err(|_| Refusal::of(Reason::BadRequest))?);
        let token = form.only("logout_token").ok_or(Refusal::of(Reason::BadRequest))?;
        let ended = backchannel(sites, token, &self.sessions).await;
        self.ended("backchannel", ended, audit)
    }

    /// OpenID Connect Front-Channel Logout 1.0, 2.
    pub(super) async fn frontchannel_logout(
        &self,
        sites: &[Arc<RelyingParty>],
        query: &Parameters,
        head: &RequestHead<'_>,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let (Some(issuer), Some(session_id)) = (query.only("iss"), query.only("sid")) else {
            return Err(Refusal::of(Reason::BadRequest));
        };
        if *head.method == Method::HEAD {
            return Ok(Reply { status: StatusCode::OK, headers: own_headers(&audit.request_id), body: Bytes::new() }); // a link checker or a browser looks ahead
        }
        let ended = frontchannel(sites, issuer, session_id, &self.sessions).await;
        self.ended("frontchannel", ended, audit)
    }

    fn ended(&self, kind: &str, ended: Result<Ended, NotEnded>, audit: &mut Audit) -> Result<Reply, Refusal> {
        match &ended {
            Ok(Ended { provider, count }) => tracing::info!(
                event = "logout", kind, count, request_id = %audit.request_id, %provider, client = %audit.client,
                "the provider has signed a user out"
            ),
            Err(cause) => {
                let why = cause.words();
                tracing::warn!(event = "logout", kind, request_id = %audit.request_id, client = %audit.client, why, "a logout was refused");
                audit.why = Why::of(why);
            }
        }
        let reason = |cause| match cause {
            NotEnded::Invalid(_) => Reason::BadRequest,
            NotEnded::ProviderUnavailable => Reason::ProviderUnavailable,
            NotEnded::StoreUnavailable => Reason::StoreUnavailable,
        };
        // 2.8: a logout that failed is a 400, whatever the cause.
        ended.map_err(|cause| Refusal { status: StatusCode::BAD_REQUEST, ..Refusal::of(reason(cause)) })?;
        // Also where nobody was signed in.
        Ok(Reply { status: StatusCode::OK, headers: own_headers(&audit.request_id), body: Bytes::new() })
    }

    pub(super) fn signed_out_page(&self, sites: &[Arc<RelyingParty>], query: &Parameters, audit: &mut Audit) -> Reply {
        let target = query.get("state").and_then(|state| remembered(sites, state)).filter(|target| target != "/");
        match (target, sites.first()) {
            (Some(target), Some(site)) => {
                let target = self.return_urls.checked(&target, &origin_of(site, audit));
                redirect(&target, audit)
            }
            _ => {
                let sign_in = self.start(sites);
                self.html.say(&Message::SignedOut { sign_in: sign_in.as_deref() }, &audit.request_id)
            }
        }
    }
}

/// Whether another site's link or image, or a browser's prefetch, caused the request. Without `Sec-Fetch-Site`,
/// `Origin` and `Referer` decide.
pub(in crate::gate) fn is_unasked(headers: &HeaderMap, origin: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let reads_ahead = |name: &&str| {
        let purpose = text(name).map(str::to_ascii_lowercase);
        purpose.is_some_and(|purpose| purpose.contains("prefetch") || purpose.contains("preview"))
    };
    if ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(reads_ahead) {
        return true;
    }
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    ["origin", "referer"].into_iter().filter_map(text).any(|page| is_foreign(page, origin))
}

fn is_foreign(page: &str, origin: &str) -> bool {
    Url::parse(page).map_or(true, |url| url.origin().ascii_serialization() != origin)
}

/// Whether the form is the gateway's own: `Origin` matches, or is absent and neither `Sec-Fetch-Site` nor, where that is
/// absent, `Referer` names another site. The
/// gateway's pages send no referrer, so their forms have the origin `null`. So has a sandboxed page of another site;
/// only `Sec-Fetch-Site` distinguishes them.
pub(in crate::gate) fn is_from(headers: &HeaderMap, origin: &str) -> bool {
    match headers.get(header::ORIGIN) {
        Some(sent) if sent == "null" => headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"),
        Some(sent) => sent.as_bytes() == origin.as_bytes(),
        None => match headers.get("sec-fetch-site") {
            Some(site) => site == "same-origin" || site == "none",
            None => {
                !headers.get(header::REFERER).is_some_and(|page| is_foreign(page.to_str().unwrap_or_default(), origin))
            }
        },
    }
}
