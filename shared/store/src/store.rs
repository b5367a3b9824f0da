//! The handle that everybody holds: typed closures in, typed results out, over any engine.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cell::{CellTxn, Cells};
use crate::engine::{Engine, Health, Job, Verdict};
use crate::memory::{Faults, Memory};
use crate::meta::Meta;
use crate::note::NOTE_FILE;
use crate::postgres::{Opening, PostgresEngine, Standing};
use crate::sled_engine::SledEngine;
use crate::sled_files::is_begun;
use crate::{CellKey, Database, KeyMaker, Place, StoreError, Txn};

/// How long is waited between two looks whether the database is away.
const AWAY_PAUSE: Duration = Duration::from_millis(200);

/// A store. Clones are cheap and are the same store; the last one that goes closes it.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    cells: Cells,
    keys: KeyMaker,
}

impl Store {
    /// A store in memory.
    #[must_use]
    pub fn memory(cell_key: &CellKey) -> Self {
        Self::memory_with_faults(cell_key).0
    }

    /// A store in memory and the switch for its faults.
    #[must_use]
    pub fn memory_with_faults(cell_key: &CellKey) -> (Self, Faults) {
        let (engine, faults) = Memory::new();
        (Self::over(Arc::new(engine), cell_key), faults)
    }

    /// The store in memory that these faults are of.
    #[must_use]
    pub fn on(disk: &Faults, cell_key: &CellKey) -> Self {
        Self::over(Arc::new(Memory::on(disk)), cell_key)
    }

    /// Opens the store in `folder`, which is made if it is not there, and reads all of it to see that nothing that was
    /// acknowledged is missing. Blocks for that long.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::WrongKey`], [`StoreError::UnknownFormat`], [`StoreError::Damaged`],
    /// [`StoreError::Lost`], [`StoreError::Moved`], [`StoreError::Unfinished`] or [`StoreError::Unavailable`].
    pub fn sled(folder: &Path, cell_key: &CellKey) -> Result<Self, StoreError> {
        let engine = SledEngine::open(folder, &Meta::new(cell_key))?;
        Ok(Self::over(Arc::new(engine), cell_key))
    }

    /// Refuses a folder without a store, or with the name of one only: `made_later` is there, which is made once there
    /// is one. A disk that is not mounted must not look like a new hospital.
    ///
    /// # Errors
    /// [`StoreError::Lost`].
    pub fn check_there(folder: &Path, made_later: &Path) -> Result<(), StoreError> {
        let is_there = folder.join(NOTE_FILE).try_exists().map_err(StoreError::io("look for the store"))?;
        if is_there || is_begun(folder)? || !made_later.exists() {
            return Ok(());
        }
        Err(StoreError::Lost {
            what: format!("in {} is no store, and {} is there", folder.display(), made_later.display()),
            advice: "mount its disk, or restore the last backup; for a new store, take another data folder",
        })
    }

    /// Opens the store in a database; its tables are made if they are not there. Blocks until the database has
    /// answered, or a few seconds have passed.
    ///
    /// # Errors
    /// As [`Store::sled`]; [`StoreError::Settings`], [`StoreError::Moved`] or [`StoreError::Unfinished`].
    pub fn postgres(database: &Database, cell_key: &CellKey) -> Result<Self, StoreError> {
        let opening = Opening { meta: Meta::new(cell_key), note: None, told: None };
        let engine = PostgresEngine::open(database.clone(), opening)?;
        Ok(Self::over(Arc::new(engine), cell_key))
    }

    /// Opens the store where the configuration says.
    ///
    /// # Errors
    /// As [`Store::sled`] and [`Store::postgres`].
    pub async fn open(place: &Place, cell_key: &CellKey) -> Result<Self, StoreError> {
        let engine = place.open(Meta::new(cell_key), None).await?;
        Ok(Self::over(engine, cell_key))
    }

    /// The same, and stands by while another process has a store that lies in a database: `told` hears what is waited
    /// for, each time that this changes. Ends with [`StoreError::Closed`] when its receiver goes.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_or_stand_by(
        place: &Place,
        cell_key: &CellKey,
        told: mpsc::UnboundedSender<Standing>,
    ) -> Result<Self, StoreError> {
        let engine = place.open(Meta::new(cell_key), Some(told)).await?;
        Ok(Self::over(engine, cell_key))
    }

    pub(crate) fn over(engine: Arc<dyn Engine>, cell_key: &CellKey) -> Self {
        Self { engine, cells: cell_key.cells(), keys: cell_key.key_maker() }
    }

    /// What makes this store's keys.
    #[must_use]
    pub fn keys(&self) -> KeyMaker {
        self.keys.clone()
    }

    /// Runs `f` as a transaction: all or nothing, and the answer comes when it is on disk. `f` may be run again
    /// after a conflict, so it changes nothing outside. Its `Err` writes nothing. Dropping the future does not
    /// take the transaction back. The closure must not wait for another transaction of this store.
    ///
    /// # Errors
    /// What `f` returns; [`StoreError::Failed`], [`StoreError::Busy`], [`StoreError::Closed`] or
    /// [`StoreError::Panicked`].
    pub async fn write<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut dyn Txn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (job, outcome) = self.job(f);
        self.engine.write(job).await?;
        take(&outcome)
    }

    /// Runs `f` on a consistent state of what is on disk. Writing is refused with [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn read<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut dyn Txn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (job, outcome) = self.job(f);
        self.engine.read(job).await?;
        take(&outcome)
    }

    /// How the store is; asked by health pages.
    #[must_use]
    pub fn health(&self) -> Health {
        self.engine.health()
    }

    /// Waits until the store refuses everything for good; why.
    pub async fn failed(&self) -> StoreError {
        loop {
            if let Some(failure) = self.engine.failure() {
                return failure;
            }
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }

    /// Waits for `work`, the last that is done with this store. If its database is away, or goes away meanwhile, the
    /// store is closed under it: what waits for a commit's outcome might wait for ever.
    pub async fn drain<T>(&self, work: impl Future<Output = T>) -> T {
        let closing = async {
            loop {
                if self.health() == Health::Away {
                    self.engine.close().await;
                }
                tokio::time::sleep(AWAY_PAUSE).await;
            }
        };
        tokio::select! {
            done = work => done,
            never = closing => never,
        }
    }

    /// Finishes what was accepted, then lets go of the folder. Other clones are closed with it.
    pub async fn close(self) {
        self.engine.close().await;
    }

    /// The engine below the cells, for `check`.
    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(crate) fn cells(&self) -> Cells {
        self.cells.clone()
    }

    fn job<T, E, F>(&self, mut f: F) -> (Job, Outcome<T, E>)
    where
        F: FnMut(&mut dyn Txn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let outcome = Outcome::default();
        let slot = Arc::clone(&outcome.0);
        let cells = self.cells.clone();
        let job = move |below: &mut dyn Txn| {
            let result = f(&mut CellTxn { cells: &cells, below });
            let verdict = if result.is_ok() { Verdict::Commit } else { Verdict::Abandon };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            verdict
        };
        (Box::new(job), outcome)
    }
}

/// Where a closure leaves its result until the engine says that it counts.
struct Outcome<T, E>(Arc<Mutex<Option<Result<T, E>>>>);

impl<T, E> Default for Outcome<T, E> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

fn take<T, E: From<StoreError>>(outcome: &Outcome<T, E>) -> Result<T, E> {
    let result = outcome.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    // An engine that answers without having run the job has closed in between.
    result.unwrap_or_else(|| Err(StoreError::Closed.into()))
}
