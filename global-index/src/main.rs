//! `handover-index`.

use std::process::ExitCode;

use handover_index::cli::{Cli, main as command};

fn main() -> ExitCode {
    handover_cli::run::<Cli>(command)
}
