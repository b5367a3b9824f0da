//! Patients' newest key records, and passing them on: every hospital that a patient linked themselves to is told of
//! better ones. What waits is that there are some, not which: the newest at that moment are told.

use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::key_chain::Standing;
use handover_core::message::KeyRecords;
use handover_core::{Code, HospitalId, KeyChain, PatientRef, Timestamp};
use handover_dossier::key_records;
use handover_seal::Remembered;
use handover_store::{KeyMaker, StoreError, Txn, rows as cells};

use super::rows::{KeysFor, Link};
use super::{LocatorError, links_of};

/// Keys that wait for a hospital.
#[derive(Clone, Debug)]
pub(crate) struct KeysWaiting {
    key: Vec<u8>,
    row: Vec<u8>,
    /// The newest `KeyRecords`, encoded.
    pub(crate) content: Vec<u8>,
}

fn encoded(row: key_records::KeysRow) -> Vec<u8> {
    codec::encode(&KeyRecords { records: row.records, extensions: Extensions::default() })
}

/// Takes the keys that a hospital tells of; gives the ones held here if they are better, and who else is to be told.
///
/// # Errors
/// [`Code::NotLinked`] for a patient whom nobody linked; why they do not verify.
pub(crate) fn take_keys(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    content: &[u8],
    sender: &HospitalId,
    now: Timestamp,
) -> Result<(Option<Vec<u8>>, Vec<HospitalId>), LocatorError> {
    let records: KeyRecords = codec::decode(content, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
    let chain = KeyChain::verify(&records.records, &Remembered)?;
    let patient = chain.patient();
    match key_records::offer(txn, keys, &chain, &Remembered, now)?.ok_or(Code::NotLinked)? {
        Standing::Same | Standing::Newer => Ok((None, pass_on(txn, keys, &patient, sender)?)),
        Standing::Older | Standing::ForkLost => {
            Ok((key_records::held(txn, keys, &patient)?.map(encoded), Vec::new()))
        }
    }
}

/// Puts a patient's newest keys on their way to the hospitals that they linked themselves to, once; `sender` has
/// them. Gives those hospitals.
///
/// # Errors
/// The store's.
pub(crate) fn pass_on(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    patient: &PatientRef,
    sender: &HospitalId,
) -> Result<Vec<HospitalId>, StoreError> {
    let Some(held) = key_records::held(txn, keys, patient)? else { return Ok(Vec::new()) };
    let passed = keys.space("keys-passed").hashed(patient.as_bytes()).build();
    if txn.get(&passed)?.is_some_and(|newest| newest == held.newest.as_bytes()) {
        return Ok(Vec::new());
    }
    txn.put(&passed, held.newest.as_bytes().to_vec())?;
    let links: Vec<Link> = links_of(txn, keys, patient)?;
    let others = links.into_iter().map(|link| link.hospital).filter(|hospital| hospital != sender);
    let others: Vec<HospitalId> = others.collect();
    for hospital in &others {
        let key = keys.space("keys-for").hashed(hospital.as_str()).hashed(patient.as_bytes()).build();
        let row = KeysFor { patient: *patient, newest: held.newest, extensions: Extensions::default() };
        cells::put(txn, &key, &row)?;
    }
    Ok(others)
}

/// Keys that wait for a hospital, at most `limit`.
///
/// # Errors
/// The store's.
pub(crate) fn keys_for(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
    limit: usize,
) -> Result<Vec<KeysWaiting>, StoreError> {
    let space = keys.space("keys-for").hashed(hospital.as_str()).build();
    let mut waiting = Vec::new();
    for (key, row) in txn.scan(&space, None, limit)? {
        let read: KeysFor = cells::read(&row)?;
        let held = key_records::held(txn, keys, &read.patient)?;
        let held = held.ok_or_else(|| cells::damaged("keys that wait"))?;
        waiting.push(KeysWaiting { key, row, content: encoded(held) });
    }
    Ok(waiting)
}

/// The hospital has them, or will never take them. Newer ones go on waiting.
///
/// # Errors
/// The store's.
pub(crate) fn keys_told(txn: &mut dyn Txn, told: &KeysWaiting) -> Result<(), StoreError> {
    if txn.get(&told.key)?.as_ref() == Some(&told.row) { txn.remove(&told.key) } else { Ok(()) }
}
