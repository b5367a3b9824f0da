//! `handover-node`: command selection only.

use std::process::ExitCode;

fn main() -> ExitCode {
    handover_cli::run(handover_node::main)
}
