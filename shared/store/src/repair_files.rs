//! The folders that a repair makes beside a store's: how they are named, what is left of one that was cut off, and who
//! they belong to.
//!
//! Invariant: only what has the mark of a repair that is not complete is ever removed; a damaged store never has it
//! once another has taken its place.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::StoreError;
use crate::sled_files::{parent, sync_folder};

/// Stands in a folder that a repair makes until it is done; then it is removed where the store is.
const MARK_FILE: &str = "repair-not-complete";
/// Pieces in which files are copied.
const PIECE_BYTES: usize = 4 * 1024;
/// The copy that is read.
pub(crate) const COPY: &str = "copy";
/// What is made, and then, in its place, the damaged store.
pub(crate) const DAMAGED: &str = "damaged";

/// Refuses a store's folder that cannot be exchanged for another: it is a mount of its own.
pub(crate) fn refuse_mount(folder: &Path) -> Result<(), StoreError> {
    let mount = |path: &Path| {
        statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
            .map(|found| (found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor))
            .map_err(|fault| StoreError::io("look at the store's folder")(fault.into()))
    };
    if mount(folder)? == mount(&parent(folder))? {
        return Ok(());
    }
    let reason = format!(
        "{0} is where a disk is mounted, and a repair puts another folder in its place; mount that disk elsewhere, with \
         the store in a folder on it, make {0} a link to that folder, and give repair again",
        folder.display()
    );
    Err(StoreError::Unavailable { doing: "repair the store", reason })
}

/// Makes a folder beside a store's, under a name that nothing has, marked as not complete.
pub(crate) fn begin(folder: &Path, what: &str) -> Result<PathBuf, StoreError> {
    let io = StoreError::io("make a folder beside the store");
    for number in 1_u64.. {
        let made = beside(folder, &format!("{what}-{number}"));
        match DirBuilder::new().mode(0o700).create(&made) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io(error)),
            Ok(()) => {
                File::create(made.join(MARK_FILE)).and_then(|mark| mark.sync_all()).map_err(&io)?;
                sync_folder(&made)?;
                sync_folder(&parent(folder))?;
                return Ok(made);
            }
        }
    }
    Err(io(ErrorKind::AlreadyExists.into()))
}

/// Takes the mark away: what is in the store's place now is complete.
pub(crate) fn complete(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_file(folder.join(MARK_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("complete the repair")(error)),
        Ok(()) => sync_folder(folder),
    }
}

/// Removes what repairs left that were cut off; nobody else repairs meanwhile.
pub(crate) fn remove_left(folder: &Path) -> Result<(), StoreError> {
    // One that was cut off behind the exchange: this is the store.
    complete(folder)?;
    let io = StoreError::io("look for what a repair left");
    for entry in fs::read_dir(parent(folder)).map_err(&io)? {
        let path = entry.map_err(&io)?.path();
        let is_ours = [COPY, DAMAGED].iter().any(|what| {
            let start = beside(folder, &format!("{what}-"));
            path.as_os_str().as_encoded_bytes().starts_with(start.as_os_str().as_encoded_bytes())
        });
        if is_ours && path.join(MARK_FILE).is_file() {
            remove(&path)?;
            tracing::warn!(folder = %path.display(), "what a repair left that was cut off was removed");
        }
    }
    Ok(())
}

/// Gives a folder and all in it the owner and mode of the one that it takes the place of: a repair by root must not
/// keep the service from its store.
pub(crate) fn like(folder: &Path, made: &Path) -> Result<(), StoreError> {
    let io = StoreError::io("give the fresh store the owner of the old one");
    let was = fs::metadata(folder).map_err(&io)?;
    for path in all(made)?.iter().map(PathBuf::as_path).chain([made]) {
        let is = fs::metadata(path).map_err(&io)?;
        if (is.uid(), is.gid()) != (was.uid(), was.gid()) {
            chown(path, Some(was.uid()), Some(was.gid())).map_err(&io)?;
        }
    }
    fs::set_permissions(made, was.permissions()).map_err(&io)
}

/// Flushes a folder with all that is in it.
pub(crate) fn sync_all(folder: &Path) -> Result<(), StoreError> {
    let io = StoreError::io("flush the fresh store");
    for path in all(folder)? {
        File::open(path).and_then(|file| file.sync_all()).map_err(&io)?;
    }
    sync_folder(folder)
}

/// What a folder takes on its disk.
pub(crate) fn bytes_of(folder: &Path) -> Result<u64, StoreError> {
    let io = StoreError::io("list the store's files");
    all(folder)?.iter().try_fold(0_u64, |sum, path| {
        let blocks = fs::metadata(path).map_err(&io)?.blocks();
        Ok(sum.saturating_add(blocks.saturating_mul(512)))
    })
}

/// Copies what is in a folder into another, which is there. What a disk does not give any more is zeros in the copy.
pub(crate) fn copy_all(from: &Path, to: &Path) -> Result<(), StoreError> {
    let io = StoreError::io("copy the store");
    for path in all(from)? {
        let target = to.join(path.strip_prefix(from).unwrap_or(&path));
        if path.is_dir() {
            fs::create_dir_all(target).map_err(&io)?;
        } else {
            let unreadable = copy_file(&path, &target).map_err(&io)?;
            if unreadable > 0 {
                tracing::warn!(file = %path.display(), unreadable, "pieces of a file cannot be read; going past them");
            }
        }
    }
    Ok(())
}

/// Copies a file without its zeros; how many pieces could not be read.
fn copy_file(from: &Path, to: &Path) -> io::Result<u64> {
    let (source, target) = (File::open(from)?, File::create(to)?);
    let bytes = source.metadata()?.len();
    let (mut at, mut unreadable) = (0, 0);
    while at < bytes {
        let mut piece =
            vec![0; PIECE_BYTES.min(usize::try_from(bytes.saturating_sub(at)).unwrap_or(PIECE_BYTES))];
        match source.read_exact_at(&mut piece, at) {
            Ok(()) => write_sparse(&target, at, &piece)?,
            Err(_) => unreadable += 1,
        }
        at = at.saturating_add(PIECE_BYTES as u64);
    }
    target.set_len(bytes)?;
    target.set_permissions(source.metadata()?.permissions())?;
    Ok(unreadable)
}

/// Writes bytes, and leaves zeros out.
pub(crate) fn write_sparse(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let zeros = [0; PIECE_BYTES];
    let mut at = at;
    for piece in bytes.chunks(PIECE_BYTES) {
        if Some(piece) != zeros.get(..piece.len()) {
            file.write_all_at(piece, at)?;
        }
        at = at.saturating_add(piece.len() as u64);
    }
    Ok(())
}

pub(crate) fn remove(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("remove what a repair made beside the store")(error))
        }
        _ => Ok(()),
    }
}

/// Everything below a folder, folders before what is in them.
fn all(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let io = StoreError::io("list the store's files");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(&io)? {
        let path = entry.map_err(&io)?.path();
        let below = if path.is_dir() { all(&path)? } else { Vec::new() };
        found.push(path);
        found.extend(below);
    }
    Ok(found)
}

/// A name of its own beside a folder.
fn beside(folder: &Path, what: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    folder.with_file_name(name)
}
