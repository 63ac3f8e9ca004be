//! What a request costs, in instructions: they are the same whatever else the machine does.

use std::path::Path;
use std::process::Command;

/// A debug build's, as a multiple of what the same build without a gate takes: work that a change adds shows here too.
#[test]
fn a_request_costs_no_more_instructions_than_it_may() {
    let doorward = Path::new(env!("CARGO_BIN_EXE_doorward"));
    let bare = doorward.with_file_name("examples").join("bare");
    assert!(bare.exists(), "`cargo test` without a filter of targets builds it, `cargo build --example bare` too");
    let counted = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/instructions.sh"))
        .envs([("DOORWARD", doorward), ("BARE", &bare)])
        .envs([("LIMITS", "debug"), ("REQUESTS", "100"), ("INSTALL_NOTHING", "1")])
        .output()
        .unwrap();
    let told = [counted.stdout, counted.stderr].concat();
    assert!(counted.status.success(), "{}", String::from_utf8_lossy(&told));
}
