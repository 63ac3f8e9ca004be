//! People over TLS: the prefix that browsers enforce on the cookies' names, and a provider that answers by a form that the
//! browser posts from its page.

use super::person::{Person, consent};
use super::{AUTH, register};
use crate::app::App;
use crate::client::ask;
use crate::gateway::{Config, Folder, Gateway};
use crate::tls::Certificate;
use doorward::demo::Provider;
use std::sync::Arc;

struct Encrypted {
    provider: Provider,
    app: App,
    gateway: Gateway,
    certificate: Arc<Certificate>,
    _folder: Folder,
}

const SECURE: &str = "__Host-doorward";

impl Encrypted {
    /// `keys`: of the provider.
    async fn start(keys: &str) -> Self {
        let (provider, app, folder) = (crate::world::provider().await, App::start().await, Folder::new());
        register(&provider, "https://one.test");
        let certificate = Arc::new(Certificate::of("one.test"));
        let config = Config::default()
            .listener(&format!("tls: [{}]", certificate.write(&folder, "one")))
            .provider("corp", provider.issuer(), keys)
            .route("main", "https://one.test/", &app.origin, AUTH);
        let gateway = Gateway::start(&config).await;
        Encrypted { provider, app, gateway, certificate, _folder: folder }
    }

    fn person(&self) -> Person {
        Person::over_tls(&self.gateway, 0, "one.test", &self.certificate)
    }
}

#[tokio::test]
async fn the_cookies_are_for_this_host_and_for_tls_alone() {
    let world = Encrypted::start("").await;
    let mut person = world.person();
    let begun = person.visit("/x").await;
    let flow = begun.header("set-cookie").unwrap();
    assert!(flow.starts_with(&format!("{SECURE}_flow_")), "{flow}");
    assert_eq!(flow.split_once("; ").unwrap().1, "Path=/; Max-Age=900; HttpOnly; Secure; SameSite=Lax");
    let reply = person.sign_in_for(&world.provider, "alice", "/x").await;
    let session =
        reply.all("set-cookie").into_iter().find(|field| field.starts_with(SECURE) && !field.contains("_flow_"));
    let attributes = session.unwrap().split_once("; ").unwrap().1.replace("43199", "43200");
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; Secure; SameSite=Lax");
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(
        world.app.last().header("cookie").map(|c| c.contains("doorward")),
        None.or(Some(false)).filter(|_| false)
    );
    let ticket = person.cookie(SECURE).unwrap().to_owned();
    person.jar = vec![("doorward".to_owned(), ticket)];
    assert_eq!(person.fetch("/x").await.outcome(), "401 login_required", "a name that plain HTTP could have set");
}

#[tokio::test]
async fn a_provider_that_answers_by_a_form() {
    let world = Encrypted::start("authorization_params: {response_mode: form_post}").await;
    let mut person = world.person();
    let begun = person.visit("/wanted?x=1").await;
    let flow = begun.header("set-cookie").unwrap();
    assert!(flow.ends_with("; HttpOnly; Secure; SameSite=None"), "a form of another site brings it back: {flow}");
    let url = url::Url::parse(begun.header("location").unwrap()).unwrap();
    let answer = consent(&world.provider, &url, "alice").await;
    let fields = answer.form.as_ref().unwrap();
    assert!(fields.iter().any(|(name, _)| name == "code") && answer.callback.query().is_none(), "{answer:?}");
    let reply = person.go_back(&answer).await;
    assert_eq!((reply.outcome().as_str(), reply.header("location")), ("302", Some("/wanted?x=1")));
    let set = reply.all("set-cookie");
    let rounds = set.iter().find(|field| field.contains("_rounds=")).unwrap();
    assert!(rounds.ends_with("; SameSite=None"), "the next form must bring it along: {rounds}");
    assert_eq!(person.fetch("/x").await.outcome(), "200");
    assert_eq!(world.app.last().header("x-forwarded-user"), Some("alice"));

    let mut replaying = world.person();
    assert_eq!(replaying.go_back(&answer).await.outcome(), "400 state_mismatch");
    let mut denied = world.person();
    let url = denied.begin("/wanted").await;
    let mut answer = consent(&world.provider, &url, "alice").await;
    let fields = answer.form.as_mut().unwrap();
    fields.retain(|(name, _)| name != "code");
    fields.push(("error".to_owned(), "access_denied".to_owned()));
    assert_eq!(denied.go_back(&answer).await.outcome(), "403 login_failed");
    let huge = ask("POST", "/oauth2/callback").page().body(&vec![b'a'; 70_000]);
    assert_eq!(denied.send(huge).await.outcome(), "413 bad_request");
}
