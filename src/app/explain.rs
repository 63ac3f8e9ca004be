//! `explain`: one request, judged as the gateway would judge it, and told in lines or as JSON.

use crate::app::build::build;
use crate::app::services::{Providers, Services};
use crate::config::settings::Settings;
use crate::gate::explain::Explanation;
use crate::gate::gate::Gate;
use crate::gate::request::RequestHead;
use crate::provider::claims::Claims;
use crate::store::settings::Backend;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::net::IpAddr;
use url::Url;

/// The request to explain, as it stands on the command line.
pub(super) struct Question {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<String>,
    pub(super) peer: IpAddr,
    pub(super) claims: Option<Claims>,
}

/// Both forms of an answer, and whether the request is forwarded.
pub(super) struct Told {
    pub(super) text: String,
    pub(super) json: Value,
    pub(super) is_refused: bool,
}

/// # Errors
/// What of the question cannot be read.
pub(super) fn explain(settings: Settings, question: &Question) -> Result<Told, String> {
    let gate = alone(settings.clone())?;
    let method: Method = question.method.parse().map_err(|_| format!("`{}` is no method", question.method))?;
    let url = Url::parse(&question.url).map_err(|e| format!("`{}` is no URL: {e}", question.url))?;
    let (authority, target) = parts(&question.url).ok_or("the URL has no host")?;
    if authority.contains('@') {
        return Err("a gateway sees no user and password of a URL; write them as a header".into());
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_str(authority).map_err(|_| "the URL's host cannot be sent")?);
    for line in &question.headers {
        let (name, value) =
            line.split_once(':').ok_or_else(|| format!("`{line}` is no header; write 'Name: value'"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| format!("`{name}` is not the name of a header"))?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("`{line}` cannot be sent"))?;
        match name {
            header::HOST => headers.insert(name, value).map_or((), drop),
            name => _ = headers.append(name, value),
        }
    }
    let head = RequestHead {
        max_head: settings.listeners().map(|listener| listener.max_head.bytes()).max().unwrap_or(usize::MAX),
        redirect_to_https: url.scheme() == "http" && redirects(&settings, url.port_or_known_default()),
        ..RequestHead::plain(&method, target.as_bytes(), &headers, question.peer)
    };
    let mut explanation = gate.explain(&head, question.claims.as_ref());
    name_app(&settings, &mut explanation);
    Ok(told(&settings, question, &explanation))
}

/// Where the app is not asked under the client's host, it is asked under its own; of several the first stands here.
fn name_app(settings: &Settings, explanation: &mut Explanation) {
    let route = explanation.route.as_ref().and_then(|route| settings.routes.get(route.index));
    let own = route.filter(|route| !route.upstream.preserve_host).and_then(|route| route.upstream.to.first());
    for (name, value) in &mut explanation.headers {
        if let Some(own) = own.filter(|_| name == header::HOST.as_str()) {
            *value = own.authority();
        }
    }
}

/// The gate of a configuration by itself: it contacts nothing, and no file is made.
///
/// # Errors
/// What cannot be built, as text for the operator.
pub fn alone(mut settings: Settings) -> Result<Gate, String> {
    settings.file.store.backend = Backend::Memory;
    let services = Services::new(&settings)?;
    Ok(build(&settings, &services, &services.caches, &Providers::new())?.live.gate)
}

/// Whether plain HTTP is redirected: as the listener of this port does, or any, where another port stands before it.
fn redirects(settings: &Settings, port: Option<u16>) -> bool {
    let plain: Vec<_> = settings.listeners().filter(|listener| listener.tls.is_none()).collect();
    match plain.iter().find(|listener| Some(listener.address.port()) == port) {
        Some(own) => own.redirect_to_https,
        None => plain.iter().any(|listener| listener.redirect_to_https),
    }
}

/// Authority and target, byte for byte: a URL parser would resolve what the gateway judges. No client sends a fragment.
fn parts(url: &str) -> Option<(&str, Cow<'_, str>)> {
    let (_, rest) = url.split_once("://")?;
    let rest = rest.split('#').next()?;
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let target = if target.starts_with('/') { target.into() } else { format!("/{target}").into() };
    (!authority.is_empty()).then_some((authority, target))
}

fn told(settings: &Settings, question: &Question, own: &Explanation) -> Told {
    let route = own.route.as_ref().map(|route| {
        let from = settings.routes.get(route.index).map_or("", |route| route.from.as_str());
        let how = if route.place.exact { "exact" } else { "prefix" };
        let methods: Vec<&str> = route.place.methods.iter().map(Method::as_str).collect();
        let methods = if methods.is_empty() { String::new() } else { format!(", {}", methods.join(" ")) };
        let looked = match own.passed_over.as_slice() {
            [] => String::new(),
            names => format!("; also looked at, more specific and not of this request: {}", names.join(", ")),
        };
        format!("{} ({from}, {how}{methods}){looked}", route.name)
    });
    let reason = own.reason.map(Reason::word);
    let answer = [own.status.as_str(), own.outcome.word()].into_iter().chain(reason).collect::<Vec<_>>().join(" ");
    let path = match own.readings.as_slice() {
        [path, others @ ..] if !others.is_empty() => format!("{path} (also read as {})", others.join(", ")),
        all => all.concat(),
    };
    let mut lines = vec![
        format!("request: {} {}", question.method, question.url),
        format!("path: {path}"),
        format!("route: {}", route.as_deref().unwrap_or("none")),
    ];
    if !own.access.is_empty() {
        lines.push(format!("access: {}", own.access));
        lines.push(format!("credential: {}", own.credential));
    }
    let yes = |holds: bool| if holds { "yes" } else { "no" };
    lines.extend(own.rules.iter().map(|rule| format!("rule {}: {} ({})", rule.rule, yes(rule.holds), rule.words())));
    lines.push(format!("answer: {answer}"));
    lines.extend(own.headers.iter().map(|(name, value)| format!("header: {name}: {value}")));
    let rules = own
        .rules
        .iter()
        .map(|rule| json!({"rule": rule.rule, "holds": rule.holds, "wanted": rule.wanted, "has": rule.has}));
    let headers = own.headers.iter().map(|(name, value)| json!({"name": name, "value": value}));
    let json = json!({
        "request": {"method": question.method, "url": question.url},
        "path": own.readings.first(), "readings": own.readings,
        "route": own.route.as_ref().map(|route| route.name.to_string()), "looked_at": own.passed_over,
        "access": own.access, "credential": own.credential, "rules": rules.collect::<Vec<_>>(),
        "answer": {"status": own.status.as_u16(), "outcome": own.outcome.word(), "reason": reason},
        "headers": headers.collect::<Vec<_>>(),
    });
    let is_refused = !matches!(own.outcome, Outcome::forwarded | Outcome::own_page);
    Told { text: lines.join("\n"), json, is_refused }
}
