//! Fees for which no receipt comes. The rule is `handover_core::ledger::Handover`'s; here is what it is asked with,
//! and what it says is done.
//!
//! Invariants: silence is counted only from the moment on at which everything of both releases of one attempt lies in
//! the destination's mailbox, or came from it, and goes on whatever comes after that: a destination that asks for
//! another attempt has been offered this one, and says so with a refusal if it cannot file. What is to be done is
//! derived from what is stored each time, so that a look repeated or made too early harms nothing.

use handover_core::codec::Extensions;
use handover_core::ledger::{Due, Evidence, Handover, Terms};
use handover_core::rules::{self, Context};
use handover_core::{Timestamp, TransferId};
use handover_dossier::{Dossier, Kind, Row};
use handover_store::rows as cells;
use handover_store::{KeyMaker, Txn};

use super::booking::{Agreement, agreement, is_exit, last_sealed};
use super::rows::Offered;
use super::{RoutingError, recalls};
use crate::ledger::{Book, Booking};

/// Notes it if the destination has been offered everything now, and looks at the fee. From now on by the index's own
/// clock: the artefacts' dates are the word of those who gain by a sooner or a later one.
pub(super) fn offered(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    row: &Row,
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let is_known = txn.get(&offered_key(keys, &row.transfer))?.is_some();
    let mut dossier = Dossier::of(txn, keys, row.transfer);
    let Some(attempt) = handed_over(&mut dossier)? else { return Ok(()) };
    // What has begun to count goes on; where somebody has spoken before, silence says nothing.
    let has_ended = match refused_attempt(&mut dossier, context)? {
        Some(refused) => refused <= attempt || dossier.get(Kind::Revocation)?.is_some(),
        None => is_exit(row.state.phase),
    };
    if is_known || has_ended {
        return look(txn, keys, book, booking, row.transfer, context).map(drop);
    }
    let quote = dossier.agreed_quote(context)?;
    let silence_ms = rules::schedule(&quote, context)?.silence_ms;
    let offered = Offered {
        transfer: row.transfer,
        at: booking.now,
        until: booking.now.plus_ms(silence_ms),
        extensions: Extensions::default(),
    };
    cells::put(txn, &offered_key(keys, &row.transfer), &offered)?;
    look(txn, keys, book, booking, row.transfer, context).map(drop)
}

fn offered_key(keys: &KeyMaker, transfer: &TransferId) -> Vec<u8> {
    keys.space("offered").hashed(transfer.as_bytes()).build()
}

/// The first attempt that the destination has, with both releases of it.
fn handed_over(dossier: &mut Dossier<'_>) -> Result<Option<u32>, RoutingError> {
    for attempt in released(dossier)? {
        if dossier.get(Kind::Delivered.of(attempt))?.is_some() {
            return Ok(Some(attempt));
        }
    }
    Ok(None)
}

/// The attempts of which both shares are known to be out.
pub(super) fn released(dossier: &mut Dossier<'_>) -> Result<Vec<u32>, RoutingError> {
    let mut released = Vec::new();
    for attempt in dossier.attempts_with(Kind::KeyRelease)? {
        if dossier.released_with(attempt)?.is_some() {
            released.push(attempt);
        }
    }
    Ok(released)
}

/// Whether the refusal that is here is about an attempt after one that was handed over.
pub(super) fn is_about_a_later_attempt(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    context: Context<'_>,
) -> Result<bool, RoutingError> {
    let mut dossier = Dossier::of(txn, keys, transfer);
    let refused = refused_attempt(&mut dossier, context)?;
    Ok(handed_over(&mut dossier)?.is_some_and(|attempt| Some(attempt) < refused))
}

/// Which attempt a hospital has refused, if one has.
fn refused_attempt(dossier: &mut Dossier<'_>, context: Context<'_>) -> Result<Option<u32>, RoutingError> {
    let is_refused = dossier.get(Kind::Refusal)?.is_some();
    Ok(if is_refused { Some(dossier.refusal(context)?.attempt) } else { None })
}

/// Looks at a fee: posts it, lets it go, or sets when to look again; what it did.
pub(crate) fn look(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    transfer: TransferId,
    context: Context<'_>,
) -> Result<Due, RoutingError> {
    let ledger = book.story(txn, &transfer)?;
    let Known { handover, terms, evidence } = known(txn, keys, transfer, context)?;
    let due = handover.due(&ledger, booking.now);
    match due {
        Due::Nothing => book.look_no_more(txn, &transfer)?,
        Due::Later(at) => book.look_at(txn, &transfer, at)?,
        Due::Post => {
            book.post(txn, booking, &terms, &evidence)?;
            recalls::give_back(txn, keys, book, booking, transfer, context)?;
        }
        Due::Void(reason) => {
            book.void(txn, booking, &transfer, reason, &Evidence::default())?;
        }
    }
    Ok(due)
}

struct Known {
    handover: Handover,
    terms: Terms,
    evidence: Evidence,
}

fn known(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    context: Context<'_>,
) -> Result<Known, RoutingError> {
    let offered = cells::get::<Offered>(txn, &offered_key(keys, &transfer))?;
    let mut dossier = Dossier::of(txn, keys, transfer);
    let attempt = match handed_over(&mut dossier)? {
        Some(attempt) => attempt,
        None => last_sealed(&mut dossier)?,
    };
    let Agreement { terms, mut evidence, consent } = agreement(&mut dossier, attempt, context)?;
    if dossier.get(Kind::Delivered.of(attempt))?.is_some() {
        evidence.delivered = Some(dossier.delivered(attempt, context)?.hash());
    }
    let released = releases(&mut dossier, attempt, &mut evidence, context)?;
    let is_refused = refused_attempt(&mut dossier, context)?.is_some_and(|refused| refused <= attempt);
    let handover = Handover {
        consent_expires: consent.expires,
        is_delivered: evidence.delivered.is_some(),
        released,
        is_ended: offered.is_none() || is_refused,
        silent_until: offered.map(|offered| offered.until),
    };
    Ok(Known { handover, terms, evidence })
}

/// When both releases were made, if both are there.
fn releases(
    dossier: &mut Dossier<'_>,
    attempt: u32,
    evidence: &mut Evidence,
    context: Context<'_>,
) -> Result<Option<Timestamp>, RoutingError> {
    let Some(with_key_of) = dossier.released_with(attempt)? else { return Ok(None) };
    if dossier.get(Kind::KeyRelease.of(attempt))?.is_none() {
        return Ok(None);
    }
    let (key, share) = (dossier.key_release(attempt, context)?, dossier.share_release(with_key_of, context)?);
    evidence.key_release = Some(key.hash());
    evidence.share_release = Some(share.hash());
    Ok(Some(key.issued.max(share.issued)))
}
