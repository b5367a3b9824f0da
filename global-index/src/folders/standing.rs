//! Where a package in a folder stands, from its transfer's dossier: the one answer for keeping, offering and handing
//! out.

use handover_core::rules::{self, Context};
use handover_core::time::DAY_MS;
use handover_core::transfer::Phase;
use handover_core::{Code, Timestamp};
use handover_dossier::{Dossier, Kind};
use handover_store::{KeyMaker, Txn};

use super::rows::{self, Left};
use crate::routing::RoutingError;

/// How long a package may take to arrive before its room is given away, in milliseconds.
const STALLED_MS: i64 = DAY_MS;

/// What is to be done with a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Offer it to the destination.
    Offer,
    /// The destination has signed for it, and the patient's release is known: hand the source's out.
    HandOut,
    /// It is still arriving, or the patient's release is awaited, or the source's is out: then it is kept until the receipt.
    Keep,
    /// Nobody needs it any more, and why.
    Remove(&'static str),
}

/// What a package calls for, by its transfer's evidence here; no signature is looked at.
pub(super) fn next(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    left: &Left,
    now: Timestamp,
) -> Result<Next, RoutingError> {
    let mut dossier = Dossier::of(txn, keys, left.transfer);
    if let Err(code) = ended(&mut dossier, left.attempt)? {
        return Ok(Next::Remove(code.as_str()));
    }
    if dossier.get(Kind::Receipt.of(left.attempt))?.is_some() {
        return Ok(Next::Remove("filed"));
    }
    let is_released = dossier.get(Kind::KeyRelease.of(left.attempt))?.is_some();
    let has_signed = dossier.get(Kind::Delivered.of(left.attempt))?.is_some();
    let is_shared = dossier.released_with(left.attempt)?.is_some();
    if left.expires <= now {
        return Ok(Next::Remove("expired"));
    }
    if is_released {
        return Ok(Next::Keep);
    }
    if rows::withdrawn(txn, keys, &left.source, left.transfer)? >= left.attempt {
        return Ok(Next::Remove("withdrawn"));
    }
    Ok(match left.left {
        None if left.begun.plus_ms(STALLED_MS) <= now => Next::Remove("stalled"),
        None => Next::Keep,
        // The patient may release later.
        Some(_) if has_signed && !is_shared => Next::Keep,
        Some(_) if has_signed => Next::HandOut,
        Some(_) => Next::Offer,
    })
}

/// Whether a transfer, or this attempt of it, is over.
fn ended(dossier: &mut Dossier<'_>, attempt: u32) -> Result<Result<(), Code>, RoutingError> {
    if dossier.get(Kind::Revocation)?.is_some() {
        return Ok(Err(Code::ConsentRevoked));
    }
    let Some(row) = dossier.row()? else { return Ok(Err(Code::UnknownTransfer)) };
    if row.state.phase.is_final() && row.state.phase != Phase::Filed {
        return Ok(Err(row.state.reason.unwrap_or(Code::OutOfOrder)));
    }
    for kind in [Kind::Header, Kind::NextAttempt] {
        if dossier.attempts_with(kind)?.last().is_some_and(|last| *last > attempt) {
            return Ok(Err(Code::OutOfOrder));
        }
    }
    Ok(Ok(()))
}

/// Whether a package may be kept, offered or handed out at this moment: both hospitals take part by a fresh directory,
/// the consent is in time and not taken back, and its source has not withdrawn it.
pub(super) fn check(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    left: &Left,
    context: Context<'_>,
    now: Timestamp,
) -> Result<(), RoutingError> {
    context.federation.check_fresh(now)?;
    context.federation.active(&left.source, now)?;
    context.federation.active(&left.destination, now)?;
    let mut dossier = Dossier::of(txn, keys, left.transfer);
    rules::consent_in_time(&*dossier.consent(context)?, now)?;
    ended(&mut dossier, left.attempt)??;
    if dossier.get(Kind::Receipt.of(left.attempt))?.is_some() {
        return Err(Code::OutOfOrder.into());
    }
    if rows::withdrawn(txn, keys, &left.source, left.transfer)? >= left.attempt {
        return Err(Code::ConsentRevoked.into());
    }
    Ok(())
}
