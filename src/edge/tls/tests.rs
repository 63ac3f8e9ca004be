use super::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use rustls::client::{Resumption, verify_server_name};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection, SupportedProtocolVersion,
};

const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];
const BOTH: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];

fn certificate(names: &[&str], key: KeyPair) -> Arc<CertifiedKey> {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let made = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Arc::new(CertifiedKey::from_der(vec![made.der().clone()], der, &default_provider()).unwrap())
}

fn ecdsa(names: &[&str]) -> Arc<CertifiedKey> {
    certificate(names, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
}

fn rsa(names: &[&str]) -> Arc<CertifiedKey> {
    certificate(names, KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
}

#[test]
fn the_first_certificate_valid_for_the_name_is_chosen() {
    let all = vec![
        ecdsa(&["one.test", "*.One.test"]),
        ecdsa(&["a.one.test", "two.test"]),
        ecdsa(&["*.two.test", "b.two.test", "xn--bcher-kva.test"]),
    ];
    let by_name = ByName::of(all.clone());
    let asked = [
        "one.test",
        "a.one.test",
        "b.one.test",
        "a.b.one.test",
        "two.test",
        "two.test.",
        "b.two.test",
        "c.two.test.",
        "one",
        "test",
        "unknown.test",
        "xn--bcher-kva.test",
        "x.xn--bcher-kva.test",
        "_x.two.test",
    ];
    for name in asked {
        let reference = ServerName::try_from(name).unwrap();
        let is_valid = |key: &&Arc<CertifiedKey>| {
            let parsed = ParsedCertificate::try_from(key.end_entity_cert().unwrap()).unwrap();
            verify_server_name(&parsed, &reference).is_ok()
        };
        let expected = all.iter().find(is_valid).unwrap_or(&all[0]); // webpki is the judge
        assert!(Arc::ptr_eq(by_name.choose(Some(name), BOTH).unwrap(), expected), "{name}");
    }
    assert!(Arc::ptr_eq(by_name.choose(None, BOTH).unwrap(), &all[0]));
    assert!(ByName::of(vec![]).choose(Some("one.test"), BOTH).is_none());
}

#[test]
fn the_client_gets_a_certificate_that_it_can_verify_rsa_last() {
    let (rsa, ecdsa, other) = (rsa(&["one.test"]), ecdsa(&["one.test"]), ecdsa(&["one.test", "*.one.test"]));
    let by_name = ByName::of(vec![rsa.clone(), other.clone(), ecdsa.clone()]);
    for (name, schemes, expected) in [
        (Some("one.test"), BOTH, &ecdsa),
        (Some("one.test"), ECDSA, &ecdsa),
        (Some("one.test"), RSA, &rsa),
        (Some("a.one.test"), RSA, &other),
        (None, BOTH, &ecdsa),
        (None, RSA, &rsa),
        (Some("one.other"), BOTH, &ecdsa),
    ] {
        assert!(Arc::ptr_eq(by_name.choose(name, schemes).unwrap(), expected), "{name:?} {schemes:?}");
    }
    // Of certificates with other names the first valid one is chosen, whatever its key.
    let by_name = ByName::of(vec![rsa.clone(), other.clone()]);
    assert!(Arc::ptr_eq(by_name.choose(Some("one.test"), BOTH).unwrap(), &rsa));
    assert!(Arc::ptr_eq(by_name.choose(Some("one.test"), ECDSA).unwrap(), &other), "the client cannot verify RSA");
    assert!(Arc::ptr_eq(by_name.choose(None, BOTH).unwrap(), &rsa));
}

/// A handshake in memory, and how it was made.
fn handshake(client: &Arc<ClientConfig>, server: &Certificates) -> HandshakeKind {
    let name = ServerName::try_from("one.test").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.0.load().config.clone()).unwrap();
    // Until the tickets have come, too: they follow the handshake.
    for _ in 0..4 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets().unwrap();
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    server.handshake_kind().unwrap()
}

#[test]
fn a_session_is_resumed_until_the_certificates_change() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (one, other) = (ecdsa(&["one.test"]), ecdsa(&["one.test"]));
        let certificates = Certificates(ArcSwap::from_pointee(InForce::new(vec![one.clone()]).unwrap()));
        let client = client(version, &[&one, &other]);
        assert_eq!(handshake(&client, &certificates), HandshakeKind::Full);
        assert_eq!(handshake(&client, &certificates), HandshakeKind::Resumed);
        certificates.put_in_force(vec![one.clone()]).unwrap();
        assert_eq!(handshake(&client, &certificates), HandshakeKind::Resumed, "nothing has changed");
        certificates.put_in_force(vec![other.clone()]).unwrap();
        assert_eq!(handshake(&client, &certificates), HandshakeKind::Full, "the certificate has gone");
        assert_eq!(handshake(&client, &certificates), HandshakeKind::Resumed);
    }
}

fn client(version: &'static SupportedProtocolVersion, trusted: &[&Arc<CertifiedKey>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|key| roots.add(key.cert[0].clone()).unwrap());
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(16);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
