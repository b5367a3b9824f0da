//! Logs to stderr.

use std::io::IsTerminal as _;

use handover_core::Code;
use tracing_subscriber::EnvFilter;

use crate::CliError;

/// The variable that sets what is logged, in the syntax of `tracing_subscriber::EnvFilter`.
const LOG_VARIABLE: &str = "HANDOVER_LOG";
/// What is logged without it. `handover` is the beginning of every package's name here.
const DEFAULT_FILTER: &str = "warn,handover=info";

/// What holds whatever the variable says: the clients of databases and buckets log what they are asked, keys and all.
const QUIET: [&str; 2] = ["tokio_postgres=warn", "object_store=warn"];

/// Sends logs to stderr, as JSON lines or text, filtered by `HANDOVER_LOG`. Call it once, first of all.
///
/// # Errors
/// A usage error when the filter cannot be read.
pub fn init_logging(json: bool) -> Result<(), CliError> {
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(text) => filter(&text)?,
        Err(_) => filter(DEFAULT_FILTER)?,
    };
    let stderr = std::io::stderr;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let builder = builder.with_ansi(stderr().is_terminal());
    let started = if json { builder.json().try_init() } else { builder.try_init() };
    started.map_err(|_| CliError::new(Code::Internal, "logging was already started"))
}

fn filter(text: &str) -> Result<EnvFilter, CliError> {
    let quiet = |filter: EnvFilter| {
        QUIET.iter().try_fold(filter, |filter, quiet| Ok(filter.add_directive(quiet.parse()?)))
    };
    EnvFilter::try_new(text)
        .and_then(quiet)
        .map_err(|error| CliError::new(Code::UsageInvalid, format!("{LOG_VARIABLE} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_refused() {
        for good in [DEFAULT_FILTER, "debug", "handover_net=trace,warn"] {
            let filter = filter(good).unwrap().to_string();
            assert!(QUIET.iter().all(|quiet| filter.contains(quiet)), "{filter}");
        }
        assert_eq!(filter("handover=loudly").unwrap_err().code, Code::UsageInvalid);
    }
}
