//! A store is moved from one engine to another: every cell as it lies, without being decrypted to do so.
//!
//! Invariant: of the two stores at most one opens, whenever this is cut off. The target says that it is not complete
//! from its first moment on; the source says that it was moved before the target stops saying so. A copy that was cut
//! off is begun anew. Where a store has to be, none is made.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cell::Cells;
use crate::engine::{Engine, Verdict};
use crate::meta::{LAST_OWN_KEY, LIFE_KEY, MOVE_KEY, Mark, Meta};
use crate::postgres::new_life;
use crate::txn::Cell;
use crate::{CellKey, Place, StoreError, Txn};

/// Cells that are read in one go.
const PAGE_CELLS: usize = 1_000;
/// Bytes that are written in one transaction, and one cell more.
const WRITE_BYTES: usize = 8 * 1024 * 1024;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The source is read, and every cell opened.
    Reading,
    /// Its cells are written to the target.
    Copying,
    /// The target is read, every cell opened, and compared.
    Verifying,
}

impl Step {
    /// For people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Reading => "Read",
            Self::Copying => "Copy",
            Self::Verifying => "Verify",
        }
    }
}

/// What was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Cells.
    pub cells: u64,
    /// Their keys and stored values, in bytes.
    pub bytes: u64,
    /// Over all of them, in order.
    pub digest: [u8; 32],
}

/// Copies the store at `from` to `to`, which is empty or holds a copy that was cut off, and verifies it. From then on
/// `to` opens and `from` does not; nothing else is changed there. `progress` is told how many cells of how many.
///
/// # Errors
/// [`StoreError::InUse`] while a process runs on either; [`StoreError::NotEmpty`]; [`StoreError::Moved`] or
/// [`StoreError::Unfinished`] if `from` is not the store any more, or not yet; [`StoreError::Damaged`] if a cell does
/// not open or the copy differs; what opening either can meet.
pub async fn copy(
    from: &Place,
    to: &Place,
    cell_key: &CellKey,
    mut progress: impl FnMut(Step, u64, Option<u64>) + Send,
) -> Result<Moved, StoreError> {
    let missing = format!("there is no store in {from}, so there is nothing to copy");
    let source = from.open(Meta::existing(cell_key, missing), None).await?;
    let copied = async {
        let resumes = match mark(&*source).await? {
            None => false,
            // It was cut off just before its end.
            Some(Mark::Moved { to: moved }) if moved == to.to_string() => true,
            Some(mark) => return Err(mark.into_error()),
        };
        if is_empty(&*source).await? {
            let reason = format!("the store in {from} holds nothing, so there is nothing to copy");
            return Err(StoreError::NotMoved { reason });
        }
        let begun = Mark::Unfinished { from: from.to_string() };
        let meta =
            if resumes { Meta::existing(cell_key, gone(to)) } else { Meta::target(cell_key, begun.clone()) };
        let target = to.open(meta, None).await?;
        let copied = async {
            let of_target = mark(&*target).await?;
            if of_target.as_ref() != Some(&begun) {
                if resumes {
                    return Err(StoreError::Moved { to: to.to_string() });
                }
                if of_target.is_some() || !is_empty(&*target).await? {
                    return Err(StoreError::NotEmpty { place: to.to_string() });
                }
                set_mark(&*target, Some(begun)).await?;
            }
            copy_between((from, &*source), (to, &*target), &cell_key.cells(), &mut progress).await
        }
        .await;
        target.close().await;
        copied
    }
    .await;
    source.close().await;
    copied
}

/// From where both are open, and the target says that it is not complete, to where it is the store.
async fn copy_between(
    (from, source): (&Place, &dyn Engine),
    (to, target): (&Place, &dyn Engine),
    cells: &Cells,
    progress: &mut (dyn FnMut(Step, u64, Option<u64>) + Send),
) -> Result<Moved, StoreError> {
    empty(target).await?;
    let read = digest(source, cells, |done| progress(Step::Reading, done, None)).await?;
    let total = Some(read.cells);
    copy_cells(source, target, |done| progress(Step::Copying, done, total)).await?;
    let copied = digest(target, cells, |done| progress(Step::Verifying, done, total)).await?;
    if copied != read {
        return Err(StoreError::Damaged {
            what: format!("the copy in {to}, made from {from},"),
            advice: "the store it was made of is untouched; give the command again, and check the disks",
        });
    }
    set_mark(source, Some(Mark::Moved { to: to.to_string() })).await?;
    set_mark(target, None).await?;
    Ok(copied)
}

/// Takes a move back: the store at `from` opens again, and its copy at `to` does not. Only while the two are the
/// same, so that nothing is lost that was written since. A copy that is lost is not looked at: `None`.
///
/// # Errors
/// [`StoreError::NotMoved`]; what opening either can meet.
pub async fn undo(from: &Place, to: Option<&Place>, cell_key: &CellKey) -> Result<(), StoreError> {
    let not = |reason: &str| Err(StoreError::NotMoved { reason: reason.to_owned() });
    let nothing = "this store was not moved: there is nothing to undo";
    let source = from.open(Meta::existing(cell_key, nothing.to_owned()), None).await?;
    let undone = async {
        let moved = match mark(&*source).await? {
            Some(Mark::Moved { to }) => to,
            _ => return not(nothing),
        };
        let Some(to) = to else { return set_mark(&*source, None).await };
        if moved != to.to_string() {
            return Err(StoreError::Moved { to: moved });
        }
        let target = to.open(Meta::existing(cell_key, gone(to)), None).await?;
        let undone = async {
            if is_empty(&*target).await? {
                return not(&gone(to));
            }
            let cells = cell_key.cells();
            if digest(&*source, &cells, |_| {}).await? != digest(&*target, &cells, |_| {}).await? {
                return not("the copy was written to since: take it back with `store copy` instead, so that nothing is lost");
            }
            set_mark(&*target, Some(Mark::Moved { to: from.to_string() })).await?;
            set_mark(&*source, None).await
        }
        .await;
        target.close().await;
        undone
    }
    .await;
    source.close().await;
    undone
}

/// Lets a store open again whose database lost what it had confirmed, when that is not to be had any more.
///
/// # Errors
/// [`StoreError::NotMoved`] if it says nothing of that; what opening it can meet.
pub async fn accept_loss(place: &Place, cell_key: &CellKey) -> Result<(), StoreError> {
    let nothing = format!("no loss is known of a store in {place}: there is nothing to accept");
    let store = place.open(Meta::existing(cell_key, nothing.clone()), None).await?;
    let accepted = async {
        match mark(&*store).await? {
            Some(Mark::Lossy) => {
                // What was confirmed before is not asked for any more, on whatever machine it is noted.
                let life = new_life();
                write(&*store, move |txn| txn.put(LIFE_KEY, life.clone())).await?;
                set_mark(&*store, None).await
            }
            _ => Err(StoreError::NotMoved { reason: nothing }),
        }
    }
    .await;
    store.close().await;
    accepted
}

fn gone(to: &Place) -> String {
    format!("there is no store in {to} any more; if it is lost for good, say so (--copy-is-lost)")
}

async fn is_empty(engine: &dyn Engine) -> Result<bool, StoreError> {
    Ok(page(engine, LAST_OWN_KEY.to_vec(), 1).await?.is_empty())
}

async fn mark(engine: &dyn Engine) -> Result<Option<Mark>, StoreError> {
    let bytes = read(engine, |txn| txn.get(MOVE_KEY)).await?;
    bytes.map(|bytes| Mark::from_bytes(&bytes)).transpose()
}

async fn set_mark(engine: &dyn Engine, mark: Option<Mark>) -> Result<(), StoreError> {
    write(engine, move |txn| match &mark {
        Some(mark) => txn.put(MOVE_KEY, mark.to_bytes()),
        None => txn.remove(MOVE_KEY),
    })
    .await
}

async fn page(engine: &dyn Engine, after: Vec<u8>, limit: usize) -> Result<Vec<Cell>, StoreError> {
    read(engine, move |txn| txn.scan(&[], Some(&after), limit)).await
}

/// Removes what a copy that was cut off left.
async fn empty(engine: &dyn Engine) -> Result<(), StoreError> {
    loop {
        let found = page(engine, LAST_OWN_KEY.to_vec(), PAGE_CELLS).await?;
        if found.is_empty() {
            return Ok(());
        }
        write(engine, move |txn| found.iter().try_for_each(|(key, _)| txn.remove(key))).await?;
    }
}

/// Reads and opens every cell.
async fn digest(
    engine: &dyn Engine,
    cells: &Cells,
    mut progress: impl FnMut(u64),
) -> Result<Moved, StoreError> {
    let mut hasher = blake3::Hasher::new();
    let mut seen = Moved { cells: 0, bytes: 0, digest: [0; 32] };
    let mut after = LAST_OWN_KEY.to_vec();
    loop {
        let found = page(engine, after, PAGE_CELLS).await?;
        for (key, stored) in &found {
            cells.open(key, stored)?;
            for part in [key, stored] {
                hasher.update(&(part.len() as u64).to_be_bytes());
                hasher.update(part);
                seen.bytes = seen.bytes.saturating_add(part.len() as u64);
            }
            seen.cells = seen.cells.saturating_add(1);
        }
        progress(seen.cells);
        match found.into_iter().next_back() {
            Some((key, _)) => after = key,
            None => return Ok(Moved { digest: *hasher.finalize().as_bytes(), ..seen }),
        }
    }
}

async fn copy_cells(
    source: &dyn Engine,
    target: &dyn Engine,
    mut progress: impl FnMut(u64),
) -> Result<(), StoreError> {
    let mut done = 0_u64;
    let mut after = LAST_OWN_KEY.to_vec();
    loop {
        let found = page(source, after, PAGE_CELLS).await?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        after = last.clone();
        let mut waiting = found.into_iter().peekable();
        while waiting.peek().is_some() {
            let (mut part, mut bytes) = (Vec::new(), 0_usize);
            while bytes < WRITE_BYTES
                && let Some((key, value)) = waiting.next()
            {
                bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
                part.push((key, value));
            }
            done = done.saturating_add(part.len() as u64);
            write(target, move |txn| part.iter().try_for_each(|(key, value)| txn.put(key, value.clone())))
                .await?;
            progress(done);
        }
    }
}

/// Runs `f` below the cells, where values are as they are stored.
async fn read<T: Send + 'static>(
    engine: &dyn Engine,
    f: impl FnMut(&mut dyn Txn) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (job, outcome) = job(f);
    engine.read(job).await?;
    take(&outcome)
}

async fn write<T: Send + 'static>(
    engine: &dyn Engine,
    f: impl FnMut(&mut dyn Txn) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (job, outcome) = job(f);
    engine.write(job).await?;
    take(&outcome)
}

type Outcome<T> = Arc<Mutex<Option<Result<T, StoreError>>>>;

fn job<T: Send + 'static>(
    mut f: impl FnMut(&mut dyn Txn) -> Result<T, StoreError> + Send + 'static,
) -> (crate::engine::Job, Outcome<T>) {
    let outcome = Outcome::default();
    let slot = Arc::clone(&outcome);
    let job = move |txn: &mut dyn Txn| {
        let result = f(txn);
        let verdict = if result.is_ok() { Verdict::Commit } else { Verdict::Abandon };
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        verdict
    };
    (Box::new(job), outcome)
}

fn take<T>(outcome: &Outcome<T>) -> Result<T, StoreError> {
    let result = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    // An engine that answers without having run the job has closed in between.
    result.unwrap_or(Err(StoreError::Closed))
}
