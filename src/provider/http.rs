//! Calls to a provider: a time-out for each, no redirects, no more bytes than a provider has reason to send. Each call that
//! people or programs wait for tells whether the provider is there.

use bytes::BytesMut;
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, redirect};
use std::path::Path;
use std::time::Duration;
use url::Url;

/// The way to one provider.
pub(crate) struct Http {
    client: Client,
    on_answer: OnAnswer,
}

/// Told of each call whether the provider answered, or what stood there instead.
pub(crate) type OnAnswer = Box<dyn Fn(Result<(), String>) + Send + Sync>;

/// Why a call brought nothing. For the log; no caller does different things.
#[derive(Debug)]
pub(crate) enum CallError {
    Transport(reqwest::Error),
    Status(StatusCode),
    TooLarge,
}

/// The longest answer that is read: a key set with certificate chains has some 100 KB.
const MAX_ANSWER: usize = 1 << 20;

impl Http {
    pub(crate) fn new(client: Client, on_answer: OnAnswer) -> Self {
        Http { client, on_answer }
    }

    pub(crate) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.client.request(method, url.clone())
    }

    /// Metadata or keys. What is read there is judged by the caller, who tells whether the provider is there.
    pub(crate) async fn get(&self, url: &Url) -> Result<Vec<u8>, CallError> {
        match answer(self.client.get(url.clone()).header("accept", "application/json")).await? {
            (StatusCode::OK, answer) => Ok(answer.body),
            (status, _) => Err(CallError::Status(status)),
        }
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Answer), CallError> {
        let answered = answer(request).await;
        (self.on_answer)(match &answered {
            Ok((status, _)) if status.is_server_error() => Err(CallError::Status(*status).to_string()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        });
        answered
    }
}

/// The body of an answer.
pub(crate) struct Answer {
    pub(crate) is_jwt: bool,
    pub(crate) body: Vec<u8>,
}

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

async fn answer(request: RequestBuilder) -> Result<(StatusCode, Answer), CallError> {
    let mut answer = request.send().await.map_err(CallError::transport)?;
    let kind = answer.headers().get("content-type").map_or(&b""[..], |value| value.as_bytes());
    let kind = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let is_jwt = kind.eq_ignore_ascii_case(b"application/jwt");
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(CallError::transport)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(CallError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), Answer { is_jwt, body: body.into() }))
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
