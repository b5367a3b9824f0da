//! The store's own cell: its format and a check value of its cell key, so that a wrong passphrase is named as such
//! when the store is opened and is not taken for damage. It is the only value that is not encrypted.

use crate::sums::Summing;
use crate::{CellKey, StoreError};

/// Where it is kept. Keys that start with a zero byte are refused to callers.
pub(crate) const META_KEY: &[u8] = b"\0handover-store";
/// No key of the store's own orders behind this.
pub(crate) const LAST_OWN_KEY: &[u8] = b"\0\xff";
/// The store's format. A change of keys' or cells' meaning takes the next number.
const STORE_FORMAT: u8 = 1;

/// What a store made with this cell key carries.
pub(crate) struct Meta {
    bytes: Vec<u8>,
    summing: Summing,
}

impl Meta {
    pub(crate) fn new(cell_key: &CellKey) -> Self {
        let mut bytes = vec![STORE_FORMAT];
        bytes.extend(cell_key.check_value());
        Self { bytes, summing: cell_key.summing() }
    }

    /// What makes the store's sums.
    pub(crate) fn summing(&self) -> &Summing {
        &self.summing
    }

    /// Compares with what is stored. `Some` is what to write into a store that is new.
    pub(crate) fn admit(&self, stored: Option<&[u8]>, is_empty: bool) -> Result<Option<&[u8]>, StoreError> {
        let Some(stored) = stored else {
            if is_empty {
                return Ok(Some(&self.bytes));
            }
            return Err(StoreError::Damaged {
                what: "the store's format cell".to_owned(),
                advice: "restore the folder from a backup; it holds data but not what says how to read it",
            });
        };
        match stored.first() {
            Some(&STORE_FORMAT) if stored == self.bytes => Ok(None),
            Some(&STORE_FORMAT) if stored.len() == self.bytes.len() => Err(StoreError::WrongKey),
            Some(&found) if found != STORE_FORMAT => Err(StoreError::UnknownFormat { found }),
            _ => Err(StoreError::Damaged {
                what: "the store's format cell".to_owned(),
                advice: "restore the folder from a backup",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_not_taken_for_damage() {
        let meta = Meta::new(&CellKey::from_bytes([1; 32]));
        let written = meta.admit(None, true).unwrap().unwrap().to_vec();
        assert!(matches!(meta.admit(Some(&written), false), Ok(None)));
        let other = Meta::new(&CellKey::from_bytes([2; 32]));
        assert!(matches!(other.admit(Some(&written), false), Err(StoreError::WrongKey)));
        assert!(matches!(other.admit(Some(&[9]), false), Err(StoreError::UnknownFormat { found: 9 })));
        assert!(matches!(other.admit(Some(&[1, 2]), false), Err(StoreError::Damaged { .. })));
        assert!(matches!(other.admit(None, false), Err(StoreError::Damaged { .. })));
    }
}
