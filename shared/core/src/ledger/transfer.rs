//! What the books say of one transfer. Entries enter through [`TransferLedger::push`] only, which asserts the
//! invariants across entries whether they were decided a moment ago or read back from a store.

use crate::Digest;

use super::{Entry, EntryKind, LedgerError, Reason};

/// The entries of one transfer, in the order in which they were appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferLedger {
    entries: Vec<Entry>,
}

/// What a stored sequence of entries can break.
const fn damaged(what: &'static str) -> LedgerError {
    LedgerError::Damaged(what)
}

impl TransferLedger {
    /// From stored entries of one transfer, oldest first.
    ///
    /// # Errors
    /// As [`TransferLedger::push`].
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>) -> Result<Self, LedgerError> {
        entries.into_iter().try_fold(Self::default(), |mut ledger, entry| {
            ledger.push(entry)?;
            Ok(ledger)
        })
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn first(&self, wanted: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        self.entries.iter().find(|entry| wanted(entry))
    }

    /// The reservation, resolved or not.
    #[must_use]
    pub fn reservation(&self) -> Option<&Entry> {
        self.first(|entry| entry.kind == EntryKind::Reserve)
    }

    /// What voided the reservation.
    #[must_use]
    pub fn void(&self) -> Option<&Entry> {
        self.first(|entry| entry.kind == EntryKind::Void)
    }

    /// What made the fee due.
    #[must_use]
    pub fn posted(&self) -> Option<&Entry> {
        self.first(|entry| matches!(entry.kind, EntryKind::Post | EntryKind::PostDirect))
    }

    /// The reservation if it is neither posted nor voided.
    #[must_use]
    pub fn open_reservation(&self) -> Option<&Entry> {
        self.reservation().filter(|_| self.void().is_none() && self.posted().is_none())
    }

    /// The destination's dispute, settled or not.
    #[must_use]
    pub fn hold(&self) -> Option<&Entry> {
        self.first(|entry| entry.kind == EntryKind::Hold)
    }

    /// What settled it.
    #[must_use]
    pub fn release(&self) -> Option<&Entry> {
        self.first(|entry| entry.kind == EntryKind::Release)
    }

    /// The order of two operators on which something stands, all of what it says or a part.
    #[must_use]
    pub fn order(&self) -> Option<Digest> {
        self.entries.iter().find_map(|entry| entry.evidence.order)
    }

    /// Whether two operators settled a hold for the payer, and some of that is booked at least: nothing is left to be
    /// given back.
    #[must_use]
    pub fn is_let_go(&self) -> bool {
        self.first(|entry| entry.reason == Some(Reason::SettledForPayer)).is_some()
    }

    /// The settlement for the payer, if that is what two operators made of a hold. It is final: nothing that comes
    /// later makes the fee due again.
    #[must_use]
    pub fn let_go(&self) -> Option<&Entry> {
        self.release().filter(|release| release.reason == Some(Reason::SettledForPayer))
    }

    /// The hold if nobody has settled it: neither operators, nor what was booked since on the destination's own receipt
    /// or a consent that was taken back. What operators ordered is settled by the entry that says so, which stands last of
    /// what was booked for it; that a reservation expired, by none.
    #[must_use]
    pub fn open_hold(&self) -> Option<&Entry> {
        let at = self.entries.iter().position(|entry| entry.kind == EntryKind::Hold)?;
        let (hold, since) = self.entries.get(at..)?.split_first()?;
        let settles = |entry: &Entry| match entry.kind {
            EntryKind::Hold | EntryKind::Reverse => false,
            EntryKind::Release => true,
            _ => entry.evidence.order.is_none() && !entry.reason.is_some_and(Reason::is_by_time),
        };
        (!since.iter().any(settles)).then_some(hold)
    }

    /// The reversal with this number.
    #[must_use]
    pub fn reversal(&self, sequence: u32) -> Option<&Entry> {
        self.first(|entry| entry.kind == EntryKind::Reverse && entry.sequence == sequence)
    }

    /// What was taken back so far, in minor units.
    ///
    /// # Errors
    /// [`LedgerError::OutOfRange`].
    pub fn reversed_minor(&self) -> Result<i64, LedgerError> {
        self.entries.iter().filter(|entry| entry.kind == EntryKind::Reverse).try_fold(0_i64, |sum, entry| {
            sum.checked_add(entry.amount.minor()).ok_or(LedgerError::OutOfRange("reversals"))
        })
    }

    /// Adds an entry if every invariant holds with it: the same parties and currency throughout, a reservation
    /// resolved at most once and never posted once expired, at most one fee that stands and none once it was settled
    /// for its payer, reversals within it, no entry in an earlier cycle than the one before.
    ///
    /// # Errors
    /// [`LedgerError`] naming what would not hold; the ledger is as it was.
    pub fn push(&mut self, entry: Entry) -> Result<(), LedgerError> {
        entry.check()?;
        if let Some(last) = self.entries.last() {
            let same = entry.transfer == last.transfer
                && entry.source == last.source
                && entry.destination == last.destination
                && entry.payer == last.payer
                && entry.cap == last.cap;
            if !same {
                return Err(damaged("a transfer's entries have different parties or caps"));
            }
            if entry.cycle < last.cycle {
                return Err(LedgerError::ClosedCycle(entry.cycle));
            }
        }
        match entry.kind {
            EntryKind::Reserve => self.check_reserve(),
            EntryKind::Post => self.check_post(&entry),
            EntryKind::Void => self.check_void(&entry),
            EntryKind::PostDirect => self.check_post_direct(&entry),
            EntryKind::Reverse => self.check_reverse(&entry),
            EntryKind::Hold => self.check_hold(&entry),
            EntryKind::Release => self.check_release(&entry),
        }?;
        self.entries.push(entry);
        Ok(())
    }

    fn check_reserve(&self) -> Result<(), LedgerError> {
        if self.entries.is_empty() {
            Ok(())
        } else {
            Err(damaged("a reservation that is not the first entry"))
        }
    }

    fn check_post(&self, entry: &Entry) -> Result<(), LedgerError> {
        let reserved = self.open_reservation().ok_or(damaged("a post without an open reservation"))?;
        if entry.about != Some(reserved.id) || entry.amount != reserved.amount {
            return Err(damaged("a post that is not about its reservation"));
        }
        if reserved.expires.is_none_or(|expires| entry.at >= expires) {
            return Err(damaged("an expired reservation was posted"));
        }
        Ok(())
    }

    fn check_void(&self, entry: &Entry) -> Result<(), LedgerError> {
        let reserved = self.open_reservation().ok_or(damaged("a void without an open reservation"))?;
        if entry.about != Some(reserved.id) || entry.amount != reserved.amount {
            return Err(damaged("a void that is not about its reservation"));
        }
        Ok(())
    }

    fn check_hold(&self, entry: &Entry) -> Result<(), LedgerError> {
        if self.hold().is_some() {
            return Err(damaged("a second hold on one fee"));
        }
        let held = self.posted().or(self.reservation());
        if entry.about != held.map(|held| held.id) || held.is_some_and(|held| held.amount != entry.amount) {
            return Err(damaged("a hold that is not about the fee"));
        }
        Ok(())
    }

    /// A hold is settled at most once, and what was ordered is booked right before: the fee, or that none is owed.
    fn check_release(&self, entry: &Entry) -> Result<(), LedgerError> {
        let hold = self.hold().ok_or(damaged("a release of nothing"))?;
        if self.release().is_some() || entry.about != Some(hold.id) {
            return Err(damaged("a release that is not about its hold, or a second one"));
        }
        let stands_minor = match self.posted() {
            Some(posted) => posted.amount.minor().checked_sub(self.reversed_minor()?),
            None => None,
        };
        let is_booked = match entry.reason {
            Some(Reason::SettledForPayer) => {
                self.open_reservation().is_none() && stands_minor.unwrap_or_default() == 0
            }
            _ => self.posted().is_some(),
        };
        if is_booked { Ok(()) } else { Err(damaged("a release without what it settles")) }
    }

    fn check_post_direct(&self, entry: &Entry) -> Result<(), LedgerError> {
        if self.posted().is_some() || self.open_reservation().is_some() {
            return Err(damaged("a second fee for one transfer"));
        }
        if self.let_go().is_some() {
            return Err(damaged("a fee after it was settled for its payer"));
        }
        if entry.about != self.void().map(|void| void.id) {
            return Err(damaged("a direct post that does not name the void before it"));
        }
        Ok(())
    }

    fn check_reverse(&self, entry: &Entry) -> Result<(), LedgerError> {
        let posted = self.posted().ok_or(damaged("a reversal of nothing"))?;
        if entry.about != Some(posted.id) || self.reversal(entry.sequence).is_some() {
            return Err(damaged("a reversal that is not about the fee, or that stands twice"));
        }
        let left = posted.amount.minor().checked_sub(self.reversed_minor()?);
        if left.is_none_or(|left_minor| entry.amount.minor() > left_minor) {
            return Err(LedgerError::ReversalExceeds);
        }
        Ok(())
    }
}
