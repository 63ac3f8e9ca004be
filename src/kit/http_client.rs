//! The HTTP client for calls to other services: each with a time-out and without redirects; and why a call failed.

use reqwest::{Certificate, Client, StatusCode, redirect};
use std::path::Path;
use std::time::Duration;

/// Why a call failed. For the log; no caller treats the variants differently.
#[derive(Debug)]
pub enum CallError {
    Transport(reqwest::Error),
    Status(StatusCode),
    TooLarge,
}

/// The longest answer that is read: a key set with certificate chains has some 100 KB.
pub const MAX_ANSWER: usize = 1 << 20;

/// # Errors
/// The certificate authority cannot be read, or is not valid.
pub fn client(timeout: Duration, ca_file: Option<&Path>) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("doorward/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = ca_file {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&std::fs::read(file)?)?);
    }
    Ok(builder.build()?)
}

impl CallError {
    /// Without the URL, whose query may hold a secret.
    pub fn transport(error: reqwest::Error) -> Self {
        CallError::Transport(error.without_url())
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Transport(error) => {
                write!(f, "{error}")?;
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
            CallError::Status(status) => write!(f, "status {}", status.as_u16()),
            CallError::TooLarge => write!(f, "an answer of more than {MAX_ANSWER} bytes"),
        }
    }
}
