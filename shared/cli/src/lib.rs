//! What the three programs share on the command line: exit codes and errors, data on stdout and prose on stderr,
//! passphrases, progress, logging, and configuration files whose faults are all reported at once.
//!
//! Invariants: stdout carries data only; a secret never comes from an argument or the environment. This package must
//! not know what any command does, nor a runtime, a socket or a store.

pub mod config;
mod error;
mod instant;
mod logging;
mod open_files;
mod output;
mod passphrase;
mod progress;
mod root;
mod run;
mod standing;
mod steps;
mod verify;
mod wait;

pub use config::{ConfigFaults, Reader};
pub use error::CliError;
pub use instant::instant;
pub use logging::init_logging;
pub use open_files::allow_open_files;
pub use output::Output;
pub use passphrase::{PASSPHRASE_OPTION, new_passphrase, passphrase};
pub use progress::{Progress, Unit};
pub use root::{Root, SAMPLE_ROOT};
pub use run::{exit_code, run};
pub use standing::tell_standing;
pub use steps::Steps;
pub use verify::{VerifyArgs, verify_file};
pub use wait::wait_seconds;
