//! What a credential comes to. "They are wrong" and "we could not tell" are different: the first may be
//! remembered and is charged to the client, the second is neither.

use crate::provider::identity::Identity;
use crate::telemetry::reason::Reason;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub enum Verdict {
    Valid(Arc<Identity>),
    Rejected(Reason),
    Unavailable(Cause),
    /// It is not good by what is at hand, and its client was refused too often; when to come again.
    Limited(Duration),
}

/// Who could not be asked.
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
