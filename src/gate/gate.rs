//! One whole configuration, ready to decide requests: the nouns that a decision is made of. How it is made stands in
//! `judge`, `authorise` and `endpoints`.

use crate::caller::address::{Caller, ClientIp};
use crate::gate::authenticate::Authenticator;
use crate::gate::decision::Audit;
use crate::gate::refusal::{Html, REQUEST_ID};
use crate::gate::rewrite::Rewrite;
use crate::gate::subject::Unanswerable;
use crate::gate::table::Table;
use crate::kit::clock::Clock;
use crate::kit::entropy::{Entropy, Ids};
use crate::login::return_url::ReturnUrls;
use crate::outbound::assertion::Assertions;
use crate::session::sessions::Sessions;
use crate::telemetry::metrics::{Credential, Outcome, RouteMetrics};
use http::HeaderMap;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A reload builds another; requests in flight keep theirs.
pub struct Gate {
    pub clock: Arc<dyn Clock>,
    pub client_ip: ClientIp,
    pub ids: Ids,
    pub routes: Table,
    pub authenticator: Authenticator,
    pub endpoints: Endpoints,
    pub rewrite: Rewrite,
    pub assertions: Arc<Assertions>,
    /// For requests without a route.
    pub unrouted: Arc<RouteMetrics>,
    pub warned: Warned,
}

/// What the gateway's own endpoints need.
pub struct Endpoints {
    /// Where they are on every protected host.
    pub path: String,
    pub sessions: Arc<Sessions>,
    pub entropy: Arc<dyn Entropy>,
    pub return_urls: ReturnUrls,
    pub html: Html,
}

/// What is warned of once.
#[derive(Default)]
pub struct Warned {
    /// Forwarding headers of an untrusted peer.
    pub peer: AtomicBool,
    /// The causes of refused forward-auth requests.
    pub questions: Mutex<HashSet<Unanswerable>>,
}

pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
const LONGEST_REQUEST_ID: usize = 128;

impl Gate {
    pub(super) fn audit(&self, request_id: String, client: IpAddr) -> Audit {
        Audit {
            request_id,
            client,
            host: None,
            asked: None,
            route: self.unrouted.clone(),
            credential: Credential::none,
            identity: None,
            outcome: Outcome::bad_request,
            reason: None,
            why: None,
            meant_for: None,
        }
    }

    /// The id that a trusted peer sent, or a new one of 128 random bits.
    pub(super) fn request_id(&self, headers: &HeaderMap, caller: &Caller) -> String {
        let heard = caller.through_trusted.then(|| headers.get(&REQUEST_ID)).flatten();
        let given = heard.and_then(|id| id.to_str().ok());
        let is_token = |id: &str| (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.bytes().all(is_token_byte);
        given.filter(|id| is_token(id)).map_or_else(|| self.new_request_id(), str::to_owned)
    }

    pub(super) fn new_request_id(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.ids.next())
    }
}

/// RFC 9110, 5.6.2.
fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
