//! Mailboxes: what waits for each hospital, in the order in which it came.

use handover_core::codec::Extensions;
use handover_core::{Code, HospitalId, Timestamp, TransferId};
use handover_dossier::{Dossier, Place};
use handover_store::{KeyMaker, SCAN_MAX_CELLS, StoreError, Txn};

use super::RoutingError;
pub(crate) use super::rows::Dead as DeadLetter;
use super::rows::{Head, Letter};
use handover_store::rows as cells;

fn letter_key(keys: &KeyMaker, hospital: &HospitalId, number: u64) -> Vec<u8> {
    keys.space("mailbox").hashed(hospital.as_str()).u64(number).build()
}

/// Notes that a hospital has an artefact, because it sent it or is sent it. Whether that is new.
pub(super) fn mark(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
    transfer: TransferId,
    place: Place,
) -> Result<bool, StoreError> {
    let of_transfer = keys.space("routed").hashed(hospital.as_str()).raw(transfer.as_bytes());
    let mark = of_transfer.u64(place.kind as u64).u64(u64::from(place.attempt)).build();
    if txn.get(&mark)?.is_some() {
        return Ok(false);
    }
    txn.put(&mark, Vec::new())?;
    Ok(true)
}

/// Puts an artefact into a mailbox, once ever, and never if that hospital has sent it itself. Whether it was put
/// there now.
pub(super) fn post(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
    transfer: TransferId,
    place: Place,
) -> Result<bool, StoreError> {
    if !mark(txn, keys, hospital, transfer, place)? {
        return Ok(false);
    }
    let head = keys.space("mailbox-head").hashed(hospital.as_str()).build();
    let number = cells::get::<Head>(txn, &head)?.map_or(0, |head| head.next);
    let Place { kind, attempt } = place;
    let letter = Letter { transfer, kind, number, attempt, extensions: Extensions::default() };
    cells::put(txn, &letter_key(keys, hospital, number), &letter)?;
    let next = Head { next: number.saturating_add(1), extensions: Extensions::default() };
    cells::put(txn, &head, &next)?;
    Ok(true)
}

/// The oldest letters of a hospital, behind the one with the number `after`; at most `limit`, up to 1,000.
pub(crate) fn waiting(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<Letter>, StoreError> {
    let space = keys.space("mailbox").hashed(hospital.as_str()).build();
    let after = after.map(|number| letter_key(keys, hospital, number));
    let found = txn.scan(&space, after.as_deref(), limit.clamp(1, SCAN_MAX_CELLS))?;
    found.iter().map(|(_, bytes)| cells::read(bytes)).collect()
}

/// What a letter holds.
pub(super) fn content(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    letter: &Letter,
) -> Result<Option<Vec<u8>>, StoreError> {
    Dossier::of(txn, keys, letter.transfer).get(letter.kind.of(letter.attempt))
}

/// The hospital has it.
pub(super) fn remove(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
    number: u64,
) -> Result<(), StoreError> {
    txn.remove(&letter_key(keys, hospital, number))
}

/// The hospital will not take it: kept apart for a person to see.
pub(super) fn bury(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
    letter: &Letter,
    code: Code,
    at: Timestamp,
) -> Result<(), StoreError> {
    remove(txn, keys, hospital, letter.number)?;
    let dead = DeadLetter {
        hospital: hospital.clone(),
        transfer: letter.transfer,
        kind: letter.kind,
        code,
        at,
        extensions: Extensions::default(),
    };
    let key = keys.space("dead-letter").hashed(hospital.as_str()).u64(letter.number).build();
    cells::put(txn, &key, &dead)
}

/// Dead letters, of at most one page of them those whose transfer has not come to nothing anyway.
pub(crate) fn dead_letters(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Vec<DeadLetter>, RoutingError> {
    let mut dead = Vec::new();
    for (_, bytes) in txn.scan(&keys.space("dead-letter").build(), None, SCAN_MAX_CELLS)? {
        let letter: DeadLetter = cells::read(&bytes)?;
        let row = Dossier::of(txn, keys, letter.transfer).row()?;
        if !row.is_some_and(|row| row.makes_moot(letter.code)) {
            dead.push(letter);
        }
    }
    Ok(dead)
}
