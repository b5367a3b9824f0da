//! The engine for simulation and tests: everything in memory, on the caller's own task, with faults on request.
//!
//! "Durable" means committed here; a fault stands for a disk that fails to flush. No threads, no clock.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::StoreError;
use crate::engine::{Engine, Health, Job, Verdict, run};
use crate::txn::{Cell, Overlay, ReadOnly, View, Writes, scan_start};

/// What a failed flush leaves behind. Whoever was waiting gets an error either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unflushed {
    /// The writes are gone after [`Faults::restart`].
    Lost,
    /// The writes turn out to be there after [`Faults::restart`].
    Kept,
}

/// The switch for faults of a memory store, which is also its disk: it outlives the store.
#[derive(Clone)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// Lets `writes` more transactions succeed; the one after them fails to flush and the store is failed.
    pub fn fail_flush_after(&self, writes: u64, unflushed: Unflushed) {
        lock(&self.0).fault = Some((writes, unflushed));
    }

    /// Stands for a process that starts again on the same disk: a failed or closed store serves again.
    pub fn restart(&self) {
        let mut state = lock(&self.0);
        state.health = Health::Serving;
        state.fault = None;
    }

    /// The disk as another process finds it, by [`Store::on`]: what still has the store from before finds it closed, for
    /// good.
    ///
    /// [`Store::on`]: crate::Store::on
    #[must_use]
    pub fn taken_over(&self) -> Self {
        let mut state = lock(&self.0);
        state.health = Health::Closed;
        Self::with(std::mem::take(&mut state.cells))
    }

    /// Another disk with the same on it.
    #[must_use]
    pub fn copied(&self) -> Self {
        Self::with(Cells(lock(&self.0).cells.0.clone()))
    }

    fn with(cells: Cells) -> Self {
        Self(Arc::new(Mutex::new(State { cells, health: Health::Serving, fault: None })))
    }

    /// Whether the store serves: it was not closed, and no flush failed.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        lock(&self.0).health == Health::Serving
    }
}

struct State {
    cells: Cells,
    health: Health,
    fault: Option<(u64, Unflushed)>,
}

#[derive(Default)]
struct Cells(BTreeMap<Vec<u8>, Vec<u8>>);

impl Cells {
    fn apply(&mut self, writes: Writes) {
        for (key, value) in writes {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

impl View for Cells {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
        Ok(self
            .0
            .range::<[u8], _>((scan_start(prefix, after), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

/// The engine. One lock: transactions run one after another.
pub(crate) struct Memory(Arc<Mutex<State>>);

impl Memory {
    pub(crate) fn new() -> (Self, Faults) {
        let faults = Faults::with(Cells::default());
        (Self::on(&faults), faults)
    }

    pub(crate) fn on(disk: &Faults) -> Self {
        Self(Arc::clone(&disk.0))
    }

    #[cfg(test)]
    pub(crate) fn tamper(faults: &Faults, change: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>)) {
        change(&mut lock(&faults.0).cells.0);
    }
}

/// A job cannot poison the state: its writes are applied after it has ended.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait::async_trait]
impl Engine for Memory {
    async fn write(&self, mut job: Job) -> Result<(), StoreError> {
        let mut state = lock(&self.0);
        state.health.require_serving()?;
        let mut txn = Overlay::new(&state.cells);
        if run(&mut job, &mut txn)? == Verdict::Abandon {
            return Ok(());
        }
        let (writes, _) = txn.into_writes();
        match &mut state.fault {
            Some((0, unflushed)) => {
                if *unflushed == Unflushed::Kept {
                    state.cells.apply(writes);
                }
                state.health = Health::Failed;
                return Err(StoreError::Failed);
            }
            Some((left, _)) => *left = left.saturating_sub(1),
            None => {}
        }
        state.cells.apply(writes);
        Ok(())
    }

    async fn read(&self, mut job: Job) -> Result<(), StoreError> {
        let state = lock(&self.0);
        state.health.require_serving()?;
        run(&mut job, &mut ReadOnly(&state.cells)).map(|_| ())
    }

    fn health(&self) -> Health {
        lock(&self.0).health
    }

    async fn close(&self) {
        lock(&self.0).health = Health::Closed;
    }
}
