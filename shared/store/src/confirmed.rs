//! The note beside a data folder whose store lies in a database: which one, and the last group of writes that this
//! machine's process was told is durable there. A database that comes back with less has lost something, however sound
//! it looks, and whoever had it open since.
//!
//! The number is written over in place after each group, which a killed process leaves as it was, and flushed about
//! once a second: it is never ahead of what was confirmed. After a loss of power it may be a second behind.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::StoreError;
use crate::sled_files::sync_folder;

const VERSION: &str = "1";

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// The last group that was confirmed.
    pub(crate) group: i64,
    /// Which life of the store that was: accepting a loss begins another one.
    pub(crate) life: Vec<u8>,
    /// As whom the store was open.
    pub(crate) token: Vec<u8>,
    /// Where the store lies, for people.
    pub(crate) place: String,
}

impl Confirmed {
    /// Reads a note; `None` if there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let text = match std::fs::read_to_string(path) {
            Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(StoreError::io("read the note of the database"))?,
        };
        Self::parse(&text).map(Some).ok_or_else(|| StoreError::Damaged {
            what: path.display().to_string(),
            advice: "it says which database has the store and what that confirmed; if the database is known to have \
                     everything, remove the file",
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.splitn(3, '\n');
        let group = lines.next()?.parse().ok()?;
        let mut words = lines.next()?.split(' ');
        if words.next()? != VERSION {
            return None;
        }
        let (life, token) = (hex::decode(words.next()?).ok()?, hex::decode(words.next()?).ok()?);
        Some(Self { group, life, token, place: lines.next()?.trim_end().to_owned() })
    }

    fn text(&self) -> String {
        let Self { group, life, token, place } = self;
        format!("{group:020}\n{VERSION} {} {}\n{place}\n", hex::encode(life), hex::encode(token))
    }
}

/// The note of a store that is open.
#[derive(Debug)]
pub(crate) struct Noting(File);

impl Noting {
    /// Writes a note anew, durably.
    pub(crate) fn begin(path: &Path, confirmed: &Confirmed) -> Result<Self, StoreError> {
        let io = StoreError::io("note which database has the store");
        let (mut unfinished, folder) = (path.as_os_str().to_owned(), path.parent().unwrap_or(path));
        unfinished.push(".unfinished");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&unfinished).map_err(&io)?;
        file.write_all(confirmed.text().as_bytes()).and_then(|()| file.sync_all()).map_err(&io)?;
        std::fs::rename(&unfinished, path).map_err(&io)?;
        sync_folder(folder)?;
        Ok(Self(file))
    }

    /// Notes a group that was confirmed.
    pub(crate) fn write(&self, group: i64) {
        // It stands at the beginning, within one block of any disk.
        if let Err(error) = self.0.write_all_at(format!("{group:020}").as_bytes(), 0) {
            tracing::warn!(%error, "what the database confirmed could not be noted");
        }
    }

    /// Flushes what was noted.
    pub(crate) fn flush(&self) {
        if let Err(error) = self.0.sync_data() {
            tracing::warn!(%error, "what the database confirmed could not be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.database");
        assert_eq!(Confirmed::read(&path).unwrap(), None);
        let first = Confirmed { group: 7, life: vec![1; 16], token: vec![2; 16], place: "there".to_owned() };
        let noting = Noting::begin(&path, &first).unwrap();
        assert_eq!(Confirmed::read(&path).unwrap().as_ref(), Some(&first));
        noting.write(1_000_000);
        noting.flush();
        assert_eq!(Confirmed::read(&path).unwrap(), Some(Confirmed { group: 1_000_000, ..first }));
        std::fs::write(&path, "there").unwrap();
        assert!(matches!(Confirmed::read(&path), Err(StoreError::Damaged { .. })));
    }
}
