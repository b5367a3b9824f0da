//! A transaction's view: what is stored, with the transaction's own writes over it.
//!
//! Engines bring a [`View`] of what they hold; layers of pending writes are laid over it here, once for all engines.
//! Nothing here knows about encryption or disks.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::StoreError;
use crate::tables::{Appended, Rows, TableView};

/// A key's greatest length in bytes.
pub const KEY_MAX_BYTES: usize = 512;
/// A value's greatest length in bytes, before encryption. Larger content goes to [`crate::Blobs`].
pub const VALUE_MAX_BYTES: usize = 128 * 1024;
/// The greatest number of cells in one page of a scan.
pub const SCAN_MAX_CELLS: usize = 1_000;
/// The greatest sum of keys and values that one transaction writes, in bytes.
pub const TRANSACTION_MAX_BYTES: usize = 32 * 1024 * 1024;

/// A key and its value.
pub type Cell = (Vec<u8>, Vec<u8>);

/// One transaction over ordered byte keys. It sees its own writes.
pub trait Txn {
    /// The value under `key`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the value does not open; whatever the engine meets.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets the value under `key`.
    ///
    /// # Errors
    /// Over a limit, a reserved key, or [`StoreError::ReadOnly`].
    fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), StoreError>;

    /// Removes `key`; nothing happens if it is not there.
    ///
    /// # Errors
    /// As [`Txn::put`].
    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError>;

    /// A page of cells in ascending order of keys: those that start with `prefix` and are greater than `after`, at
    /// most `limit` of them (up to [`SCAN_MAX_CELLS`]). A page shorter than `limit` is the last one.
    ///
    /// # Errors
    /// [`StoreError::ScanTooWide`]; as [`Txn::get`].
    fn scan(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError>;

    /// The tables beside the cells; `None` where the engine has none.
    fn rows(&mut self) -> Option<Rows<'_>>;
}

/// Writes that are not yet in the engine; `None` removes.
pub(crate) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Something that can be read in order.
pub(crate) trait View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError>;
    /// The tables beside what is read here, if there are any.
    fn tables(&self) -> Option<&dyn TableView> {
        None
    }
}

/// Where a scan begins: at the prefix, or behind `after` if that is further on.
pub(crate) fn scan_start<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> Bound<&'a [u8]> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

/// Pending writes over a view.
pub(crate) struct Layer<'a> {
    pub(crate) below: &'a dyn View,
    pub(crate) writes: &'a Writes,
}

impl View for Layer<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.below.get(key),
        }
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let mut own = self
            .writes
            .range::<[u8], _>((scan_start(prefix, after), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .peekable();
        let mut cursor = after.map(<[u8]>::to_vec);
        // More than one page from below is needed only when writes remove what is there.
        loop {
            let page = self.below.scan(prefix, cursor.as_deref(), limit)?;
            let is_last = page.len() < limit;
            cursor = page.last().map(|(key, _)| key.clone());
            let mut below = page.into_iter().peekable();
            while found.len() < limit {
                let order = match (below.peek(), own.peek()) {
                    (None, None) => break,
                    (None, Some(_)) if !is_last => break,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(_), None) => Ordering::Less,
                    (Some((stored, _)), Some((written, _))) => stored.cmp(written),
                };
                if order == Ordering::Less {
                    found.extend(below.next());
                    continue;
                }
                if order == Ordering::Equal {
                    below.next();
                }
                if let Some((key, Some(value))) = own.next() {
                    found.push((key.clone(), value.clone()));
                }
            }
            if is_last || found.len() == limit {
                return Ok(found);
            }
        }
    }
    fn tables(&self) -> Option<&dyn TableView> {
        self.below.tables()
    }
}

/// A transaction that collects its writes over a view.
pub(crate) struct Overlay<'a> {
    below: &'a dyn View,
    writes: Writes,
    appended: Appended,
    written_bytes: usize,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(below: &'a dyn View) -> Self {
        Self { below, writes: Writes::new(), appended: Appended::default(), written_bytes: 0 }
    }

    /// What was written, and how many bytes were.
    pub(crate) fn into_writes(self) -> (Writes, usize) {
        (self.writes, self.written_bytes)
    }

    /// The same, and the rows that were appended.
    pub(crate) fn into_all(self) -> (Writes, Appended, usize) {
        let bytes = self.written_bytes.saturating_add(self.appended.bytes());
        (self.writes, self.appended, bytes)
    }

    fn write(&mut self, key: &[u8], value: Option<Vec<u8>>) -> Result<(), StoreError> {
        let bytes = key.len().saturating_add(value.as_ref().map_or(0, Vec::len));
        self.written_bytes = self.written_bytes.saturating_add(bytes);
        if self.written_bytes > TRANSACTION_MAX_BYTES {
            return Err(StoreError::TransactionTooLarge);
        }
        self.writes.insert(key.to_vec(), value);
        Ok(())
    }

    fn layer(&self) -> Layer<'_> {
        Layer { below: self.below, writes: &self.writes }
    }
}

impl Txn for Overlay<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.layer().get(key)
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), StoreError> {
        self.write(key, Some(value))
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.write(key, None)
    }

    fn scan(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
        self.layer().scan(prefix, after, limit)
    }

    fn rows(&mut self) -> Option<Rows<'_>> {
        Some(Rows { tables: self.below.tables()?, appended: Some(&mut self.appended) })
    }
}

/// A transaction that only reads a view.
pub(crate) struct ReadOnly<'a>(pub(crate) &'a dyn View);

impl Txn for ReadOnly<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key)
    }

    fn put(&mut self, _: &[u8], _: Vec<u8>) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn remove(&mut self, _: &[u8]) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn scan(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
        self.0.scan(prefix, after, limit)
    }

    fn rows(&mut self) -> Option<Rows<'_>> {
        Some(Rows { tables: self.0.tables()?, appended: None })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    pub(crate) struct Model(pub(crate) BTreeMap<Vec<u8>, Vec<u8>>);

    impl View for Model {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(self.0.get(key).cloned())
        }

        fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
            let cells = self.0.iter().filter(|(key, _)| {
                key.starts_with(prefix) && after.is_none_or(|after| key.as_slice() > after)
            });
            Ok(cells.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
        }
    }

    /// Few and short keys, so that layers hide and remove each other's.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0..3_u8, 0..4)
    }

    pub(crate) fn writes() -> impl Strategy<Value = Writes> {
        proptest::collection::btree_map(
            key(),
            proptest::option::of(proptest::collection::vec(0..9_u8, 1)),
            0..30,
        )
    }

    proptest! {
        #[test]
        fn layers_read_as_if_they_were_applied(
            lowest in writes(), middle in writes(), top in writes(),
            prefix in key(), after in proptest::option::of(key()), limit in 0..12_usize,
        ) {
            let mut base = Model(BTreeMap::new());
            base.0.extend(lowest.into_iter().filter_map(|(key, value)| Some((key, value?))));
            let mut applied = Model(base.0.clone());
            for (key, value) in middle.iter().chain(&top) {
                match value {
                    Some(value) => applied.0.insert(key.clone(), value.clone()),
                    None => applied.0.remove(key),
                };
            }
            let below = Layer { below: &base, writes: &middle };
            let layer = Layer { below: &below, writes: &top };
            prop_assert_eq!(
                layer.scan(&prefix, after.as_deref(), limit).unwrap(),
                applied.scan(&prefix, after.as_deref(), limit).unwrap()
            );
            prop_assert_eq!(layer.get(&prefix).unwrap(), applied.get(&prefix).unwrap());
        }
    }
}
