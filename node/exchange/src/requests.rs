//! Requests of other hospitals, before anything of them is kept: only for patients who are linked here, under their
//! newest keys, and not too many open ones of one hospital.

use std::sync::Arc;

use handover_core::artefact::patient::Consent;
use handover_core::artefact::transfer::{Refusal, Step, TransferRequest};
use handover_core::artefact::{Payload, Signed, Verified, peek_type};
use handover_core::codec::Extensions;
use handover_core::rules::{self, Context, RequestEvidence};
use handover_core::transfer::{FIRST_ATTEMPT, Phase};
use handover_core::{Code, HospitalId, Party, TransferId};
use handover_dossier::{Dossier, DossierError, Row};
use handover_seal::Remembered;
use handover_store::{KeyMaker, Store, StoreError, Txn};

use crate::context::Inner;
use crate::outbox::{self, Label};
use crate::{Exchange, ExchangeError, links};

const OPEN: &str = "request-open";
/// Requests of one hospital that are not over.
const OPEN_MAX: usize = 1_000;
const STRANGERS: &str = "request-stranger-minute";
/// Requests for patients who are not linked here, or under keys of before, that are answered by a refusal, in any
/// minute.
const STRANGERS_PER_MINUTE: usize = 20;

/// Whether what came may be taken in. What is no new request to this hospital as the source always may.
///
/// # Errors
/// [`Code::NotLinked`]; [`Code::KeyRecordOutdated`], [`Code::KeyRecordForked`]; [`Code::Busy`] if the hospital has too many open requests; why a request does not verify.
pub(crate) async fn admit(inner: &Arc<Inner>, party: &Party, content: &[u8]) -> Result<(), ExchangeError> {
    if !peek_type(content).is_ok_and(|label| label == TransferRequest::TYPE) {
        return Ok(());
    }
    let claimed = Signed::<TransferRequest>::read(content).map_err(|fault| fault.code())?;
    if claimed.claim().source != *inner.own() || inner.row(claimed.claim().transfer).await.is_ok() {
        return Ok(());
    }
    let (federation, now) = (inner.federation()?, inner.now());
    inner.parts.gate.may_sign(&claimed.claim().destination)?;
    // Who is linked here is told only to those who bring the patient's own question.
    let RequestEvidence { request, ask, keys } =
        rules::request(content, Context { federation: &federation, verifier: &Remembered })?;
    rules::ask_in_time(&ask, now)?;
    let admitted = match inner.parts.records.by_ref(ask.patient).await? {
        None => Err(ExchangeError::from(Code::NotLinked)),
        Some(_) => Exchange(Arc::clone(inner)).admit_keys(keys).await,
    };
    if let Err(fault) = admitted {
        if *party == Party::Index && !fault.code().is_transient() {
            refuse(inner, &request, fault.code()).await?;
        }
        return Err(fault);
    }
    open(&inner.parts.store, request.destination.clone(), request.transfer).await
}

/// A consent that was refused because the patient's keys were replaced meanwhile: nothing can follow from the transfer,
/// and both hospitals are told.
pub(crate) async fn end_replaced(inner: &Arc<Inner>, content: &[u8], code: Code) {
    let is_consent = peek_type(content).is_ok_and(|label| label == Consent::TYPE);
    if !is_consent || !matches!(code, Code::KeyRecordOutdated | Code::KeyRecordForked) {
        return;
    }
    let Ok(transfer) = handover_dossier::transfer_of(content) else { return };
    let waits = |row: &Row| matches!(row.state.phase, Phase::Requested | Phase::Quoted);
    if inner.row(transfer).await.is_ok_and(|row| waits(&row))
        && let Err(fault) = inner.refuse(transfer, Step::Consent, code).await
    {
        tracing::error!(%transfer, code = %fault.code(), "the refusal could not be stored");
    }
}

/// The index passed the request on: the destination hears of the refusal by the same way. Nothing else is kept.
async fn refuse(inner: &Arc<Inner>, request: &TransferRequest, code: Code) -> Result<(), ExchangeError> {
    let refusal = Refusal {
        transfer: request.transfer,
        step: Step::Quote,
        code,
        // The same request again gives the same refusal.
        issued: request.issued,
        attempt: FIRST_ATTEMPT,
        extensions: Extensions::default(),
    };
    let refusal = Verified::sign(refusal, &inner.parts.identity.signing);
    let (keys, now) = (inner.keys(), inner.now());
    let label = Label::via_index(request.destination.clone(), request.transfer, now);
    inner
        .parts
        .store
        .write(move |txn| -> Result<(), StoreError> {
            if links::count(txn, &keys.space(STRANGERS).build(), STRANGERS_PER_MINUTE, now)? {
                outbox::push(txn, &keys, &label, refusal.envelope())?;
            }
            Ok(())
        })
        .await?;
    inner.outbox.notify_one();
    Ok(())
}

/// Counts a request as open; those that are over are forgotten when there are too many.
async fn open(store: &Store, hospital: HospitalId, transfer: TransferId) -> Result<(), ExchangeError> {
    let keys = store.keys();
    store
        .write(move |txn| -> Result<(), ExchangeError> {
            let space = keys.space(OPEN).raw(hospital.as_str());
            let cells = txn.scan(&space.clone().build(), None, OPEN_MAX)?;
            if cells.len() >= OPEN_MAX {
                let mut still_open = 0_usize;
                for (key, value) in cells {
                    if is_open(txn, &keys, &value)? {
                        still_open += 1;
                    } else {
                        txn.remove(&key)?;
                    }
                }
                if still_open >= OPEN_MAX {
                    return Err(Code::Busy.into());
                }
            }
            Ok(txn.put(&space.raw(transfer.as_bytes()).build(), transfer.as_bytes().to_vec())?)
        })
        .await
}

fn is_open(txn: &mut dyn Txn, keys: &KeyMaker, transfer: &[u8]) -> Result<bool, DossierError> {
    let Ok(transfer) = TransferId::try_from(transfer) else { return Ok(false) };
    Ok(Dossier::of(txn, keys, transfer).row()?.is_some_and(|row| !row.state.phase.is_final()))
}

#[cfg(test)]
mod tests {
    use handover_core::Timestamp;
    use handover_store::CellKey;

    use super::*;

    #[tokio::test]
    async fn requests_that_are_over_make_room() {
        let store = Store::memory(&CellKey::from_bytes([1; 32]));
        let hospital: HospitalId = "riverside".parse().unwrap();
        let keys = store.keys();
        let filled = store.write(move |txn| -> Result<(), StoreError> {
            let space = keys.space(OPEN).raw("riverside");
            for number in 0..OPEN_MAX as u64 {
                txn.put(&space.clone().u64(number).build(), vec![1; 16])?;
            }
            Ok(())
        });
        filled.await.unwrap();
        // None of them has a row: nothing came of them.
        let transfer = TransferId::new(Timestamp::from_millis(1), [1; 10]);
        open(&store, hospital, transfer).await.unwrap();
        let keys = store.keys();
        let left = store.read(move |txn| txn.scan(&keys.space(OPEN).build(), None, OPEN_MAX)).await;
        assert_eq!(left.unwrap().len(), 1);
    }
}
