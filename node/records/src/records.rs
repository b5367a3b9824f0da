//! The handle of the records, opened on a store with its keyring, a folder of blobs and the hospital's key.

use std::sync::{Arc, Mutex, PoisonError};

use handover_core::codec::Extensions;
use handover_core::{Random, Timestamp};
use handover_seal::{OsRandom, Secret32};
use handover_store::{Blobs, Keyring, Store, Txn};

use crate::RecordsError;
use crate::access::Action;
use crate::audit::Audit;
use crate::keys::Vault;
use crate::model::LocalPatient;
use crate::permit::Permit;
use crate::rows::{self, PatientRow, Places};

/// The hospital's records. A cheap handle; clones are the same.
#[derive(Clone)]
pub struct Records {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) keyring: Keyring,
    pub(crate) places: Places,
    pub(crate) vault: Arc<Vault>,
    pub(crate) random: SharedRandom,
    audit: Audit,
}

impl Records {
    /// Opens the records with randomness of the operating system.
    ///
    /// # Errors
    /// [`RecordsError::WrongKey`] if they were stored under another key; those of the store.
    pub async fn open(
        store: Store,
        blobs: Blobs,
        keyring: Keyring,
        hospital_key: Secret32,
    ) -> Result<Self, RecordsError> {
        Self::open_with(store, blobs, keyring, hospital_key, Box::new(OsRandom)).await
    }

    /// As [`Records::open`] with another source of the keys' randomness, for simulation.
    ///
    /// # Errors
    /// As [`Records::open`].
    pub async fn open_with(
        store: Store,
        blobs: Blobs,
        keyring: Keyring,
        hospital_key: Secret32,
        random: Box<dyn Random + Send>,
    ) -> Result<Self, RecordsError> {
        let places = Places(store.keys());
        let audit = Audit::new(store.clone(), places.clone(), &hospital_key);
        let vault = Arc::new(Vault::new(hospital_key));
        vault.check(&store, &places).await?;
        Ok(Self {
            store,
            blobs,
            keyring,
            places,
            vault,
            random: SharedRandom(Arc::new(Mutex::new(random))),
            audit,
        })
    }

    /// The audit log, which gives the permits.
    #[must_use]
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Registers a patient who has no records here yet. Registering again changes nothing. Needs
    /// [`Action::Link`] or [`Action::Import`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of the store.
    pub async fn register(
        &self,
        permit: &Permit,
        now: Timestamp,
        patient: &LocalPatient,
    ) -> Result<(), RecordsError> {
        permit.check(now, &[Action::Link, Action::Import])?;
        permit.check_patient(patient)?;
        let (places, patient) = (self.places.clone(), patient.clone());
        self.store.write(move |txn| register_in(txn, &places, &patient, now)).await
    }
}

/// Refuses while what is left of the patient is being swept: what came meanwhile would go with it.
pub(crate) fn check_not_forgetting(
    txn: &mut dyn Txn,
    places: &Places,
    patient: &LocalPatient,
) -> Result<(), RecordsError> {
    match txn.get(&places.forgetting(patient))? {
        Some(_) => Err(RecordsError::BeingForgotten),
        None => Ok(()),
    }
}

/// Adds a patient who is not here yet.
pub(crate) fn register_in(
    txn: &mut dyn Txn,
    places: &Places,
    patient: &LocalPatient,
    now: Timestamp,
) -> Result<(), RecordsError> {
    let key = places.patient(patient);
    if txn.get(&key)?.is_some() {
        return Ok(());
    }
    check_not_forgetting(txn, places, patient)?;
    let row =
        PatientRow { patient: patient.as_str().to_owned(), since: now, extensions: Extensions::default() };
    rows::put(txn, &key, &row)
}

/// One source of randomness for all handles.
#[derive(Clone)]
pub(crate) struct SharedRandom(Arc<Mutex<Box<dyn Random + Send>>>);

impl Random for SharedRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}
