//! The verdict on a credential. "Rejected" and "unavailable" differ: a rejection may be cached and is charged to the
//! caller, an unavailability is neither.

use crate::provider::identity::Identity;
use crate::telemetry::reason::Reason;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub enum Verdict {
    Valid(Arc<Identity>),
    Rejected(Rejection),
    Unavailable(Cause),
    /// Not valid as far as is known, and the caller was refused too often; when to retry.
    Limited(Duration),
}

/// A refusal, and why in words for operators: the check, what it expected, what it got. No credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    pub why: Arc<str>,
}

/// The dependency that was unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Provider,
    Store,
}

impl Cause {
    pub fn reason(self) -> Reason {
        match self {
            Cause::Provider => Reason::ProviderUnavailable,
            Cause::Store => Reason::StoreUnavailable,
        }
    }
}
