//! What patients are told, by the inbox that every wallet of theirs reads, and what goes when they are forgotten.

use handover_core::BreakGlassId;
use handover_core::message::BreakGlassNotice;
use handover_records::LocalPatient;
use handover_store::{KeyMaker, Keyring, SCAN_MAX_CELLS, StoreError, Txn, rows};

use super::rows::{InRow, OutRow};
use super::{IN, IN_PIECE, OF_PATIENT, OUT, broken, details, none, place, read_id, remove_pieces};
use crate::ExchangeError;
use crate::context::Inner;

/// Break-glasses that one inbox tells of.
const NOTICES_MAX: usize = 20;

/// The newest break-glasses under which a patient's records were opened, here or from here.
pub(crate) async fn notices(
    inner: &Inner,
    patient: &LocalPatient,
) -> Result<Vec<BreakGlassNotice>, ExchangeError> {
    let mut found = Vec::new();
    for side in [IN, OUT] {
        let (keys, whose) = (inner.keys(), patient.clone());
        let read = inner.parts.store.read(move |txn| -> Result<_, StoreError> {
            let prefix = keys.space(OF_PATIENT).hashed(whose.as_str()).raw(side).build();
            let mut ids = Vec::new();
            for (_, id) in txn.scan(&prefix, None, SCAN_MAX_CELLS)? {
                ids.push(read_id(&id)?);
            }
            // Identifiers ascend with time.
            let newest = ids.split_off(ids.len().saturating_sub(NOTICES_MAX));
            newest.iter().map(|id| txn.get(&place(&keys, side, id))).collect::<Result<Vec<_>, StoreError>>()
        });
        for value in read.await?.into_iter().flatten() {
            let notice = if side == IN {
                of_in(inner, rows::read(&value)?)?
            } else {
                of_out(inner, rows::read(&value)?)?
            };
            found.extend(notice);
        }
    }
    Ok(found)
}

fn of_in(inner: &Inner, held: InRow) -> Result<Option<BreakGlassNotice>, ExchangeError> {
    let given = held.given()?;
    let requesting = super::list::requesting(held.request.as_ref())?;
    let asked = broken(inner, held.request.as_ref(), &requesting)?;
    Ok(Some(BreakGlassNotice {
        source: inner.own().clone(),
        purpose: details(inner, &asked.request)?.purpose,
        request: held.request,
        given,
        more: held.more.filter(|_| held.more_answer.is_some()),
        review: held.review,
        extensions: none(),
    }))
}

fn of_out(inner: &Inner, held: OutRow) -> Result<Option<BreakGlassNotice>, ExchangeError> {
    let asked = broken(inner, held.request.as_ref(), inner.own())?;
    let given = held.given()?;
    // One that only asked the index tells of nothing that was opened.
    let Some(source) = asked.request.source.clone() else { return Ok(None) };
    Ok(Some(BreakGlassNotice {
        source,
        purpose: details(inner, &asked.request)?.purpose,
        request: held.request,
        given,
        more: held.more.filter(|_| held.is_more_here),
        review: held.review,
        extensions: none(),
    }))
}

/// Takes a forgotten patient out: what was sealed for another hospital goes, and no row names them any more. What they
/// were asked for with stays as evidence, sealed, and is not shown any more.
pub(crate) fn forget(
    txn: &mut dyn Txn,
    (keys, keyring): (&KeyMaker, &Keyring),
    patient: &LocalPatient,
) -> Result<(), ExchangeError> {
    let prefix = keys.space(OF_PATIENT).hashed(patient.as_str()).build();
    loop {
        let page = txn.scan(&prefix, None, SCAN_MAX_CELLS)?;
        if page.is_empty() {
            return Ok(());
        }
        for (key, id) in page {
            forget_one(txn, (keys, keyring), patient, &read_id(&id)?)?;
            txn.remove(&key)?;
        }
    }
}

fn forget_one(
    txn: &mut dyn Txn,
    (keys, keyring): (&KeyMaker, &Keyring),
    patient: &LocalPatient,
    id: &BreakGlassId,
) -> Result<(), ExchangeError> {
    let at = place(keys, IN, id);
    if let Some(mut held) = rows::get::<InRow>(txn, &at)?
        && held.patient.as_deref() == Some(patient.as_str())
    {
        (held.patient, held.is_forgotten) = (None, true);
        for asked in super::carry::asked_in(&held)? {
            remove_pieces(txn, (keys, keyring), IN_PIECE, &asked)?;
        }
        rows::put(txn, &at, &held)?;
    }
    let at = place(keys, OUT, id);
    if let Some(mut held) = rows::get::<OutRow>(txn, &at)?
        && held.patient.as_deref() == Some(patient.as_str())
    {
        (held.patient, held.is_forgotten, held.review_note) = (None, true, None);
        rows::put(txn, &at, &held)?;
    }
    Ok(())
}
