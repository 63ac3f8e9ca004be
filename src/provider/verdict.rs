//! What a credential comes to. "They are wrong" and "we could not tell" are different: the first may be
//! remembered and is charged to the client, the second is neither.

use crate::provider::identity::Identity;
use crate::watch::reason::Reason;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Verdict {
    Valid(Arc<Identity>),
    Rejected(Reason),
    Unavailable(Cause),
}

/// Who could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Provider,
}

impl Cause {
    pub fn reason(self) -> Reason {
        match self {
            Cause::Provider => Reason::ProviderUnavailable,
        }
    }
}
