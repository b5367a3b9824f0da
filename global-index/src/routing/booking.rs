//! What follows for the books from an artefact: a header reserves its fee, a receipt makes it due, a revocation,
//! refusal or failure lets it go. The books themselves decide whether they take it.

use handover_core::artefact::Verified;
use handover_core::artefact::patient::Consent;
use handover_core::artefact::transfer::{PackageHeader, Payer};
use handover_core::codec::Extensions;
use handover_core::ledger::{Evidence, Holder, Reason, Terms, TransferLedger};
use handover_core::rules::Context;
use handover_core::time::DAY_MS;
use handover_core::transfer::Phase;
use handover_core::{Amount, Code, Digest, TransferId};
use handover_dossier::{Dossier, Kind, Taken};
use handover_store::{KeyMaker, StoreError, Txn};

use super::RoutingError;
pub(crate) use super::rows::Hold;
use crate::ledger::{Book, Booking, BooksError};
use handover_store::rows as cells;

/// How long a reservation outlives its consent, in milliseconds: longer than any silence period.
const RESERVATION_AFTER_CONSENT_MS: i64 = 90 * DAY_MS;

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
    match taken.kind {
        Kind::Header => {
            let (terms, evidence, consent) = agreement(&mut Dossier::of(txn, keys, transfer), context)?;
            let expires = consent.expires.plus_ms(RESERVATION_AFTER_CONSENT_MS);
            book.reserve(txn, booking, &terms, expires, &evidence)?;
        }
        Kind::Receipt => {
            let mut dossier = Dossier::of(txn, keys, transfer);
            let (terms, mut evidence, _) = agreement(&mut dossier, context)?;
            let receipt = dossier.receipt(context)?;
            if receipt.fee != terms.amount {
                let hold = Hold {
                    transfer,
                    reserved: terms.amount,
                    stated: receipt.fee,
                    at: booking.now,
                    extensions: Extensions::default(),
                };
                return Ok(cells::put(txn, &hold_key(keys, &transfer), &hold)?);
            }
            evidence.receipt = Some(receipt.hash());
            if dossier.get(Kind::Delivered)?.is_some() {
                evidence.delivered = Some(dossier.delivered(context)?.hash());
            }
            book.post(txn, booking, &terms, &evidence)?;
        }
        Kind::Revocation if taken.row.state.phase == Phase::Revoked => {
            let content = Dossier::of(txn, keys, transfer).get(Kind::Revocation)?.unwrap_or_default();
            let evidence = Evidence { revocation: Some(Digest::sha256(&[&content])), ..Evidence::default() };
            void(txn, book, booking, &transfer, Reason::ConsentRevoked, &evidence)?;
        }
        Kind::Refusal | Kind::PatientRefusal => {
            void(txn, book, booking, &transfer, Reason::NotDelivered, &Evidence::default())?;
        }
        _ => {}
    }
    Ok(())
}

/// What was agreed on, and the evidence of it.
fn agreement(
    dossier: &mut Dossier<'_>,
    context: Context<'_>,
) -> Result<(Terms, Evidence, Verified<Consent>), RoutingError> {
    let consent = dossier.consent(context)?;
    let quote = dossier.agreed_quote(context)?;
    let header = dossier.header(context)?;
    let evidence = Evidence {
        quote: Some(quote.commitment),
        consent: Some(consent.hash()),
        header: Some(header.hash()),
        ..Evidence::default()
    };
    Ok((terms(&header, &consent)?, evidence, consent))
}

fn terms(header: &PackageHeader, consent: &Consent) -> Result<Terms, RoutingError> {
    let cap = match header.payer {
        // Nothing in another currency than the cap's is still within it.
        Payer::Patient if header.fee.minor() == 0 => Amount::zero(header.fee.currency()),
        Payer::Patient => consent.fee_cap,
        // A hospital pays what it accepted, and there is no acceptance among the artefacts yet.
        Payer::Hospital => return Err(Code::CapExceeded.into()),
    };
    Ok(Terms {
        transfer: header.transfer,
        source: header.source.clone(),
        destination: header.destination.clone(),
        payer: Holder::Patient(consent.patient),
        amount: header.fee,
        cap,
    })
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
    let entries = book.transfer(txn, transfer)?.into_iter().map(|listed| listed.entry);
    if TransferLedger::from_entries(entries)?.open_reservation().is_some() {
        book.void(txn, booking, transfer, reason, evidence)?;
    }
    Ok(())
}

/// Lets reservations go whose time is over, at most `limit`; how many.
pub(crate) fn void_expired(
    txn: &mut dyn Txn,
    book: &Book,
    booking: &Booking,
    limit: usize,
) -> Result<usize, BooksError> {
    let due = book.due(txn, booking.now, limit)?;
    for transfer in &due {
        book.void(txn, booking, transfer, Reason::ReservationExpired, &Evidence::default())?;
    }
    Ok(due.len())
}

fn hold_key(keys: &KeyMaker, transfer: &TransferId) -> Vec<u8> {
    keys.space("hold").hashed(transfer.as_bytes()).build()
}

/// Why a transfer's fee is held, if it is.
pub(crate) fn hold_of(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: &TransferId,
) -> Result<Option<Hold>, StoreError> {
    cells::get(txn, &hold_key(keys, transfer))
}
