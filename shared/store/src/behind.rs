//! Writing a long file so that the disk is not waited for at its end alone: what was written is synced behind the
//! writer's back, on a thread of its own, while more is written.
//!
//! Invariant: no fault of such a sync is lost, [`WriteBehind::finish`] gives it; the system tells it only once. What
//! was written since the last of them is for the caller to sync.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// A file of fewer bytes is synced by its owner alone.
const WINDOW_BYTES: u64 = 32 * 1024 * 1024;

/// A file that is written from its position on.
pub struct WriteBehind {
    file: File,
    since_sync_bytes: u64,
    syncing: Option<Syncing>,
}

struct Syncing {
    turns: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Syncing {
    fn start(file: File) -> io::Result<Self> {
        // One turn waits at most: a sync takes all that was written before it.
        let (turns, wanted) = sync_channel(1);
        let sync = move || wanted.iter().try_for_each(|()| file.sync_data());
        Ok(Self { turns, thread: thread::Builder::new().name("write-behind".into()).spawn(sync)? })
    }
}

impl WriteBehind {
    /// Writes to `file`.
    #[must_use]
    pub const fn new(file: File) -> Self {
        Self { file, since_sync_bytes: 0, syncing: None }
    }

    /// The file, with all that was written; the caller syncs the rest.
    ///
    /// # Errors
    /// Those of the syncs so far.
    pub fn finish(self) -> io::Result<File> {
        if let Some(Syncing { turns, thread }) = self.syncing {
            drop(turns);
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a sync panicked")))?;
        }
        Ok(self.file)
    }

    fn sync_behind(&mut self) -> io::Result<()> {
        self.since_sync_bytes = 0;
        let syncing = match self.syncing.take() {
            Some(syncing) => syncing,
            None => Syncing::start(self.file.try_clone()?)?,
        };
        // A thread that ended has a fault to tell at the end; one that is busy takes these bytes with its next turn.
        let _ = syncing.turns.try_send(());
        self.syncing = Some(syncing);
        Ok(())
    }
}

impl Write for WriteBehind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.since_sync_bytes = self.since_sync_bytes.saturating_add(written as u64);
        if self.since_sync_bytes >= WINDOW_BYTES {
            self.sync_behind()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_written_whether_or_not_a_sync_was_due() {
        let folder = tempfile::tempdir().unwrap();
        for windows in [0, 3] {
            let path = folder.path().join(windows.to_string());
            let mut writer = WriteBehind::new(File::create(&path).unwrap());
            let bytes = vec![7; usize::try_from(WINDOW_BYTES).unwrap() / 2 * windows + 1];
            writer.write_all(&bytes).unwrap();
            writer.finish().unwrap().sync_all().unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes);
        }
    }

    #[test]
    fn a_fault_of_a_sync_is_told_at_the_end() {
        // A pipe cannot be synced.
        let (reader, writer) = io::pipe().unwrap();
        let mut behind = WriteBehind::new(File::from(std::os::fd::OwnedFd::from(writer)));
        behind.sync_behind().unwrap();
        assert!(behind.finish().is_err());
        drop(reader);
    }
}
