//! An entry of the books, as it is stored and hashed.

use crate::codec::Extensions;
use crate::{Amount, Digest, HospitalId, Timestamp, TransferId, cbor_enum, cbor_map};

use super::{Account, Cycle, Holder, LedgerError};

/// The most bytes of an encoded entry.
pub const MAX_ENTRY_BYTES: usize = 16 * 1024;

cbor_enum! {
    /// What an entry does. Two phases, as a card payment: reserve, then post or void.
    pub enum EntryKind {
        /// The fee becomes pending.
        Reserve = 1, "reserve";
        /// A reserved fee becomes due.
        Post = 2, "post";
        /// A reserved fee is let go.
        Void = 3, "void";
        /// A fee becomes due that is not reserved, or no longer.
        PostDirect = 4, "post-direct";
        /// Takes back a posted fee or a part of it.
        Reverse = 5, "reverse";
        /// The destination disputes the fee: nothing more is booked by itself until people have looked. Moves nothing.
        Hold = 75, "hold";
        /// People have looked: what they ordered is booked right before it. Moves nothing.
        Release = 76, "release";
    }
}

cbor_enum! {
    /// Why a fee is let go or taken back.
    pub enum Reason {
        /// The patient took the consent back before both releases existed.
        ConsentRevoked = 1, "consent-revoked";
        /// The consent expired before both releases existed.
        ConsentExpired = 2, "consent-expired";
        /// Nothing was delivered.
        NotDelivered = 3, "not-delivered";
        /// The reservation's time is over.
        ReservationExpired = 4, "reservation-expired";
        /// It was booked wrongly.
        Corrected = 5, "corrected";
        /// The source recalled tests that it was made of.
        Recalled = 45, "recalled";
        /// The destination's receipt states another fee.
        FeeDisputed = 75, "fee-disputed";
        /// The destination refused what it had taken delivery of.
        RefusedAfterDelivery = 76, "refused-after-delivery";
        /// Two operators settled a hold for the payer.
        SettledForPayer = 77, "settled-for-payer";
        /// Two operators settled a hold for the source.
        SettledForSource = 78, "settled-for-source";
    }
}

impl Reason {
    /// Whether time alone is the reason: it settles no dispute.
    #[must_use]
    pub const fn is_by_time(self) -> bool {
        matches!(self, Self::ReservationExpired | Self::ConsentExpired)
    }
}

cbor_enum! {
    /// What shows that a fee is due.
    pub enum Proof {
        /// The destination's receipt.
        Receipt = 1, "receipt";
        /// Delivery, both releases, and the destination's silence after them.
        Silence = 2, "silence";
        /// The order of two operators that settled a hold.
        Order = 75, "order";
    }
}

cbor_map! {
    /// Hashes of the artefacts that an entry stands on. `quote`, `consent` and `acceptance` say what was agreed;
    /// the others prove a step and can differ between attempts.
    #[derive(Default)]
    pub struct Evidence {
        /// The salted commitment in the quote.
        1 => quote: Option<Digest>,
        /// The patient's consent.
        2 => consent: Option<Digest>,
        /// The paying hospital's acceptance.
        3 => acceptance: Option<Digest>,
        /// The package's header.
        4 => header: Option<Digest>,
        /// The destination stores everything.
        5 => delivered: Option<Digest>,
        /// The source released its share.
        6 => key_release: Option<Digest>,
        /// The patient released theirs.
        7 => share_release: Option<Digest>,
        /// The destination opened and filed everything.
        8 => receipt: Option<Digest>,
        /// The consent was revoked.
        9 => revocation: Option<Digest>,
        /// The source's recall.
        45 => recall: Option<Digest>,
        /// The operators' order.
        75 => order: Option<Digest>,
        /// The refusal: the destination's of a hold; of a void, whosever lets the fee go.
        76 => refusal: Option<Digest>,
    }
}

cbor_map! {
    /// One debit with its credit: an entry is balanced by construction.
    pub struct Posting {
        /// Who owes.
        1 => debit: Account,
        /// Who is owed.
        2 => credit: Account,
        /// How much, in minor units; never negative.
        3 => amount_minor: i64,
    }
}

cbor_map! {
    /// An entry. Never changed once it stands.
    pub struct Entry {
        /// [`entry_id`].
        1 => id: Digest,
        /// What it does.
        2 => kind: EntryKind,
        /// Tells entries of one kind in one transfer apart; 0 but for reversals.
        3 => sequence: u32,
        /// The transfer that it is about.
        4 => transfer: TransferId,
        /// The hospital that the fee is due to.
        5 => source: HospitalId,
        /// The hospital that receives the records.
        6 => destination: HospitalId,
        /// Who pays: the patient, or the destination on a referral.
        7 => payer: Holder,
        /// The fee, or what is taken back of it.
        8 => amount: Amount,
        /// The most that the payer signed for.
        9 => cap: Amount,
        /// The entry that this one resolves, follows or takes back.
        10 => about: Option<Digest>,
        /// Why, for a void and a reversal.
        11 => reason: Option<Reason>,
        /// From when on a reservation can only be voided.
        12 => expires: Option<Timestamp>,
        /// What it stands on.
        13 => evidence: Evidence,
        /// Debits and credits.
        14 => postings: Vec<Posting>,
        /// When it was booked.
        15 => at: Timestamp,
        /// The settlement cycle that it belongs to.
        16 => cycle: Cycle,
        /// The fee as the destination states it, for a hold on that.
        75 => stated: Option<Amount>,
    }
}

/// What an entry's identifier is made of, apart from other hashes.
const ID_LABEL: &[u8] = b"handover/ledger-entry/1";

/// SHA-256 over label, source, destination, transfer, kind and sequence, each with its length (32 bits, big-endian)
/// before it.
#[must_use]
pub fn entry_id(
    source: &HospitalId,
    destination: &HospitalId,
    transfer: &TransferId,
    kind: EntryKind,
    sequence: u32,
) -> Digest {
    let (source, destination) = (source.to_string(), destination.to_string());
    let sequence = sequence.to_be_bytes();
    let fields: [&[u8]; 6] = [
        ID_LABEL,
        source.as_bytes(),
        destination.as_bytes(),
        transfer.as_bytes(),
        kind.as_str().as_bytes(),
        &sequence,
    ];
    // No field is longer than 64 bytes.
    let lengths = fields.map(|field| u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    let parts: Vec<&[u8]> =
        lengths.iter().zip(fields).flat_map(|(length, field)| [length.as_slice(), field]).collect();
    Digest::sha256(&parts)
}

impl Evidence {
    /// What was agreed on: quote, and consent or acceptance by who pays.
    fn check_agreement(&self, payer: &Holder) -> Result<(), LedgerError> {
        if self.quote.is_none() {
            return Err(LedgerError::EvidenceMissing("quote"));
        }
        match payer {
            Holder::Patient(_) if self.consent.is_none() => Err(LedgerError::EvidenceMissing("consent")),
            Holder::Hospital(_) if self.acceptance.is_none() => {
                Err(LedgerError::EvidenceMissing("fee acceptance"))
            }
            _ => Ok(()),
        }
    }

    /// What was done: a receipt, or delivery with both releases; or what two operators made of a dispute about that.
    #[must_use]
    pub const fn proof(&self) -> Option<Proof> {
        let handed_over =
            self.delivered.is_some() && self.key_release.is_some() && self.share_release.is_some();
        match (self.order, self.receipt) {
            (Some(_), _) => Some(Proof::Order),
            (None, Some(_)) => Some(Proof::Receipt),
            (None, None) if handed_over => Some(Proof::Silence),
            (None, None) => None,
        }
    }
}

impl Entry {
    /// What shows that the fee is due, if this entry makes it so.
    #[must_use]
    pub const fn proof(&self) -> Option<Proof> {
        match self.kind {
            EntryKind::Post | EntryKind::PostDirect => self.evidence.proof(),
            EntryKind::Reserve
            | EntryKind::Void
            | EntryKind::Reverse
            | EntryKind::Hold
            | EntryKind::Release => None,
        }
    }

    /// What holds of every entry by itself: identifier, parties, amounts within the cap, one currency, postings that
    /// add up to the amount, evidence.
    ///
    /// # Errors
    /// [`LedgerError`] naming what does not hold.
    pub fn check(&self) -> Result<(), LedgerError> {
        if self.id != entry_id(&self.source, &self.destination, &self.transfer, self.kind, self.sequence) {
            return Err(LedgerError::Damaged("an identifier does not recompute"));
        }
        check_terms(&self.source, &self.destination, &self.payer, self.amount, self.cap)?;
        self.check_postings()?;
        let shape = match self.kind {
            EntryKind::Reserve => self.expires.is_some() && self.about.is_none() && self.reason.is_none(),
            EntryKind::Post => self.expires.is_none() && self.about.is_some() && self.reason.is_none(),
            EntryKind::PostDirect => self.expires.is_none() && self.reason.is_none(),
            EntryKind::Void | EntryKind::Reverse | EntryKind::Release => {
                self.expires.is_none() && self.about.is_some() && self.reason.is_some()
            }
            EntryKind::Hold => self.expires.is_none() && self.reason.is_some(),
        };
        let shape = shape && (self.stated.is_none() || self.kind == EntryKind::Hold);
        if !shape || (self.kind != EntryKind::Reverse && self.sequence != 0) {
            return Err(LedgerError::Damaged("an entry has fields of another kind"));
        }
        match self.kind {
            EntryKind::Reserve => self.evidence.check_agreement(&self.payer),
            EntryKind::Post | EntryKind::PostDirect => {
                self.evidence.check_agreement(&self.payer)?;
                let missing = LedgerError::EvidenceMissing("receipt, or of delivery with both releases");
                self.evidence.proof().map(drop).ok_or(missing)
            }
            EntryKind::Void | EntryKind::Reverse => {
                let is_settled = self.reason == Some(Reason::SettledForPayer);
                self.check_dispute(!is_settled || self.evidence.order.is_some(), "order")
            }
            EntryKind::Hold => {
                self.evidence.check_agreement(&self.payer)?;
                let (shown, needs) = match self.reason {
                    Some(Reason::FeeDisputed) => {
                        (self.evidence.receipt.and(self.stated).is_some(), "receipt")
                    }
                    Some(Reason::RefusedAfterDelivery) => (self.evidence.refusal.is_some(), "refusal"),
                    _ => return Err(LedgerError::Damaged("a hold for another reason")),
                };
                self.check_dispute(shown, needs)
            }
            EntryKind::Release => match self.reason {
                Some(Reason::SettledForPayer | Reason::SettledForSource) => {
                    self.check_dispute(self.evidence.order.is_some(), "order")
                }
                _ => Err(LedgerError::Damaged("a release for another reason")),
            },
        }
    }

    const fn check_dispute(&self, is_shown: bool, evidence: &'static str) -> Result<(), LedgerError> {
        if is_shown { Ok(()) } else { Err(LedgerError::EvidenceMissing(evidence)) }
    }

    fn check_postings(&self) -> Result<(), LedgerError> {
        let mut sum_minor: i64 = 0;
        for posting in &self.postings {
            for account in [&posting.debit, &posting.credit] {
                if account.currency != self.amount.currency() {
                    return Err(LedgerError::MixedCurrencies(account.currency, self.amount.currency()));
                }
            }
            if posting.amount_minor < 0 || posting.debit == posting.credit {
                return Err(LedgerError::Damaged("a posting is negative or goes nowhere"));
            }
            sum_minor =
                sum_minor.checked_add(posting.amount_minor).ok_or(LedgerError::OutOfRange("entry"))?;
        }
        if matches!(self.kind, EntryKind::Hold | EntryKind::Release) {
            // They move nothing; the amount says what is disputed.
            let is_moved = !self.postings.is_empty();
            return if is_moved { Err(LedgerError::Damaged("a hold that moves money")) } else { Ok(()) };
        }
        if self.postings.is_empty() || sum_minor != self.amount.minor() {
            return Err(LedgerError::Unbalanced(self.amount.currency()));
        }
        Ok(())
    }
}

/// Parties and amounts that can be booked.
pub(super) fn check_terms(
    source: &HospitalId,
    destination: &HospitalId,
    payer: &Holder,
    amount: Amount,
    cap: Amount,
) -> Result<(), LedgerError> {
    if source == destination {
        return Err(LedgerError::Terms("source and destination are one hospital"));
    }
    if matches!(payer, Holder::Hospital(hospital) if hospital != destination) {
        return Err(LedgerError::Terms("a hospital that pays must be the destination"));
    }
    if amount.currency() != cap.currency() {
        return Err(LedgerError::MixedCurrencies(amount.currency(), cap.currency()));
    }
    if amount.minor() < 0 {
        return Err(LedgerError::Terms("a fee is not negative"));
    }
    if amount.minor() > cap.minor() {
        return Err(LedgerError::CapExceeded);
    }
    Ok(())
}

/// One posting between two holders in the amount's currency.
pub(super) fn posting(debit: Holder, credit: Holder, amount: Amount) -> Posting {
    let currency = amount.currency();
    Posting {
        debit: Account { holder: debit, currency },
        credit: Account { holder: credit, currency },
        amount_minor: amount.minor(),
        extensions: Extensions::default(),
    }
}
