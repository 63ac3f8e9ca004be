//! The `doorward` binary: parses the command line and does what it says.

use clap::Parser;
use doorward::app::command::{CommandLine, execute};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    // One crypto provider for the whole process; a second one would be chosen at random by whoever comes first.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default().is_ok();
    debug_assert!(installed);
    execute(line)
}
