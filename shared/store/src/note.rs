//! The note beside a store's files: the last commit that anybody was answered for. It is written after the store's own
//! flush and before the answer; so a store whose own number is behind it has lost something that was acknowledged,
//! however sound it looks.
//!
//! It is never ahead of what is durable, and needs no flush of its own before the answer, which would make every write
//! wait twice: a killed process leaves it as it was written, and a thread flushes it five times a second. After a loss
//! of power it may be that much behind; then only damage to the very commits of that moment, a second fault, is not
//! seen by their number.
//!
//! Two places, written in turn, each with its checksum: one that was cut off while it was written leaves the other.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::StoreError;
use crate::sled_files::sync_folder;
use crate::sums::{COMMIT_BYTES, Commit};

/// The file's name in the store's folder.
pub(crate) const NOTE_FILE: &str = "commits";
const UNFINISHED_FILE: &str = "commits.new";
const VERSION: u8 = 1;
/// Each place has a block of its own.
const PLACE_BYTES: u64 = 4096;
/// Version and commit.
const TEXT_BYTES: usize = 1 + COMMIT_BYTES;
const CHECKSUM_BYTES: usize = 16;
const WRITTEN_BYTES: usize = TEXT_BYTES + CHECKSUM_BYTES;

/// How long the note waits between two flushes.
const FLUSH_PAUSE: Duration = Duration::from_millis(200);

/// The note of an open store.
pub(crate) struct Note {
    file: Arc<File>,
    /// Wakes the thread that flushes; it ends when this goes.
    written: SyncSender<()>,
    is_failed: Arc<AtomicBool>,
}

/// What a store's note says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// There is none.
    Nothing,
    /// There is one, and neither of its places can be read.
    Unreadable,
    /// The last commit that was noted.
    Last(Commit),
}

impl Note {
    /// Reads a folder's note.
    pub(crate) fn read(folder: &Path) -> Result<Noted, StoreError> {
        let io = StoreError::io("read the note of commits");
        let file = match File::open(folder.join(NOTE_FILE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Noted::Nothing),
            opened => opened.map_err(&io)?,
        };
        let mut last: Option<Commit> = None;
        for place in [0, PLACE_BYTES] {
            let mut written = [0; WRITTEN_BYTES];
            match file.read_exact_at(&mut written, place) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => continue,
                read => read.map_err(&io)?,
            }
            last = last.max(decode(&written));
        }
        Ok(last.map_or(Noted::Unreadable, Noted::Last))
    }

    /// Makes a folder's note, before the store itself: from here on one that is not there is gone.
    pub(crate) fn make(folder: &Path) -> Result<(), StoreError> {
        let io = StoreError::io("write the note of commits");
        let (path, unfinished) = (folder.join(NOTE_FILE), folder.join(UNFINISHED_FILE));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&unfinished).map_err(&io)?;
        for place in [0, PLACE_BYTES] {
            file.write_all_at(&encode(Commit::default()), place).map_err(&io)?;
        }
        file.set_len(2 * PLACE_BYTES).and_then(|()| file.sync_all()).map_err(&io)?;
        std::fs::rename(unfinished, path).map_err(&io)?;
        sync_folder(folder)
    }

    /// Opens a folder's note and writes `commit` in both places.
    pub(crate) fn open(folder: &Path, commit: Commit) -> Result<Self, StoreError> {
        let io = StoreError::io("write the note of commits");
        let file = OpenOptions::new().read(true).write(true).open(folder.join(NOTE_FILE)).map_err(&io)?;
        // In both, so that from here on either may be written over.
        for place in [0, PLACE_BYTES] {
            file.write_all_at(&encode(commit), place).map_err(&io)?;
        }
        file.sync_all().map_err(&io)?;
        let (file, is_failed) = (Arc::new(file), Arc::<AtomicBool>::default());
        let (written, woken) = sync_channel(1);
        let (of_thread, failing) = (Arc::clone(&file), Arc::clone(&is_failed));
        std::thread::Builder::new()
            .name("store-note".to_owned())
            .spawn(move || flush_now_and_then(&of_thread, &woken, &failing))
            .map_err(StoreError::io("start the thread of the note"))?;
        Ok(Self { file, written, is_failed })
    }

    /// Notes a commit that is durable.
    pub(crate) fn write(&self, commit: Commit) -> Result<(), StoreError> {
        if self.is_failed.load(Ordering::Acquire) {
            return Err(StoreError::Failed);
        }
        let place = if commit.number.is_multiple_of(2) { 0 } else { PLACE_BYTES };
        let written = self.file.write_all_at(&encode(commit), place);
        written.map_err(StoreError::io("write the note of commits"))?;
        // One that is full has woken it already.
        let _ = self.written.try_send(());
        Ok(())
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Err(error) = self.file.sync_data() {
            tracing::error!(%error, "the note of commits could not be flushed");
        }
    }
}

fn flush_now_and_then(file: &File, woken: &Receiver<()>, is_failed: &AtomicBool) {
    while woken.recv().is_ok() {
        if let Err(error) = file.sync_data() {
            tracing::error!(%error, "the note of commits could not be flushed; the store takes no more writes");
            is_failed.store(true, Ordering::Release);
            return;
        }
        std::thread::sleep(FLUSH_PAUSE);
    }
}

fn encode(commit: Commit) -> [u8; WRITTEN_BYTES] {
    let mut written = [0; WRITTEN_BYTES];
    let text: Vec<u8> = std::iter::once(VERSION).chain(commit.to_bytes()).collect();
    let checksum = blake3::hash(&text);
    let bytes = text.iter().chain(checksum.as_bytes());
    written.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    written
}

fn decode(written: &[u8; WRITTEN_BYTES]) -> Option<Commit> {
    let (_, rest) = written.split_first()?;
    let commit = Commit::from_bytes(*rest.first_chunk()?);
    (encode(commit) == *written).then_some(commit)
}

#[cfg(test)]
mod tests {
    use handover_core::Timestamp;

    use super::*;

    #[test]
    fn a_note_that_is_cut_off_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let commit = |number| Commit { number, at: Timestamp::from_millis(5), is_marked: number == 4 };
        assert_eq!(Note::read(folder.path()).unwrap(), Noted::Nothing);
        Note::make(folder.path()).unwrap();
        assert_eq!(Note::read(folder.path()).unwrap(), Noted::Last(Commit::default()));
        let note = Note::open(folder.path(), commit(0)).unwrap();
        for number in 1..=5 {
            note.write(commit(number)).unwrap();
            assert_eq!(Note::read(folder.path()).unwrap(), Noted::Last(commit(number)));
        }
        let path = folder.path().join(NOTE_FILE);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len() as u64, 2 * PLACE_BYTES);
        for bit in 0..WRITTEN_BYTES * 8 {
            let mut altered = whole.clone();
            altered[PLACE_BYTES as usize + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &altered).unwrap();
            assert_eq!(Note::read(folder.path()).unwrap(), Noted::Last(commit(4)));
        }
        std::fs::write(&path, vec![0; 2 * PLACE_BYTES as usize]).unwrap();
        assert_eq!(Note::read(folder.path()).unwrap(), Noted::Unreadable);
        std::fs::write(&path, b"").unwrap();
        assert_eq!(Note::read(folder.path()).unwrap(), Noted::Unreadable);
    }
}
