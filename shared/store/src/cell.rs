//! Cells: every value is encrypted (AES-256-GCM) with its key as associated data, so a value that is moved to
//! another key, or altered, does not open. Done once, above all engines; an engine never sees a plain value.
//! A stored value is what `handover-seal` makes of it, and begins with the version byte of that.

use std::sync::Arc;

use handover_seal::cell::{derive, open_cell, seal_cell};
use handover_seal::{OsRandom, Secret32};

use crate::sums::Summing;
use crate::tables::Rows;
use crate::txn::Cell;
use crate::{KEY_MAX_BYTES, KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, VALUE_MAX_BYTES};

/// Labels under which keys are derived from the cell key.
const VALUES_LABEL: &str = "handover store v1 values";
const INDEX_LABEL: &str = "handover store v1 index keys";
const SUMS_LABEL: &str = "handover store v1 sums";
const CHECK_LABEL: &str = "handover store v1 key check";
/// What to do about a cell that does not open.
const RESTORE: &str = "run check to learn how much is affected, then restore from a backup";

/// The secret of a store: what encrypts its values and hides the identifiers in its keys.
#[derive(Clone)]
pub struct CellKey(Secret32);

impl CellKey {
    /// From its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret32::from_bytes(bytes))
    }

    /// A value that tells whether two cell keys are the same and nothing else. Stands in the store.
    pub(crate) fn check_value(&self) -> [u8; 16] {
        let derived = derive(&self.0, CHECK_LABEL, &[]);
        let mut check = [0; 16];
        check.iter_mut().zip(derived.expose()).for_each(|(to, from)| *to = *from);
        check
    }

    pub(crate) fn summing(&self) -> Summing {
        Summing::new(&derive(&self.0, SUMS_LABEL, &[]))
    }

    pub(crate) fn key_maker(&self) -> KeyMaker {
        KeyMaker::new(derive(&self.0, INDEX_LABEL, &[]))
    }

    pub(crate) fn cells(&self) -> Cells {
        Cells { key: Arc::new(derive(&self.0, VALUES_LABEL, &[])) }
    }
}

/// Encrypts and decrypts a store's values.
#[derive(Clone)]
pub(crate) struct Cells {
    key: Arc<Secret32>,
}

impl Cells {
    fn seal(&self, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        seal_cell(&self.key, key, value, &mut OsRandom)
            .map_err(|_| StoreError::ValueTooLarge { bytes: value.len() })
    }

    /// The plain value of a stored one.
    pub(crate) fn open(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        // The caller owns the plain value from here on and answers for its copies.
        open_cell(&self.key, key, stored).map(|mut value| std::mem::take(&mut *value)).map_err(|_| {
            StoreError::Damaged { what: format!("the value under key {}", Hex(key)), advice: RESTORE }
        })
    }
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a caller's closure works on: limits and encryption over an engine's transaction.
pub(crate) struct CellTxn<'a> {
    pub(crate) cells: &'a Cells,
    pub(crate) below: &'a mut dyn Txn,
}

/// Keys that start with a zero byte are the store's own; see `meta`.
fn check_key(key: &[u8]) -> Result<(), StoreError> {
    match key.first() {
        None | Some(0) => Err(StoreError::KeyReserved),
        Some(_) if key.len() > KEY_MAX_BYTES => Err(StoreError::KeyTooLong { bytes: key.len() }),
        Some(_) => Ok(()),
    }
}

impl Txn for CellTxn<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(key)?;
        self.below.get(key)?.map(|stored| self.cells.open(key, &stored)).transpose()
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), StoreError> {
        check_key(key)?;
        if value.len() > VALUE_MAX_BYTES {
            return Err(StoreError::ValueTooLarge { bytes: value.len() });
        }
        self.below.put(key, self.cells.seal(key, &value)?)
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        check_key(key)?;
        self.below.remove(key)
    }

    fn scan(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
        if limit > SCAN_MAX_CELLS {
            return Err(StoreError::ScanTooWide { limit });
        }
        let after =
            Some(after.map_or(crate::meta::LAST_OWN_KEY, |after| after.max(crate::meta::LAST_OWN_KEY)));
        let page = self.below.scan(prefix, after, limit)?;
        page.into_iter()
            .map(|(key, stored)| {
                let value = self.cells.open(&key, &stored)?;
                Ok((key, value))
            })
            .collect()
    }

    fn rows(&mut self) -> Option<Rows<'_>> {
        self.below.rows()
    }
}
