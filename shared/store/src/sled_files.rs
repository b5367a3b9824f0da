//! What sled 0.34 leaves undone about its files.
//!
//! - On Linux its flush ends with `sync_file_range`, which neither waits for the disk's cache nor for the file's
//!   length. A flush here ends with `fdatasync` of its log.
//! - A node over a quarter of a segment goes to a file of its own, which sled never syncs. Segments are made so
//!   large that no node gets there: 16 cells of the greatest size are 2.1 MB, a quarter of a segment is 4 MiB.
//! - If it was stopped while it wrote a snapshot, the piece keeps it from opening (its issues 1527, 1533). The piece
//!   is moved aside; the log itself has everything.

use std::fs::{self, DirBuilder, File};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::StoreError;

/// See the module's head.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
/// Pages that sled keeps in memory. It takes up to twice as much.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// How a snapshot's unfinished file is named.
const PIECE_START: &str = "snap.";
const PIECE_END: &str = ".generating";
/// Where pieces go, below the store's folder.
const ASIDE: &str = "aside";

/// What to do about a store that does not open.
pub(crate) const RESTORE_OR_REPAIR: &str = "keep the folder as it is; restore the last backup, or give repair: it \
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

/// Opens the database in `folder`, once more after pieces of snapshots were moved aside.
pub(crate) fn open_tree(folder: &Path) -> Result<(sled::Db, DurableFiles), StoreError> {
    make_private_folder(folder)?;
    let mut opened = open_unlocked(folder);
    if matches!(opened, Err(StoreError::Damaged { .. })) && move_pieces_aside(folder)? > 0 {
        opened = open_once(folder);
    }
    let db = opened?;
    let log = File::open(folder.join("db")).map_err(StoreError::io("open the store's log"))?;
    log.sync_all().map_err(StoreError::io("flush the store's log"))?;
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
            Err(StoreError::InUse { folder: folder.to_owned() })
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
        sled::Error::Corruption { .. } => damaged(),
        other => StoreError::Unavailable { doing, reason: other.to_string() },
    }
}

/// Moves unfinished snapshots out of sled's sight. Returns how many there were.
fn move_pieces_aside(folder: &Path) -> Result<usize, StoreError> {
    let io = StoreError::io("move an unfinished snapshot aside");
    let mut moved = 0_usize;
    for entry in fs::read_dir(folder).map_err(&io)? {
        let entry = entry.map_err(&io)?;
        let name = entry.file_name();
        let is_piece =
            name.to_str().is_some_and(|name| name.starts_with(PIECE_START) && name.ends_with(PIECE_END));
        if is_piece {
            let aside = folder.join(ASIDE);
            make_private_folder(&aside)?;
            fs::rename(entry.path(), aside.join(&name)).map_err(&io)?;
            tracing::warn!("an unfinished snapshot was moved aside; the log is read in full");
            moved = moved.saturating_add(1);
        }
    }
    Ok(moved)
}

/// Removes snapshots: without them sled reads its log from the beginning.
pub(crate) fn remove_snapshots(folder: &Path) -> Result<(), StoreError> {
    let io = StoreError::io("remove a snapshot");
    for entry in fs::read_dir(folder).map_err(&io)? {
        let entry = entry.map_err(&io)?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PIECE_START)) {
            fs::remove_file(entry.path()).map_err(&io)?;
        }
    }
    Ok(())
}

/// Makes a folder, and those above it, for this user only.
pub(crate) fn make_private_folder(folder: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(StoreError::io("make a folder"))
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
