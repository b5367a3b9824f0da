//! What a store's files were before sled opened them, kept until all of the store was judged.
//!
//! Opening, sled replays its log and then destroys what it did not read: it fills the rest of the segment where it
//! stopped, every later one and every one that it takes for free with zeros, cuts the last off, and replaces its
//! snapshot. To it one read that fails, once, is the end of the log. So every file is read here first, and what sled
//! may destroy is copied to `aside/before`: segments of the log that are behind its newest snapshot, or say nothing
//! sound of themselves, and all that is not the log. An opening that did not come to its end (a fault, a kill, a store
//! that is not whole) is taken back by the next one. So a store that can be read today is whole today, whatever
//! happened when it was opened yesterday.
//!
//! Invariants: what is kept is complete and durable under that name; it goes, durably, before the store is served, and
//! nothing was answered while it is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::blobs::free_bytes;
use crate::note::{NOTE_FILE, Note, Noted};
use crate::repair_files::{like, write_sparse};
use crate::sled_files::{
    ASIDE, CONFIGURATION_FILE, LOG_FILE, SEGMENT_BYTES, SNAPSHOT_START, lock, make_private_folder,
    sync_folder,
};
use crate::telling::Telling;

/// Below `aside`: what is kept, while it is made, and while it goes.
const KEPT: &str = "before";
const UNFINISHED: &str = "before.new";
const GOING: &str = "before.old";
/// From which position of the log on segments were kept.
const FROM_FILE: &str = "from";
/// A segment's header: a checksum, its position in the log, one more position.
const HEADER_BYTES: usize = 20;
/// What stays free beside the copy, for sled's own files.
const SPARE_BYTES: u64 = 8 * 1024 * 1024;

/// Takes back an opening that did not come to its end, reads every file, and keeps what sled may destroy; of the log
/// the `whole`, if its snapshots will not be used.
pub(crate) fn keep(folder: &Path, whole: bool) -> Result<(), StoreError> {
    if !there(&folder.join(LOG_FILE))? {
        return Ok(());
    }
    // Nobody has the store open while its files are changed, or copied.
    let _lock = lock(folder)?;
    put_back(folder)?;
    let aside = folder.join(ASIDE);
    make_private_folder(&aside)?;
    let (kept, unfinished) = (aside.join(KEPT), aside.join(UNFINISHED));
    remove(&unfinished)?;
    let others = others(folder)?;
    let from = if whole { 0 } else { snapshot_position(&others) };
    let log = Log::open(folder)?;
    // The copy of snapshots, and the new one that sled makes.
    let others_bytes = bytes_of_files(&others)?.saturating_mul(2);
    let need_bytes = log.at_risk_bytes(from)?.saturating_add(others_bytes).saturating_add(SPARE_BYTES);
    let has_room = free_bytes(folder)? >= need_bytes;
    let copied = if has_room {
        make_private_folder(&unfinished)?;
        copy(&log, from, &others, Some(&unfinished))
    } else {
        Err(Fault::NoRoom)
    };
    match copied {
        Ok(()) => {
            // A command by root must not keep the service from its store.
            like(folder, &aside)?;
            fs::rename(&unfinished, &kept).map_err(StoreError::io("keep the store's files"))?;
            sync_folder(&aside)
        }
        // Records that cannot be read for want of room would be the greater harm.
        Err(Fault::NoRoom) => {
            remove(&unfinished)?;
            tracing::warn!(
                need_bytes,
                "the disk has no room to keep the store's files while they are opened and checked; going on without"
            );
            copy(&log, from, &others, None).map_err(Fault::into_error)
        }
        Err(fault) => Err(fault.into_error()),
    }
}

/// Lets go of what was kept: the store is whole, and is served from here on. Durable when this returns.
pub(crate) fn forget(folder: &Path) -> Result<(), StoreError> {
    let aside = folder.join(ASIDE);
    let (kept, going) = (aside.join(KEPT), aside.join(GOING));
    if there(&kept)? {
        remove(&going)?;
        fs::rename(&kept, &going).map_err(StoreError::io("let go of what was kept of the store"))?;
        sync_folder(&aside)?;
    }
    remove(&going)
}

/// Takes back an opening that did not come to its end. Can be given again if it does not come to its end either.
pub(crate) fn put_back(folder: &Path) -> Result<(), StoreError> {
    let kept = folder.join(ASIDE).join(KEPT);
    if !there(&kept)? || !there(&folder.join(LOG_FILE))? {
        return Ok(());
    }
    // Never over another store: one from a backup that was laid over it, or that went on since.
    let (then, now) = (Note::read(&kept)?, Note::read(folder)?);
    if matches!(now, Noted::Last(_)) && now != then {
        return forget(folder);
    }
    let io = StoreError::io("take back an opening that did not come to its end");
    let from = fs::read(kept.join(FROM_FILE)).map_err(&io)?;
    let from = <[u8; 8]>::try_from(from).map_or(0, u64::from_be_bytes);
    let was = Log::open(&kept)?;
    let log = OpenOptions::new().write(true).open(folder.join(LOG_FILE)).map_err(&io)?;
    log.set_len(was.bytes).map_err(&io)?;
    for at in was.segments() {
        let segment = was.segment(at).map_err(&io)?;
        // Of the others the header is all that an opening can have replaced.
        let end = if is_at_risk(&segment, from) { segment.len() } else { HEADER_BYTES };
        log.write_all_at(segment.get(..end).unwrap_or(&segment), at).map_err(&io)?;
    }
    log.sync_all().map_err(&io)?;
    let files = others(&kept)?;
    for name in names_of(&others(folder)?).filter(|name| is_snapshot(name)) {
        if !names_of(&files).any(|kept| kept == name) {
            fs::remove_file(folder.join(name)).map_err(&io)?;
        }
    }
    for file in &files {
        let name = name_of(file);
        // The note is ours alone; sled does not touch it.
        if name != NOTE_FILE {
            fs::copy(file, folder.join(name)).map_err(&io)?;
            File::open(folder.join(name)).and_then(|file| file.sync_all()).map_err(&io)?;
        }
    }
    sync_folder(folder)?;
    tracing::warn!("an opening of the store that did not come to its end was taken back");
    forget(folder)
}

enum Fault {
    NoRoom,
    Other(StoreError),
}

impl Fault {
    fn into_error(self) -> StoreError {
        match self {
            Self::NoRoom => StoreError::io("keep the store's files")(ErrorKind::StorageFull.into()),
            Self::Other(error) => error,
        }
    }

    fn writing(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoRoom,
            _ => Self::Other(StoreError::io("keep the store's files")(error)),
        }
    }
}

/// Reads everything, and writes what is at risk to `target`, durably.
fn copy(log: &Log, from: u64, others: &[PathBuf], target: Option<&Path>) -> Result<(), Fault> {
    let make = |name: &str| target.map(|target| File::create(target.join(name))).transpose();
    let finish = |file: Option<File>| file.map_or(Ok(()), |file| file.sync_all()).map_err(Fault::writing);
    for path in others {
        let content = fs::read(path).map_err(|error| Fault::Other(unreadable(name_of(path), &error)))?;
        let file = make(name_of(path)).map_err(Fault::writing)?;
        file.iter().try_for_each(|file| file.write_all_at(&content, 0)).map_err(Fault::writing)?;
        finish(file)?;
    }
    let kept = make(LOG_FILE).map_err(Fault::writing)?;
    let mut telling = Telling::new("bytes", log.bytes);
    for at in log.segments() {
        let segment = log.segment(at).map_err(|error| Fault::Other(unreadable(LOG_FILE, &error)))?;
        if let Some(kept) = &kept {
            let end = if is_at_risk(&segment, from) { segment.len() } else { HEADER_BYTES };
            write_sparse(kept, at, segment.get(..end).unwrap_or(&segment)).map_err(Fault::writing)?;
        }
        telling.tell(at.saturating_add(segment.len() as u64));
    }
    telling.end();
    kept.iter().try_for_each(|kept| kept.set_len(log.bytes)).map_err(Fault::writing)?;
    finish(kept)?;
    let file = make(FROM_FILE).map_err(Fault::writing)?;
    file.iter().try_for_each(|file| file.write_all_at(&from.to_be_bytes(), 0)).map_err(Fault::writing)?;
    finish(file)?;
    target.map_or(Ok(()), sync_folder).map_err(Fault::Other)
}

fn unreadable(name: &str, error: &io::Error) -> StoreError {
    let reason = format!(
        "{name}: {error}; nothing was changed: look at its disk and start again. If it stays so, restore the last backup, or \
         give repair, which goes past what cannot be read"
    );
    StoreError::Unavailable { doing: "read the store's files", reason }
}

/// sled's log.
struct Log {
    file: File,
    bytes: u64,
}

impl Log {
    fn open(folder: &Path) -> Result<Self, StoreError> {
        let refused = |error: io::Error| unreadable(LOG_FILE, &error);
        let file = File::open(folder.join(LOG_FILE)).map_err(refused)?;
        let bytes = file.metadata().map_err(refused)?.len();
        Ok(Self { file, bytes })
    }

    /// Where each begins.
    fn segments(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.bytes).step_by(SEGMENT_BYTES)
    }

    fn segment(&self, at: u64) -> io::Result<Vec<u8>> {
        self.read(at, SEGMENT_BYTES)
    }

    fn read(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut read = vec![0; most.min(left)];
        self.file.read_exact_at(&mut read, at)?;
        Ok(read)
    }

    fn at_risk_bytes(&self, from: u64) -> Result<u64, StoreError> {
        let mut sum = 0_u64;
        for at in self.segments() {
            let header = self.read(at, HEADER_BYTES).map_err(|error| unreadable(LOG_FILE, &error))?;
            // What is all zeros takes no room in the copy.
            if is_at_risk(&header, from) && header.iter().any(|byte| *byte != 0) {
                sum = sum.saturating_add(SEGMENT_BYTES as u64);
            }
        }
        Ok(sum)
    }
}

/// Whether sled may destroy a segment that begins so: it lies behind the snapshot, or does not say where it lies.
/// One that lies before and is taken for free holds only what later ones replace.
fn is_at_risk(segment: &[u8], from: u64) -> bool {
    const NEGATED: u64 = i64::MAX as u64;
    let position = segment.split_first_chunk::<4>().and_then(|(checksum, rest)| {
        let said = rest.get(..HEADER_BYTES.checked_sub(checksum.len())?)?;
        let (position, _) = said.split_first_chunk::<8>()?;
        (u32::from_le_bytes(*checksum) == !crc32fast::hash(said))
            .then(|| u64::from_le_bytes(*position) ^ NEGATED)
    });
    position.is_none_or(|position| position >= from)
}

/// Where the segment of the newest snapshot begins: sled reads its log from there on. Its name says where it ends.
fn snapshot_position(files: &[PathBuf]) -> u64 {
    let ends = names_of(files).filter_map(|name| name.strip_prefix(SNAPSHOT_START));
    let end = ends.filter_map(|end| u64::from_str_radix(end, 16).ok()).max().unwrap_or(0);
    end.saturating_sub(end % SEGMENT_BYTES as u64)
}

fn is_snapshot(name: &str) -> bool {
    name.starts_with(SNAPSHOT_START)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn names_of(files: &[PathBuf]) -> impl Iterator<Item = &str> {
    files.iter().map(|file| name_of(file))
}

/// What a folder has beside the log: snapshots, configuration and note.
fn others(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let io = StoreError::io("list the store's files");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(&io)? {
        let path = entry.map_err(&io)?.path();
        if is_snapshot(name_of(&path)) || [CONFIGURATION_FILE, NOTE_FILE].contains(&name_of(&path)) {
            found.push(path);
        }
    }
    Ok(found)
}

fn bytes_of_files(files: &[PathBuf]) -> Result<u64, StoreError> {
    let io = StoreError::io("list the store's files");
    files.iter().try_fold(0_u64, |sum, file| Ok(sum.saturating_add(fs::metadata(file).map_err(&io)?.len())))
}

fn there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(StoreError::io("look for the store's files"))
}

fn remove(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("remove what was kept of the store")(error))
        }
        _ => Ok(()),
    }
}
