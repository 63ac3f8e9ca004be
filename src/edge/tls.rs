//! Certificates of a TLS listener: chosen by the name that the client asks for (SNI), behind a pointer that a reload
//! swaps, so that a renewed certificate needs no restart.

use crate::kit::setting::FilePath;
use arc_swap::ArcSwap;
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

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

/// The certificates of one listener.
#[derive(Debug)]
pub struct Certificates(ArcSwap<Vec<Arc<CertifiedKey>>>);

impl Certificates {
    /// # Errors
    /// A file cannot be read, or a key does not belong to its certificate; the text names the file.
    pub fn load(files: &[CertificateFiles]) -> Result<Self, String> {
        Ok(Certificates(ArcSwap::from_pointee(read_all(files)?)))
    }

    /// Reads the files again; on an error the current certificates are kept.
    pub fn reload(&self, files: &[CertificateFiles]) -> Result<(), String> {
        self.0.store(Arc::new(read_all(files)?));
        Ok(())
    }

    /// The TLS settings of a listener: TLS 1.2 and 1.3, HTTP/2 by ALPN.
    pub fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificates {
    /// The first certificate valid for the name; the first of all if none is valid or no name was sent.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = self.0.load();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let good = |key: &&Arc<CertifiedKey>| name.as_ref().is_some_and(|name| is_good_for(key, name));
        all.iter().find(good).or(all.first()).cloned()
    }
}

fn is_good_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
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
    CertifiedKey::from_der(chain, key, &crypto::aws_lc_rs::default_provider())
        .map_err(|e| told(&files.private_key, e.to_string()))
}
