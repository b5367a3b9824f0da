//! What sled 0.34 leaves undone about its files.
//!
//! - On Linux its flush ends with `sync_file_range`, which neither waits for the disk's cache nor for the file's
//!   length. A flush here ends with `fdatasync` of its log.
//! - A node over a quarter of a segment goes to a file of its own, which sled never syncs. Segments are made so
//!   large that no node gets there: 16 cells of the greatest size are 2.1 MB, a quarter of a segment is 4 MiB.
//! - Its configuration is written without a flush. It is flushed here.
//! - If it was stopped while it wrote a snapshot, the piece keeps it from opening (its issues 1527, 1533); so does a
//!   snapshot or configuration that is damaged. They are moved aside: the log itself has everything, or the start-up check finds what not.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::StoreError;

/// See the module's head.
pub(crate) const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
/// Pages that sled keeps in memory. It takes up to twice as much.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// How snapshots are named, and how unfinished ones are.
pub(crate) const SNAPSHOT_START: &str = "snap.";
const PIECE_END: &str = ".generating";
pub(crate) const LOG_FILE: &str = "db";
pub(crate) const CONFIGURATION_FILE: &str = "conf";
/// Where pieces go, below the store's folder.
pub(crate) const ASIDE: &str = "aside";

/// What to do about a store that does not open.
pub(crate) const RESTORE_OR_REPAIR: &str = "move the folder away as it is and put the last backup in its place, or give repair: it \
     salvages what can be read into a fresh store, says what is gone, and keeps this one aside";

/// The files that a flush has to wait for.
pub(crate) struct DurableFiles {
    log: File,
}

/// How long an opening waits for the folder's lock.
const LOCK_LIMIT: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

impl DurableFiles {
    /// Returns when everything applied to `db` is on disk.
    pub(crate) fn flush(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        db.flush().map_err(|error| unavailable("flush the store", &error))?;
        self.log.sync_data().map_err(StoreError::io("flush the store"))
    }

    /// Lets flushes wait for another file than the log.
    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn replace_log(&mut self, log: File) {
        self.log = log;
    }
}

/// Opens the database in `folder`, once more after snapshots that keep it from opening were moved aside. Whether the
/// log had everything is not seen here. `before` is called before each attempt, and told whether the whole log is read.
pub(crate) fn open_tree(
    folder: &Path,
    before: impl Fn(bool) -> Result<(), StoreError>,
) -> Result<(sled::Db, DurableFiles), StoreError> {
    make_private_folder(folder)?;
    before(false)?;
    let mut opened = open_unlocked(folder);
    for which in [Derived::Unfinished, Derived::All] {
        if matches!(opened, Err(StoreError::Damaged { .. })) && !derived(folder, which)?.is_empty() {
            before(which == Derived::All)?;
            move_aside(folder, which)?;
            opened = open_unlocked(folder);
        }
    }
    let db = opened?;
    let io = StoreError::io("flush the store's files");
    let log = File::open(folder.join(LOG_FILE)).map_err(&io)?;
    let configuration = File::open(folder.join(CONFIGURATION_FILE)).map_err(&io)?;
    log.sync_all().and_then(|()| configuration.sync_all()).map_err(&io)?;
    sync_folder(folder)?;
    Ok((db, DurableFiles { log }))
}

/// Opens, waiting a moment for a lock: sled's own threads let go of it a little after the handle of a store that was
/// closed, or the process that held it, is gone.
fn open_unlocked(folder: &Path) -> Result<sled::Db, StoreError> {
    let end = Instant::now() + LOCK_LIMIT;
    loop {
        let opened = open_once(folder);
        if !matches!(opened, Err(StoreError::InUse { .. })) || Instant::now() >= end {
            return opened;
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

fn open_once(folder: &Path) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(folder)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(CACHE_BYTES)
        // Flushing is the writer's; sled's own every 500 ms would only be in its way.
        .flush_every_ms(None);
    // A damaged file can also make sled panic; that is damage like any other.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
    match opened {
        Ok(Ok(db)) => Ok(db),
        // sled gives no kind for a lock that is held, only these words (`Config::try_lock`).
        Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
            Err(StoreError::in_use(folder))
        }
        Ok(Err(error)) => Err(unavailable("open the store", &error)),
        Err(_) => Err(damaged()),
    }
}

/// What sled says of a file that it cannot read.
pub(crate) fn damaged() -> StoreError {
    StoreError::Damaged { what: "the store's file".to_owned(), advice: RESTORE_OR_REPAIR }
}

/// sled's error in this package's words.
pub(crate) fn unavailable(doing: &'static str, error: &sled::Error) -> StoreError {
    match error {
        // A configuration that was altered reads as one that it does not support.
        sled::Error::Corruption { .. } | sled::Error::Unsupported(_) | sled::Error::ReportableBug(_) => {
            damaged()
        }
        other => StoreError::Unavailable { doing, reason: other.to_string() },
    }
}

/// Files that follow from the log, or from this program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Derived {
    /// Unfinished snapshots.
    Unfinished,
    /// All snapshots, and the configuration.
    All,
}

/// Their names in a folder.
fn derived(folder: &Path, which: Derived) -> Result<Vec<String>, StoreError> {
    let io = StoreError::io("list the store's files");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(&io)? {
        let name = entry.map_err(&io)?.file_name();
        let is_all = which == Derived::All;
        found.extend(name.to_str().map(str::to_owned).filter(|name| {
            name.starts_with(SNAPSHOT_START) && (is_all || name.ends_with(PIECE_END))
                || name == CONFIGURATION_FILE && is_all
        }));
    }
    Ok(found)
}

/// Moves such files out of sled's sight: it then reads more of its log, or all of it, and writes its configuration
/// again.
fn move_aside(folder: &Path, which: Derived) -> Result<(), StoreError> {
    let aside = folder.join(ASIDE);
    make_private_folder(&aside)?;
    for name in derived(folder, which)? {
        fs::rename(folder.join(&name), aside.join(&name))
            .map_err(StoreError::io("move a damaged file aside"))?;
        tracing::warn!(?name, "a file that follows from the log was moved aside: it may be damaged");
    }
    Ok(())
}

/// Whether anything was ever written to a store's log.
pub(crate) fn is_begun(folder: &Path) -> Result<bool, StoreError> {
    let io = StoreError::io("look for the store");
    let mut log = match File::open(folder.join(LOG_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(&io)?,
    };
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = log.read(&mut piece).map_err(&io)?;
        if read == 0 {
            return Ok(false);
        }
        if piece.iter().take(read).any(|byte| *byte != 0) {
            return Ok(true);
        }
    }
}

/// Locks a store's log as sled does, waiting a moment: it lets go a little after a store was closed.
pub(crate) fn lock(folder: &Path) -> Result<File, StoreError> {
    let opened = File::open(folder.join(LOG_FILE)).or_else(|_| File::open(folder));
    let file = opened.map_err(StoreError::io("open the store's folder"))?;
    let end = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock the store")(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(StoreError::in_use(folder)),
        }
    }
}

/// Makes a folder, and those above it, for this user only. Durable when this returns: else a loss of power could take
/// a folder along with everything that was flushed in it.
pub(crate) fn make_private_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = parent(folder);
    make_private_folder(&parent)?;
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        // Somebody else was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.map_err(StoreError::io("make a folder"))?,
    }
    sync_folder(&parent)
}

/// The folder that a file or folder lies in.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    // Only Unix systems open folders; elsewhere names are durable with their files.
    if cfg!(unix) {
        let io = StoreError::io("flush a folder");
        File::open(folder).map_err(&io)?.sync_all().map_err(&io)?;
    }
    Ok(())
}
