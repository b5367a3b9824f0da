//! What to append when a step is proved. Pure: the transfer's entries, the time and the open cycle go in, entries
//! come out, nothing is stored here.
//!
//! Evidence can arrive in any order, repeatedly, and late. Whatever arrives, a transfer gets at most one fee that
//! stands, and none once two operators have settled it for the payer; what was answered once is answered again.

use crate::codec::Extensions;
use crate::{Amount, HospitalId, Timestamp, TransferId};

use super::entry::{check_terms, posting};
use super::{Cycle, Entry, EntryKind, Evidence, Holder, LedgerError, Reason, TransferLedger, entry_id};

/// What the parties agreed on for one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The transfer.
    pub transfer: TransferId,
    /// To whom the fee is due.
    pub source: HospitalId,
    /// Who receives the records.
    pub destination: HospitalId,
    /// Who pays.
    pub payer: Holder,
    /// The fee; can be zero.
    pub amount: Amount,
    /// The most that the payer signed for.
    pub cap: Amount,
}

impl Terms {
    /// What an entry was booked on; of a reversal, with the amount that it takes back.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        Self {
            transfer: entry.transfer,
            source: entry.source.clone(),
            destination: entry.destination.clone(),
            payer: entry.payer.clone(),
            amount: entry.amount,
            cap: entry.cap,
        }
    }
}

/// A step for the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The source stored `Sealed`.
    Reserve {
        /// What was agreed on.
        terms: Terms,
        /// From when on the reservation can only be voided. Part of the content: derive it from the consent and the
        /// schedule, not from the clock, so that a repeated step has the same.
        expires: Timestamp,
        /// Quote; consent or acceptance; header.
        evidence: Evidence,
    },
    /// A receipt, or delivery with both releases and the silence period over.
    Post {
        /// What was agreed on.
        terms: Terms,
        /// Quote; consent or acceptance; the proof.
        evidence: Evidence,
    },
    /// Lets the reservation go.
    Void {
        /// Why.
        reason: Reason,
        /// The revocation, if that is why.
        evidence: Evidence,
    },
    /// Takes back a posted fee or a part of it.
    Reverse {
        /// The caller's number for it, so that repeating it does nothing.
        sequence: u32,
        /// How much.
        amount: Amount,
        /// Why.
        reason: Reason,
        /// What shows it.
        evidence: Evidence,
    },
    /// The destination disputes the fee.
    Hold {
        /// What was agreed on.
        terms: Terms,
        /// The fee as its receipt states it; none if it refused.
        stated: Option<Amount>,
        /// Quote; consent or acceptance; the receipt or the refusal.
        evidence: Evidence,
    },
    /// Two operators settle the hold.
    Settle {
        /// What was agreed on.
        terms: Terms,
        /// Whether the fee is due; else nothing is owed.
        is_due: bool,
        /// Quote; consent or acceptance; the order.
        evidence: Evidence,
    },
}

/// The circumstances of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Now.
    pub now: Timestamp,
    /// The earliest cycle that is open; `None` before the first entry. An entry is never dated before it.
    pub open_cycle: Option<Cycle>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: this entry stands already and is the answer.
    AlreadyDone(Box<Entry>),
    /// Append these, in this order, all or none.
    Append(Vec<Entry>),
}

impl Decision {
    /// The entry that answers the command.
    #[must_use]
    pub fn answer(&self) -> Option<&Entry> {
        match self {
            Self::AlreadyDone(entry) => Some(entry),
            Self::Append(entries) => entries.last(),
        }
    }
}

/// Decides what to append to `ledger`.
///
/// A proof after the reservation's expiry voids it and posts directly in one decision. What differs in header, proof
/// or reason from the entry that stands is no conflict: several proofs can show the same thing.
///
/// # Errors
/// [`LedgerError`]; nothing is to be appended then.
pub fn apply(ledger: &TransferLedger, context: &Context, command: &Command) -> Result<Decision, LedgerError> {
    let desk = Desk { ledger, context };
    let decision = match command {
        Command::Reserve { terms, expires, evidence } => desk.reserve(terms, *expires, evidence),
        Command::Post { terms, evidence } => desk.post(terms, evidence),
        Command::Void { reason, evidence } => desk.void(*reason, evidence),
        Command::Reverse { sequence, amount, reason, evidence } => {
            desk.reverse(*sequence, *amount, *reason, evidence)
        }
        Command::Hold { terms, stated, evidence } => desk.hold(terms, *stated, evidence),
        Command::Settle { terms, is_due, evidence } => desk.settle(terms, *is_due, evidence),
    }?;
    if let Decision::Append(entries) = &decision {
        let mut after = ledger.clone();
        entries.iter().try_for_each(|entry| after.push(entry.clone()))?;
    }
    Ok(decision)
}

pub(super) struct Desk<'a> {
    pub(super) ledger: &'a TransferLedger,
    context: &'a Context,
}

pub(super) fn done(entry: &Entry) -> Decision {
    Decision::AlreadyDone(Box::new(entry.clone()))
}

/// Names the first field in which the standing entry is about another agreement.
fn same_agreement(standing: &Entry, terms: &Terms, evidence: &Evidence) -> Result<(), LedgerError> {
    let held = &standing.evidence;
    [
        ("transfer", standing.transfer == terms.transfer),
        ("source", standing.source == terms.source),
        ("destination", standing.destination == terms.destination),
        ("payer", standing.payer == terms.payer),
        ("amount", standing.amount == terms.amount),
        ("cap", standing.cap == terms.cap),
        ("quote", held.quote == evidence.quote),
        ("consent", held.consent == evidence.consent),
        ("acceptance", held.acceptance == evidence.acceptance),
    ]
    .into_iter()
    .find(|(_, same)| !same)
    .map_or(Ok(()), |(field, _)| Err(LedgerError::Conflict { field }))
}

impl Desk<'_> {
    fn reserve(
        &self,
        terms: &Terms,
        expires: Timestamp,
        evidence: &Evidence,
    ) -> Result<Decision, LedgerError> {
        if let Some(reserved) = self.ledger.reservation() {
            same_agreement(reserved, terms, evidence)?;
            if reserved.expires != Some(expires) {
                return Err(LedgerError::Conflict { field: "expires" });
            }
            return Ok(done(reserved));
        }
        // The proof was faster than the reservation, or the dispute.
        if let Some(faster) = self.ledger.posted().or(self.ledger.hold()) {
            same_agreement(faster, terms, evidence)?;
            return Ok(done(faster));
        }
        if self.context.now >= expires {
            return Err(LedgerError::OutOfOrder("the reservation has expired already"));
        }
        let mut entry = self.entry(EntryKind::Reserve, terms, evidence)?;
        entry.expires = Some(expires);
        Ok(Decision::Append(vec![entry]))
    }

    pub(super) fn post(&self, terms: &Terms, evidence: &Evidence) -> Result<Decision, LedgerError> {
        if let Some(posted) = self.ledger.posted() {
            same_agreement(posted, terms, evidence)?;
            return Ok(done(posted));
        }
        // One party's word does not undo what two operators have settled: that is the answer to every proof after it.
        if let (Some(let_go), Some(hold)) = (self.ledger.let_go(), self.ledger.hold()) {
            same_agreement(hold, terms, evidence)?;
            return Ok(done(let_go));
        }
        let Some(reserved) = self.ledger.reservation() else {
            return Ok(Decision::Append(vec![self.entry(EntryKind::PostDirect, terms, evidence)?]));
        };
        same_agreement(reserved, terms, evidence)?;
        let expired = reserved.expires.is_none_or(|expires| self.context.now >= expires);
        let mut entries = Vec::new();
        let voided = match self.ledger.void() {
            Some(void) => Some(void.id),
            None if expired => {
                let void = self.voiding(reserved, Reason::ReservationExpired, &Evidence::default())?;
                let id = void.id;
                entries.push(void);
                Some(id)
            }
            None => None,
        };
        let kind = if voided.is_some() { EntryKind::PostDirect } else { EntryKind::Post };
        let mut entry = self.entry(kind, terms, evidence)?;
        entry.about = Some(voided.unwrap_or(reserved.id));
        entries.push(entry);
        Ok(Decision::Append(entries))
    }

    fn void(&self, reason: Reason, evidence: &Evidence) -> Result<Decision, LedgerError> {
        if let Some(void) = self.ledger.void() {
            return Ok(done(void));
        }
        if self.ledger.posted().is_some() {
            return Err(LedgerError::OutOfOrder("the fee is posted: it can be reversed, not voided"));
        }
        if reason.is_by_time() && self.ledger.open_hold().is_some() {
            return Err(LedgerError::OutOfOrder("the fee is held: it does not end by time alone"));
        }
        let reserved = self
            .ledger
            .reservation()
            .ok_or(LedgerError::OutOfOrder("no fee is reserved for this transfer"))?;
        if reason == Reason::ReservationExpired
            && reserved.expires.is_some_and(|expires| self.context.now < expires)
        {
            return Err(LedgerError::OutOfOrder("the reservation has not expired"));
        }
        Ok(Decision::Append(vec![self.voiding(reserved, reason, evidence)?]))
    }

    pub(super) fn reverse(
        &self,
        sequence: u32,
        amount: Amount,
        reason: Reason,
        evidence: &Evidence,
    ) -> Result<Decision, LedgerError> {
        if let Some(reversal) = self.ledger.reversal(sequence) {
            if reversal.amount != amount {
                return Err(LedgerError::Conflict { field: "amount" });
            }
            if reversal.reason != Some(reason) {
                return Err(LedgerError::Conflict { field: "reason" });
            }
            return Ok(done(reversal));
        }
        let posted =
            self.ledger.posted().ok_or(LedgerError::OutOfOrder("no fee is posted for this transfer"))?;
        if amount.currency() != posted.amount.currency() {
            return Err(LedgerError::MixedCurrencies(amount.currency(), posted.amount.currency()));
        }
        if amount.minor() <= 0 {
            return Err(LedgerError::Terms("a reversal takes back something"));
        }
        let left_minor = posted
            .amount
            .minor()
            .checked_sub(self.ledger.reversed_minor()?)
            .ok_or(LedgerError::OutOfRange("reversals"))?;
        if amount.minor() > left_minor {
            return Err(LedgerError::ReversalExceeds);
        }
        let mut entry = self.entry(EntryKind::Reverse, &Terms { amount, ..Terms::of(posted) }, evidence)?;
        entry.sequence = sequence;
        entry.id = entry_id(&entry.source, &entry.destination, &entry.transfer, entry.kind, sequence);
        entry.about = Some(posted.id);
        entry.reason = Some(reason);
        entry.postings = vec![posting(Holder::Hospital(entry.source.clone()), entry.payer.clone(), amount)];
        Ok(Decision::Append(vec![entry]))
    }

    pub(super) fn voiding(
        &self,
        reserved: &Entry,
        reason: Reason,
        evidence: &Evidence,
    ) -> Result<Entry, LedgerError> {
        let mut entry = self.entry(EntryKind::Void, &Terms::of(reserved), evidence)?;
        entry.about = Some(reserved.id);
        entry.reason = Some(reason);
        Ok(entry)
    }

    /// An entry with the fee from payer to source, dated now, or into the open cycle if now lies before it.
    pub(super) fn entry(
        &self,
        kind: EntryKind,
        terms: &Terms,
        evidence: &Evidence,
    ) -> Result<Entry, LedgerError> {
        let Terms { transfer, source, destination, payer, amount, cap } = terms;
        check_terms(source, destination, payer, *amount, *cap)?;
        let by_date = Cycle::of(self.context.now)?;
        let cycle = self.context.open_cycle.clone().map_or(by_date.clone(), |open| open.max(by_date));
        Ok(Entry {
            id: entry_id(source, destination, transfer, kind, 0),
            kind,
            sequence: 0,
            transfer: *transfer,
            source: source.clone(),
            destination: destination.clone(),
            payer: payer.clone(),
            amount: *amount,
            cap: *cap,
            about: None,
            reason: None,
            expires: None,
            evidence: evidence.clone(),
            postings: vec![posting(payer.clone(), Holder::Hospital(source.clone()), *amount)],
            at: self.context.now,
            cycle,
            stated: None,
            extensions: Extensions::default(),
        })
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
