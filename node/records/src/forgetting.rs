//! Forgetting a patient: first their key, from then on nothing of their records opens; then their rows and blobs are
//! swept, page by page. A row stands for the patient until that is complete, so a sweep that was interrupted goes on,
//! and nothing new is filed meanwhile. Copies of the store still hold the key until the epoch is rotated.
//!
//! Audit lines stay: a patient stands in them as a keyed hash.

use std::collections::BTreeSet;

use handover_core::codec::Extensions;
use handover_core::{ContentRoot, Timestamp};
use handover_store::{StoreError, Txn};

use crate::RecordsError;
use crate::access::Action;
use crate::keys::PATIENT_KEY;
use crate::model::{LocalPatient, RecordId};
use crate::permit::Permit;
use crate::records::Records;
use crate::rows::{self, ForgettingRow, HeadRow, LinkCodeRow, VersionRow};

/// Rows of one page; versions bring their content with them.
const PAGE: usize = 500;
const VERSIONS_AT_ONCE: usize = 50;

/// A patient whose key is gone and of whom something may be left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeingForgotten {
    /// The patient here.
    pub patient: LocalPatient,
}

/// What was swept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Records.
    pub records: u64,
    /// Versions of them.
    pub versions: u64,
    /// Blobs that nobody else's records name.
    pub blobs: u64,
}

impl Records {
    /// Forgets a patient, in a transaction of the caller's who has seen that nothing of theirs is under way: key,
    /// registration and links go at once. Needs [`Action::Forget`] on the patient. Doing it again changes nothing
    /// until [`Records::sweep`] is complete.
    ///
    /// # Errors
    /// [`RecordsError::Denied`], [`RecordsError::UnknownPatient`]; those of the store.
    pub fn forget_in(
        &self,
        txn: &mut dyn Txn,
        permit: &Permit,
        now: Timestamp,
    ) -> Result<BeingForgotten, RecordsError> {
        permit.check(now, &[Action::Forget])?;
        let patient = permit.one_patient()?;
        let places = &self.places;
        let mark = places.forgetting(patient);
        if let Some(row) = rows::get(txn, &mark, "patient being forgotten")? {
            return being_forgotten(row);
        }
        txn.get(&places.patient(patient))?.ok_or(RecordsError::UnknownPatient)?;
        self.keyring.remove(txn, PATIENT_KEY, patient.as_str().as_bytes())?;
        txn.remove(&places.patient(patient))?;
        txn.remove(&places.was_linked(patient))?;
        for linked in &self.refs_in(txn, patient)? {
            txn.remove(&places.link(linked))?;
            txn.remove(&places.link_of(patient, linked))?;
        }
        let row = ForgettingRow { patient: patient.as_str().to_owned(), extensions: Extensions::default() };
        rows::put(txn, &mark, &row)?;
        Ok(BeingForgotten { patient: patient.clone() })
    }

    /// Whether a patient is being forgotten: nothing of theirs opens any more.
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_being_forgotten_in(
        &self,
        txn: &mut dyn Txn,
        patient: &LocalPatient,
    ) -> Result<bool, RecordsError> {
        Ok(txn.get(&self.places.forgetting(patient))?.is_some())
    }

    /// The patients of whom something may be left.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn being_forgotten(&self) -> Result<Vec<BeingForgotten>, RecordsError> {
        let prefix = self.places.forgettings();
        let read = self.store.read(move |txn| txn.scan(&prefix, None, PAGE));
        let page: Result<_, StoreError> = read.await;
        let marks = page?.into_iter();
        marks
            .map(|(_, bytes)| being_forgotten(rows::from_bytes(&bytes, "patient being forgotten")?))
            .collect()
    }

    /// Removes what is left of a patient who is being forgotten, and then the row that says so. Whatever order it
    /// was interrupted in, it goes on from there. Blobs in `wanted` stay: transfers under way name them.
    ///
    /// # Errors
    /// Those of store and blobs.
    pub async fn sweep(
        &self,
        patient: &LocalPatient,
        wanted: &BTreeSet<ContentRoot>,
    ) -> Result<Swept, RecordsError> {
        let mut swept = Swept::default();
        let (mark, probe) = (self.places.forgetting(patient), self.places.forgetting(patient));
        if !self.store.read(move |txn| Ok::<_, RecordsError>(txn.get(&probe)?.is_some())).await? {
            return Ok(swept);
        }
        // Heads before versions: a head never names a version that is gone.
        loop {
            let (records, patient) = (self.clone(), patient.clone());
            let (removed, is_last) = self.store.write(move |txn| records.sweep_heads(txn, &patient)).await?;
            swept.records += removed;
            if is_last {
                break;
            }
        }
        while self.sweep_versions(patient, wanted, &mut swept).await? {}
        for space in [self.places.marks(patient), self.places.changed_of(patient)] {
            while self.sweep_space(space.clone()).await? {}
        }
        while self.sweep_found(patient).await? {}
        let mut after = None;
        loop {
            let (records, patient, from) = (self.clone(), patient.clone(), after);
            let write = self.store.write(move |txn| records.sweep_link_codes(txn, &patient, from.as_deref()));
            after = write.await?;
            if after.is_none() {
                break;
            }
        }
        let removed: Result<(), StoreError> = self.store.write(move |txn| txn.remove(&mark)).await;
        removed?;
        Ok(swept)
    }

    /// A page of rows under a prefix; says whether there was one.
    async fn sweep_space(&self, prefix: Vec<u8>) -> Result<bool, RecordsError> {
        let write = self.store.write(move |txn| {
            let page = txn.scan(&prefix, None, PAGE)?;
            page.iter().try_for_each(|(key, _)| txn.remove(key))?;
            Ok::<_, StoreError>(!page.is_empty())
        });
        Ok(write.await?)
    }

    /// A page of heads, each with the marks of its versions; says how many went, and whether they were the last.
    fn sweep_heads(&self, txn: &mut dyn Txn, patient: &LocalPatient) -> Result<(u64, bool), RecordsError> {
        let page = txn.scan(&self.places.heads(patient), None, PAGE)?;
        let mut removed = 0;
        let mut left = PAGE;
        for (key, bytes) in &page {
            let head: HeadRow = rows::from_bytes(bytes, "record")?;
            let seen = txn.scan(&self.places.all_seen(RecordId(head.current.record)), None, left)?;
            for (mark, _) in &seen {
                txn.remove(mark)?;
            }
            left = left.saturating_sub(seen.len());
            if left == 0 {
                return Ok((removed, false));
            }
            txn.remove(key)?;
            removed += 1;
        }
        Ok((removed, page.len() < PAGE))
    }

    /// A page of versions: their blobs first, so that none is left behind without a row. Says whether there was one.
    async fn sweep_versions(
        &self,
        patient: &LocalPatient,
        wanted: &BTreeSet<ContentRoot>,
        swept: &mut Swept,
    ) -> Result<bool, RecordsError> {
        let (records, whose) = (self.clone(), patient.clone());
        let read = self.store.read(move |txn| {
            let page = txn.scan(&records.places.versions(&whose), None, VERSIONS_AT_ONCE)?;
            let (mut keys, mut roots) = (Vec::with_capacity(page.len()), Vec::new());
            for (key, bytes) in page {
                let row: VersionRow = rows::from_bytes(&bytes, "version")?;
                keys.push(key);
                if let Some(root) = row.content.root {
                    roots.push((root, records.is_only_user(txn, &root, &whose)?));
                }
            }
            Ok::<_, RecordsError>((keys, roots))
        });
        let (keys, roots) = read.await?;
        if keys.is_empty() {
            return Ok(false);
        }
        for (root, _) in roots.iter().filter(|(root, is_only_user)| *is_only_user && !wanted.contains(root)) {
            swept.blobs += u64::from(self.blobs.exists(*root).await?);
            self.blobs.delete(*root).await?;
        }
        swept.versions += keys.len() as u64;
        let users: Vec<_> = roots.iter().map(|(root, _)| self.places.blob_user(root, patient)).collect();
        let removed: Result<(), StoreError> =
            self.store.write(move |txn| keys.iter().chain(&users).try_for_each(|key| txn.remove(key))).await;
        removed?;
        Ok(true)
    }

    /// Whether a record's content is this blob.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_content(&self, root: ContentRoot) -> Result<bool, RecordsError> {
        let users = self.places.blob_users(&root);
        let read = self.store.read(move |txn| txn.scan(&users, None, 1));
        let found: Result<Vec<_>, StoreError> = read.await;
        Ok(!found?.is_empty())
    }

    fn is_only_user(
        &self,
        txn: &mut dyn Txn,
        root: &ContentRoot,
        patient: &LocalPatient,
    ) -> Result<bool, RecordsError> {
        let own = self.places.blob_user(root, patient);
        Ok(txn.scan(&self.places.blob_users(root), None, 2)?.iter().all(|(user, _)| *user == own))
    }

    /// A page of all link codes, without the patient's; says where the next one begins, if there is one.
    fn sweep_link_codes(
        &self,
        txn: &mut dyn Txn,
        patient: &LocalPatient,
        after: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, RecordsError> {
        let page = txn.scan(&self.places.link_codes(), after, PAGE)?;
        let next = page.last().filter(|_| page.len() == PAGE).map(|(key, _)| key.clone());
        for (key, bytes) in page {
            let row: LinkCodeRow = rows::from_bytes(&bytes, "link code")?;
            if row.patient == patient.as_str() {
                txn.remove(&key)?;
            }
        }
        Ok(next)
    }
}

fn being_forgotten(row: ForgettingRow) -> Result<BeingForgotten, RecordsError> {
    let patient =
        row.patient.parse().map_err(|_| RecordsError::Damaged { what: "patient being forgotten" })?;
    Ok(BeingForgotten { patient })
}
