//! What an engine is: it runs jobs as transactions, one after another or as if so, and answers when they are
//! durable. It sees keys and encrypted values only.
//!
//! A job is a synchronous closure, so an engine that speaks to a database over a network runs it on a blocking
//! thread; it may run a job again after a conflict.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{StoreError, Txn};

/// Whether a job's writes are to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Commit,
    Abandon,
}

/// A transaction's closure. Its result is kept inside it; the verdict is all that an engine needs.
pub(crate) type Job = Box<dyn FnMut(&mut dyn Txn) -> Verdict + Send>;

/// How a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes are taken.
    Serving,
    /// A write could not be made durable; everything is refused until the store is opened again.
    Failed,
    /// It was closed.
    Closed,
    /// The database does not answer at the moment; it is tried again, and what comes is taken or refused by itself.
    Away,
}

impl Health {
    /// Refuses unless serving.
    pub(crate) fn require_serving(self) -> Result<(), StoreError> {
        match self {
            Self::Serving | Self::Away => Ok(()),
            Self::Failed => Err(StoreError::Failed),
            Self::Closed => Err(StoreError::Closed),
        }
    }
}

/// A storage engine.
#[async_trait::async_trait]
pub(crate) trait Engine: Send + Sync {
    /// Runs a job and keeps its writes if it says so. An error says that the job's result does not count.
    async fn write(&self, job: Job) -> Result<(), StoreError>;

    /// Runs a job on a consistent state of what is durable. Its verdict is ignored.
    async fn read(&self, job: Job) -> Result<(), StoreError>;

    /// How it is now.
    fn health(&self) -> Health;

    /// Why it refuses everything, if it does for good.
    fn failure(&self) -> Option<StoreError> {
        (self.health() == Health::Failed).then_some(StoreError::Failed)
    }

    /// Finishes what was accepted, then lets go of every lock.
    async fn close(&self);
}

/// Runs a job so that a panic in it ends this transaction only.
pub(crate) fn run(job: &mut Job, txn: &mut dyn Txn) -> Result<Verdict, StoreError> {
    catch_unwind(AssertUnwindSafe(|| job(txn))).map_err(|_| StoreError::Panicked)
}
