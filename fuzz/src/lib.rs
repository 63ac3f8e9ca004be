//! What is fuzzed, each a function of bytes with an oracle beyond "no panic". libFuzzer calls them (`fuzz_targets`), and so
//! do the project's tests, with every input of `corpus`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // an oracle panics

mod config;
mod credentials;
mod documents;
pub mod readers;
mod requests;
mod texts;

/// A target's name, as its folder in `corpus` has it, and its function.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 11] = [
    ("request", requests::request),
    ("cookies", requests::cookies),
    ("forwarded", requests::forwarded),
    ("return_url", texts::return_url),
    ("log_line", texts::log_line),
    ("token", credentials::token),
    ("signed_claims", credentials::signed_claims),
    ("stored", credentials::stored),
    ("documents", documents::documents),
    ("config", config::config),
    ("import", config::import),
];

/// Runs the target of this name.
///
/// # Panics
/// Where the oracle does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(own, _)| *own == name).expect("a target of that name");
    target(data);
}
