//! The chain of keys: hospital key → department key and patient's key, together → a key for each record version.
//!
//! Department keys are random and stored wrapped; patients' keys are secrets of the store's keyring, which can be
//! forgotten and are therefore held nowhere else. What is wrapped or sealed is bound to department, record and
//! version, so nothing opens in another place. Knows no records' meaning and no permits.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use handover_core::codec::Extensions;
use handover_core::{Department, Random};
use handover_seal::cell::{derive, keyed_hash, open_cell, seal_cell};
use handover_seal::{OsRandom, Secret32};
use handover_store::{Store, Txn};

use crate::RecordsError;
use crate::model::{LocalPatient, RecordId, RecordRef, RequestId};
use crate::rows::{self, DepartmentRow, KeyCheckRow, Places};

/// A patient's key in the keyring.
pub(crate) const PATIENT_KEY: &str = "patient";
/// The key of something kept aside in the keyring.
pub(crate) const ASIDE_KEY: &str = "kept-aside";

const DEPARTMENT_WRAP: &str = "handover records v1 department wrap";
const RECORD_WRAP: &[u8] = b"handover records v1 record wrap";
const SUMMARY: &str = "handover records v1 summary";
const RECORD_ID: &str = "handover records v1 record identifier";
const ASIDE: &str = "handover records v1 kept aside";
const LINK_CODE: &str = "handover records v1 link code";
const CODE_REQUEST: &str = "handover records v1 request for a link code";
const KEY_CHECK: &str = "handover records v1 key check";

/// Bytes that bind something sealed to its place: a kind, then parts each with its length.
pub(crate) fn place(kind: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut aad = Vec::new();
    for part in std::iter::once(&kind.as_bytes()).chain(parts) {
        aad.extend((part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

/// The place of a record version.
pub(crate) fn record_place(department: &Department, at: RecordRef) -> Vec<u8> {
    place("handover/record/1", &[department.as_str().as_bytes(), &at.record.0, &at.version.to_be_bytes()])
}

/// What wraps the content keys of a patient's records in a department: it takes both keys.
pub(crate) fn record_wrap_key(department_key: &Secret32, patient_key: &Secret32) -> Secret32 {
    Secret32::from_bytes(keyed_hash(department_key, &[RECORD_WRAP, patient_key.expose()]))
}

/// What seals the summaries of a patient's records.
pub(crate) fn summary_key(patient_key: &Secret32) -> Secret32 {
    derive(patient_key, SUMMARY, b"")
}

/// The keys that are held while the records are open.
pub(crate) struct Vault {
    hospital_key: Secret32,
    wrap_key: Secret32,
    id_key: Secret32,
    aside_key: Secret32,
    code_key: Secret32,
    departments: Mutex<BTreeMap<Department, Secret32>>,
}

impl Vault {
    pub(crate) fn new(hospital_key: Secret32) -> Self {
        Self {
            wrap_key: derive(&hospital_key, DEPARTMENT_WRAP, b""),
            id_key: derive(&hospital_key, RECORD_ID, b""),
            aside_key: derive(&hospital_key, ASIDE, b""),
            code_key: derive(&hospital_key, LINK_CODE, b""),
            departments: Mutex::default(),
            hospital_key,
        }
    }

    /// Whether this is the key that the records are stored under; the first key given is.
    pub(crate) async fn check(&self, store: &Store, places: &Places) -> Result<(), RecordsError> {
        let (check_key, row_key) = (derive(&self.hospital_key, KEY_CHECK, b""), places.key_check());
        let write = store.write(move |txn| {
            let Some(row) = rows::get::<KeyCheckRow>(txn, &row_key, "key check")? else {
                let sealed = seal_cell(&check_key, KEY_CHECK.as_bytes(), b"", &mut OsRandom)
                    .map_err(RecordsError::Seal)?;
                let row = KeyCheckRow { sealed: sealed.into(), extensions: Extensions::default() };
                return rows::put(txn, &row_key, &row);
            };
            let opened = open_cell(&check_key, KEY_CHECK.as_bytes(), row.sealed.as_ref());
            opened.map(|_| ()).map_err(|_| RecordsError::WrongKey)
        });
        write.await
    }

    /// The identifier of what is this patient's, from this hospital of origin (absent: this one).
    pub(crate) fn record_id(
        &self,
        patient: &LocalPatient,
        origin: Option<&str>,
        resource_type: &str,
        resource_id: &str,
    ) -> RecordId {
        // No hospital has an empty identifier, so the empty one can stand for this hospital.
        let parts = [patient.as_str(), origin.unwrap_or(""), resource_type, resource_id];
        RecordId(short(keyed_hash(&self.id_key, &parts.map(str::as_bytes))))
    }

    /// The identifier of something kept aside.
    pub(crate) fn aside_id(&self, parts: &[&[u8]]) -> [u8; 16] {
        short(keyed_hash(&self.aside_key, parts))
    }

    /// What wraps the content key of something kept aside, which has `secret` in the keyring.
    pub(crate) fn aside_wrap_key(&self, secret: &Secret32) -> Secret32 {
        Secret32::from_bytes(keyed_hash(&self.aside_key, &[b"wrap", secret.expose()]))
    }

    /// What is stored of a link code.
    pub(crate) fn link_code_hash(&self, code: &str) -> [u8; 32] {
        keyed_hash(&self.code_key, &[code.as_bytes()])
    }

    /// What a request's code is made of: the same again, and by nobody without the key. Each draw gives another one.
    pub(crate) fn requested_code(&self, request: &RequestId, patient: &LocalPatient, draw: u64) -> [u8; 8] {
        let key = derive(&self.code_key, CODE_REQUEST, b"code");
        let parts: [&[u8]; 3] =
            [request.as_str().as_bytes(), patient.as_str().as_bytes(), &draw.to_be_bytes()];
        let [a, b, c, d, e, f, g, h, ..] = keyed_hash(&key, &parts);
        [a, b, c, d, e, f, g, h]
    }

    /// What is stored of the patient whom a request was for.
    pub(crate) fn code_request_hash(&self, patient: &LocalPatient) -> [u8; 32] {
        let key = derive(&self.code_key, CODE_REQUEST, b"patient");
        keyed_hash(&key, &[patient.as_str().as_bytes()])
    }

    /// A department's key, if it has one yet.
    pub(crate) fn department_key_in(
        &self,
        txn: &mut dyn Txn,
        places: &Places,
        department: &Department,
    ) -> Result<Option<Secret32>, RecordsError> {
        if let Some(key) = self.departments.lock().unwrap_or_else(PoisonError::into_inner).get(department) {
            return Ok(Some(key.clone()));
        }
        let Some(row) = rows::get::<DepartmentRow>(txn, &places.department(department), "department")? else {
            return Ok(None);
        };
        let aad = place("handover/department/1", &[department.as_str().as_bytes()]);
        let key = open_cell(&self.wrap_key, &aad, row.wrapped_key.as_ref())
            .and_then(|key| Secret32::from_slice(&key))
            .map_err(RecordsError::damaged("department key"))?;
        // Only durable rows are seen here: a key that is being made is not cached before it is stored.
        self.departments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(department.clone(), key.clone());
        Ok(Some(key))
    }

    /// Makes a key for a department that has none.
    pub(crate) fn make_department_key(
        &self,
        txn: &mut dyn Txn,
        places: &Places,
        department: &Department,
        random: &mut dyn Random,
    ) -> Result<(), RecordsError> {
        let row_key = places.department(department);
        if txn.get(&row_key)?.is_some() {
            return Ok(());
        }
        let aad = place("handover/department/1", &[department.as_str().as_bytes()]);
        let wrapped = seal_cell(&self.wrap_key, &aad, Secret32::generate(random).expose(), random)
            .map_err(RecordsError::Seal)?;
        let row = DepartmentRow {
            department: department.clone(),
            wrapped_key: wrapped.into(),
            extensions: Extensions::default(),
        };
        rows::put(txn, &row_key, &row)
    }
}

fn short(hash: [u8; 32]) -> [u8; 16] {
    let mut id = [0; 16];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}
