//! Filing: the hospital's own records by import, other hospitals' by transfer.
//!
//! First it is read what is known and planned ([`crate::plan`]), then sealed (blobs are durable now), then filed in
//! one transaction, which refuses if the records changed meanwhile. Filing the same again changes nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handover_core::codec::Extensions;
use handover_core::{ContentRoot, Department, Timestamp};
use handover_seal::Secret32;
use handover_store::Txn;

use crate::RecordsError;
use crate::access::Action;
use crate::batch::{Batch, Before, PatientKey, PatientKeys, Planner, Prepared};
use crate::content::{self, blocking};
use crate::finding;
use crate::keys::{PATIENT_KEY, record_place, record_wrap_key};
use crate::model::{Filed, LocalPatient, NewContent, NewRecord, Origin, RecordId, RecordSummary};
use crate::permit::Permit;
use crate::records::{Records, check_not_forgetting};
use crate::rows::{self, VersionRow};
use crate::summaries;

/// The most records of one batch, which is one transaction.
pub const BATCH_MAX_RECORDS: usize = 100;
/// How often a batch is prepared anew because the records changed meanwhile.
const ATTEMPTS: usize = 8;

impl Records {
    /// Files up to 100 of the hospital's own records in one durable transaction. Needs [`Action::Import`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`], [`RecordsError::Invalid`], those of store and blobs. Nothing was filed then.
    pub async fn import(
        &self,
        permit: &Permit,
        now: Timestamp,
        records: Vec<NewRecord>,
    ) -> Result<Vec<Filed>, RecordsError> {
        permit.check(now, &[Action::Import])?;
        if records.iter().any(|record| record.origin != Origin::Local) {
            return Err(RecordsError::Invalid {
                what: "record",
                reason: "an import takes local records only",
            });
        }
        self.file(permit, now, records).await
    }

    /// Files up to 100 received records in one durable transaction. Needs [`Action::File`] on the patient.
    ///
    /// # Errors
    /// As [`Records::import`]; [`RecordsError::ContentMissing`] if a blob to be adopted is not here.
    pub async fn file_received(
        &self,
        permit: &Permit,
        now: Timestamp,
        records: Vec<NewRecord>,
    ) -> Result<Vec<Filed>, RecordsError> {
        check_received(permit, now, &records)?;
        self.file(permit, now, records).await
    }

    /// Seals up to 100 received records to be filed by [`Prepared::file_in`]. Needs [`Action::File`] on the patient.
    ///
    /// # Errors
    /// As [`Records::file_received`].
    pub async fn prepare_received(
        &self,
        permit: &Permit,
        now: Timestamp,
        records: Vec<NewRecord>,
    ) -> Result<Prepared, RecordsError> {
        check_received(permit, now, &records)?;
        self.prepare(permit, now, &records.into()).await
    }

    async fn file(
        &self,
        permit: &Permit,
        now: Timestamp,
        records: Vec<NewRecord>,
    ) -> Result<Vec<Filed>, RecordsError> {
        let records: Arc<[NewRecord]> = records.into();
        for _ in 0..ATTEMPTS {
            let prepared = self.prepare(permit, now, &records).await?;
            if !prepared.changes_anything() {
                return Ok(prepared.0.filed.clone());
            }
            let batch = prepared.clone();
            match self.store.write(move |txn| batch.file_in(txn)).await {
                Err(RecordsError::Changed) => {
                    for root in &prepared.0.made {
                        self.blobs.delete(*root).await?;
                    }
                }
                outcome => return outcome,
            }
        }
        Err(RecordsError::Changed)
    }

    async fn prepare(
        &self,
        permit: &Permit,
        now: Timestamp,
        records: &Arc<[NewRecord]>,
    ) -> Result<Prepared, RecordsError> {
        if records.len() > BATCH_MAX_RECORDS {
            return Err(RecordsError::Invalid { what: "batch", reason: "more than 100 records" });
        }
        for record in records.iter() {
            record.check()?;
            permit.check_patient(&record.patient)?;
            permit.check_department(&record.department)?;
            self.check_adopted(&record.content).await?;
        }
        let ids: Arc<[RecordId]> = records.iter().map(|record| self.id_of(record)).collect();
        let (before, patient_keys) = self.load(records, &ids).await?;
        let mut planner = Planner::new(before);
        let mut filed = Vec::with_capacity(records.len());
        for (index, (record, id)) in records.iter().zip(ids.iter()).enumerate() {
            filed.push(planner.file(index, record, *id, now)?);
        }
        let versions = planner.new_versions();
        let (mut rows, made) = self.seal(records, versions, &patient_keys).await?;
        for record in records.iter() {
            rows.extend(finding::rows(&self.places, &record.patient, &record.found_by));
        }
        let mut batch = Batch {
            places: self.places.clone(),
            now,
            filed,
            patients: records.iter().map(|record| record.patient.clone()).collect(),
            keyring: self.keyring.clone(),
            patient_keys,
            heads: Vec::new(),
            rows,
            made,
            marks: Vec::new(),
            random: self.random.clone(),
        };
        planner.finish(&mut batch, &mut self.random.clone())?;
        Ok(Prepared(Arc::new(batch)))
    }

    fn id_of(&self, record: &NewRecord) -> RecordId {
        let origin = record.origin.identity();
        let origin = origin.as_deref();
        self.vault.record_id(&record.patient, origin, &record.resource_type, &record.resource_id)
    }

    async fn check_adopted(&self, content: &NewContent) -> Result<(), RecordsError> {
        let NewContent::Sealed { blob, .. } = content else { return Ok(()) };
        if self.blobs.len(blob.root).await? == Some(blob.length) {
            return Ok(());
        }
        Err(RecordsError::ContentMissing)
    }

    /// Reads what is known of the batch's records, and their patients' keys; new ones, not stored yet, for patients
    /// who have none.
    async fn load(
        &self,
        records: &Arc<[NewRecord]>,
        ids: &Arc<[RecordId]>,
    ) -> Result<(BTreeMap<RecordId, Before>, PatientKeys), RecordsError> {
        let (records, ids, all) = (Arc::clone(records), Arc::clone(ids), self.clone());
        let read = self.store.read(move |txn| {
            let (mut known, mut patient_keys) = (BTreeMap::new(), PatientKeys::new());
            for (record, id) in records.iter().zip(ids.iter()) {
                let patient = &record.patient;
                let patient_key = match patient_keys.entry(patient.clone()) {
                    Entry::Occupied(found) => found.into_mut(),
                    Entry::Vacant(place) => place.insert(all.patient_key_in(txn, patient)?),
                };
                let before = match known.entry(*id) {
                    Entry::Occupied(found) => found.into_mut(),
                    Entry::Vacant(place) => {
                        place.insert(Before::read(txn, &all.places, patient, patient_key, *id)?)
                    }
                };
                before.look_for(txn, &all.places, record, patient_key, *id)?;
            }
            Ok::<_, RecordsError>((known, patient_keys))
        });
        read.await
    }

    fn patient_key_in(&self, txn: &mut dyn Txn, patient: &LocalPatient) -> Result<PatientKey, RecordsError> {
        check_not_forgetting(txn, &self.places, patient)?;
        let stored = self.keyring.get(txn, PATIENT_KEY, patient.as_str().as_bytes())?;
        let is_new = stored.is_none();
        let key = stored.unwrap_or_else(|| Secret32::generate(&mut self.random.clone()));
        Ok(PatientKey::new(key, is_new))
    }

    /// Seals the new versions; gives their rows and the blobs that were made.
    async fn seal(
        &self,
        records: &Arc<[NewRecord]>,
        versions: Vec<(usize, RecordSummary)>,
        patient_keys: &PatientKeys,
    ) -> Result<(Vec<(Vec<u8>, Vec<u8>)>, Vec<ContentRoot>), RecordsError> {
        let keys =
            self.department_keys(versions.iter().map(|(_, new)| new.department.clone()).collect()).await?;
        let mut wrap_keys = BTreeMap::new();
        for (_, new) in &versions {
            if let (Some(department), Some(patient)) =
                (keys.get(&new.department), patient_keys.get(&new.patient))
            {
                let place = (new.department.clone(), new.patient.clone());
                wrap_keys.entry(place).or_insert_with(|| record_wrap_key(department, &patient.key));
            }
        }
        let (records, blobs, mut random) = (Arc::clone(records), self.blobs.clone(), self.random.clone());
        let sealed = blocking(move || {
            let mut sealed = Vec::with_capacity(versions.len());
            for (index, summary) in versions {
                let place = (summary.department.clone(), summary.patient.clone());
                let (Some(key), Some(record)) = (wrap_keys.get(&place), records.get(index)) else {
                    return Err(RecordsError::Damaged { what: "department key" });
                };
                let aad = record_place(&summary.department, summary.reference);
                let content = content::seal(&blobs, key, &aad, &record.content, &mut random)?;
                sealed.push((summary, content));
            }
            Ok(sealed)
        })
        .await?;
        let (mut rows, mut made) = (Vec::with_capacity(sealed.len()), Vec::new());
        for (summary, content) in sealed {
            let (content, root) = content.store(&self.blobs).await?;
            made.extend(root);
            if let Some(root) = &content.root {
                rows.push((self.places.blob_user(root, &summary.patient), Vec::new()));
            }
            let patient_key = patient_keys.get(&summary.patient);
            let patient_key = patient_key.ok_or(RecordsError::Damaged { what: "patient key" })?;
            let row = VersionRow {
                summary: summaries::seal(&patient_key.summary_key, &summary, &mut self.random.clone())?,
                content,
                extensions: Extensions::default(),
            };
            rows.push((self.places.version(&summary.patient, summary.reference), rows::to_bytes(&row)));
        }
        Ok((rows, made))
    }

    /// The keys of departments; made and stored for those that have none.
    async fn department_keys(
        &self,
        wanted: BTreeSet<Department>,
    ) -> Result<BTreeMap<Department, Secret32>, RecordsError> {
        let (found, missing) = self.known_keys(wanted).await?;
        if missing.is_empty() {
            return Ok(found);
        }
        let (records, mut random, to_make) = (self.clone(), self.random.clone(), missing.clone());
        let made = self.store.write(move |txn| {
            to_make.iter().try_for_each(|department| {
                records.vault.make_department_key(txn, &records.places, department, &mut random)
            })
        });
        made.await?;
        let (mut made, _) = self.known_keys(missing).await?;
        made.extend(found);
        Ok(made)
    }

    async fn known_keys(
        &self,
        wanted: BTreeSet<Department>,
    ) -> Result<(BTreeMap<Department, Secret32>, BTreeSet<Department>), RecordsError> {
        let records = self.clone();
        let read = self.store.read(move |txn| {
            let (mut found, mut missing) = (BTreeMap::new(), BTreeSet::new());
            for department in &wanted {
                match records.vault.department_key_in(txn, &records.places, department)? {
                    Some(key) => drop(found.insert(department.clone(), key)),
                    None => drop(missing.insert(department.clone())),
                }
            }
            Ok::<_, RecordsError>((found, missing))
        });
        read.await
    }
}

fn check_received(permit: &Permit, now: Timestamp, records: &[NewRecord]) -> Result<(), RecordsError> {
    permit.check(now, &[Action::File])?;
    permit.one_patient()?;
    if records.iter().any(|record| record.origin == Origin::Local) {
        return Err(RecordsError::Invalid { what: "record", reason: "what is received names its origin" });
    }
    Ok(())
}
