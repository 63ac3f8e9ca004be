//! A person's browser in a few lines: a cookie jar for the gateway, one for the provider, and each step of a login as
//! a call of its own. It follows no redirect by itself. What it gets that is secret is noted, for the search in the
//! logs.

use crate::client::{Connection, HOST, Reply, Request, Secrets, ask, get};
use crate::gateway::Gateway;
use crate::oidc::http;
use crate::tls::{Certificate, connect};
use doorward::demo::Provider;
use std::sync::Arc;
use url::{Url, form_urlencoded};

#[derive(Clone)]
pub struct Person {
    address: String,
    host: String,
    certificate: Option<Arc<Certificate>>,
    secrets: Secrets,
    /// Name and value, as the gateway set them; the newest last.
    pub jar: Vec<(String, String)>,
}

/// What the provider sends the browser back with.
#[derive(Clone, Debug)]
pub struct Answer {
    pub callback: Url,
    /// The fields of a form that is to be posted there.
    pub form: Option<Vec<(String, String)>>,
}

/// The session's cookie, where nothing else is said.
pub const SESSION: &str = "doorward";

impl Person {
    pub fn at(gateway: &Gateway) -> Self {
        let secrets = gateway.secrets.clone();
        Person { address: gateway.address(), host: HOST.to_owned(), certificate: None, secrets, jar: Vec::new() }
    }

    /// Behind a proxy that ends TLS.
    pub fn at_host(gateway: &Gateway, host: &str) -> Self {
        Person { host: host.to_owned(), ..Self::at(gateway) }
    }

    /// Through another proxy, at this address.
    pub fn through(gateway: &Gateway, address: &str, host: &str) -> Self {
        Person { address: address.to_owned(), ..Self::at_host(gateway, host) }
    }

    pub fn over_tls(gateway: &Gateway, listener: usize, host: &str, certificate: &Arc<Certificate>) -> Self {
        Person {
            address: gateway.address_of(listener),
            host: host.to_owned(),
            certificate: Some(certificate.clone()),
            ..Person::at(gateway)
        }
    }

    /// Asks for a page, as one does who types its address.
    pub async fn visit(&mut self, target: &str) -> Reply {
        self.send(get(target).page()).await
    }

    /// Asks as a script of a page does.
    pub async fn fetch(&mut self, target: &str) -> Reply {
        self.send(get(target)).await
    }

    pub async fn send(&mut self, request: Request) -> Reply {
        let reply = self.ask(&self.dressed(request)).await;
        self.keep(&reply);
        reply
    }

    /// The request with host and cookies.
    pub fn dressed(&self, request: Request) -> Request {
        let request = request.set("Host", &self.host);
        let pairs: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { request } else { request.with("Cookie", &pairs.join("; ")) }
    }

    /// On a connection of its own, as it stands.
    pub async fn ask(&self, request: &Request) -> Reply {
        self.connect().await.ask(request).await
    }

    pub async fn connect(&self) -> Connection {
        match &self.certificate {
            None => Connection::open(&self.address, &self.secrets).await,
            Some(certificate) => {
                connect(&self.address, &self.host, &["http/1.1"], &[certificate]).await.unwrap().connection
            }
        }
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn session(&self) -> &str {
        self.cookie(SESSION).unwrap_or_else(|| panic!("no session: {:?}", self.jar))
    }

    /// The cookies of logins under way.
    pub fn flows(&self) -> Vec<String> {
        self.jar.iter().filter(|(name, _)| name.contains("_flow_")).map(|(name, _)| name.clone()).collect()
    }

    /// In the place of whatever has that name.
    pub fn put(&mut self, name: &str, value: &str) {
        self.jar.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.jar.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Asks for a page and is sent to the provider: the authorization request.
    pub async fn begin(&mut self, target: &str) -> Url {
        let reply = self.visit(target).await;
        let outcome = reply.outcome();
        assert!(["302 login_required", "302 session_ended"].contains(&outcome.as_str()), "{target}: {outcome}");
        Url::parse(reply.header("location").unwrap()).unwrap()
    }

    /// Goes back with the provider's answer.
    pub async fn go_back(&mut self, answer: &Answer) -> Reply {
        let target = &answer.callback[url::Position::BeforePath..];
        let secret = ["code", "state"].into_iter().filter_map(|name| answer.param(name)).filter(|s| s.len() >= 16);
        self.secrets.lock().unwrap().extend(secret);
        match &answer.form {
            None => self.visit(target).await,
            Some(fields) => {
                let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                let post = ask("POST", target).page().with("Content-Type", "application/x-www-form-urlencoded");
                self.send(post.with("Origin", "null").body(body.as_bytes())).await
            }
        }
    }

    /// From a page of the app to the same page, signed in.
    pub async fn sign_in(&mut self, provider: &Provider, user: &str) {
        self.sign_in_for(provider, user, "/").await;
    }

    pub async fn sign_in_for(&mut self, provider: &Provider, user: &str, target: &str) -> Reply {
        let begun = self.begin(target).await;
        let reply = self.go_back(&consent(provider, &begun, user).await).await;
        assert_eq!(reply.outcome(), "302", "{}", reply.text());
        reply
    }

    fn keep(&mut self, reply: &Reply) {
        for field in reply.all("set-cookie") {
            let (pair, attributes) = field.split_once(';').unwrap_or((field, ""));
            let (name, value) = pair.split_once('=').unwrap();
            let gone = value.is_empty() || attributes.contains("Max-Age=0;");
            self.put(name, if gone { "" } else { value });
            if value.len() >= 16 {
                self.secrets.lock().unwrap().insert(value.to_owned());
            }
        }
    }
}

impl Answer {
    /// A parameter of the query or the form.
    pub fn param(&self, name: &str) -> Option<String> {
        let found = self.callback.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
        let posted = self.form.iter().flatten().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        found.or(posted)
    }

    /// The same with another value of a parameter of the query; with none where it is empty.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut callback = self.callback.clone();
        let kept: Vec<_> = self.callback.query_pairs().into_owned().filter(|(known, _)| known != name).collect();
        callback.query_pairs_mut().clear().extend_pairs(kept);
        if !value.is_empty() {
            callback.query_pairs_mut().append_pair(name, value);
        }
        Answer { callback, form: self.form.clone() }
    }
}

/// The person is known at the provider, or types the password: where the browser is sent back to.
pub async fn consent(provider: &Provider, begun: &Url, user: &str) -> Answer {
    let request = http().get(begun.clone()).header("cookie", provider.sign_in(user));
    let reply = request.send().await.unwrap();
    if let Some(location) = reply.headers().get("location") {
        return Answer { callback: Url::parse(location.to_str().unwrap()).unwrap(), form: None };
    }
    let page = reply.text().await.unwrap();
    let callback = between(&page, "action=\"", "\"").next().unwrap_or_else(|| panic!("no form: {page}"));
    let form = between(&page, "type=\"hidden\" name=\"", "\">").map(|field| {
        let (name, value) = field.split_once("\" value=\"").unwrap();
        (name.to_owned(), value.to_owned())
    });
    Answer { callback: Url::parse(callback).unwrap(), form: Some(form.collect()) }
}

fn between<'t>(text: &'t str, before: &'t str, after: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).map(move |rest| rest.split(after).next().unwrap())
}
