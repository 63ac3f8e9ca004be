//! The example of a deployment: its files are good, and fit each other. No container is run.

use crate::gateway::{Folder, run};
use granit_parser::{Event, Parser};
use serde_json::{Value, json};
use std::path::Path;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// YAML with every scalar as text. The gateway's own reader is for configurations alone.
fn yaml(name: &str) -> Value {
    let text = read(name);
    let events = Parser::new_from_str(&text).map(|event| event.unwrap_or_else(|e| panic!("{name}: {e}")).0);
    let mut events = events.skip_while(|event| matches!(event, Event::StreamStart | Event::DocumentStart(..)));
    node(&mut events).expect("a document")
}

/// The next node; none at the end of a list or a mapping.
fn node<'a>(events: &mut impl Iterator<Item = Event<'a>>) -> Option<Value> {
    match events.next().expect("more events") {
        Event::Scalar(text, ..) => Some(json!(text)),
        Event::SequenceStart(..) => Some(std::iter::from_fn(|| node(events)).collect()),
        Event::MappingStart(..) => {
            let entry = || {
                let key = node(events)?;
                Some((key.as_str().unwrap().to_owned(), node(events).unwrap()))
            };
            Some(Value::Object(std::iter::from_fn(entry).collect()))
        }
        Event::SequenceEnd | Event::MappingEnd => None,
        other => panic!("{other:?} is not used here"),
    }
}

fn items<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn named<'v>(list: &'v [Value], key: &str, name: &str) -> &'v Value {
    list.iter().find(|item| item[key] == name).unwrap_or_else(|| panic!("no {key} {name}"))
}

#[tokio::test]
async fn the_configuration_is_good_without_an_environment() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/doorward.yaml");
    let (code, printed, complaint) = run(&Folder::new(), &["check", "-c", file.to_str().unwrap()], &[]).await;
    assert_eq!(code, 0, "{printed}{complaint}");
}

#[test]
fn nothing_is_published_beyond_this_machine() {
    let compose = yaml("docker-compose.yml");
    let services = compose["services"].as_object().unwrap();
    for name in ["doorward", "grafana", "keycloak", "redis"] {
        assert!(services.contains_key(name), "{name}");
    }
    for (name, service) in services {
        for port in items(service, "ports") {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
        for volume in items(service, "volumes") {
            let place = volume.as_str().unwrap().split(':').next().unwrap();
            let known = match place.strip_prefix("./") {
                Some(file) => Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file(),
                None => compose["volumes"].as_object().unwrap().contains_key(place),
            };
            assert!(known, "{name}: {place}");
        }
    }
    assert!(items(&services["grafana"], "ports").is_empty(), "whoever reaches it can write its identity headers");
}

/// Grafana believes the gateway alone, and in the names that the gateway sends.
#[test]
fn the_app_believes_the_gateway_alone() {
    let (config, compose) = (yaml("deploy/doorward.yaml"), yaml("docker-compose.yml"));
    let (app, gateway) = (&compose["services"]["grafana"]["environment"], &compose["services"]["doorward"]);
    assert_eq!(app["GF_AUTH_PROXY_WHITELIST"], gateway["networks"]["default"]["ipv4_address"]);
    assert_eq!(app["GF_AUTH_PROXY_HEADER_NAME"], "X-WEBAUTH-USER");
    assert_eq!(app["GF_AUTH_PROXY_HEADERS"], "Name:X-WEBAUTH-NAME Email:X-WEBAUTH-EMAIL Groups:X-WEBAUTH-GROUPS");
    assert_eq!(named(items(&config, "routes"), "name", "grafana")["headers"]["preset"], "grafana");
}

#[test]
fn the_realm_fits_the_configuration() {
    let realm: Value = serde_json::from_str(&read("deploy/keycloak-realm.json")).unwrap();
    let (config, compose) = (yaml("deploy/doorward.yaml"), yaml("docker-compose.yml"));
    let provider = &config["providers"]["keycloak"];
    let keycloak = compose["services"]["keycloak"]["environment"]["KC_HOSTNAME"].as_str().unwrap();
    assert_eq!(provider["issuer"], format!("{keycloak}/realms/{}", realm["realm"].as_str().unwrap()));

    let client = named(items(&realm, "clients"), "clientId", provider["client_id"].as_str().unwrap());
    let secret = client["secret"].as_str().unwrap();
    assert!(provider["client_secret"].as_str().unwrap().contains(&format!(":-{secret}}}")), "{provider}");
    assert_eq!(compose["services"]["doorward"]["environment"]["KEYCLOAK_CLIENT_SECRET"], secret);
    let route = named(items(&config, "routes"), "name", "grafana");
    let origin = route["from"].as_str().unwrap();
    assert_eq!(client["redirectUris"], json!([format!("{origin}oauth2/callback")]));
    assert_eq!(client["attributes"]["post.logout.redirect.uris"], format!("{origin}oauth2/signed_out"));

    let mapper = |kind: &str| &named(items(client, "protocolMappers"), "protocolMapper", kind)["config"];
    assert_eq!(provider["audiences"], json!([mapper("oidc-audience-mapper")["included.client.audience"]]));
    assert_eq!(mapper("oidc-group-membership-mapper")["claim.name"], "groups");
    let required = items(&route["require"], "groups");
    let passes = |name: &str| {
        let groups = items(named(items(&realm, "users"), "username", name), "groups");
        let mut names = groups.iter().map(|group| group.as_str().unwrap().trim_start_matches('/'));
        names.any(|group| required.iter().any(|wanted| wanted == group))
    };
    assert!(passes("alice") && !passes("bob"));
}
