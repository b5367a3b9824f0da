//! What follows for the books from an artefact: a header reserves its fee, a receipt makes it due, a revocation,
//! refusal or failure lets it go, and the last of delivery and releases begins the silence period. The books
//! themselves decide whether they take it.
//!
//! Copies come in any order. Invariants:
//! - With a receipt among them exactly one fee stands, whatever ended the transfer before it and whichever attempt it is
//!   of; but none if two operators have settled it for the payer: a receipt after that is kept and books nothing.
//! - A revocation lets the fee go while no share is known to be out; with the source's alone, once the destination has
//!   signed that it opens nothing; with both, never.
//! - A destination that is known to have the package frees itself of nothing by a refusal: people look at that.
//! - What was handed over in one attempt is owed, whatever becomes of those after it.
//! - What the source's recalls give back is reversed as soon as the fee is posted ([`super::recalls`]).

use handover_core::artefact::Verified;
use handover_core::artefact::patient::Consent;
use handover_core::artefact::transfer::RevocationEffect;
use handover_core::ledger::{Evidence, RESERVATION_AFTER_CONSENT_MS, Reason, Terms, copies_until};
use handover_core::rules::{self, Context};
use handover_core::transfer::Phase;
use handover_core::{Code, Digest, TransferId};
use handover_dossier::{Dossier, Kind, Row, Taken};
use handover_store::{KeyMaker, StoreError, Txn};

use super::{RoutingError, recalls, settlement, silence};
use crate::ledger::{Book, Booking, BooksError};

/// Books what follows from an artefact that was just taken in.
pub(super) fn consequence(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    taken: &Taken,
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let transfer = taken.row.transfer;
    let attempt = taken.place.attempt;
    match taken.kind() {
        // A transfer that has ended reserves nothing; its receipt, if it comes, is posted directly.
        Kind::Header if is_exit(taken.row.state.phase) => {}
        Kind::Header => {
            // A further attempt's finds the reservation there.
            let agreed = agreement(&mut Dossier::of(txn, keys, transfer), attempt, context)?;
            reserve(txn, book, booking, &agreed)?;
        }
        Kind::Receipt => {
            receipt(txn, keys, book, booking, (transfer, attempt), context)?;
            recalls::give_back(txn, keys, book, booking, transfer, context)?;
        }
        Kind::Recall => recalls::give_back(txn, keys, book, booking, transfer, context)?,
        Kind::Delivered | Kind::KeyRelease if is_refused(txn, keys, &taken.row, context)? => {
            hold_back(txn, keys, book, booking, transfer, context)?;
        }
        Kind::Delivered | Kind::KeyRelease | Kind::ShareRelease => {
            silence::offered(txn, keys, book, booking, &taken.row, context)?;
        }
        // What was handed over before is owed, whoever gives a later attempt up.
        Kind::Refusal if silence::is_about_a_later_attempt(txn, keys, transfer, context)? => {}
        Kind::Refusal if is_refused(txn, keys, &taken.row, context)? => {
            // Its own word does not free it of the fee for what it has.
            let mut dossier = Dossier::of(txn, keys, transfer);
            if has_any(&mut dossier, Kind::Delivered)? || has_any(&mut dossier, Kind::KeyRelease)? {
                hold_back(txn, keys, book, booking, transfer, context)?;
            } else {
                forgo(txn, keys, book, booking, transfer, context)?;
            }
        }
        // The source may forgo its fee at any time.
        Kind::Refusal => forgo(txn, keys, book, booking, transfer, context)?,
        Kind::Revocation | Kind::ConfirmedByDestination => {
            // With a continuous consent ends what is delivered under it.
            let ended = taken.ended.iter().map(|row| row.transfer);
            for transfer in std::iter::once(transfer).chain(ended) {
                let mut dossier = Dossier::of(txn, keys, transfer);
                if let Some(evidence) = taken_back(&mut dossier, context)? {
                    void(txn, book, booking, &transfer, Reason::ConsentRevoked, &evidence)?;
                }
            }
        }
        Kind::PatientRefusal => {
            let mut dossier = Dossier::of(txn, keys, transfer);
            if !has_any(&mut dossier, Kind::KeyRelease)? && !has_any(&mut dossier, Kind::Receipt)? {
                void(txn, book, booking, &transfer, Reason::NotDelivered, &Evidence::default())?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Lets the fee go on the refusal that is here.
fn forgo(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    transfer: TransferId,
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let refusal = Some(Dossier::of(txn, keys, transfer).refusal(context)?.hash());
    let evidence = Evidence { refusal, ..Evidence::default() };
    Ok(void(txn, book, booking, &transfer, Reason::NotDelivered, &evidence)?)
}

/// The evidence that the consent was taken back before both shares were out. Once the source has released its share,
/// the destination has to have signed that it cannot open anything.
fn taken_back(dossier: &mut Dossier<'_>, context: Context<'_>) -> Result<Option<Evidence>, RoutingError> {
    let Some(revocation) = dossier.get(Kind::Revocation)? else { return Ok(None) };
    if has_any(dossier, Kind::Receipt)? || !silence::released(dossier)?.is_empty() {
        return Ok(None);
    }
    if has_any(dossier, Kind::KeyRelease)? {
        let Some(confirmed) = dossier.get(Kind::ConfirmedByDestination)? else { return Ok(None) };
        let confirmed = rules::revocation_confirmed(&confirmed, &dossier.consent(context)?, context)
            .map_err(RoutingError::Refused)?;
        if confirmed.effect != RevocationEffect::InTime {
            return Ok(None);
        }
    }
    let revocation = Some(Digest::sha256(&[&revocation]));
    Ok(Some(Evidence { revocation, ..Evidence::default() }))
}

/// Whether an artefact of this kind is here, of whichever attempt.
fn has_any(dossier: &mut Dossier<'_>, kind: Kind) -> Result<bool, StoreError> {
    Ok(!dossier.attempts_with(kind)?.is_empty())
}

/// A receipt makes the fee due, whatever the state is by now, if it was not settled for the payer.
fn receipt(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    (transfer, attempt): (TransferId, u32),
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let mut dossier = Dossier::of(txn, keys, transfer);
    let Agreement { terms, mut evidence, .. } = agreement(&mut dossier, attempt, context)?;
    let receipt = dossier.receipt(attempt, context)?;
    evidence.receipt = Some(receipt.hash());
    if receipt.fee != terms.amount {
        book.hold(txn, booking, &terms, Some(receipt.fee), &evidence)?;
        return settlement::settle_again(txn, keys, book, booking, &transfer, context);
    }
    if dossier.get(Kind::Delivered.of(attempt))?.is_some() {
        evidence.delivered = Some(dossier.delivered(attempt, context)?.hash());
    }
    // Whatever people are still to look at, the destination's own receipt settles it.
    book.post(txn, booking, &terms, &evidence)?;
    Ok(())
}

/// Whether the destination has refused.
fn is_refused(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    row: &Row,
    context: Context<'_>,
) -> Result<bool, RoutingError> {
    let mut dossier = Dossier::of(txn, keys, row.transfer);
    if dossier.get(Kind::Refusal)?.is_none() {
        return Ok(false);
    }
    let by = *dossier.refusal(context)?.signer();
    Ok(context.federation.member(&row.destination)?.keys().any(|key| *key == by))
}

/// Keeps the reservation, or makes it if the refusal was faster than the header, and notes that people must look; not
/// if the patient had taken the consent back in time, whatever a source says to have released after that.
fn hold_back(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    transfer: TransferId,
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let ledger = book.story(txn, &transfer)?;
    let is_let_go = ledger.void().is_some_and(|void| void.reason == Some(Reason::ConsentRevoked));
    if ledger.posted().is_some() || ledger.hold().is_some() || is_let_go {
        return Ok(());
    }
    let mut dossier = Dossier::of(txn, keys, transfer);
    if let Some(evidence) = taken_back(&mut dossier, context)? {
        return Ok(void(txn, book, booking, &transfer, Reason::ConsentRevoked, &evidence)?);
    }
    let attempt = last_sealed(&mut dossier)?;
    let agreed = agreement(&mut dossier, attempt, context)?;
    let refusal = Some(dossier.refusal(context)?.hash());
    reserve(txn, book, booking, &agreed)?;
    let evidence = Evidence { refusal, ..agreed.evidence };
    book.hold(txn, booking, &agreed.terms, None, &evidence)?;
    settlement::settle_again(txn, keys, book, booking, &transfer, context)
}

/// Reserves what was agreed on, to be looked at when no more copies are waited for; nothing if that time is over, a
/// proof is then posted directly.
fn reserve(txn: &mut dyn Txn, book: &Book, booking: &Booking, agreed: &Agreement) -> Result<(), BooksError> {
    let (copies_until, expires) =
        (copies_until(agreed.consent.expires), agreed.consent.expires.plus_ms(RESERVATION_AFTER_CONSENT_MS));
    if booking.now >= copies_until {
        return Ok(());
    }
    let booked = book.reserve(txn, booking, &agreed.terms, expires, &agreed.evidence)?;
    if booked.is_repeated {
        return Ok(());
    }
    book.look_at(txn, &agreed.terms.transfer, copies_until)
}

pub(super) const fn is_exit(phase: Phase) -> bool {
    phase.is_final() && !matches!(phase, Phase::Filed)
}

/// What was agreed on, and the evidence of it.
pub(super) struct Agreement {
    pub(super) terms: Terms,
    pub(super) evidence: Evidence,
    pub(super) consent: Verified<Consent>,
}

/// The last attempt whose header is here. The terms are the same in each.
pub(super) fn last_sealed(dossier: &mut Dossier<'_>) -> Result<u32, RoutingError> {
    let last = dossier.attempts_with(Kind::Header)?.pop();
    last.ok_or(RoutingError::Refused(Code::EvidenceMissing))
}

pub(super) fn agreement(
    dossier: &mut Dossier<'_>,
    attempt: u32,
    context: Context<'_>,
) -> Result<Agreement, RoutingError> {
    let consent = dossier.consent(context)?;
    let quote = dossier.agreed_quote(context)?;
    let (header, cover) = (dossier.header(attempt, context)?, dossier.cover(context)?);
    let evidence = Evidence {
        quote: Some(quote.commitment),
        consent: Some(consent.hash()),
        acceptance: dossier.fee_acceptance(context)?.map(|acceptance| acceptance.hash()),
        header: Some(header.hash()),
        ..Evidence::default()
    };
    Ok(Agreement { terms: rules::fee_terms(&header, &consent, &cover), evidence, consent })
}

/// Lets an open reservation go; without one there is nothing to do.
fn void(
    txn: &mut dyn Txn,
    book: &Book,
    booking: &Booking,
    transfer: &TransferId,
    reason: Reason,
    evidence: &Evidence,
) -> Result<(), BooksError> {
    if book.story(txn, transfer)?.open_reservation().is_some() {
        book.void(txn, booking, transfer, reason, evidence)?;
    }
    Ok(())
}
