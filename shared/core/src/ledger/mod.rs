//! The books as pure rules: fee arithmetic, double entry in two phases, balances, the Merkle tree over the entries
//! and its signed checkpoints.
//!
//! Whoever stores entries asks [`apply`] what to append, in the transaction that appends it; [`TransferLedger::push`]
//! then asserts the invariants again, on what was decided as on what is read back. Amounts are integer minor units
//! and every operation is checked. Nothing here knows a store, a clock or where randomness comes from.

pub mod checkpoint;
pub mod fee;
pub mod merkle;

mod account;
mod balances;
mod cycle;
mod entry;
mod holds;
mod rules;
mod silence;
mod transfer;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod samples;

pub use account::{Account, Holder};
pub use balances::{AccountBalance, Balances, Sides, TrialRow};
pub use cycle::Cycle;
pub use entry::{Entry, EntryKind, Evidence, MAX_ENTRY_BYTES, Posting, Proof, Reason, entry_id};
pub use rules::{Command, Context, Decision, Terms, apply};
pub use silence::{Due, Handover, RESERVATION_AFTER_CONSENT_MS, SILENCE_MAX_MS, copies_until};
pub use transfer::TransferLedger;

use crate::{Code, Currency};

/// What the books refuse, or find wrong with themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The same entry was asked for before, with another value in this field.
    #[error("the ledger holds this with another {field}")]
    Conflict {
        /// The field that differs.
        field: &'static str,
    },
    /// The step does not follow from what stands in the books.
    #[error("{0}")]
    OutOfOrder(&'static str),
    /// The fee is above what the payer signed.
    #[error("the fee is above what its payer signed for")]
    CapExceeded,
    /// More would be reversed than was posted.
    #[error("reversals exceed what was posted")]
    ReversalExceeds,
    /// The terms cannot be booked: a party twice, a payer who is neither patient nor destination, a negative amount.
    #[error("{0}")]
    Terms(&'static str),
    /// Evidence that this kind of entry needs is absent.
    #[error("no evidence of the {0}")]
    EvidenceMissing(&'static str),
    /// Amounts of different currencies met in one entry.
    #[error("{0} and {1} in one entry")]
    MixedCurrencies(Currency, Currency),
    /// Debits and credits of a currency differ.
    #[error("debits and credits in {0} differ")]
    Unbalanced(Currency),
    /// A sum or a date is out of range.
    #[error("out of range: {0}")]
    OutOfRange(&'static str),
    /// Dated into a cycle that is closed.
    #[error("dated into the closed cycle {0}")]
    ClosedCycle(Cycle),
    /// A stored entry breaks an invariant: the books were altered or written by something else.
    #[error("the books are damaged: {0}")]
    Damaged(&'static str),
}

impl LedgerError {
    /// The stable code for it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Conflict { .. } => Code::LedgerConflict,
            Self::OutOfOrder(_) | Self::ReversalExceeds | Self::ClosedCycle(_) => Code::OutOfOrder,
            Self::CapExceeded => Code::CapExceeded,
            Self::Terms(_) | Self::OutOfRange(_) => Code::Malformed,
            Self::EvidenceMissing(_) => Code::EvidenceMissing,
            Self::MixedCurrencies(..) => Code::MixedCurrencies,
            Self::Unbalanced(_) => Code::LedgerUnbalanced,
            Self::Damaged(_) => Code::StoreDamaged,
        }
    }
}
