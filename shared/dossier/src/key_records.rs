//! The newest key records that are known of a patient, in one row: kept from their first link here on, in whatever
//! transaction brings better ones. What is signed under others is refused there.
//!
//! Invariant: a row is only ever replaced by records that go on from it, or for which the recovery key decided.

use handover_core::artefact::SignatureVerifier;
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::codec::{Bytes, Extensions};
use handover_core::key_chain::Standing;
use handover_core::{Code, Digest, KeyChain, PatientRef, Timestamp, cbor_map};
use handover_store::{KeyMaker, StoreError, Txn, rows};

use crate::DossierError;

const SPACE: &str = "patient-keys";

cbor_map! {
    /// A patient's newest key records.
    pub struct KeysRow {
        /// Hash of the newest.
        1 => newest: Digest,
        /// All of them, whole.
        2 => records: Vec<Bytes>,
    }
}

fn place(keys: &KeyMaker, patient: &PatientRef) -> Vec<u8> {
    keys.space(SPACE).hashed(patient.as_bytes()).build()
}

fn put(txn: &mut dyn Txn, keys: &KeyMaker, chain: &KeyChain) -> Result<(), StoreError> {
    let row = KeysRow {
        newest: chain.hash(),
        records: chain.records().to_vec(),
        extensions: Extensions::default(),
    };
    rows::put(txn, &place(keys, &chain.patient()), &row)
}

/// The row of a patient, if they are known here.
///
/// # Errors
/// The store's.
pub fn held(txn: &mut dyn Txn, keys: &KeyMaker, patient: &PatientRef) -> Result<Option<KeysRow>, StoreError> {
    rows::get(txn, &place(keys, patient))
}

/// A page of all rows, with their keys, which page on.
///
/// # Errors
/// The store's.
pub fn page(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, KeysRow)>, StoreError> {
    let found = txn.scan(&keys.space(SPACE).build(), after, limit)?;
    found.into_iter().map(|(key, row)| Ok((key, rows::read(&row)?))).collect()
}

/// Compares records with those held, and keeps better ones; nothing for a patient who is not known here.
///
/// # Errors
/// [`Code::ClockOff`] for better ones from the future; the store's.
pub fn offer(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    chain: &KeyChain,
    verifier: &dyn SignatureVerifier,
    now: Timestamp,
) -> Result<Option<Standing>, DossierError> {
    let Some(row) = held(txn, keys, &chain.patient())? else { return Ok(None) };
    if row.newest == chain.hash() {
        return Ok(Some(Standing::Same));
    }
    let known = KeyChain::verify(&row.records, verifier).map_err(|_| rows::damaged("a patient's keys"))?;
    let standing = chain.beside(&known);
    if standing == Standing::Newer {
        in_time(chain, now)?;
        put(txn, keys, chain)?;
    }
    Ok(Some(standing))
}

/// As [`offer`], for what is signed under these records: says whether they were better than those held.
///
/// # Errors
/// [`Code::KeyRecordOutdated`], [`Code::KeyRecordForked`]; as [`offer`].
pub fn admit(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    chain: &KeyChain,
    verifier: &dyn SignatureVerifier,
    now: Timestamp,
) -> Result<bool, DossierError> {
    let Some(standing) = offer(txn, keys, chain, verifier, now)? else { return Ok(false) };
    standing.newest()?;
    Ok(standing == Standing::Newer)
}

/// As [`admit`], for a patient who is known here from now on.
///
/// # Errors
/// As [`admit`].
pub fn begin(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    chain: &KeyChain,
    verifier: &dyn SignatureVerifier,
    now: Timestamp,
) -> Result<bool, DossierError> {
    if held(txn, keys, &chain.patient())?.is_some() {
        return admit(txn, keys, chain, verifier, now);
    }
    in_time(chain, now)?;
    put(txn, keys, chain)?;
    Ok(true)
}

/// The patient is not known here any more.
///
/// # Errors
/// The store's.
pub fn forget(txn: &mut dyn Txn, keys: &KeyMaker, patient: &PatientRef) -> Result<(), StoreError> {
    txn.remove(&place(keys, patient))
}

/// A record from the future would outlast what comes until then.
fn in_time(chain: &KeyChain, now: Timestamp) -> Result<(), Code> {
    if chain.newest().issued <= now.plus_ms(CLOCK_SKEW_MS) { Ok(()) } else { Err(Code::ClockOff) }
}
