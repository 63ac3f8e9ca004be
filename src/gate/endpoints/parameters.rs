//! What the endpoints read and write: parameters, and redirects.

use crate::gate::decision::{Audit, Reply};
use crate::gate::refusal::own_headers;
use crate::login::relying_party::RelyingParty;
use http::{HeaderValue, StatusCode, header};
use url::form_urlencoded;

/// The parameters of a query or a form; of repeated names the first counts.
#[derive(Default)]
pub(in crate::gate) struct Parameters {
    read: Vec<(String, String)>,
    /// There are more than are read.
    pub(in crate::gate) is_cut: bool,
}

/// So many are read; nothing that is asked here has more.
const MOST: usize = 256;

impl Parameters {
    pub(in crate::gate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.read.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(in crate::gate) fn of(text: &str) -> Self {
        let mut all = form_urlencoded::parse(text.trim_start_matches('?').as_bytes());
        let own = all.by_ref().take(MOST).map(|(name, value)| (name.into_owned(), value.into_owned()));
        Parameters { read: own.collect(), is_cut: all.next().is_some() }
    }

    /// Of a name that stands there once, and says something.
    pub(in crate::gate) fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.read.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        values.next().filter(|value| !value.is_empty() && values.next().is_none() && !self.is_cut)
    }

    pub(in crate::gate) fn get(&self, name: &str) -> Option<&str> {
        self.read.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub(in crate::gate) fn origin_of(site: &RelyingParty, audit: &Audit) -> String {
    site.origin.for_host(audit.host.as_ref().map(|host| host.name()).unwrap_or_default())
}

pub(in crate::gate) fn redirect(location: &str, audit: &Audit) -> Reply {
    let mut headers = own_headers(&audit.request_id);
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    headers.push((header::LOCATION, location));
    Reply { status: StatusCode::FOUND, headers, body: bytes::Bytes::new() }
}
