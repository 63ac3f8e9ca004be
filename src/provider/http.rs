//! Calls to a provider: a time-out for each, no redirects, no more bytes than a provider has reason to send.

use bytes::BytesMut;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, redirect};
use std::path::Path;
use std::time::Duration;
use url::Url;

/// Why a call brought nothing. For the log; no caller does different things.
#[derive(Debug)]
pub(crate) enum CallError {
    Transport(reqwest::Error),
    Status(StatusCode),
    TooLarge,
}

/// The longest answer that is read: a key set with certificate chains has some 100 KB.
const MAX_ANSWER: usize = 1 << 20;

/// # Errors
/// The certificate authority cannot be read, or is none.
pub(crate) fn client(
    timeout: Duration,
    ca_file: Option<&Path>,
) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
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

pub(crate) async fn get(client: &Client, url: &Url) -> Result<Vec<u8>, CallError> {
    match send(client.get(url.clone()).header("accept", "application/json")).await? {
        (StatusCode::OK, body) => Ok(body),
        (status, _) => Err(CallError::Status(status)),
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), CallError> {
    let mut answer = request.send().await.map_err(CallError::transport)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(CallError::transport)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(CallError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), body.into()))
}

impl CallError {
    /// Without the URL, whose query might be a secret.
    fn transport(error: reqwest::Error) -> Self {
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
