//! One open sled database. Every call is guarded: a damaged file can make sled panic, which is damage like any other
//! and not the end of the thread that met it.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::StoreError;
use crate::sled_files::{DurableFiles, damaged, open_tree, unavailable};
use crate::txn::{Cell, View, Writes, scan_start};

pub(crate) struct Tree {
    db: sled::Db,
    files: DurableFiles,
}

fn guarded<T>(doing: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(doing)).unwrap_or_else(|_| Err(damaged()))
}

impl Tree {
    /// Opens the database in `folder`, which is made if it is not there. sled cuts off what it cannot read at the end
    /// of its log, for good; whether that was anything is for the caller to find out.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_after(folder, |_| Ok(()))
    }

    /// The same, and `before` is called before each attempt (see [`open_tree`]).
    pub(crate) fn open_after(
        folder: &Path,
        before: impl Fn(bool) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let (db, files) = open_tree(folder, before)?;
        Ok(Self { db, files })
    }

    pub(crate) fn is_empty(&self) -> Result<bool, StoreError> {
        guarded(|| Ok(self.db.is_empty()))
    }

    /// Applies writes as one batch. They are visible at once and durable after [`Tree::flush`].
    pub(crate) fn apply(&self, writes: Writes, own: Vec<Cell>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        for (key, value) in own {
            batch.insert(key, value);
        }
        guarded(|| self.db.apply_batch(batch).map_err(|error| unavailable("write", &error)))
    }

    /// Returns when everything that was applied is on disk.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        let Self { db, files } = self;
        guarded(|| files.flush(db))
    }

    /// The first cell from `start` on.
    pub(crate) fn first_from(&self, start: &[u8]) -> Result<Option<Cell>, StoreError> {
        guarded(|| {
            let found = self.db.range::<&[u8], _>(start..).next().transpose();
            let found = found.map_err(|error| unavailable("scan values", &error))?;
            Ok(found.map(|(key, value)| (key.to_vec(), value.to_vec())))
        })
    }

    /// Lets flushes wait for another file than the log.
    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn replace_log(&mut self, log: std::fs::File) {
        self.files.replace_log(log);
    }
}

impl View for Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        guarded(|| {
            let found = self.db.get(key).map_err(|error| unavailable("read a value", &error))?;
            Ok(found.map(|value| value.to_vec()))
        })
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
        guarded(|| {
            let mut page = Vec::new();
            let range = (scan_start(prefix, after), Bound::Unbounded);
            for cell in self.db.range::<&[u8], _>(range).take(limit) {
                let (key, value) = cell.map_err(|error| unavailable("scan values", &error))?;
                if !key.starts_with(prefix) {
                    break;
                }
                page.push((key.to_vec(), value.to_vec()));
            }
            Ok(page)
        })
    }
}
