//! What finance asks.

use clap::Subcommand;

/// Fees.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum FeesTask {
    /// Lists this hospital's fees, by transfer and summed up by hospital and currency: what the index has booked, beside
    /// what this hospital's own evidence says. As of when the index was asked last.
    List,
    /// Asks the index now, then lists. The node does so by itself, too. Ends as a failure if something differs.
    Reconcile,
}
