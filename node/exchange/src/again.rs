//! The destination asks for the next attempt of a transfer: what was sealed is lost to it, or the key that its patient
//! released to is. By itself, when it finds that while it files; or because a clerk says so.
//!
//! Invariants: what is damaged here is gone before the next attempt is asked for, so that it travels again and what is
//! whole does not; a fresh key is stored in the transaction that asks with it.

use std::sync::Arc;

use handover_core::artefact::Verified;
use handover_core::artefact::transfer::{NextAttempt, PartList};
use handover_core::codec::Extensions;
use handover_core::rules::Context;
use handover_core::transfer::{FIRST_ATTEMPT, LAST_ATTEMPT, Phase, Role};
use handover_core::{Code, TransferId};
use handover_dossier::{Dossier, DossierError, Row};
use handover_seal::{OsRandom, Remembered, SealingKey};
use handover_store::{KeyMaker, Keyring, StoreError, Txn};

use crate::context::{Came, Inner};
use crate::{ExchangeError, parts, secrets};

/// Which key the patient releases to in the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKey {
    /// The one before, as long as it is here: then what the patient released holds on.
    KeptIfHere,
    /// A fresh one: the patient releases again.
    Fresh,
}

/// Asks for this attempt; again gives the first answer. The row as it stands then.
///
/// # Errors
/// [`Code::AccessDenied`] at the source; [`Code::OutOfOrder`] unless something was sealed that is not filed;
/// [`Code::AttemptsExhausted`]; how the transfer ended.
pub(crate) async fn again(
    inner: &Arc<Inner>,
    transfer: TransferId,
    attempt: u32,
    request_key: RequestKey,
) -> Result<Row, ExchangeError> {
    let row = inner.row(transfer).await?;
    if !may_ask(&row, attempt)? {
        return Ok(row);
    }
    let keys = inner.keys();
    let held = inner.parts.store.read(move |txn| parts::get(txn, &keys, transfer)).await?;
    if let Some(held) = held {
        delete_damaged(inner, &held).await?;
    }
    let (work, keys) = (Arc::clone(inner), inner.keys());
    let (federation, now) = (inner.federation()?, inner.now());
    let (row, taken) = inner
        .parts
        .store
        .write(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            let keyring = &work.parts.keyring;
            let mut dossier = Dossier::of(txn, &keys, transfer);
            let row = dossier.row()?.ok_or(Code::UnknownTransfer)?;
            if !may_ask(&row, attempt)? {
                return Ok((row, None));
            }
            let consent = dossier.consent(context)?.hash();
            let request_key = if row.origin.is_some() {
                // What the patient released for the first transfer opens every delivery.
                dossier.request_key(attempt, context)?
            } else {
                let kept = match request_key {
                    RequestKey::KeptIfHere => held_key(txn, keyring, &keys, (transfer, attempt), context)?,
                    RequestKey::Fresh => None,
                };
                let key = kept.unwrap_or_else(|| SealingKey::generate(&mut OsRandom));
                secrets::put_request_key(txn, keyring, transfer, &key)?;
                key.public()
            };
            let next = NextAttempt {
                transfer,
                attempt,
                consent,
                request_key,
                issued: now,
                extensions: Extensions::default(),
            };
            let next = Verified::sign(next, &work.parts.identity.signing);
            let taken = work.take_in(txn, &keys, transfer, next.envelope(), Came::Own, context, now)?;
            Ok((taken.row.clone(), Some(taken)))
        })
        .await?;
    if let Some(taken) = taken {
        inner.wake(&taken);
    }
    Ok(row)
}

/// Whether this attempt is still to be asked for; not if it was.
fn may_ask(row: &Row, attempt: u32) -> Result<bool, Code> {
    if row.role != Role::Destination {
        return Err(Code::AccessDenied);
    }
    let state = &row.state;
    if attempt > FIRST_ATTEMPT && attempt <= state.attempt {
        return Ok(false);
    }
    match state.phase {
        Phase::Sealed | Phase::Delivered | Phase::Released if attempt > LAST_ATTEMPT => {
            Err(Code::AttemptsExhausted)
        }
        Phase::Sealed | Phase::Delivered | Phase::Released if attempt == state.attempt.saturating_add(1) => {
            Ok(true)
        }
        _ => Err(state.reason.unwrap_or(Code::OutOfOrder)),
    }
}

/// The secret half of the key that the patient releases to in an attempt, if it is here.
pub(crate) fn held_key(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    (transfer, attempt): (TransferId, u32),
    context: Context<'_>,
) -> Result<Option<SealingKey>, DossierError> {
    let held = match secrets::request_key(txn, keyring, transfer) {
        // As good as gone.
        Err(StoreError::Damaged { .. }) => None,
        held => held?,
    };
    let wanted = Dossier::of(txn, keys, transfer).request_key(attempt, context)?;
    Ok(held.filter(|key| key.public() == wanted))
}

/// Removes the parts that lie here and are not what they were, so that they travel again; says how many were damaged
/// or missing.
pub(crate) async fn delete_damaged(inner: &Arc<Inner>, held: &PartList) -> Result<usize, ExchangeError> {
    let (blobs, mut damaged) = (&inner.parts.blobs, 0_usize);
    for part in held.iter() {
        let is_whole = match blobs.verify(part.root).await {
            Err(StoreError::UnknownBlob) => false,
            other => other?,
        };
        if !is_whole {
            blobs.delete(part.root).await?;
            damaged += 1;
        }
    }
    Ok(damaged)
}
