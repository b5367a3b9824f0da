//! Which department an encounter belongs to, kept across imports: so a record that comes in another file than its
//! encounter still finds its department.
//!
//! Keys hold patient and encounter as keyed hashes. A patient's go when the patient is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use handover_core::Department;
use handover_records::LocalPatient;
use handover_store::{KeyMaker, Store, StoreError};

use super::reading::Pending;
use crate::error::NodeError;

const SPACE: &str = "encounter-department";
/// Rows of one page.
const PAGE: usize = 500;

/// Patient and encounter.
type Name = (String, String);

/// Looks up the records that nothing in their file placed.
pub(super) async fn place(store: &Store, batch: &mut [Pending]) -> Result<(), NodeError> {
    let wanted: Arc<[(usize, Name)]> = batch
        .iter()
        .enumerate()
        .flat_map(|(at, pending)| {
            let patient = pending.record.patient.as_str();
            pending.elsewhere.iter().map(move |encounter| (at, name(patient, encounter)))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let keys = store.keys();
    let read = store.read(move |txn| {
        let mut found: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (at, name) in wanted.iter() {
            if found.contains_key(at) {
                continue;
            }
            if let Some(department) = txn.get(&key(&keys, name))? {
                found.insert(*at, department);
            }
        }
        Ok::<_, StoreError>(found)
    });
    for (at, department) in read.await? {
        let department = String::from_utf8(department).ok().and_then(|text| text.parse::<Department>().ok());
        if let (Some(pending), Some(department)) = (batch.get_mut(at), department) {
            pending.record.department = department;
        }
    }
    Ok(())
}

/// The encounters of a batch that have a department.
pub(super) fn of(batch: &[Pending]) -> Vec<(Name, Department)> {
    let unassigned = Department::unassigned();
    batch
        .iter()
        .filter(|pending| {
            pending.record.resource_type == "Encounter" && pending.record.department != unassigned
        })
        .map(|pending| {
            let record = &pending.record;
            let encounter = format!("Encounter/{}", record.resource_id);
            (name(record.patient.as_str(), &encounter), record.department.clone())
        })
        .collect()
}

/// Keeps them for other files.
pub(super) async fn keep(store: &Store, encounters: Vec<(Name, Department)>) -> Result<(), NodeError> {
    if encounters.is_empty() {
        return Ok(());
    }
    let keys = store.keys();
    let write = store.write(move |txn| {
        for (name, department) in &encounters {
            let key = key(&keys, name);
            if txn.get(&key)?.as_deref() != Some(department.as_str().as_bytes()) {
                txn.put(&key, department.as_str().as_bytes().to_vec())?;
            }
        }
        Ok::<_, StoreError>(())
    });
    Ok(write.await?)
}

/// Removes a patient's.
pub(crate) async fn forget(store: &Store, patient: &LocalPatient) -> Result<(), NodeError> {
    let prefix = store.keys().space(SPACE).hashed(patient.as_str()).build();
    loop {
        let prefix = prefix.clone();
        let write = store.write(move |txn| {
            let page = txn.scan(&prefix, None, PAGE)?;
            page.iter().try_for_each(|(key, _)| txn.remove(key))?;
            Ok::<_, StoreError>(page.len())
        });
        if write.await? < PAGE {
            return Ok(());
        }
    }
}

fn name(patient: &str, encounter: &str) -> Name {
    (patient.to_owned(), encounter.to_owned())
}

fn key(keys: &KeyMaker, (patient, encounter): &Name) -> Vec<u8> {
    keys.space(SPACE).hashed(patient).hashed(encounter).build()
}
