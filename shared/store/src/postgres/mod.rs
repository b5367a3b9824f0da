//! The engine over a database that speaks the PostgreSQL protocol, the only place that names it.
//!
//! One writer thread with group commit, as the embedded engine has it: it runs queued jobs one after another in one
//! serializable transaction and answers all of them when that is committed. Jobs of one process never conflict, then,
//! however many of them touch the same keys. A few reader threads run jobs that only read, each in a snapshot.
//!
//! A lost connection is made anew and what was under way run again. If it was lost in a commit, it is asked first
//! whether that was carried out, so that a job is applied once; its callers wait until that is known. One process has
//! a store open at a time, see `owner`.

mod cache;
mod connection;
mod database;
mod opening;
mod owner;
mod pulse;
mod reader;
mod schema;
mod session;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handover_seal::{OsRandom, Secret32};
use tokio::sync::{mpsc, oneshot};

pub use self::database::{Database, Schema};
pub use self::opening::Standing;
pub(crate) use self::opening::{Opening, Told, new_life};
use self::session::Token;
use self::writer::Command;
use crate::StoreError;
use crate::engine::{Engine, Health, Job};

/// Jobs that may wait for the writer, and as many for the readers.
const QUEUE_JOBS: usize = 1_024;
/// How long a caller waits for a place in a queue.
const QUEUE_WAIT: Duration = Duration::from_secs(10);
/// Threads, and so connections, that read.
const READERS: usize = 6;
/// How long a job waits for a database that cannot be reached.
const AWAY_LIMIT: Duration = Duration::from_secs(10);
/// How often a transaction is tried that others are in the way of.
const CONFLICT_TRIES: u32 = 12;
/// How often one is tried in which the connection is lost each time.
const LOSS_TRIES: u32 = 5;

type Answer = oneshot::Sender<Result<(), StoreError>>;
/// A job that reads, and since when it waits.
type Question = (Job, Answer, Instant);

pub(crate) struct PostgresEngine {
    shared: Arc<Shared>,
    /// Taken when the engine goes, which ends the threads.
    writes: Option<mpsc::Sender<Command>>,
    reads: Option<mpsc::Sender<Question>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the threads share.
struct Shared {
    database: Database,
    token: Token,
    /// Which process this is, for people.
    holder: String,
    health: AtomicU8,
    /// Whether the database could not be reached when it was last tried.
    is_away: AtomicBool,
    /// Which life of the store it has open.
    life: OnceLock<Vec<u8>>,
    /// The last group of writes whose callers were answered, or are about to be.
    confirmed: AtomicI64,
    /// Why it failed.
    why: OnceLock<&'static str>,
    /// How often a commit's outcome had to be asked. A group that was seen before may not be one since.
    doubts: AtomicU64,
}

impl Shared {
    fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            x if x == Health::Serving as u8 && self.is_away.load(Ordering::Acquire) => Health::Away,
            x if x == Health::Serving as u8 => Health::Serving,
            x if x == Health::Closed as u8 => Health::Closed,
            _ => Health::Failed,
        }
    }

    /// What it was confirmed.
    fn noted(&self) -> owner::Noted<'_> {
        let life = self.life.get().map(Vec::as_slice).unwrap_or_default();
        owner::Noted { life, token: &self.token, group: self.confirmed.load(Ordering::Acquire) }
    }

    /// Refuses everything from now on.
    fn fail(&self, why: &'static str) {
        let _ = self.why.set(why);
        if self.health.swap(Health::Failed as u8, Ordering::AcqRel) != Health::Failed as u8 {
            tracing::error!(store = %self.database, "the store refuses everything from now on: {why}");
        }
    }
}

impl PostgresEngine {
    /// Connects, brings the schema to this version and starts the threads. Blocks, also while it stands by.
    pub(crate) fn open(database: Database, needs: Opening) -> Result<Self, StoreError> {
        let secret = Secret32::generate(&mut OsRandom);
        let mut token = Token::default();
        token.iter_mut().zip(secret.expose()).for_each(|(to, from)| *to = *from);
        let shared = Arc::new(Shared {
            database,
            token,
            holder: holder(),
            health: AtomicU8::new(Health::Serving as u8),
            is_away: AtomicBool::new(false),
            life: OnceLock::new(),
            confirmed: AtomicI64::new(0),
            why: OnceLock::new(),
            doubts: AtomicU64::new(0),
        });
        let (writes, jobs) = mpsc::channel(QUEUE_JOBS);
        let (opened, opening) = std::sync::mpsc::channel();
        let for_writer = Arc::clone(&shared);
        let writer = thread("store-writer", move || writer::run(&for_writer, jobs, &needs, &opened))?;
        opening.recv().unwrap_or(Err(StoreError::Panicked))?;
        let (reads, jobs) = mpsc::channel(QUEUE_JOBS);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let (shared, jobs) = (Arc::clone(&shared), Arc::clone(&jobs));
            thread("store-reader", move || reader::run(&shared, &jobs))?;
        }
        Ok(Self { shared, writes: Some(writes), reads: Some(reads), writer: Mutex::new(Some(writer)) })
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(StoreError::io("start a thread of the store"))
}

/// This process, for people on other machines.
fn holder() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = match machine.trim() {
        "" => "a machine without a name",
        name => name,
    };
    format!("process {} on {machine}", std::process::id())
}

/// A runtime for one thread's connections.
fn runtime() -> Result<tokio::runtime::Runtime, StoreError> {
    let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
    made.map_err(StoreError::io("start a thread of the store"))
}

/// A pause before something is tried again: twice as long each time, up to a second, and never quite the same.
fn pause(tries: u32) -> Duration {
    let longest = 10_u64.saturating_mul(1 << tries.min(7)).min(1_000);
    let random = Secret32::generate(&mut OsRandom);
    let share = u64::from(random.expose().first().copied().unwrap_or_default());
    Duration::from_millis(longest / 2 + longest * share / 510)
}

async fn queued<T>(queue: Option<&mpsc::Sender<T>>, work: T) -> Result<(), StoreError> {
    let queue = queue.ok_or(StoreError::Closed)?;
    queue.send_timeout(work, QUEUE_WAIT).await.map_err(|refused| match refused {
        mpsc::error::SendTimeoutError::Timeout(_) => StoreError::Busy,
        mpsc::error::SendTimeoutError::Closed(_) => StoreError::Closed,
    })
}

#[async_trait::async_trait]
impl Engine for PostgresEngine {
    async fn write(&self, job: Job) -> Result<(), StoreError> {
        self.shared.health().require_serving()?;
        let (answer, answered) = oneshot::channel();
        queued(self.writes.as_ref(), Command::Run(job, answer)).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn read(&self, job: Job) -> Result<(), StoreError> {
        self.shared.health().require_serving()?;
        let (answer, answered) = oneshot::channel();
        queued(self.reads.as_ref(), (job, answer, Instant::now())).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    fn health(&self) -> Health {
        let is_dead = self.writes.as_ref().is_none_or(mpsc::Sender::is_closed);
        match self.shared.health() {
            Health::Serving | Health::Away if is_dead => Health::Failed,
            health => health,
        }
    }

    fn failure(&self) -> Option<StoreError> {
        (self.health() == Health::Failed).then(|| match self.shared.why.get() {
            Some(&reason) => StoreError::Overtaken { store: self.shared.database.to_string(), reason },
            None => StoreError::Failed,
        })
    }

    async fn close(&self) {
        let Some(queue) = self.writes.as_ref() else { return };
        let (answer, closed) = oneshot::channel();
        if queue.send(Command::Close(answer)).await.is_ok() {
            // An error means that another close came first and the writer is gone or going.
            let _ = closed.await;
        }
    }
}

impl Drop for PostgresEngine {
    /// Finishes what was accepted and lets go of the store, so that whoever drops the last handle can open it again at
    /// once. Blocks for one group at most, or for as long as a database that is away is waited for.
    fn drop(&mut self) {
        self.writes = None;
        self.reads = None;
        let writer = lock(&self.writer).take();
        // The last handle may have been inside a job: a thread cannot wait for itself.
        if let Some(writer) = writer.filter(|writer| writer.thread().id() != std::thread::current().id()) {
            let _ = writer.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the store is, for errors that name a place.
fn place(database: &Database) -> PathBuf {
    PathBuf::from(database.to_string())
}
