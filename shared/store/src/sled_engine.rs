//! The embedded engine over sled 0.34, the only place that names it.
//!
//! One writer thread with group commit: it runs queued jobs one after another over the tree and the group's pending
//! writes, applies them as one batch, flushes, and only then answers all of them. An abandoned job contributes
//! nothing, and is answered after the flush too, because it may have read what the group had pending.
//!
//! Readers hold the read half of a lock whose write half is held over apply and flush, so they see a consistent
//! state of what is durable. A flush that fails leaves it unknown what is on disk: everything is refused from then on.
//!
//! What sled 0.34 leaves to its user, and is done in `sled_files`: its flush does not wait for the disk's own cache
//! or for the file's length, and a snapshot that was cut off in the middle keeps it from opening.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::StoreError;
use crate::engine::{Engine, Health, Job, Verdict, run};
use crate::meta::{META_KEY, MOVE_KEY, Meta};
use crate::sled_files::{DurableFiles, open_tree, unavailable};
use crate::txn::{Cell, Layer, Overlay, ReadOnly, View, Writes, scan_start};

/// Jobs that one group commits at most.
const GROUP_MAX_JOBS: usize = 100;
/// Pending bytes at which a group is committed without waiting for more jobs.
const GROUP_FULL_BYTES: usize = 8 * 1024 * 1024;
/// Jobs that may wait for the writer.
const QUEUE_JOBS: usize = 1_024;
/// How long a caller waits for a place in the queue.
const QUEUE_WAIT_MS: u64 = 10_000;

type Answer = oneshot::Sender<Result<(), StoreError>>;

enum Command {
    Run(Job, Answer),
    Close(oneshot::Sender<()>),
}

pub(crate) struct SledEngine {
    shared: Arc<Shared>,
    /// Taken when the engine goes, which ends the writer.
    queue: Option<mpsc::Sender<Command>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    queue_wait: Duration,
}

struct Shared {
    /// `None` once closed. The write half is held only while a group is applied and flushed.
    open: RwLock<Option<Open>>,
    health: AtomicU8,
}

struct Open {
    tree: Tree,
    files: DurableFiles,
}

struct Tree(sled::Db);

impl View for Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.0.get(key).map_err(|error| unavailable("read a value", &error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
        let mut page = Vec::new();
        for cell in self.0.range::<&[u8], _>((scan_start(prefix, after), Bound::Unbounded)).take(limit) {
            let (key, value) = cell.map_err(|error| unavailable("scan values", &error))?;
            if !key.starts_with(prefix) {
                break;
            }
            page.push((key.to_vec(), value.to_vec()));
        }
        Ok(page)
    }
}

impl SledEngine {
    /// Opens or makes the store in `folder` and starts its writer.
    pub(crate) fn open(folder: &Path, meta: &Meta) -> Result<Self, StoreError> {
        let (db, mut files) = open_tree(folder)?;
        let stored = db.get(META_KEY).map_err(|error| unavailable("read the format cell", &error))?;
        let first = meta.admit(stored.as_deref(), db.is_empty())?;
        if !first.is_empty() {
            let mut batch = sled::Batch::default();
            first.into_iter().for_each(|(key, value)| batch.insert(key, value));
            db.apply_batch(batch).map_err(|error| unavailable("write the format cell", &error))?;
            files.flush(&db)?;
        }
        let mark = db.get(MOVE_KEY).map_err(|error| unavailable("read the format cell", &error))?;
        meta.admit_mark(mark.as_deref())?;
        let shared = Arc::new(Shared {
            open: RwLock::new(Some(Open { tree: Tree(db), files })),
            health: AtomicU8::new(Health::Serving as u8),
        });
        let (queue, jobs) = mpsc::channel(QUEUE_JOBS);
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_groups(jobs, &for_writer))
            .map_err(StoreError::io("start the store's writer"))?;
        let queue_wait = Duration::from_millis(QUEUE_WAIT_MS);
        Ok(Self { shared, queue: Some(queue), writer: Mutex::new(Some(writer)), queue_wait })
    }
}

impl Shared {
    fn health(&self) -> Health {
        // The lock is poisoned by a panic inside sled while it applied a group.
        if self.open.is_poisoned() {
            return Health::Failed;
        }
        match self.health.load(Ordering::Acquire) {
            x if x == Health::Serving as u8 => Health::Serving,
            x if x == Health::Closed as u8 => Health::Closed,
            _ => Health::Failed,
        }
    }

    fn read(&self, job: &mut Job) -> Result<(), StoreError> {
        // A panic while the lock was held came from inside sled; what it left is not to be trusted.
        let open = self.open.read().map_err(|_| StoreError::Failed)?;
        self.health().require_serving()?;
        let open = open.as_ref().ok_or(StoreError::Closed)?;
        run(job, &mut ReadOnly(&open.tree)).map(|_| ())
    }

    /// Makes a group's writes durable and visible.
    fn commit(&self, writes: Writes) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let mut open = self.open.write().map_err(|_| StoreError::Failed)?;
        let Open { tree, files } = open.as_mut().ok_or(StoreError::Closed)?;
        let done = tree
            .0
            .apply_batch(batch)
            .map_err(|error| unavailable("write", &error))
            .and_then(|()| files.flush(&tree.0));
        if let Err(error) = &done {
            tracing::error!(%error, "a write could not be made durable; the store refuses everything from now on");
            // Before the lock is let go, so that no reader sees what may not be on disk.
            self.health.store(Health::Failed as u8, Ordering::Release);
        }
        done
    }

    fn shut(&self) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if self.health() == Health::Serving {
            self.health.store(Health::Closed as u8, Ordering::Release);
        }
        drop(open.take());
    }
}

/// The writer thread: ends when the last handle goes or on `Close`.
fn write_groups(mut jobs: mpsc::Receiver<Command>, shared: &Shared) {
    let mut closed = None;
    while closed.is_none() {
        let Some(first) = jobs.blocking_recv() else { break };
        closed = write_group(first, &mut jobs, shared);
    }
    // From here on `send` fails; what is still queued is answered with Closed by dropping its answer.
    jobs.close();
    shared.shut();
    if let Some(answer) = closed {
        let _ = answer.send(());
    }
}

/// Runs one group. Returns who waits for the closing, if that was asked.
fn write_group(
    first: Command,
    jobs: &mut mpsc::Receiver<Command>,
    shared: &Shared,
) -> Option<oneshot::Sender<()>> {
    let mut pending = Writes::new();
    let mut pending_bytes = 0_usize;
    let mut answers = Vec::new();
    let mut closed = None;
    let mut next = Some(first);
    while let Some(command) = next.take() {
        match command {
            Command::Run(mut job, answer) => {
                let outcome = run_over(shared, &mut job, &mut pending, &mut pending_bytes);
                answers.push((answer, outcome));
            }
            Command::Close(answer) => {
                closed = Some(answer);
                break;
            }
        }
        if answers.len() < GROUP_MAX_JOBS && pending_bytes < GROUP_FULL_BYTES {
            next = jobs.try_recv().ok();
        }
    }
    let committed = shared.commit(pending);
    for (answer, outcome) in answers {
        // A caller that went away has no one to tell; its transaction stands all the same.
        let _ = answer.send(committed.clone().and(outcome));
    }
    closed
}

/// Runs one job over the tree and the group's pending writes, and adds its own to them if it commits.
fn run_over(
    shared: &Shared,
    job: &mut Job,
    pending: &mut Writes,
    pending_bytes: &mut usize,
) -> Result<(), StoreError> {
    let open = shared.open.read().map_err(|_| StoreError::Failed)?;
    shared.health().require_serving()?;
    let tree = &open.as_ref().ok_or(StoreError::Closed)?.tree;
    let below = Layer { below: tree, writes: pending };
    let mut txn = Overlay::new(&below);
    if run(job, &mut txn)? == Verdict::Commit {
        let (writes, bytes) = txn.into_writes();
        pending.extend(writes);
        *pending_bytes = pending_bytes.saturating_add(bytes);
    }
    Ok(())
}

#[async_trait::async_trait]
impl Engine for SledEngine {
    async fn write(&self, job: Job) -> Result<(), StoreError> {
        self.shared.health().require_serving()?;
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        queue.send_timeout(Command::Run(job, answer), self.queue_wait).await.map_err(
            |refused| match refused {
                mpsc::error::SendTimeoutError::Timeout(_) => StoreError::Busy,
                mpsc::error::SendTimeoutError::Closed(_) => StoreError::Closed,
            },
        )?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn read(&self, mut job: Job) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || shared.read(&mut job)).await;
        done.unwrap_or(Err(StoreError::Panicked))
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    async fn close(&self) {
        let Some(queue) = self.queue.as_ref() else { return };
        let (answer, closed) = oneshot::channel();
        if queue.send(Command::Close(answer)).await.is_ok() {
            // An error means that another close came first and the writer is gone or going.
            let _ = closed.await;
        }
    }
}

impl Drop for SledEngine {
    /// Finishes what was accepted and lets go of the folder, so that whoever drops the last handle can open it
    /// again at once. Blocks for one group at most.
    fn drop(&mut self) {
        self.queue = None;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CellKey;

    fn engine(folder: &Path) -> SledEngine {
        SledEngine::open(folder, &Meta::new(&CellKey::from_bytes([1; 32]))).unwrap()
    }

    fn put(key: &'static [u8]) -> Job {
        Box::new(move |txn| {
            txn.put(key, vec![1]).unwrap();
            Verdict::Commit
        })
    }

    /// A file that cannot be synced stands for a disk that fails.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_failed_flush_stops_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path());
        engine.write(put(b"a")).await.unwrap();
        let unsyncable = std::fs::File::open("/dev/null").unwrap();
        engine.shared.open.write().unwrap().as_mut().unwrap().files.replace_log(unsyncable);
        assert!(matches!(engine.write(put(b"b")).await, Err(StoreError::Unavailable { .. })));
        assert!(matches!(engine.write(put(b"c")).await, Err(StoreError::Failed)));
        assert!(matches!(engine.read(put(b"a")).await, Err(StoreError::Failed)));
        assert_eq!(engine.health(), Health::Failed);
    }

    #[tokio::test]
    async fn a_full_queue_is_busy() {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = engine(folder.path());
        engine.queue_wait = Duration::ZERO;
        let (release, released) = std::sync::mpsc::channel::<()>();
        let held = engine.write(Box::new(move |_| {
            released.recv().unwrap();
            Verdict::Abandon
        }));
        // The writer is let go once somebody was refused.
        let refused = tokio::sync::Notify::new();
        let more = futures::future::join_all((0..2 * QUEUE_JOBS).map(|_| async {
            let answer = engine.write(put(b"a")).await;
            if matches!(answer, Err(StoreError::Busy)) {
                refused.notify_one();
            }
            answer
        }));
        let letting_go = async {
            refused.notified().await;
            release.send(()).unwrap();
        };
        let (held, answers, ()) = tokio::join!(held, more, letting_go);
        held.unwrap();
        let stored = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(stored >= QUEUE_JOBS, "{stored}");
        assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(StoreError::Busy))));
    }
}
