//! The store's own cell: its format and a check value of its cell key, so that a wrong passphrase is named as such
//! when the store is opened and is not taken for damage. Beside it a store that was moved, or whose copy is not
//! complete, says so and does not open. Both are the only values that are not encrypted.

use crate::sums::Summing;
use crate::{CellKey, StoreError};

/// Where it is kept. Keys that start with a zero byte are refused to callers.
pub(crate) const META_KEY: &[u8] = b"\0handover-store";
/// Where it is said that the store was moved, or is not complete.
pub(crate) const MOVE_KEY: &[u8] = b"\0handover-store-move";
/// No key of the store's own orders behind this.
pub(crate) const LAST_OWN_KEY: &[u8] = b"\0\xff";
/// The store's format. A change of keys' or cells' meaning takes the next number.
const STORE_FORMAT: u8 = 1;

/// The mark's format.
const MARK_FORMAT: u8 = 1;

/// What keeps a store from being opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It was copied there, and that copy is the store now.
    Moved { to: String },
    /// A copy from there has begun, and is not known to be whole.
    Unfinished { from: String },
}

impl Mark {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (kind, place) = match self {
            Self::Moved { to } => (1, to),
            Self::Unfinished { from } => (2, from),
        };
        [&[MARK_FORMAT, kind], place.as_bytes()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let place = |rest: &[u8]| String::from_utf8_lossy(rest).into_owned();
        match bytes {
            [MARK_FORMAT, 1, rest @ ..] => Ok(Self::Moved { to: place(rest) }),
            [MARK_FORMAT, 2, rest @ ..] => Ok(Self::Unfinished { from: place(rest) }),
            _ => Err(StoreError::Damaged {
                what: "the mark that the store was moved".to_owned(),
                advice: "restore the store from a backup",
            }),
        }
    }

    fn into_error(self) -> StoreError {
        match self {
            Self::Moved { to } => StoreError::Moved { to },
            Self::Unfinished { from } => StoreError::Unfinished { from },
        }
    }
}

/// What a store made with this cell key carries.
pub(crate) struct Meta {
    bytes: Vec<u8>,
    summing: Summing,
    minds_marks: bool,
    /// Where a store lies that a new one would take the place of.
    beside: Option<String>,
}

impl Meta {
    pub(crate) fn new(cell_key: &CellKey) -> Self {
        let mut bytes = vec![STORE_FORMAT];
        bytes.extend(cell_key.check_value());
        Self { bytes, summing: cell_key.summing(), minds_marks: true, beside: None }
    }

    /// What makes the store's sums.
    pub(crate) fn summing(&self) -> &Summing {
        &self.summing
    }

    /// For who moves a store: also opens one that was moved or is not complete.
    pub(crate) fn for_moving(cell_key: &CellKey) -> Self {
        Self { minds_marks: false, ..Self::new(cell_key) }
    }

    /// Refuses a new store while there is one by another engine at that place: it was to be moved, most likely.
    pub(crate) fn beside(self, place: String) -> Self {
        Self { beside: Some(place), ..self }
    }

    /// Whether a new store may be made.
    pub(crate) fn admit_new(&self) -> Result<(), StoreError> {
        match &self.beside {
            Some(place) if self.minds_marks => Err(StoreError::NotMoved {
                reason: format!(
                    "there is no store yet where [store] says, and one in {place}: set engine back and give \
                     `store copy`, or take that one away"
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a store that was moved or is not complete.
    pub(crate) fn admit_mark(&self, stored: Option<&[u8]>) -> Result<(), StoreError> {
        match stored {
            Some(bytes) if self.minds_marks => Err(Mark::from_bytes(bytes)?.into_error()),
            _ => Ok(()),
        }
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
