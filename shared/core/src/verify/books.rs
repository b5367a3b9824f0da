//! What the index has booked for a transfer, held against what its two hospitals signed: the judgement that a hospital
//! comes to by itself, and that anybody comes to on the file that it shows.
//!
//! Invariants: a difference ([`Standing::Differs`]) is proven by what the index signed and by artefacts that it names
//! there, so that no file can be made that finds one with an honest index. Whatever hangs on something that is *not*
//! there, in the books or among the evidence, is late at most ([`Standing::Late`]): it may be on its way, and nobody
//! can prove that it was not kept back. Only what the index signed counts as its word.

use super::recalls::Recalled;
use super::{Parts, Report};
use crate::artefact::books::{HoldOrder, Settled};
use crate::artefact::patient::{Consent, ShareRelease};
use crate::artefact::recall::Recall;
use crate::artefact::transfer::{
    Delivered, FeeAcceptance, KeyRelease, PackageHeader, Quote, Receipt, Refusal,
};
use crate::artefact::{Payload, Verified};
use crate::id::{Digest, HospitalId};
use crate::ledger::{
    Entry, EntryKind, LedgerError, Proof, RESERVATION_AFTER_CONSENT_MS, Reason, Terms, TransferLedger,
    entry_id,
};
use crate::rules;
use crate::time::DAY_MS;
use crate::transfer::FIRST_ATTEMPT;
use crate::{Amount, Code, Timestamp};

/// How long a fee that is due by silence may not be booked: silence counts from when the index, that may have been
/// away, was told.
const SILENT_IN_FLIGHT_MS: i64 = 30 * DAY_MS;

/// What a transfer's artefacts say of its fee.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeeEvidence {
    /// What has to be booked; none before a package was sealed.
    pub terms: Option<Terms>,
    /// The commitment of the quote that it follows.
    pub commitment: Option<Digest>,
    /// Since when silence counts, and for how long.
    pub silence: Option<(Timestamp, i64)>,
    /// Hash, fee and date of each receipt.
    pub receipts: Vec<(Digest, Amount, Timestamp)>,
    /// The recalls.
    pub recalls: Vec<Recalled>,
    /// Whether the destination has refused what was sealed, which does not free it of the fee for what it can read.
    pub is_refused: bool,
    /// From when on nothing is booked by time any more.
    pub until: Option<Timestamp>,
}

impl FeeEvidence {
    /// Takes from a verified transfer what the fee follows.
    pub(super) fn agreed(&mut self, quote: &Quote, consent: &Consent, parts: &Parts<'_>) {
        self.commitment = Some(quote.commitment);
        self.until = Some(consent.expires.plus_ms(RESERVATION_AFTER_CONSENT_MS));
        let first =
            |label: &str| parts.steps.iter().filter(|it| it.artefact == label).find_map(|it| it.issued);
        let handed_over = [Delivered::TYPE, KeyRelease::TYPE, ShareRelease::TYPE].map(first);
        let [Some(delivered), Some(key), Some(share)] = handed_over else { return };
        let released = key.max(share);
        let schedule = rules::schedule(quote, parts.context);
        if let Ok(schedule) = schedule
            && released < consent.expires
        {
            self.silence = Some((delivered.max(released), schedule.silence_ms));
        }
    }
}

/// How a transfer's entries stand to the evidence, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is to come.
    Agrees,
    /// Nothing is wrong; something is to come, to the index or to this hospital.
    InFlight,
    /// Something is not there that has to come: wrong only if that lasts, and never a proof against the index.
    Late(Code),
    /// Something is wrong by what the index has signed.
    Differs(Code),
}

impl Standing {
    const fn rank(self) -> u8 {
        match self {
            Self::Agrees => 0,
            Self::InFlight => 1,
            Self::Late(_) => 2,
            Self::Differs(_) => 3,
        }
    }

    /// The worse of two; the first of two that are as bad.
    const fn and(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }
}

/// Who looks, and at how much of the books.
#[derive(Clone, Copy, Debug)]
pub struct Looked<'a> {
    /// The hospital.
    pub by: &'a HospitalId,
    /// The books are as of this time, by their own word.
    pub at: Timestamp,
    /// Whether these are all entries of the transfer.
    pub is_all: bool,
    /// The operators' orders that the index has shown.
    pub orders: &'a [Verified<HoldOrder>],
}

/// Holds a transfer's entries, in their order, against what this hospital has of the transfer.
#[must_use]
pub fn standing(entries: &[Entry], own: Option<&Report>, looked: Looked<'_>) -> Standing {
    let posts = entries.iter().filter(|it| is_post(it));
    if posts.count() > 1 {
        return Standing::Differs(Code::FeePostedTwice);
    }
    let wrong = entries.iter().find_map(|entry| entry.check().err());
    let wrong = wrong.map_or(Standing::Agrees, |fault| Standing::Differs(broken(&fault)));
    let Some(own) = own else {
        // Its source sealed it, its destination asked for it: each will know it, or it is made up.
        let unknown = if entries.is_empty() { Standing::Agrees } else { Standing::Late(Code::FeeUnfounded) };
        return wrong.and(unknown);
    };
    let each = entries.iter().map(|entry| Founding { entry, own, looked }.standing());
    let founded = each.fold(Standing::Agrees, Standing::and).and(wrong);
    if matches!(founded, Standing::Differs(_)) {
        return founded;
    }
    // Entries that were left out of a file break the order of the others: that proves nothing.
    match TransferLedger::from_entries(entries.iter().cloned()) {
        Ok(ledger) => founded.and(booked(&ledger, own, looked)),
        Err(fault) => founded.and(Standing::Late(broken(&fault))),
    }
}

const fn is_post(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Post | EntryKind::PostDirect)
}

const fn broken(fault: &LedgerError) -> Code {
    match fault {
        LedgerError::CapExceeded | LedgerError::MixedCurrencies(..) | LedgerError::Terms(_) => {
            Code::FeeDiffers
        }
        _ => Code::FeeUnfounded,
    }
}

/// Whether the index has booked all that it has to by what is here.
fn booked(ledger: &TransferLedger, own: &Report, looked: Looked<'_>) -> Standing {
    let missing = if looked.is_all { Standing::Late(Code::FeeMissing) } else { Standing::InFlight };
    let founded = &own.founded;
    // What two operators have settled for the payer is owed by nobody, whatever comes later.
    if ledger.let_go().is_some() {
        return Standing::Agrees;
    }
    if ledger.posted().is_none() {
        let is_filed = founded.receipts.iter().any(|(_, stated, _)| Some(*stated) == own.fee);
        return match ledger.release() {
            Some(_) => missing,
            // A hold that somebody made up must not keep back what is due.
            None if is_filed => missing,
            None if ledger.open_hold().is_some() => Standing::InFlight,
            None => by_time(ledger, own, looked, missing),
        };
    }
    let is_given_back =
        |recall: &Recalled| recall.back.minor() == 0 || ledger.reversal(recall.number).is_some();
    let is_held = ledger.open_hold().is_some();
    match founded.recalls.iter().all(is_given_back) {
        true if is_held => Standing::InFlight,
        true => Standing::Agrees,
        // Its source has told the index; to the destination it may have come by another way.
        false if *looked.by == own.source => missing,
        false => Standing::InFlight,
    }
}

/// What is to be booked without a receipt: a fee is due by silence, a refusal of what can be read is held, and whatever
/// was sealed is reserved or let go.
fn by_time(ledger: &TransferLedger, own: &Report, looked: Looked<'_>, missing: Standing) -> Standing {
    let founded = &own.founded;
    let is_taken_back = own.steps.iter().any(|it| it.issued.is_none());
    let is_refused = own.steps.iter().any(|it| it.artefact == Refusal::TYPE);
    if let Some((since, silence_ms)) = founded.silence.filter(|_| founded.receipts.is_empty()) {
        let is_due = looked.at >= since.plus_ms(silence_ms.saturating_add(SILENT_IN_FLIGHT_MS));
        if !is_taken_back && !is_refused {
            // The source tells the index what silence counts from; and what is let go may have been in time.
            let is_to_be_there = is_due && *looked.by == own.source && ledger.void().is_none();
            return if is_to_be_there { missing } else { Standing::InFlight };
        }
        // What was handed over before a later attempt is owed by silence, whoever gives that up.
        let is_first = own.attempt == Some(FIRST_ATTEMPT);
        if !is_taken_back && founded.is_refused && is_first && ledger.hold().is_none() {
            return missing;
        }
    }
    let is_over = is_taken_back || is_refused || founded.until.is_none_or(|until| looked.at >= until);
    let is_open = ledger.open_reservation().is_some();
    let is_to_come = founded.terms.is_some() && ledger.void().is_none() && !is_over;
    if is_open || is_to_come { Standing::InFlight } else { Standing::Agrees }
}

/// Who would have made a piece of evidence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    Source,
    Destination,
    Other,
}

struct Founding<'a> {
    entry: &'a Entry,
    own: &'a Report,
    looked: Looked<'a>,
}

impl Founding<'_> {
    /// How the entry stands to what it names.
    fn standing(&self) -> Standing {
        let (entry, founded) = (self.entry, &self.own.founded);
        let of = &entry.evidence;
        let named = [
            (of.consent, Consent::TYPE, Maker::Other),
            (of.acceptance, FeeAcceptance::TYPE, Maker::Destination),
            (of.header, PackageHeader::TYPE, Maker::Source),
            (of.delivered, Delivered::TYPE, Maker::Destination),
            (of.key_release, KeyRelease::TYPE, Maker::Source),
            (of.share_release, ShareRelease::TYPE, Maker::Other),
            (of.receipt, Receipt::TYPE, Maker::Destination),
            (of.revocation, "revocation", Maker::Other),
            (of.recall, Recall::TYPE, Maker::Source),
            (of.refusal, Refusal::TYPE, Maker::Destination),
        ];
        let quote = of
            .quote
            .map_or(Standing::Agrees, |quote| self.found(founded.commitment == Some(quote), Maker::Source));
        let here = named.iter().fold(quote, |worst, (hash, label, maker)| match hash {
            Some(hash) => worst.and(self.found(self.has(label, *hash), *maker)),
            None => worst,
        });
        here.and(self.terms()).and(self.content())
    }

    fn has(&self, label: &str, hash: Digest) -> bool {
        self.own.steps.iter().any(|step| step.hash == hash && step.artefact == label)
    }

    /// Whether it is the fee that was signed. Another one is proven only by the very artefacts that the entry names:
    /// somebody who signs two could show the other.
    fn terms(&self) -> Standing {
        let (entry, founded) = (self.entry, &self.own.founded);
        let Some(terms) = &founded.terms else { return Standing::Agrees };
        let is_same = entry.source == terms.source
            && entry.destination == terms.destination
            && entry.payer == terms.payer
            && entry.cap == terms.cap
            && (entry.amount == terms.amount || entry.kind == EntryKind::Reverse);
        if is_same {
            return Standing::Agrees;
        }
        let of = &entry.evidence;
        let is_here = |hash: Option<Digest>, label| hash.is_some_and(|hash| self.has(label, hash));
        let is_agreed = of.quote.is_some()
            && of.quote == founded.commitment
            && is_here(of.consent, Consent::TYPE)
            && is_here(of.header, PackageHeader::TYPE)
            && match of.acceptance {
                Some(hash) => self.has(FeeAcceptance::TYPE, hash),
                None => self.own.steps.iter().all(|step| step.artefact != FeeAcceptance::TYPE),
            };
        if is_agreed { Standing::Differs(Code::FeeDiffers) } else { Standing::Late(Code::FeeDiffers) }
    }

    /// Whether it follows from what it names, as far as that is here.
    fn content(&self) -> Standing {
        let (entry, founded) = (self.entry, &self.own.founded);
        let of = &entry.evidence;
        if let Some(hash) = of.order {
            return self.ordered(hash);
        }
        match (entry.kind, entry.proof()) {
            (EntryKind::Reverse, _) => {
                let recall = founded.recalls.iter().find(|it| Some(it.hash) == of.recall);
                match recall {
                    Some(recall) if recall.number != entry.sequence => Standing::Differs(Code::FeeUnfounded),
                    Some(recall) if recall.back != entry.amount => Standing::Differs(Code::FeeDiffers),
                    None if of.recall.is_none() => Standing::Differs(Code::FeeUnfounded),
                    _ => Standing::Agrees,
                }
            }
            (_, Some(Proof::Receipt)) => {
                let stated = founded.receipts.iter().find(|(hash, ..)| Some(*hash) == of.receipt);
                match stated {
                    Some((_, fee, _)) if *fee != entry.amount => Standing::Differs(Code::FeeDiffers),
                    _ => Standing::Agrees,
                }
            }
            (_, Some(Proof::Silence)) => {
                // It counts from when the index was told, by its clock; the dates here are the word of others, and one
                // from after the posting says nothing.
                let is_early = founded.silence.is_some_and(|(since, silence_ms)| {
                    since <= entry.at && entry.at.plus_ms(DAY_MS) < since.plus_ms(silence_ms)
                });
                if is_early { Standing::Late(Code::FeeUnfounded) } else { Standing::Agrees }
            }
            (_, Some(Proof::Order) | None) => Standing::Agrees,
        }
    }

    /// Whether the order is there, about this hold, and says what was booked. Operators change, and one that is not
    /// shown may have been left out of a file: that proves nothing.
    fn ordered(&self, hash: Digest) -> Standing {
        let Entry { source, destination, transfer, kind, .. } = self.entry;
        let hold = entry_id(source, destination, transfer, EntryKind::Hold, 0);
        let order = self.looked.orders.iter().find(|order| order.hash() == hash);
        let order = order.filter(|order| order.transfer == *transfer && order.hold == hold);
        let Some(order) = order else { return Standing::Late(Code::FeeUnfounded) };
        let is_for_source = match order.settled {
            Settled::ForSource => true,
            Settled::ForPayer => false,
        };
        let says = match (kind, self.entry.reason) {
            (EntryKind::Post | EntryKind::PostDirect, _) => is_for_source,
            (EntryKind::Release, Some(reason)) => is_for_source == (reason == Reason::SettledForSource),
            (EntryKind::Void | EntryKind::Reverse, _) => !is_for_source,
            _ => false,
        };
        if says { Standing::Agrees } else { Standing::Differs(Code::FeeUnfounded) }
    }

    /// Evidence that is not here is late where this hospital would have made it, and where the entry is at its cost: a
    /// fee that it pays, a dispute that keeps back what is due to it. Else others may only have told the index.
    fn found(&self, is_here: bool, maker: Maker) -> Standing {
        if is_here {
            return Standing::Agrees;
        }
        let is_destination = *self.looked.by == self.own.destination;
        let is_own = match maker {
            Maker::Source => !is_destination,
            Maker::Destination => is_destination,
            Maker::Other => false,
        };
        let is_at_its_cost = match self.entry.kind {
            EntryKind::Post | EntryKind::PostDirect => is_destination,
            EntryKind::Hold => !is_destination,
            _ => false,
        };
        if is_own || is_at_its_cost { Standing::Late(Code::FeeUnfounded) } else { Standing::InFlight }
    }
}
