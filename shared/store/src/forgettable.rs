//! Forgettable secrets: 32 random bytes each, in a small row of its own, wrapped under a key of the hospital's and
//! the key of an epoch, which lies outside the store ([`crate::epochs`]).
//!
//! What must be forgotten one day is sealed under such a secret. Removing its row forgets it here; copies of the store
//! from before still hold it, until the epoch's key is destroyed by a rotation: every secret that is left moves to a
//! new epoch, then the older keys go. Invariants: a row is written under the newest epoch only; an epoch's file is
//! durable before a row names it, and goes after the last row that does; a store never opens without its epochs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use handover_core::codec::{Bytes, Extensions};
use handover_core::{Random, Timestamp, cbor_map};
use handover_seal::cell::{derive, keyed_hash, open_cell, seal_cell};
use handover_seal::{OsRandom, Secret32};

use crate::epochs::EpochFiles;
use crate::{KeyMaker, Store, StoreError, Txn, rows};

const SECRETS: &str = "forgettable";
const RING: &str = "forgettable-epochs";
const RING_LABEL: &str = "handover store v1 forgettable secrets";
const WRAP: &[u8] = b"wrap";
const CHECK: &[u8] = b"check";
/// Rows that are looked at in one transaction.
pub(crate) const PAGE: usize = 500;

cbor_map! {
    /// A secret.
    pub(crate) struct SecretRow {
        /// What it is the secret of.
        1 => kind: String,
        /// Under which epoch it is wrapped.
        2 => epoch: u64,
        /// The secret, sealed.
        3 => wrapped: Bytes,
    }
}

cbor_map! {
    /// An epoch that rows may name.
    pub(crate) struct EpochRow {
        1 => number: u64,
        2 => since: Timestamp,
        /// Tells the right key from another one of this number.
        3 => check: [u8; 32],
    }
}

cbor_map! {
    /// How many of a kind were forgotten.
    pub(crate) struct ForgottenRow {
        1 => kind: String,
        2 => count: u64,
    }
}

cbor_map! {
    /// The epochs, ascending; more than one only while a rotation is not complete.
    pub(crate) struct RingRow {
        1 => epochs: Vec<EpochRow>,
        /// Since the newest one began.
        2 => forgotten: Vec<ForgottenRow>,
    }
}

impl SecretRow {
    /// What stands for a row that cannot be read.
    pub(crate) fn unreadable() -> Self {
        Self {
            kind: "unreadable".to_owned(),
            epoch: 0,
            wrapped: vec![0].into(),
            extensions: Extensions::default(),
        }
    }

    /// In the place of a secret that did not open when the older epochs' keys were destroyed.
    pub(crate) fn given_up(&self, epoch: u64) -> Self {
        Self { kind: self.kind.clone(), epoch, wrapped: Vec::new().into(), extensions: Extensions::default() }
    }

    /// Whether no backup can help any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.wrapped.as_ref().is_empty()
    }
}

/// The secrets of one store. A cheap handle.
#[derive(Clone)]
pub struct Keyring(pub(crate) Arc<Ring>);

pub(crate) struct Ring {
    pub(crate) store: Store,
    pub(crate) keys: KeyMaker,
    pub(crate) files: EpochFiles,
    ring_key: Secret32,
    /// What wraps, by epoch.
    wraps: Mutex<BTreeMap<u64, Secret32>>,
    /// One rotation at a time.
    pub(crate) rotating: tokio::sync::Mutex<()>,
}

impl Keyring {
    /// Opens the ring of a store with its epochs' folder, which is made for a store that has none yet. Destroys what
    /// an interrupted rotation left to be destroyed.
    ///
    /// # Errors
    /// [`StoreError::EpochKey`] if a file that is needed is missing, damaged or another's; those of the store.
    pub async fn open(
        store: Store,
        folder: &Path,
        hospital_key: &Secret32,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let ring = Self(Arc::new(Ring {
            keys: store.keys(),
            store,
            files: EpochFiles::at(folder, hospital_key),
            ring_key: derive(hospital_key, RING_LABEL, b""),
            wraps: Mutex::default(),
            rotating: tokio::sync::Mutex::new(()),
        }));
        let Some(row) = ring.row().await? else {
            ring.begin(now).await?;
            return Ok(ring);
        };
        for epoch in &row.epochs {
            let key = ring.0.files.read(epoch.number)?;
            if ring.check_value(&key) != epoch.check {
                return Err(ring.0.files.fault(epoch.number, "is of another store"));
            }
            ring.hold(epoch.number, &key);
        }
        ring.destroy_before(row.epochs.first().map_or(0, |first| first.number))?;
        Ok(ring)
    }

    /// The first epoch of a new store. A first file that is there was made for it by a process that was killed.
    async fn begin(&self, now: Timestamp) -> Result<(), StoreError> {
        let there: Vec<u64> = self.0.files.numbers()?.into_iter().collect();
        let key = match there.as_slice() {
            [] => self.0.files.make(1)?,
            [1] => self.0.files.read(1)?,
            _ => {
                return Err(StoreError::EpochKey {
                    file: self.0.files.folder().to_owned(),
                    reason:
                        "holds the epoch keys of another store while this one is new; if that is on purpose, \
                             name another folder"
                            .to_owned(),
                });
            }
        };
        self.hold(1, &key);
        let epoch = self.epoch_row(1, &key, now);
        let place = self.ring_place();
        let row = RingRow { epochs: vec![epoch], forgotten: Vec::new(), extensions: Extensions::default() };
        self.0.store.write(move |txn| rows::put(txn, &place, &row)).await
    }

    /// A secret, if it is here.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it does not open; those of the store.
    pub fn get(
        &self,
        txn: &mut dyn Txn,
        kind: &'static str,
        id: &[u8],
    ) -> Result<Option<Secret32>, StoreError> {
        let place = self.place(kind, id);
        rows::get::<SecretRow>(txn, &place)?.map(|row| self.open_row(&place, &row)).transpose()
    }

    /// A secret; a new one if there is none yet.
    ///
    /// # Errors
    /// As [`Keyring::get`].
    pub fn get_or_make(
        &self,
        txn: &mut dyn Txn,
        kind: &'static str,
        id: &[u8],
        random: &mut dyn Random,
    ) -> Result<Secret32, StoreError> {
        if let Some(secret) = self.get(txn, kind, id)? {
            return Ok(secret);
        }
        let secret = Secret32::generate(random);
        self.put(txn, kind, id, &secret)?;
        Ok(secret)
    }

    /// Keeps a secret that the caller made.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put(
        &self,
        txn: &mut dyn Txn,
        kind: &'static str,
        id: &[u8],
        secret: &Secret32,
    ) -> Result<(), StoreError> {
        // Read in this transaction: a rotation that began a moment ago is seen.
        let newest = self.row_in(txn)?.epochs.last().map_or(0, |newest| newest.number);
        let place = self.place(kind, id);
        let row = self.wrap(&place, kind, newest, secret)?;
        rows::put(txn, &place, &row)
    }

    /// Forgets a secret and counts it; says whether it was here.
    ///
    /// # Errors
    /// Those of the store.
    pub fn remove(&self, txn: &mut dyn Txn, kind: &'static str, id: &[u8]) -> Result<bool, StoreError> {
        let place = self.place(kind, id);
        if txn.get(&place)?.is_none() {
            return Ok(false);
        }
        txn.remove(&place)?;
        let mut row = self.row_in(txn)?;
        match row.forgotten.iter_mut().find(|forgotten| forgotten.kind == kind) {
            Some(forgotten) => forgotten.count = forgotten.count.saturating_add(1),
            None => row.forgotten.push(ForgottenRow {
                kind: kind.to_owned(),
                count: 1,
                extensions: Extensions::default(),
            }),
        }
        rows::put(txn, &self.ring_place(), &row)?;
        Ok(true)
    }

    pub(crate) fn place(&self, kind: &'static str, id: &[u8]) -> Vec<u8> {
        self.0.keys.space(SECRETS).raw(kind).hashed(id).build()
    }

    pub(crate) fn secrets_prefix(&self) -> Vec<u8> {
        self.0.keys.space(SECRETS).build()
    }

    pub(crate) fn ring_place(&self) -> Vec<u8> {
        self.0.keys.space(RING).build()
    }

    pub(crate) async fn row(&self) -> Result<Option<RingRow>, StoreError> {
        let place = self.ring_place();
        self.0.store.read(move |txn| rows::get(txn, &place)).await
    }

    pub(crate) fn row_in(&self, txn: &mut dyn Txn) -> Result<RingRow, StoreError> {
        rows::get(txn, &self.ring_place())?.ok_or_else(|| rows::damaged("the list of epochs"))
    }

    pub(crate) fn epoch_row(&self, number: u64, key: &Secret32, since: Timestamp) -> EpochRow {
        EpochRow { number, since, check: self.check_value(key), extensions: Extensions::default() }
    }

    /// Says nothing about the key but whether it is the same.
    fn check_value(&self, key: &Secret32) -> [u8; 32] {
        keyed_hash(&self.0.ring_key, &[CHECK, key.expose()])
    }

    /// Holds an epoch's key while the store is open: what wraps needs both, the hospital's and the epoch's.
    pub(crate) fn hold(&self, number: u64, key: &Secret32) {
        let wrap = Secret32::from_bytes(keyed_hash(&self.0.ring_key, &[WRAP, key.expose()]));
        self.wraps().insert(number, wrap);
    }

    fn wraps(&self) -> MutexGuard<'_, BTreeMap<u64, Secret32>> {
        self.0.wraps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrap_key(&self, epoch: u64) -> Result<Secret32, StoreError> {
        self.wraps().get(&epoch).cloned().ok_or_else(|| rows::damaged("a secret of an epoch that is gone"))
    }

    pub(crate) fn wrap(
        &self,
        place: &[u8],
        kind: &str,
        epoch: u64,
        secret: &Secret32,
    ) -> Result<SecretRow, StoreError> {
        let wrapped = seal_cell(&self.wrap_key(epoch)?, &bound(place, epoch), secret.expose(), &mut OsRandom)
            .map_err(|_| rows::damaged("a secret"))?;
        Ok(SecretRow {
            kind: kind.to_owned(),
            epoch,
            wrapped: wrapped.into(),
            extensions: Extensions::default(),
        })
    }

    pub(crate) fn open_row(&self, place: &[u8], row: &SecretRow) -> Result<Secret32, StoreError> {
        open_cell(&self.wrap_key(row.epoch)?, &bound(place, row.epoch), row.wrapped.as_ref())
            .and_then(|secret| Secret32::from_slice(&secret))
            .map_err(|_| rows::damaged("a secret"))
    }

    /// Destroys every file of an epoch before this one.
    pub(crate) fn destroy_before(&self, first: u64) -> Result<Vec<u64>, StoreError> {
        let old: Vec<u64> = self.0.files.numbers()?.into_iter().filter(|number| *number < first).collect();
        for number in &old {
            self.0.files.destroy(*number)?;
        }
        self.wraps().retain(|number, _| *number >= first);
        Ok(old)
    }
}

/// A wrapped secret is bound to its place and epoch.
fn bound(place: &[u8], epoch: u64) -> Vec<u8> {
    [place, &epoch.to_be_bytes()].concat()
}
