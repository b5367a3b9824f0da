//! The store's own cell: its format and a check value of its cell key, so that a wrong passphrase is named as such
//! when the store is opened and is not taken for damage. Beside it a store that was moved, or whose copy is not
//! complete, or whose database lost something, says so and does not open. These are the only values that are not encrypted.

use crate::sums::Summing;
use crate::txn::Cell;
use crate::{CellKey, StoreError};

/// Where it is kept. Keys that start with a zero byte are refused to callers.
pub(crate) const META_KEY: &[u8] = b"\0handover-store";
/// Where it is said that the store was moved, or is not complete.
pub(crate) const MOVE_KEY: &[u8] = b"\0handover-store-move";
/// What all keys of the store's own begin with.
pub(crate) const OWN_START: &[u8] = b"\0";
/// Which life of the store this is: what one database confirmed is not asked of another one.
pub(crate) const LIFE_KEY: &[u8] = b"\0handover-store-life";
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
    /// What was confirmed to whoever had it open is not in it any more.
    Lossy,
}

impl Mark {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (kind, place) = match self {
            Self::Moved { to } => (1, to.as_str()),
            Self::Unfinished { from } => (2, from.as_str()),
            Self::Lossy => (3, ""),
        };
        [&[MARK_FORMAT, kind], place.as_bytes()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let place = |rest: &[u8]| String::from_utf8_lossy(rest).into_owned();
        match bytes {
            [MARK_FORMAT, 1, rest @ ..] => Ok(Self::Moved { to: place(rest) }),
            [MARK_FORMAT, 2, rest @ ..] => Ok(Self::Unfinished { from: place(rest) }),
            [MARK_FORMAT, 3] => Ok(Self::Lossy),
            _ => Err(StoreError::Damaged {
                what: "the mark that the store was moved".to_owned(),
                advice: "restore the store from a backup",
            }),
        }
    }

    pub(crate) fn into_error(self) -> StoreError {
        match self {
            Self::Moved { to } => StoreError::Moved { to },
            Self::Unfinished { from } => StoreError::Unfinished { from },
            Self::Lossy => StoreError::Damaged {
                what: "the store in the database".to_owned(),
                advice: "the database had lost what it had confirmed (a standby that was behind took over?); bring \
                         back the one that has everything, or accept the loss: `store undo --loss-is-accepted`",
            },
        }
    }
}

/// What a store made with this cell key carries, and what is opened.
pub(crate) struct Meta {
    bytes: Vec<u8>,
    summing: Summing,
    opening: Opening,
}

enum Opening {
    /// The store that is used; made, if there is none and nothing speaks against it.
    Store { refusal: Option<StoreError> },
    /// One that is there, whatever its mark says; else the reason why that does not do.
    Existing { missing: String },
    /// What is copied to; made with this mark, if there is none.
    Target { mark: Mark },
}

impl Meta {
    pub(crate) fn new(cell_key: &CellKey) -> Self {
        let mut bytes = vec![STORE_FORMAT];
        bytes.extend(cell_key.check_value());
        Self { bytes, summing: cell_key.summing(), opening: Opening::Store { refusal: None } }
    }

    /// Whether the store is opened to be used, not to be moved or put right.
    pub(crate) fn is_for_use(&self) -> bool {
        matches!(self.opening, Opening::Store { .. })
    }

    /// What makes the store's sums.
    pub(crate) fn summing(&self) -> &Summing {
        &self.summing
    }

    /// For who moves a store: also one that was moved or is not complete, but none is made.
    pub(crate) fn existing(cell_key: &CellKey, missing: String) -> Self {
        Self { opening: Opening::Existing { missing }, ..Self::new(cell_key) }
    }

    /// The same for what is copied to. A new one has its mark from its first moment.
    pub(crate) fn target(cell_key: &CellKey, mark: Mark) -> Self {
        Self { opening: Opening::Target { mark }, ..Self::new(cell_key) }
    }

    /// Refuses a new store while there is one by another engine at that place: it was to be moved, most likely.
    pub(crate) fn beside(self, place: &str) -> Self {
        self.never_new(StoreError::NotMoved {
            reason: format!(
                "there is no store yet where [store] says, and one in {place}: set engine back and give \
                 `store copy`, or take that one away"
            ),
        })
    }

    /// Refuses a new store for that reason, unless there is one already.
    pub(crate) fn never_new(mut self, reason: StoreError) -> Self {
        if let Opening::Store { refusal } = &mut self.opening {
            refusal.get_or_insert(reason);
        }
        self
    }

    /// Whether a store may be made. Asked before anything is written.
    pub(crate) fn admit_new(&self) -> Result<(), StoreError> {
        match &self.opening {
            Opening::Store { refusal: None } | Opening::Target { .. } => Ok(()),
            Opening::Store { refusal: Some(reason) } => Err(reason.clone()),
            Opening::Existing { missing } => Err(StoreError::NotMoved { reason: missing.clone() }),
        }
    }

    /// Refuses a store that was moved, is not complete, or lost something.
    pub(crate) fn admit_mark(&self, stored: Option<&[u8]>) -> Result<(), StoreError> {
        match (stored, &self.opening) {
            (Some(bytes), Opening::Store { .. }) => Err(Mark::from_bytes(bytes)?.into_error()),
            _ => Ok(()),
        }
    }

    /// Compares with what is stored. What is to be written, all at once, into a store that is new.
    pub(crate) fn admit(&self, stored: Option<&[u8]>, is_empty: bool) -> Result<Vec<Cell>, StoreError> {
        let Some(stored) = stored else {
            if is_empty {
                self.admit_new()?;
                let mut first = vec![(META_KEY.to_vec(), self.bytes.clone())];
                if let Opening::Target { mark } = &self.opening {
                    first.push((MOVE_KEY.to_vec(), mark.to_bytes()));
                }
                return Ok(first);
            }
            return Err(StoreError::Damaged {
                what: "the store's format cell".to_owned(),
                advice: "restore the folder from a backup; it holds data but not what says how to read it",
            });
        };
        match stored.first() {
            Some(&STORE_FORMAT) if stored == self.bytes => Ok(Vec::new()),
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
        let written = meta.admit(None, true).unwrap().remove(0).1;
        assert!(meta.admit(Some(&written), false).unwrap().is_empty());
        let other = Meta::new(&CellKey::from_bytes([2; 32]));
        assert!(matches!(other.admit(Some(&written), false), Err(StoreError::WrongKey)));
        assert!(matches!(other.admit(Some(&[9]), false), Err(StoreError::UnknownFormat { found: 9 })));
        assert!(matches!(other.admit(Some(&[1, 2]), false), Err(StoreError::Damaged { .. })));
        assert!(matches!(other.admit(None, false), Err(StoreError::Damaged { .. })));
    }
}
