//! `check`: reads every cell and sees whether it opens. Paged, so that it runs beside normal work and in constant
//! memory.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::Verdict;
use crate::meta::LAST_OWN_KEY;
use crate::txn::Cell;
use crate::{Store, StoreError};

/// Cells that are read in one go.
const PAGE_CELLS: usize = 500;
/// Damaged keys that a report names.
const NAMED_KEYS: usize = 20;

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckProgress {
    /// Cells read so far.
    pub cells: u64,
    /// Their keys and stored values, in bytes.
    pub bytes: u64,
    /// Cells that did not open so far.
    pub damaged: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The counts.
    pub counts: CheckProgress,
    /// The first damaged keys, at most 20.
    pub damaged_keys: Vec<Vec<u8>>,
}

impl Store {
    /// Reads every cell and verifies that it opens. `progress` is told after each page.
    ///
    /// # Errors
    /// Whatever ends the reading; cells that do not open are counted and end nothing.
    pub async fn check(&self, mut progress: impl FnMut(CheckProgress)) -> Result<CheckReport, StoreError> {
        let cells = self.cells();
        let mut report = CheckReport::default();
        let mut after = LAST_OWN_KEY.to_vec();
        loop {
            let page = self.stored(&[], after, PAGE_CELLS).await?;
            for (key, stored) in &page {
                let counts = &mut report.counts;
                counts.cells = counts.cells.saturating_add(1);
                counts.bytes =
                    counts.bytes.saturating_add((key.len() as u64).saturating_add(stored.len() as u64));
                if cells.open(key, stored).is_err() {
                    counts.damaged = counts.damaged.saturating_add(1);
                    if report.damaged_keys.len() < NAMED_KEYS {
                        report.damaged_keys.push(key.clone());
                    }
                }
            }
            progress(report.counts);
            match page.into_iter().next_back() {
                Some((key, _)) => after = key,
                None => return Ok(report),
            }
        }
    }

    /// Cells as they are stored, those of the store's own among them: the next `limit` of a prefix behind `after`.
    pub(crate) async fn stored(
        &self,
        prefix: &'static [u8],
        after: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<Cell>, StoreError> {
        let found = Arc::new(Mutex::new(Ok(Vec::new())));
        let slot = Arc::clone(&found);
        let job = move |txn: &mut dyn crate::Txn| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = txn.scan(prefix, Some(&after), limit);
            Verdict::Abandon
        };
        self.engine().read(Box::new(job)).await?;
        std::mem::replace(&mut *found.lock().unwrap_or_else(PoisonError::into_inner), Ok(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CellKey;
    use crate::memory::Memory;

    #[tokio::test]
    async fn moved_and_altered_values_are_found() {
        let (store, faults) = Store::memory_with_faults(&CellKey::from_bytes([1; 32]));
        store
            .write::<_, StoreError, _>(|txn| {
                (0..1_200_u64).try_for_each(|n| txn.put(&[&[1], &n.to_be_bytes()[..]].concat(), vec![1; 9]))
            })
            .await
            .unwrap();
        let key = |n: u64| [&[1], &n.to_be_bytes()[..]].concat();
        Memory::tamper(&faults, |cells| {
            let moved = cells[&key(3)].clone();
            cells.insert(key(700), moved);
            if let Some(last) = cells.get_mut(&key(1_100)).and_then(|value| value.last_mut()) {
                *last ^= 1;
            }
        });
        let mut told = 0;
        let report = store.check(|_| told += 1).await.unwrap();
        assert_eq!((report.counts.cells, report.counts.damaged), (1_200, 2));
        assert_eq!(report.damaged_keys, [key(700), key(1_100)]);
        assert!(told >= 3);
        let read = store.read::<_, StoreError, _>(move |txn| txn.get(&key(700))).await;
        assert!(matches!(read, Err(StoreError::Damaged { .. })));
    }
}
