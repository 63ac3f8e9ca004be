//! Requests: what the gate forwards without a credential, and what of a head reaches the app.
//!
//! An input is text: the peer (`t` is trusted), a method and a target in the first line, a field in each other one.

use super::readers;
use doorward::app::explain::alone;
use doorward::caller::address::ClientIp;
use doorward::config::{Sources, check};
use doorward::gate::cookies::{Kept, OwnCookies};
use doorward::gate::decision::{Answer, Forward};
use doorward::gate::gate::Gate;
use doorward::gate::request::{Body, RequestHead};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;

/// On one host a public prefix beside what is protected, on the other the reverse.
const CONFIG: &str = "
client_ip: {trusted_proxies: [192.0.2.0/24]}
store: {backend: memory}
providers:
  corp: {issuer: \"http://127.0.0.1:1/\", client_id: gate, client_secret: 0123456789abcdef0123456789abcdef}
api_keys: [{id: 0123456789ab, digest: abababababababababababababababababababababababababababababababab, user: bob}]
routes:
  - {name: open, from: \"http://app.test/public/\", to: \"http://127.0.0.1:1\", auth: public}
  - {name: closed, from: \"http://app.test/\", to: \"http://127.0.0.1:1\", auth: {accept: [api_key]}}
  - {name: hidden, from: \"http://open.test/private/\", to: \"http://127.0.0.1:1\", auth: {accept: [api_key]}}
  - {name: rest, from: \"http://open.test/\", to: \"http://127.0.0.1:1\", auth: public}
  - {name: people, from: \"http://people.test/\", to: \"http://127.0.0.1:1\", auth: {provider: corp}}
";

const TRUSTED: &str = "192.0.2.1";
const STRANGER: &str = "198.51.100.1";

/// Prefixes of what tells apps who somebody is.
const IDENTITY: [&str; 2] = ["x-forwarded-", "x-auth-request-"];
const WHO: [&str; 6] = ["user", "email", "groups", "preferred-username", "name", "access-token"];

static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sources = Sources { file: Path::new("fuzz.yaml"), text: CONFIG, env: Vec::new() };
    let checked = check(&sources).unwrap_or_else(|problems| panic!("{problems:?}"));
    alone(checked.settings).unwrap()
});

struct Input {
    peer: IpAddr,
    method: Method,
    target: Vec<u8>,
    headers: HeaderMap,
}

impl Input {
    fn read(data: &[u8]) -> Option<Input> {
        let mut lines = data.split(|b| *b == b'\n');
        let mut first = lines.next()?.splitn(3, |b| *b == b' ');
        let peer = if first.next()? == b"t" { TRUSTED } else { STRANGER };
        let method = Method::from_bytes(first.next()?).ok()?;
        let target = first.next()?.to_vec();
        let mut headers = HeaderMap::new();
        for line in lines.take(64) {
            let at = line.iter().position(|b| *b == b':')?;
            let (name, value) = line.split_at(at);
            let name = HeaderName::from_bytes(name).ok()?;
            headers.append(name, HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?);
        }
        // No parser lets these through.
        let is_line = !target.is_empty() && target.iter().all(|b| !b.is_ascii_control() && *b != b' ');
        is_line.then_some(Input { peer: peer.parse().unwrap(), method, target, headers })
    }
}

/// Without a good credential only the public prefix is forwarded, in every reading of what is sent; no identity of the
/// client's and no cookie of the gateway's reaches the app; a question of another proxy is answered like the request itself.
pub fn request(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let head = RequestHead {
        body: Body::Whole(b""),
        ..RequestHead::plain(&input.method, &input.target, &input.headers, input.peer)
    };
    // What waits asks the provider: that is no request that passes at once.
    let Some(decision) = GATE.judge(GATE.open(&head), &head).now_or_never() else { return };
    let host = decision.audit.host.as_ref().map(|host| host.name().to_owned());
    match decision.answer {
        Answer::Forward(forward) => {
            let sent = forward.target.as_ref().map_or(&input.target[..], |target| target.as_bytes());
            assert!(sent.starts_with(b"/"), "{:?}", String::from_utf8_lossy(sent));
            is_open(host.as_deref(), sent);
            of_the_client_nothing(&forward, &input.headers);
        }
        Answer::Reply(reply) if reply.status == StatusCode::ACCEPTED => {
            let field = |name: &str| {
                let mut all = input.headers.get_all(name).iter();
                all.next().filter(|_| all.next().is_none()).map(HeaderValue::as_bytes)
            };
            assert_eq!(input.peer, TRUSTED.parse::<IpAddr>().unwrap(), "a stranger's question is answered");
            let uri = field("x-forwarded-uri").or_else(|| {
                let url = field("x-original-url")?;
                let rest = &url[url.windows(3).position(|w| w == b"://")? + 3..];
                Some(rest.iter().position(|b| *b == b'/').map_or(&b"/"[..], |at| &rest[at..]))
            });
            is_open(host.as_deref(), uri.expect("a question has one target"));
        }
        Answer::Reply(reply) => {
            for (name, value) in &reply.headers {
                assert!(!value.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n')), "{name}");
            }
        }
    }
}

fn is_open(host: Option<&str>, target: &[u8]) {
    let held = match host {
        Some("app.test") => readers::all_below(target, "/public/"),
        Some("open.test") => readers::none_below(target, "/private/"),
        other => Err(format!("nothing is open on {other:?}")),
    };
    held.unwrap_or_else(|told| panic!("{told}"));
}

fn of_the_client_nothing(forward: &Forward, sent: &HeaderMap) {
    let mut headers = sent.clone();
    for name in &forward.remove {
        headers.remove(name);
    }
    for (name, value) in &forward.set {
        headers.insert(name.clone(), value.clone());
    }
    for name in headers.keys() {
        let plain = name.as_str().replace(['_', '.'], "-");
        let is_identity =
            IDENTITY.iter().any(|start| plain.strip_prefix(start).is_some_and(|rest| WHO.contains(&rest)));
        assert!(!is_identity, "{name} reaches an app that was told of nobody");
    }
    let chain = headers.get("x-forwarded-for").expect("the app is told the client").to_str().unwrap();
    assert!(chain.split(", ").all(|hop| hop.parse::<IpAddr>().is_ok()), "{chain}");
    for cookie in pairs(&headers) {
        let name = String::from_utf8_lossy(name_of(&cookie)).into_owned();
        let bare = name.trim_start_matches("__Host-").trim_start_matches("__Secure-");
        assert!(bare != "doorward" && !bare.starts_with("doorward_flow_"), "{name}");
    }
}

fn pairs(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let fields = headers.get_all(header::COOKIE).iter();
    let all = fields.flat_map(|field| field.as_bytes().split(|b| *b == b';').map(|pair| pair.trim_ascii().to_vec()));
    all.filter(|pair| !pair.is_empty()).collect()
}

fn name_of(pair: &[u8]) -> &[u8] {
    pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii()
}

/// Of cookie fields (one in each line), all but the gateway's own arrive, in their order and unchanged.
pub fn cookies(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|b| *b == b'\n').take(64) {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        headers.append(header::COOKIE, value);
    }
    let own = OwnCookies::new(vec!["doorward".into(), "other".into()], vec!["corp".into()]);
    let sent = pairs(&headers);
    let is_own = |pair: &&Vec<u8>| std::str::from_utf8(name_of(pair)).is_ok_and(|name| own.is_own(name));
    let others: Vec<Vec<u8>> = sent.iter().filter(|pair| !is_own(pair)).cloned().collect();
    match own.kept(&headers) {
        Kept::AsSent => assert_eq!(sent, others),
        Kept::Nothing => assert!(others.is_empty()),
        Kept::Instead(value) => {
            headers.insert(header::COOKIE, value);
            assert_eq!(pairs(&headers), others);
        }
    }
}

/// The client is the first address from the right that no trusted proxy has; left of it nothing counts.
pub fn forwarded(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let field = if kind % 2 == 0 { "x-forwarded-for" } else { "forwarded" };
    let client_ip: ClientIp = serde_json::from_value(
        serde_json::json!({"trusted_proxies": ["192.0.2.0/24", "2001:db8::/32"], "header": field}),
    )
    .unwrap_or_else(|problem| panic!("{problem}"));
    let mut headers = HeaderMap::new();
    for line in rest.split(|b| *b == b'\n').take(64) {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        headers.append(field, value);
    }
    let stranger: IpAddr = STRANGER.parse().unwrap();
    let told = client_ip.caller(stranger, &headers);
    assert!(told.address == stranger && !told.through_trusted && told.hops.is_empty());

    let told = client_ip.caller(TRUSTED.parse().unwrap(), &headers);
    let is_trusted = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().starts_with(&[192, 0, 2]),
        IpAddr::V6(v6) => v6.segments().starts_with(&[0x2001, 0xdb8]),
    };
    assert!(told.hops.iter().all(is_trusted), "{told:?}");
    assert!(told.chain().split(", ").all(|hop| hop.parse::<IpAddr>().is_ok()));
    // What stands further left changes nothing, once the client is found.
    if !is_trusted(&told.address) {
        let mut more = HeaderMap::new();
        more.append(field, HeaderValue::from_static(if kind % 2 == 0 { "203.0.113.9" } else { "for=203.0.113.9" }));
        headers.get_all(field).iter().for_each(|value| _ = more.append(field, value.clone()));
        assert_eq!(client_ip.caller(TRUSTED.parse().unwrap(), &more).address, told.address);
    }
}
