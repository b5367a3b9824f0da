//! The command line's words.

use std::path::PathBuf;

use clap::Parser;

/// Starts a federation of hospitals on this machine and moves patients' records in it.
#[derive(Debug, Parser)]
#[command(name = "handover-demo", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// FHIR files instead of the stories: each one patient, imported at the first hospital, moved to the second.
    #[arg(long, value_name = "DIR")]
    pub(crate) records: Option<PathBuf>,
    /// Plays this story (TOML) instead of the shipped ones; more than one may be given.
    #[arg(long, value_name = "FILE", conflicts_with = "records")]
    pub(crate) story: Vec<PathBuf>,
    /// The hospitals' test catalogue (CSV: system, code, display, class, is_test).
    #[arg(long, value_name = "FILE")]
    pub(crate) catalogue: Option<PathBuf>,
    /// The hospitals' price list (CSV: Code_Source, Code, Price, Price_Date).
    #[arg(long, value_name = "FILE")]
    pub(crate) prices: Option<PathBuf>,
    /// Writes what was transferred and the ledger's totals to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Works in this folder (made if absent, must be empty) and leaves data and processes there.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}
