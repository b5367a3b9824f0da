//! A batch on its way: what was stored of its records before, what filing it will do, and the rows to put.
//!
//! Folds [`crate::plan`] over a batch. Sealing is not done here; permits were checked before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handover_core::codec::Extensions;
use handover_core::{ContentRoot, Random, Timestamp};
use handover_seal::Secret32;
use handover_store::{Keyring, Txn};

use crate::RecordsError;
use crate::keys::{PATIENT_KEY, summary_key};
use crate::mark;
use crate::marks;
use crate::model::{Filed, LocalPatient, NewContent, NewRecord, RecordId, RecordRef, RecordSummary};
use crate::plan::{self, Known, Mark};
use crate::records::{SharedRandom, register_in};
use crate::rows::{self, HeadRow, Places, SeenRow, VersionRow};
use crate::summaries;

/// Records that are sealed and wait to be filed. Cloning is cheap, so that a transaction can be run again.
#[derive(Clone)]
pub struct Prepared(pub(crate) Arc<Batch>);

pub(crate) struct Batch {
    pub(crate) places: Places,
    pub(crate) now: Timestamp,
    pub(crate) filed: Vec<Filed>,
    pub(crate) patients: BTreeSet<LocalPatient>,
    pub(crate) keyring: Keyring,
    /// What it was sealed under.
    pub(crate) patient_keys: PatientKeys,
    pub(crate) heads: Vec<Head>,
    /// Other rows that are to be put, by key.
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Blobs that were made for it.
    pub(crate) made: Vec<ContentRoot>,
    /// What is said against versions, with the randomness that seals it.
    pub(crate) marks: Vec<(LocalPatient, RecordRef, mark::Mark)>,
    pub(crate) random: SharedRandom,
}

/// Patients' keys; a patient who has none yet gets this one with the batch.
pub(crate) type PatientKeys = BTreeMap<LocalPatient, PatientKey>;

pub(crate) struct PatientKey {
    pub(crate) key: Secret32,
    /// What is derived from it for summaries.
    pub(crate) summary_key: Secret32,
    pub(crate) is_new: bool,
}

impl PatientKey {
    pub(crate) fn new(key: Secret32, is_new: bool) -> Self {
        Self { summary_key: summary_key(&key), key, is_new }
    }
}

/// A record's head as it is planned to be.
pub(crate) struct Head {
    key: Vec<u8>,
    /// Newest and current version as planned on; zeros for a new record.
    expected: (u32, u32),
    row: Option<HeadRow>,
}

impl Prepared {
    /// Files them in a transaction of the caller's, who adds what else has to be true then. All or nothing.
    ///
    /// # Errors
    /// [`RecordsError::Changed`] if the records changed since they were prepared: prepare again. Those of the store.
    pub fn file_in(&self, txn: &mut dyn Txn) -> Result<Vec<Filed>, RecordsError> {
        let batch = &*self.0;
        for head in &batch.heads {
            let stored: Option<HeadRow> = rows::get(txn, &head.key, "record")?;
            if stored.map_or((0, 0), |row| (row.last, row.current.version)) != head.expected {
                return Err(RecordsError::Changed);
            }
        }
        for patient in &batch.patients {
            register_in(txn, &batch.places, patient, batch.now)?;
        }
        for (patient, planned) in &batch.patient_keys {
            let id = patient.as_str().as_bytes();
            match batch.keyring.get(txn, PATIENT_KEY, id)? {
                Some(stored) if stored.expose() == planned.key.expose() => {}
                None if planned.is_new => batch.keyring.put(txn, PATIENT_KEY, id, &planned.key)?,
                // Another batch was the first, or the patient was forgotten meanwhile.
                _ => return Err(RecordsError::Changed),
            }
        }
        for head in &batch.heads {
            if let Some(row) = &head.row {
                rows::put(txn, &head.key, row)?;
                // What is new here was never sent.
                if head.expected != (0, 0) {
                    let patient = row.current.patient.parse();
                    let patient = patient.map_err(|_| RecordsError::Damaged { what: "record" })?;
                    let at = RecordRef { record: RecordId(row.current.record), version: row.current.version };
                    marks::note_change(txn, &batch.places, &patient, at, batch.now)?;
                }
            }
        }
        for (patient, at, mark) in &batch.marks {
            let key = batch.patient_keys.get(patient);
            let key = &key.ok_or(RecordsError::Damaged { what: "patient key" })?.summary_key;
            let random = &mut batch.random.clone();
            if marks::put(txn, &batch.places, key, (patient, *at), mark, random)? {
                marks::note_change(txn, &batch.places, patient, *at, batch.now)?;
            }
        }
        for (key, row) in &batch.rows {
            txn.put(key, row.clone())?;
        }
        Ok(batch.filed.clone())
    }

    /// What filing will answer.
    #[must_use]
    pub fn outcome(&self) -> &[Filed] {
        &self.0.filed
    }

    pub(crate) fn changes_anything(&self) -> bool {
        self.0.filed.iter().any(|filed| *filed != Filed::Unchanged) || !self.0.marks.is_empty()
    }
}

/// What was stored of a record before the batch.
pub(crate) struct Before {
    known: Known,
    /// Versions that may become current, by number.
    summaries: BTreeMap<u32, RecordSummary>,
}

impl Before {
    pub(crate) fn read(
        txn: &mut dyn Txn,
        places: &Places,
        patient: &LocalPatient,
        key: &PatientKey,
        id: RecordId,
    ) -> Result<Self, RecordsError> {
        let mut before = Self { known: Known::default(), summaries: BTreeMap::new() };
        if let Some(head) = rows::get::<HeadRow>(txn, &places.head(patient, id), "record")? {
            before.known.last = head.last;
            before.known.current = head.current.version;
            before.add(summaries::open(&key.summary_key, &head.current)?);
        }
        Ok(before)
    }

    fn add(&mut self, summary: RecordSummary) {
        let version = summary.reference.version;
        let mark = (summary.content_hash, summary.department.clone(), summary.is_restricted);
        self.known.versions.insert(mark, version);
        self.summaries.insert(version, summary);
    }

    /// Looks whether what the record brings is an earlier version.
    pub(crate) fn look_for(
        &mut self,
        txn: &mut dyn Txn,
        places: &Places,
        record: &NewRecord,
        key: &PatientKey,
        id: RecordId,
    ) -> Result<(), RecordsError> {
        let mark: Mark = (record.content_hash, record.department.clone(), record.is_restricted);
        if self.known.last == 0 || self.known.versions.contains_key(&mark) {
            return Ok(());
        }
        let seen = places.seen(id, &mark);
        let Some(seen) = rows::get::<SeenRow>(txn, &seen, "seen version")? else { return Ok(()) };
        let at = RecordRef { record: id, version: seen.version };
        let row: VersionRow = rows::get(txn, &places.version(&record.patient, at), "version")?
            .ok_or(RecordsError::Damaged { what: "version" })?;
        self.add(summaries::open(&key.summary_key, &row.summary)?);
        Ok(())
    }
}

/// Folds the batch over what was known.
pub(crate) struct Planner {
    records: BTreeMap<RecordId, (Before, (u32, u32))>,
    /// New versions: index into the batch, and what they are.
    made: Vec<(usize, RecordSummary)>,
    /// What is said against versions, new or not.
    marks: Vec<(LocalPatient, RecordRef, mark::Mark)>,
}

impl Planner {
    pub(crate) fn new(before: BTreeMap<RecordId, Before>) -> Self {
        let records = before.into_iter().map(|(id, before)| {
            let expected = (before.known.last, before.known.current);
            (id, (before, expected))
        });
        Self { records: records.collect(), made: Vec::new(), marks: Vec::new() }
    }

    pub(crate) fn file(
        &mut self,
        index: usize,
        record: &NewRecord,
        id: RecordId,
        now: Timestamp,
    ) -> Result<Filed, RecordsError> {
        let full = RecordsError::Invalid { what: "record", reason: "too many versions" };
        let Some((before, _)) = self.records.get_mut(&id) else {
            return Err(RecordsError::Damaged { what: "record" });
        };
        let mark = (record.content_hash, record.department.clone(), record.is_restricted);
        let filed = plan::file(&mut before.known, &mark).ok_or(full)?;
        if let (Some(said), Some(version)) = (&record.mark, before.known.versions.get(&mark)) {
            let at = RecordRef { record: id, version: *version };
            self.marks.push((record.patient.clone(), at, said.clone()));
        }
        if matches!(filed, Filed::New | Filed::NewVersion(_)) {
            let summary = RecordSummary {
                reference: RecordRef { record: id, version: before.known.last },
                patient: record.patient.clone(),
                department: record.department.clone(),
                resource_type: record.resource_type.clone(),
                resource_id: record.resource_id.clone(),
                content_hash: record.content_hash,
                date: record.date,
                is_restricted: record.is_restricted,
                file: record.file.clone(),
                bytes: match &record.content {
                    NewContent::Bytes(bytes) => bytes.len() as u64,
                    NewContent::File(file) => file.plain_bytes,
                    NewContent::Sealed { plain_bytes, .. } => *plain_bytes,
                },
                origin: record.origin.clone(),
                filed: now,
                mark: None,
            };
            before.summaries.insert(summary.reference.version, summary.clone());
            self.made.push((index, summary));
        }
        Ok(filed)
    }

    pub(crate) fn new_versions(&mut self) -> Vec<(usize, RecordSummary)> {
        std::mem::take(&mut self.made)
    }

    /// Adds the heads, what makes earlier versions known again, and what is said against versions.
    pub(crate) fn finish(self, batch: &mut Batch, random: &mut dyn Random) -> Result<(), RecordsError> {
        batch.marks = self.marks;
        for (id, (before, expected)) in self.records {
            let known = before.known;
            let current = before.summaries.get(&known.current);
            let current = current.ok_or(RecordsError::Damaged { what: "record" })?;
            let key = batch.places.head(&current.patient, id);
            let mut row = None;
            if (known.last, known.current) != expected {
                let patient_key = batch.patient_keys.get(&current.patient);
                let patient_key = patient_key.ok_or(RecordsError::Damaged { what: "patient key" })?;
                row = Some(HeadRow {
                    last: known.last,
                    current: summaries::seal(&patient_key.summary_key, current, random)?,
                    extensions: Extensions::default(),
                });
                for (mark, version) in &known.versions {
                    if *version != known.current {
                        let seen = SeenRow { version: *version, extensions: Extensions::default() };
                        batch.rows.push((batch.places.seen(id, mark), rows::to_bytes(&seen)));
                    }
                }
            }
            batch.heads.push(Head { key, expected, row });
        }
        Ok(())
    }
}
