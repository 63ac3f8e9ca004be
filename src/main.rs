//! The `doorward` binary: parses the command line and executes it.

use clap::Parser;
use doorward::app::command::{CommandLine, execute};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    // One crypto provider for the whole process, chosen here and not by whichever library uses rustls first.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default().is_ok();
    debug_assert!(installed);
    execute(line)
}
