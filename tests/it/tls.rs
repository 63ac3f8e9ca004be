//! Certificates that are made for a test, and TLS on both ends of a connection.

use crate::client::{Connection, Secrets};
use crate::gateway::Folder;
use crate::wait::in_time;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A certificate that is its own authority.
pub struct Certificate {
    pub der: CertificateDer<'static>,
    pub pem: String,
    key_pem: String,
    key_der: Vec<u8>,
}

/// A connection over TLS, and what was agreed on.
pub struct Encrypted {
    pub connection: Connection,
    /// The protocol that ALPN chose.
    pub protocol: Option<String>,
    /// The certificate that the server showed.
    pub certificate: CertificateDer<'static>,
}

/// One crypto provider for the process; another test may have installed it before.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

impl Certificate {
    pub fn of(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Certificate {
            der: made.cert.der().clone(),
            pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            key_der: made.signing_key.serialize_der(),
        }
    }

    /// Writes `<name>.pem` and `<name>.key`; returns the `{certificate: .., private_key: ..}` of a listener.
    pub fn write(&self, folder: &Folder, name: &str) -> String {
        let certificate = folder.write(&format!("{name}.pem"), &self.pem);
        let key = folder.write(&format!("{name}.key"), &self.key_pem);
        format!("{{certificate: \"{certificate}\", private_key: \"{key}\"}}")
    }

    /// The server's end for an app.
    pub fn acceptor(&self) -> TlsAcceptor {
        install_crypto();
        let key = PrivatePkcs8KeyDer::from(self.key_der.clone()).into();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![self.der.clone()], key);
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}

/// Connects, asks for a name, and takes these certificates for good. The error is the handshake's.
pub async fn connect(
    address: &str,
    name: &str,
    protocols: &[&str],
    trusted: &[&Certificate],
) -> std::io::Result<Encrypted> {
    let stream = stream(address, name, protocols, trusted).await?;
    let session = stream.get_ref().1;
    let protocol = session.alpn_protocol().map(|p| String::from_utf8(p.to_vec()).unwrap());
    let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
    Ok(Encrypted { connection: Connection::over(stream, &Secrets::default()), protocol, certificate })
}

/// The same without a client on it.
pub async fn stream(
    address: &str,
    name: &str,
    protocols: &[&str],
    trusted: &[&Certificate],
) -> std::io::Result<TlsStream<TcpStream>> {
    stream_as(&client(protocols, trusted), address, name).await
}

/// A client that remembers its sessions.
pub fn client(protocols: &[&str], trusted: &[&Certificate]) -> Arc<ClientConfig> {
    install_crypto();
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|certificate| roots.add(certificate.der.clone()).unwrap());
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub async fn stream_as(client: &Arc<ClientConfig>, address: &str, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    in_time("a handshake", TlsConnector::from(client.clone()).connect(name, stream)).await
}
