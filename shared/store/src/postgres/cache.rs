//! What the writer has read or written of the cells, so that it does not go to the database for it again.
//!
//! Nobody else writes cells while this process has the store, and each transaction is refused unless it still has it: so
//! what is here is what is there, or nothing that was made of it counts. It is let go whenever a transaction does not end
//! as it should, and with each connection.

use std::cell::RefCell;
use std::collections::HashMap;

use super::session::Session;
use crate::StoreError;
use crate::tables::TableView;
use crate::txn::{Cell, View, Writes};

/// Keys and values that are kept, in bytes. More, and all of them are let go.
const MAX_BYTES: usize = 64 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Cache {
    cells: HashMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl Cache {
    fn put(&mut self, key: &[u8], value: Option<&Vec<u8>>) {
        let bytes = |value: Option<&Vec<u8>>| key.len().saturating_add(value.map_or(0, Vec::len));
        let more = bytes(value);
        if self.bytes.saturating_add(more) > MAX_BYTES {
            *self = Self::default();
        }
        if let Some(before) = self.cells.insert(key.to_vec(), value.cloned()) {
            self.bytes = self.bytes.saturating_sub(bytes(before.as_ref()));
        }
        self.bytes = self.bytes.saturating_add(more);
    }

    /// What was committed.
    pub(super) fn apply(&mut self, writes: &Writes) {
        writes.iter().for_each(|(key, value)| self.put(key, value.as_ref()));
    }
}

/// The database behind a cache.
pub(super) struct Cached<'a> {
    pub(super) session: &'a Session,
    pub(super) cache: RefCell<Cache>,
}

impl View for Cached<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(known) = self.cache.borrow().cells.get(key) {
            return Ok(known.clone());
        }
        let read = self.session.get(key)?;
        self.cache.borrow_mut().put(key, read.as_ref());
        Ok(read)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
        self.session.scan(prefix, after, limit)
    }

    fn tables(&self) -> Option<&dyn TableView> {
        self.session.tables()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_counts_what_it_holds() {
        let mut cache = Cache::default();
        let value = vec![7; MAX_BYTES / 4];
        for key in [b"a", b"a", b"b", b"a"] {
            cache.put(key, Some(&value));
        }
        cache.put(b"c", None);
        assert_eq!((cache.cells.len(), cache.bytes), (3, 2 * (value.len() + 1) + 1));
        cache.put(b"a", None);
        assert_eq!(cache.bytes, value.len() + 3);
        for key in 0..9_u8 {
            cache.put(&[key], Some(&value));
            assert!(cache.bytes <= MAX_BYTES);
        }
        assert!(!cache.cells.contains_key(&b"c"[..]));
    }
}
