//! Showing: patients, what is here of one, contents, and what a transfer needs. All of it on a permit.

use std::collections::BTreeMap;

use handover_core::{Department, Timestamp};
use handover_seal::{Secret32, Zeroizing};
use handover_store::{StoreError, Txn};

use crate::RecordsError;
use crate::access::{AccessDenied, Action};
use crate::content::{self, BlobContent, Content, Opened};
use crate::keys::{PATIENT_KEY, record_place, record_wrap_key, summary_key};
use crate::marks;
use crate::model::{BlobRef, Filter, LocalPatient, RecordRef, RecordSummary, RecordVersionRef};
use crate::permit::Permit;
use crate::records::Records;
use crate::rows::{self, HeadRow, PatientRow, SealedSummaryRow, VersionRow};
use crate::summaries;

/// The most entries of one page.
pub const PAGE_MAX: usize = 1_000;
/// How many heads and versions are read at once; versions bring their content with them.
const HEADS_AT_ONCE: usize = 500;
const VERSIONS_AT_ONCE: usize = 50;

/// Content for a transfer.
pub enum SealedContent {
    /// Small: the plaintext, to be sealed in the manifest.
    Inline(Zeroizing<Vec<u8>>),
    /// Large: travels as it lies, with its own key in the manifest.
    Blob(BlobRef),
}

impl Records {
    /// Patients after `after`, in a stable order of no meaning; at most `limit` (up to 1,000). Needs
    /// [`Action::ListPatients`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of the store.
    pub async fn patients(
        &self,
        permit: &Permit,
        now: Timestamp,
        after: Option<&LocalPatient>,
        limit: usize,
    ) -> Result<Vec<LocalPatient>, RecordsError> {
        permit.check(now, &[Action::ListPatients])?;
        if permit.patient().is_some() {
            return Err(AccessDenied::WrongPatient.into());
        }
        let (prefix, after) = (self.places.patients(), after.map(|patient| self.places.patient(patient)));
        let read = self.store.read(move |txn| txn.scan(&prefix, after.as_deref(), limit.min(PAGE_MAX)));
        let page: Result<_, StoreError> = read.await;
        let read_row = |(_, bytes): (Vec<u8>, Vec<u8>)| {
            let row: PatientRow = rows::from_bytes(&bytes, "patient")?;
            row.patient.parse().map_err(|_| RecordsError::Damaged { what: "patient" })
        };
        page?.into_iter().map(read_row).collect()
    }

    /// How many records of the patient each of the permit's departments has. Needs [`Action::List`],
    /// [`Action::Read`] or [`Action::Export`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of the store.
    pub async fn departments(
        &self,
        permit: &Permit,
        now: Timestamp,
        patient: &LocalPatient,
    ) -> Result<BTreeMap<Department, u64>, RecordsError> {
        let mut counts = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.list(permit, now, patient, &Filter::default(), after, PAGE_MAX).await?;
            after = page.last().map(|record| record.reference);
            let is_last = page.len() < PAGE_MAX;
            for record in page {
                *counts.entry(record.department).or_default() += 1;
            }
            if is_last {
                return Ok(counts);
            }
        }
    }

    /// What is here of the patient, in the permit's departments and the filter, after `after`; at most `limit`
    /// (up to 1,000). In order of the record's identifier as it stands in the store: stable, of no meaning. Needs
    /// [`Action::List`], [`Action::Read`] or [`Action::Export`] on the patient.
    ///
    /// # Errors
    /// [`RecordsError::Denied`], also if the filter names a department outside the permit; those of the store.
    pub async fn list(
        &self,
        permit: &Permit,
        now: Timestamp,
        patient: &LocalPatient,
        filter: &Filter,
        after: Option<RecordRef>,
        limit: usize,
    ) -> Result<Vec<RecordSummary>, RecordsError> {
        check_listing(permit, now, patient, filter)?;
        let limit = limit.min(PAGE_MAX);
        let mut found = Vec::new();
        let mut after = after.map(|after| match filter.include_history {
            true => self.places.version(patient, after),
            false => self.places.head(patient, after.record),
        });
        while found.len() < limit {
            let (page, next) = self.page(patient, filter.include_history, after).await?;
            found.extend(page.into_iter().filter(|record| wanted(permit, filter, record)));
            after = next;
            if after.is_none() {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Every record version that a quote is about: those of the permit's patient in the permit's departments and
    /// the filter, ascending by reference, from one consistent state. Needs [`Action::Export`] on the patient.
    ///
    /// # Errors
    /// As [`Records::list`].
    pub async fn snapshot(
        &self,
        permit: &Permit,
        now: Timestamp,
        patient: &LocalPatient,
        filter: &Filter,
    ) -> Result<Vec<RecordVersionRef>, RecordsError> {
        check_listing(permit, now, patient, filter)?;
        permit.check(now, &[Action::Export])?;
        let (history, records, patient) = (filter.include_history, self.clone(), patient.clone());
        let (permit, filter) = (permit.clone(), filter.clone());
        let read = self.store.read(move |txn| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let (page, next) = records.page_in(txn, &patient, history, after.as_deref())?;
                found.extend(page.into_iter().filter(|record| wanted(&permit, &filter, record)));
                after = next;
                if after.is_none() {
                    return Ok::<_, RecordsError>(found);
                }
            }
        });
        let mut found = read.await?;
        found.sort_by_key(|record| record.reference);
        Ok(found)
    }

    /// A version of a record of the permit's patient. Needs [`Action::Read`] or [`Action::Export`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; [`RecordsError::UnknownRecord`], also for a record of another patient; those of
    /// store and blobs.
    pub async fn read(
        &self,
        permit: &Permit,
        now: Timestamp,
        reference: RecordRef,
    ) -> Result<(RecordSummary, Content), RecordsError> {
        permit.check(now, &[Action::Read, Action::Export])?;
        let (summary, opened) = self.open_version(permit, reference).await?;
        let content = match opened {
            Opened::Inline(bytes) => Content::Inline(bytes),
            Opened::Blob(blob) => {
                Content::Blob(BlobContent { blobs: self.blobs.clone(), blob, plain_bytes: summary.bytes })
            }
        };
        Ok((summary, content))
    }

    /// A version's content as a transfer needs it. Needs [`Action::Export`].
    ///
    /// # Errors
    /// As [`Records::read`].
    pub async fn sealed_content(
        &self,
        permit: &Permit,
        now: Timestamp,
        reference: RecordRef,
    ) -> Result<(RecordSummary, SealedContent), RecordsError> {
        permit.check(now, &[Action::Export])?;
        let (summary, opened) = self.open_version(permit, reference).await?;
        let content = match opened {
            Opened::Inline(bytes) => SealedContent::Inline(bytes),
            Opened::Blob(blob) => SealedContent::Blob(blob),
        };
        Ok((summary, content))
    }

    async fn open_version(
        &self,
        permit: &Permit,
        reference: RecordRef,
    ) -> Result<(RecordSummary, Opened), RecordsError> {
        let patient = permit.one_patient()?;
        let (key, permit, records) = (self.places.version(patient, reference), permit.clone(), self.clone());
        let read = self.store.read(move |txn| {
            let row: VersionRow = rows::get(txn, &key, "version")?.ok_or(RecordsError::UnknownRecord)?;
            let found = records.summary_in(txn, &row.summary)?.ok_or(RecordsError::UnknownRecord)?;
            permit.check_department(&found.0.department)?;
            let patient_key = records.keyring.get(txn, PATIENT_KEY, found.0.patient.as_str().as_bytes())?;
            let key = summary_key(&patient_key.ok_or(RecordsError::UnknownRecord)?);
            let mark = marks::get(txn, &records.places, &key, &found.0.patient, reference)?;
            let found = (RecordSummary { mark, ..found.0 }, found.1);
            Ok::<_, RecordsError>((row, found))
        });
        let (row, (summary, wrap_key)) = read.await?;
        let opened = content::open(&wrap_key, &record_place(&summary.department, reference), &row.content)?;
        Ok((summary, opened))
    }

    /// A version's summary and what wraps its content key; nothing if its patient is being forgotten.
    pub(crate) fn summary_in(
        &self,
        txn: &mut dyn Txn,
        row: &SealedSummaryRow,
    ) -> Result<Option<(RecordSummary, Secret32)>, RecordsError> {
        let damaged = |what| RecordsError::Damaged { what };
        let patient: LocalPatient = row.patient.parse().map_err(|_| damaged("record"))?;
        let Some(patient_key) = self.keyring.get(txn, PATIENT_KEY, patient.as_str().as_bytes())? else {
            let is_forgotten = txn.get(&self.places.forgetting(&patient))?.is_some();
            return if is_forgotten { Ok(None) } else { Err(damaged("patient key")) };
        };
        let summary = summaries::open(&summary_key(&patient_key), row)?;
        let department_key = self.vault.department_key_in(txn, &self.places, &summary.department)?;
        let department_key = department_key.ok_or_else(|| damaged("department key"))?;
        Ok(Some((summary, record_wrap_key(&department_key, &patient_key))))
    }

    async fn page(
        &self,
        patient: &LocalPatient,
        history: bool,
        after: Option<Vec<u8>>,
    ) -> Result<(Vec<RecordSummary>, Option<Vec<u8>>), RecordsError> {
        let (records, patient) = (self.clone(), patient.clone());
        self.store.read(move |txn| records.page_in(txn, &patient, history, after.as_deref())).await
    }

    /// A page of a patient's heads or versions, and where the next one begins, if there is one.
    fn page_in(
        &self,
        txn: &mut dyn Txn,
        patient: &LocalPatient,
        history: bool,
        after: Option<&[u8]>,
    ) -> Result<(Vec<RecordSummary>, Option<Vec<u8>>), RecordsError> {
        // What is left of a patient who is being forgotten is not shown any more.
        let patient_key = self.keyring.get(txn, PATIENT_KEY, patient.as_str().as_bytes())?;
        if patient_key.is_none() && txn.get(&self.places.forgetting(patient))?.is_some() {
            return Ok((Vec::new(), None));
        }
        let (prefix, limit) = match history {
            true => (self.places.versions(patient), VERSIONS_AT_ONCE),
            false => (self.places.heads(patient), HEADS_AT_ONCE),
        };
        let page = txn.scan(&prefix, after, limit)?;
        let next = page.last().filter(|_| page.len() == limit).map(|(key, _)| key.clone());
        // Who has no records has no key.
        let key = match patient_key {
            Some(patient_key) => summary_key(&patient_key),
            None if page.is_empty() => return Ok((Vec::new(), None)),
            None => return Err(RecordsError::Damaged { what: "patient key" }),
        };
        let read_row = |(_, bytes): (Vec<u8>, Vec<u8>)| match history {
            true => summaries::open(&key, &rows::from_bytes::<VersionRow>(&bytes, "version")?.summary),
            false => summaries::open(&key, &rows::from_bytes::<HeadRow>(&bytes, "record")?.current),
        };
        let mut read: Vec<RecordSummary> = page.into_iter().map(read_row).collect::<Result<_, _>>()?;
        if marks::any(txn, &self.places, patient)? {
            for summary in &mut read {
                summary.mark = marks::get(txn, &self.places, &key, patient, summary.reference)?;
            }
        }
        Ok((read, next))
    }
}

fn check_listing(
    permit: &Permit,
    now: Timestamp,
    patient: &LocalPatient,
    filter: &Filter,
) -> Result<(), RecordsError> {
    permit.check(now, &[Action::List, Action::Read, Action::Export])?;
    permit.one_patient()?;
    permit.check_patient(patient)?;
    Ok(permit.check_filter(filter)?)
}

fn wanted(permit: &Permit, filter: &Filter, record: &RecordSummary) -> bool {
    permit.departments().contains(&record.department) && filter.contains(record)
}
