//! Kinds of calls to a provider that fail.

use crate::provider::CallFailed;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether one kind of call is failing, so that the start and the end of that are each logged once.
#[derive(Default)]
pub(super) struct Trouble(AtomicBool);

impl Trouble {
    pub(super) fn note(&self, provider: &str, call: &str, problem: Option<&CallFailed>) {
        if self.0.swap(problem.is_some(), Ordering::SeqCst) == problem.is_some() {
            return;
        }
        match problem {
            None => tracing::info!(provider, "the provider answers {call} again"),
            Some(CallFailed { error, why }) => {
                tracing::warn!(provider, problem = ?error, why, "the provider does not answer {call} as it should");
            }
        }
    }
}
