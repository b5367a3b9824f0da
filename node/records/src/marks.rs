//! Marks at rest, and notes of records that changed: a mark stands beside its version, sealed under its patient's key,
//! because it tells of the patient; a note says that a linked patient's record has another current version or a mark.
//!
//! A mark is only ever put in the place of a lighter one. Nothing here decides who may mark.

use handover_core::artefact::recall::RecallReason;
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::{HospitalId, Random, Timestamp, cbor_map};
use handover_seal::Secret32;
use handover_seal::cell::{open_cell, seal_cell};
use handover_store::{Txn, VALUE_MAX_BYTES};

use crate::RecordsError;
use crate::keys::place;
use crate::mark::Mark;
use crate::model::{LocalPatient, RecordId, RecordRef};
use crate::rows::{self, Places};

cbor_map! {
    /// A mark, sealed under its patient's key.
    struct SealedMarkRow {
        /// A [`MarkRow`].
        1 => sealed: Bytes,
    }
}

cbor_map! {
    /// A mark.
    struct MarkRow {
        1 => reason: RecallReason,
        2 => by: HospitalId,
        3 => since: Timestamp,
        4 => replaced: Option<Timestamp>,
    }
}

cbor_map! {
    /// A record that changed.
    pub(crate) struct ChangedRow {
        1 => patient: String,
        2 => record: [u8; 16],
        /// When; so that a change that comes while this one is worked on is not lost with it.
        3 => at: Timestamp,
        /// The version that changed it.
        4 => version: u32,
    }
}

impl Places {
    /// All marks of a patient's records.
    pub(crate) fn marks(&self, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.mark").hashed(patient.as_str()).build()
    }

    pub(crate) fn mark(&self, patient: &LocalPatient, at: RecordRef) -> Vec<u8> {
        let marks = self.0.space("records.mark").hashed(patient.as_str());
        marks.hashed(at.record.0).u64(u64::from(at.version)).build()
    }

    /// All notes of changed records.
    pub(crate) fn all_changed(&self) -> Vec<u8> {
        self.0.space("records.changed").build()
    }

    /// Those of a patient.
    pub(crate) fn changed_of(&self, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.changed").hashed(patient.as_str()).build()
    }

    pub(crate) fn changed(&self, patient: &LocalPatient, record: RecordId) -> Vec<u8> {
        self.0.space("records.changed").hashed(patient.as_str()).hashed(record.0).build()
    }

    /// All versions of a record.
    pub(crate) fn versions_of(&self, patient: &LocalPatient, record: RecordId) -> Vec<u8> {
        self.0.space("records.version").hashed(patient.as_str()).hashed(record.0).build()
    }
}

fn bound(patient: &LocalPatient, at: RecordRef) -> Vec<u8> {
    place("handover/mark/1", &[patient.as_str().as_bytes(), &at.record.0, &at.version.to_be_bytes()])
}

/// Whether the patient has a marked record.
pub(crate) fn any(txn: &mut dyn Txn, places: &Places, patient: &LocalPatient) -> Result<bool, RecordsError> {
    Ok(!txn.scan(&places.marks(patient), None, 1)?.is_empty())
}

/// The mark of a version; `key` is the patient's for summaries.
pub(crate) fn get(
    txn: &mut dyn Txn,
    places: &Places,
    key: &Secret32,
    patient: &LocalPatient,
    at: RecordRef,
) -> Result<Option<Mark>, RecordsError> {
    let row: Option<SealedMarkRow> = rows::get(txn, &places.mark(patient, at), "mark")?;
    let Some(row) = row else { return Ok(None) };
    let opened = open_cell(key, &bound(patient, at), row.sealed.as_ref());
    let opened = opened.map_err(RecordsError::damaged("mark"))?;
    let row: MarkRow = codec::decode(&opened, VALUE_MAX_BYTES).map_err(RecordsError::undecodable("mark"))?;
    Ok(Some(Mark { reason: row.reason, by: row.by, since: row.since, replaced: row.replaced }))
}

/// Marks a version, unless a mark stands that says as much; whether it did.
pub(crate) fn put(
    txn: &mut dyn Txn,
    places: &Places,
    key: &Secret32,
    (patient, at): (&LocalPatient, RecordRef),
    mark: &Mark,
    random: &mut dyn Random,
) -> Result<bool, RecordsError> {
    if !mark.is_graver_than(get(txn, places, key, patient, at)?.as_ref()) {
        return Ok(false);
    }
    let row = MarkRow {
        reason: mark.reason,
        by: mark.by.clone(),
        since: mark.since,
        replaced: mark.replaced,
        extensions: Extensions::default(),
    };
    let sealed =
        seal_cell(key, &bound(patient, at), &codec::encode(&row), random).map_err(RecordsError::Seal)?;
    let row = SealedMarkRow { sealed: sealed.into(), extensions: Extensions::default() };
    rows::put(txn, &places.mark(patient, at), &row)?;
    Ok(true)
}

/// Notes that a record changed, if its patient is or was linked: nothing of others was ever sent.
pub(crate) fn note_change(
    txn: &mut dyn Txn,
    places: &Places,
    patient: &LocalPatient,
    at: RecordRef,
    now: Timestamp,
) -> Result<(), RecordsError> {
    let is_linked = !txn.scan(&places.links_of(patient), None, 1)?.is_empty();
    if !is_linked && txn.get(&places.was_linked(patient))?.is_none() {
        return Ok(());
    }
    let row = ChangedRow {
        patient: patient.as_str().to_owned(),
        record: at.record.0,
        at: now,
        version: at.version,
        extensions: Extensions::default(),
    };
    rows::put(txn, &places.changed(patient, at.record), &row)
}
