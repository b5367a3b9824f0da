//! Marking what was recalled, and what others have to be told of: records that changed since they may have been sent.
//!
//! Invariant: a version is marked in the caller's transaction, with its audit line, or not at all; nothing that is
//! filed is changed or removed by it.

use std::collections::BTreeMap;

use handover_core::{Digest, Timestamp};
use handover_store::{SCAN_MAX_CELLS, StoreError, Txn};

use crate::RecordsError;
use crate::access::Action;
use crate::keys::{PATIENT_KEY, summary_key};
use crate::mark::Mark;
use crate::marks::{self, ChangedRow};
use crate::model::{LocalPatient, Origin, RecordId, RecordRef, RecordSummary, RecordVersionRef};
use crate::permit::Permit;
use crate::records::Records;
use crate::rows::{self, HeadRow, VersionRow};
use crate::summaries;

/// Versions bring their content with them.
const VERSIONS_AT_ONCE: usize = 50;

/// A record that changed, as it is noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whose.
    pub patient: LocalPatient,
    /// Which.
    pub record: RecordId,
    at: Timestamp,
    version: u32,
}

/// A version and what is current of its record.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The version that was asked for.
    pub asked: RecordSummary,
    /// The current one.
    pub current: RecordSummary,
}

impl Records {
    /// Marks a version of the permit's patient in a transaction of the caller's, unless a mark stands that says as
    /// much; whether it did. Needs [`Action::Recall`] on the patient.
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; [`RecordsError::UnknownRecord`]; those of the store.
    pub fn mark_in(
        &self,
        txn: &mut dyn Txn,
        permit: &Permit,
        now: Timestamp,
        at: RecordRef,
        mark: &Mark,
    ) -> Result<bool, RecordsError> {
        permit.check(now, &[Action::Recall])?;
        let patient = permit.one_patient()?;
        txn.get(&self.places.version(patient, at))?.ok_or(RecordsError::UnknownRecord)?;
        let patient_key = self.keyring.get(txn, PATIENT_KEY, patient.as_str().as_bytes())?;
        let key = summary_key(&patient_key.ok_or(RecordsError::UnknownRecord)?);
        let random = &mut self.random.clone();
        let is_new = marks::put(txn, &self.places, &key, (patient, at), mark, random)?;
        if is_new {
            marks::note_change(txn, &self.places, patient, at, now)?;
        }
        Ok(is_new)
    }

    /// The versions of a record of the permit's patient, named as it was received, that have this content; none if
    /// nothing like it was filed. Needs [`Action::Recall`] on the patient.
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of the store.
    pub fn versions_in(
        &self,
        txn: &mut dyn Txn,
        permit: &Permit,
        now: Timestamp,
        (origin, resource_type, resource_id): (&Origin, &str, &str),
        content_hash: &Digest,
    ) -> Result<Vec<RecordRef>, RecordsError> {
        permit.check(now, &[Action::Recall])?;
        let patient = permit.one_patient()?;
        let Some(patient_key) = self.keyring.get(txn, PATIENT_KEY, patient.as_str().as_bytes())? else {
            return Ok(Vec::new());
        };
        let key = summary_key(&patient_key);
        let identity = origin.identity();
        let record = self.vault.record_id(patient, identity.as_deref(), resource_type, resource_id);
        let prefix = self.places.versions_of(patient, record);
        let (mut found, mut after): (Vec<RecordRef>, Option<Vec<u8>>) = (Vec::new(), None);
        loop {
            let page = txn.scan(&prefix, after.as_deref(), VERSIONS_AT_ONCE)?;
            for (_, bytes) in &page {
                let row: VersionRow = rows::from_bytes(bytes, "version")?;
                let summary = summaries::open(&key, &row.summary)?;
                if summary.content_hash == *content_hash {
                    found.push(summary.reference);
                }
            }
            if page.len() < VERSIONS_AT_ONCE {
                return Ok(found);
            }
            after = page.into_iter().next_back().map(|(key, _)| key);
        }
    }

    /// A version of a record of the permit's patient, and the current one, each with its mark; nothing if it is not
    /// here any more. Needs [`Action::Export`] or [`Action::Recall`] on the patient.
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of the store.
    pub fn standing_in(
        &self,
        txn: &mut dyn Txn,
        permit: &Permit,
        now: Timestamp,
        at: RecordRef,
    ) -> Result<Option<Standing>, RecordsError> {
        permit.check(now, &[Action::Export, Action::Recall])?;
        let patient = permit.one_patient()?;
        let Some(patient_key) = self.keyring.get(txn, PATIENT_KEY, patient.as_str().as_bytes())? else {
            return Ok(None);
        };
        let key = summary_key(&patient_key);
        let version: Option<VersionRow> = rows::get(txn, &self.places.version(patient, at), "version")?;
        let head: Option<HeadRow> = rows::get(txn, &self.places.head(patient, at.record), "record")?;
        let (Some(version), Some(head)) = (version, head) else { return Ok(None) };
        let mut read = |row| -> Result<RecordSummary, RecordsError> {
            let summary = summaries::open(&key, row)?;
            let mark = marks::get(txn, &self.places, &key, patient, summary.reference)?;
            Ok(RecordSummary { mark, ..summary })
        };
        Ok(Some(Standing { asked: read(&version.summary)?, current: read(&head.current)? }))
    }

    /// Records that changed and of which nobody has looked yet whether they were sent, those of one patient together;
    /// at most `limit`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn changed(&self, limit: usize) -> Result<Vec<Changed>, RecordsError> {
        let prefix = self.places.all_changed();
        let read = self.store.read(move |txn| txn.scan(&prefix, None, limit));
        let page: Result<_, StoreError> = read.await;
        let read_row = |(_, bytes): (Vec<u8>, Vec<u8>)| {
            let row: ChangedRow = rows::from_bytes(&bytes, "changed record")?;
            let patient =
                row.patient.parse().map_err(|_| RecordsError::Damaged { what: "changed record" })?;
            Ok(Changed { patient, record: RecordId(row.record), at: row.at, version: row.version })
        };
        page?.into_iter().map(read_row).collect()
    }

    /// Notes as changed those of these versions that are not current as they were read, `seen`, any more, in the
    /// transaction that notes that they were chosen to be sent: who looked before that did not know that they would be.
    /// Needs [`Action::Export`] on the patient.
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of the store.
    pub fn note_changes_in(
        &self,
        txn: &mut dyn Txn,
        permit: &Permit,
        now: Timestamp,
        seen: &[RecordVersionRef],
    ) -> Result<(), RecordsError> {
        permit.check(now, &[Action::Export])?;
        let patient = permit.one_patient()?;
        let patient_key = self.keyring.get(txn, PATIENT_KEY, patient.as_str().as_bytes())?;
        // They are being forgotten: nothing is recalled of them any more.
        let Some(key) = patient_key.as_ref().map(summary_key) else { return Ok(()) };
        let heads = all_cells(txn, &self.places.heads(patient))?;
        let marked = all_cells(txn, &self.places.marks(patient))?;
        for record in seen {
            let at = record.reference;
            let head = heads.get(&self.places.head(patient, at.record));
            let head = head.map(|bytes| rows::from_bytes::<HeadRow>(bytes, "record")).transpose()?;
            let is_current = head.is_some_and(|head| head.current.version == at.version);
            let mark = match marked.contains_key(&self.places.mark(patient, at)) {
                true => marks::get(txn, &self.places, &key, patient, at)?,
                false => None,
            };
            if !is_current || mark != record.mark {
                marks::note_change(txn, &self.places, patient, at, now)?;
            }
        }
        Ok(())
    }

    /// Removes notes of changed records, in a transaction of the caller's who has kept what follows from them. One that
    /// changed again meanwhile stays.
    ///
    /// # Errors
    /// Those of the store.
    pub fn settle_in(&self, txn: &mut dyn Txn, changed: &[Changed]) -> Result<(), RecordsError> {
        for one in changed {
            let key = self.places.changed(&one.patient, one.record);
            let stored: Option<ChangedRow> = rows::get(txn, &key, "changed record")?;
            if stored.is_some_and(|row| row.at == one.at && row.version == one.version) {
                txn.remove(&key)?;
            }
        }
        Ok(())
    }
}

/// All cells below a prefix, by key.
fn all_cells(txn: &mut dyn Txn, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
    let mut all = BTreeMap::new();
    loop {
        let after = all.last_key_value().map(|(key, _): (&Vec<u8>, _)| key.clone());
        let page = txn.scan(prefix, after.as_deref(), SCAN_MAX_CELLS)?;
        let is_last = page.len() < SCAN_MAX_CELLS;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}
