//! What a dispute books, and what its settlement does: both move nothing by themselves, and a dispute is settled once.

use crate::Amount;

use super::rules::{Desk, done};
use super::{Decision, Entry, EntryKind, Evidence, LedgerError, Reason, Terms};

/// The number of the reversal that a settlement makes; recalls count from 1.
const SETTLED: u32 = 0;

impl Desk<'_> {
    pub(super) fn hold(
        &self,
        terms: &Terms,
        stated: Option<Amount>,
        evidence: &Evidence,
    ) -> Result<Decision, LedgerError> {
        if let Some(hold) = self.ledger.hold() {
            return Ok(done(hold));
        }
        let mut entry = self.entry(EntryKind::Hold, terms, evidence)?;
        entry.about = self.ledger.posted().or(self.ledger.reservation()).map(|held| held.id);
        let refused = Reason::RefusedAfterDelivery;
        entry.reason = Some(if stated.is_some() { Reason::FeeDisputed } else { refused });
        entry.stated = stated;
        entry.postings = Vec::new();
        Ok(Decision::Append(vec![entry]))
    }

    /// Books what was ordered, and that it was. A reservation that expired while the fee was held is voided and posted
    /// in one step, as with any proof that comes late.
    pub(super) fn settle(
        &self,
        terms: &Terms,
        is_due: bool,
        evidence: &Evidence,
    ) -> Result<Decision, LedgerError> {
        let hold = self.ledger.hold().ok_or(LedgerError::OutOfOrder("no hold on this fee"))?;
        // Also of what was booked in part: what one order began no other one ends.
        if self.ledger.order().is_some_and(|begun| evidence.order != Some(begun)) {
            return Err(LedgerError::Conflict { field: "order" });
        }
        if let Some(release) = self.ledger.release() {
            return Ok(done(release));
        }
        if self.ledger.open_hold().is_none() {
            return Err(LedgerError::OutOfOrder("the hold is settled by what was booked since"));
        }
        let reason = if is_due { Reason::SettledForSource } else { Reason::SettledForPayer };
        let booked = match (is_due, self.ledger.posted(), self.ledger.open_reservation()) {
            (true, Some(_), _) | (false, None, None) => Vec::new(),
            (true, None, _) => appended(self.post(terms, evidence)?),
            (false, None, Some(reserved)) => vec![self.voiding(reserved, reason, &ordered(evidence))?],
            (false, Some(posted), _) => {
                let left_minor = posted.amount.minor().saturating_sub(self.ledger.reversed_minor()?);
                let left = Amount::from_minor(left_minor, posted.amount.currency());
                match left_minor {
                    0 => Vec::new(),
                    _ => appended(self.reverse(SETTLED, left, reason, &ordered(evidence))?),
                }
            }
        };
        let mut release = self.entry(EntryKind::Release, terms, &ordered(evidence))?;
        release.about = Some(hold.id);
        release.reason = Some(reason);
        release.postings = Vec::new();
        Ok(Decision::Append(booked.into_iter().chain([release]).collect()))
    }
}

fn appended(decision: Decision) -> Vec<Entry> {
    match decision {
        Decision::AlreadyDone(_) => Vec::new(),
        Decision::Append(entries) => entries,
    }
}

/// The order alone.
fn ordered(evidence: &Evidence) -> Evidence {
    Evidence { order: evidence.order, ..Evidence::default() }
}

#[cfg(test)]
#[path = "holds_tests.rs"]
mod tests;
