//! Certificates of a TLS listener: chosen by the name that the client asks for (SNI) and by the signatures that it can
//! verify. All workers of a listener share one configuration, and so the keys of its session tickets: any worker
//! resumes a session that another has begun. A reload that brings other certificates replaces all of it, so that no
//! session outlives the certificate it began with.

use crate::kit::setting::FilePath;
use arc_swap::ArcSwap;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use webpki::EndEntityCert;

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The chain, the listener's own certificate first.
    pub certificate: FilePath,
    /// Its private key, without a password.
    pub private_key: FilePath,
}

impl CertificateFiles {
    /// When the certificate expires, in Unix time; `None` if it cannot be read.
    pub fn expires(&self) -> Option<i64> {
        let chain = CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let own = chain.ok()?.into_iter().next()?;
        // `parse_x509` panics on bytes that are not a certificate.
        ParsedCertificate::try_from(&own).ok()?;
        let parsed = WrappedX509::new(own.to_vec(), parse_x509);
        Some(parsed.borrow_cert().validity().not_after.timestamp())
    }
}

/// The certificates of one listener, with the rest of its TLS settings.
#[derive(Debug)]
pub struct Certificates(ArcSwap<InForce>);

/// Replaced as a whole: a handshake ends under the settings it began with, and the tickets that it gives can be read
/// under these alone.
#[derive(Debug)]
struct InForce {
    certificates: Arc<ByName>,
    config: Arc<ServerConfig>,
}

/// Certificates by name; made when they are read, so that a handshake parses none.
#[derive(Debug)]
struct ByName {
    /// In the order of the configuration.
    all: Vec<Arc<CertifiedKey>>,
    /// The certificates that are valid for a name, the preferred first. Names are in lower case; a wildcard is kept
    /// without its asterisk (`.example.com`).
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For clients that send no name, or one that no certificate is valid for.
    default: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    /// # Errors
    /// A file cannot be read, or a key does not belong to its certificate; the text names the file.
    pub fn load(files: &[CertificateFiles]) -> Result<Self, String> {
        Ok(Certificates(ArcSwap::from_pointee(InForce::new(read_all(files)?)?)))
    }

    /// Reads the files again; on an error the current certificates are kept. If they are the same as before, sessions
    /// go on; else every client has to make a full handshake.
    pub fn reload(&self, files: &[CertificateFiles]) -> Result<(), String> {
        self.put_in_force(read_all(files)?)
    }

    fn put_in_force(&self, read: Vec<Arc<CertifiedKey>>) -> Result<(), String> {
        if !self.0.load().certificates.are(&read) {
            self.0.store(Arc::new(InForce::new(read)?));
        }
        Ok(())
    }

    /// Accepts one connection, under the settings now in force.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor::from_server_config(self.0.load().config.clone())
    }
}

impl InForce {
    /// TLS 1.2 and 1.3, HTTP/2 by ALPN. Whatever a resumed session is not asked again belongs in here: the tickets' keys
    /// are made together with it. rustls makes new ones every six hours and takes a ticket for twelve.
    fn new(all: Vec<Arc<CertifiedKey>>) -> Result<Self, String> {
        let told = |e: rustls::Error| format!("TLS: {e}");
        let certificates = Arc::new(ByName::of(all));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(told)?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Ticketer::new().map_err(told)?;
        Ok(InForce { certificates, config: Arc::new(config) })
    }
}

impl ByName {
    fn of(all: Vec<Arc<CertifiedKey>>) -> Self {
        let named: Vec<BTreeSet<String>> = all.iter().map(|key| names(key).into_iter().collect()).collect();
        let mut indices: HashMap<&str, BTreeSet<usize>> = HashMap::new();
        for (index, own) in named.iter().enumerate() {
            own.iter().for_each(|name| _ = indices.entry(name).or_default().insert(index));
        }
        let mut first: HashMap<&BTreeSet<String>, usize> = HashMap::new();
        for (index, own) in named.iter().enumerate() {
            first.entry(own).or_insert(index);
        }
        // The configuration's order counts, but of certificates with the same names RSA comes last: signing with it
        // costs ten times as much.
        let rank = |index: &usize| {
            let alike = named.get(*index).and_then(|own| first.get(own));
            let is_rsa = all.get(*index).is_some_and(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
            (alike, is_rsa)
        };
        let ranked = |mut indices: Vec<usize>| {
            indices.sort_by_key(rank);
            indices.iter().filter_map(|index| all.get(*index).cloned()).collect::<Vec<_>>()
        };
        let valid_for = |name: &str| {
            let wildcard = wildcard_for(name).and_then(|wildcard| indices.get(wildcard));
            let own = indices.get(name).into_iter().chain(wildcard).flatten().copied().collect::<BTreeSet<_>>();
            ranked(own.into_iter().collect())
        };
        let by_name = indices.keys().map(|name| ((*name).to_owned(), valid_for(name))).collect();
        let default = ranked((0..all.len()).filter(|index| named.get(*index) == named.first()).collect());
        ByName { default, by_name, all }
    }

    /// Whether these are the very same, in the same order. A key is its certificate's: it need not be compared.
    fn are(&self, others: &[Arc<CertifiedKey>]) -> bool {
        self.all.iter().map(|key| &key.cert).eq(others.iter().map(|key| &key.cert))
    }

    /// The first certificate valid for the name that the client can verify; the first valid one if it can verify none.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let valid = name.and_then(|name| self.valid_for(name)).unwrap_or(&self.default);
        valid.iter().find(|key| key.key.choose_scheme(schemes).is_some()).or(valid.first())
    }

    fn valid_for(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.by_name.get(name).or_else(|| self.by_name.get(wildcard_for(name)?))
    }
}

impl ResolvesServerCert for ByName {
    /// rustls passes the name in lower case, and of the signature schemes those that fit the cipher suites in common.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes()).cloned()
    }
}

/// A wildcard stands for one whole label (RFC 9525, 6.3).
fn wildcard_for(name: &str) -> Option<&str> {
    name.find('.').and_then(|dot| name.get(dot..))
}

/// The DNS names of a certificate, as keys of [`ByName`].
fn names(key: &CertifiedKey) -> Vec<String> {
    let parsed = key.cert.first().and_then(|own| EndEntityCert::try_from(own).ok());
    let names = parsed.iter().flat_map(|certificate| certificate.valid_dns_names());
    names.map(|name| name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase()).collect()
}

fn read_all(files: &[CertificateFiles]) -> Result<Vec<Arc<CertifiedKey>>, String> {
    files.iter().map(|pair| read(pair).map(Arc::new)).collect()
}

fn read(files: &CertificateFiles) -> Result<CertifiedKey, String> {
    let told = |file: &Path, problem: String| format!("{}: {problem}", file.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|e| told(&files.certificate, e.to_string()));
    let chain = chain?;
    if chain.is_empty() {
        return Err(told(&files.certificate, "no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.private_key).map_err(|e| told(&files.private_key, e.to_string()))?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|e| told(&files.private_key, e.to_string()))
}

#[cfg(test)]
mod tests;
