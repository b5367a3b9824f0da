//! The cache in front of a bucket: whole blobs and their trees as files, so many bytes of them. Those go first that
//! were used longest ago. Whoever reads one has its file open and reads on when its name is gone.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::free_bytes;
use crate::StoreError;
use crate::sled_engine::ROOM_BYTES;

/// How full it is left when something had to go, in eighths: not each new blob makes it look at all files.
const LEFT_FULL_EIGHTHS: u64 = 7;

/// The files below one folder.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    limit_bytes: u64,
    /// What lies there, at most: whatever is removed elsewhere is noticed with the next look.
    used_bytes: Mutex<u64>,
}

/// A file that lies there.
struct Lying {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl Cache {
    /// What lies in a folder, at most `limit_bytes` of it.
    pub(super) fn open(folder: &Path, limit_bytes: u64) -> Result<Self, StoreError> {
        let cache = Self { folder: folder.to_owned(), limit_bytes, used_bytes: Mutex::new(u64::MAX) };
        cache.take_in(0)?;
        Ok(cache)
    }

    /// Makes room for so many bytes, and counts them: in the cache, and on its disk. One that is longer than the whole
    /// cache lies there alone.
    pub(super) fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        self.fit(bytes, bytes)
    }

    /// The same for what is on the disk already.
    pub(super) fn take_in(&self, bytes: u64) -> Result<(), StoreError> {
        self.fit(bytes, 0)
    }

    fn fit(&self, bytes: u64, disk_bytes: u64) -> Result<(), StoreError> {
        let mut used = self.used_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = || -> Result<bool, StoreError> {
            Ok(disk_bytes > 0 && free_bytes(&self.folder)? < disk_bytes.saturating_add(ROOM_BYTES))
        };
        if used.saturating_add(bytes) > self.limit_bytes || is_full()? {
            let mut lying = self.lying()?;
            *used = lying.iter().fold(0, |sum: u64, it| sum.saturating_add(it.bytes));
            lying.sort_by_key(|it| it.used);
            let left_bytes = (self.limit_bytes / 8).saturating_mul(LEFT_FULL_EIGHTHS).saturating_sub(bytes);
            let must_go = used.saturating_add(bytes) > self.limit_bytes;
            for it in lying {
                let is_wanted = must_go && *used > left_bytes;
                if !is_wanted && !is_full()? {
                    break;
                }
                remove(&it.path)?;
                *used = used.saturating_sub(it.bytes);
            }
            if is_full()? {
                return Err(StoreError::Full { free_bytes: free_bytes(&self.folder)? });
            }
        }
        *used = used.saturating_add(bytes);
        Ok(())
    }

    fn lying(&self) -> Result<Vec<Lying>, StoreError> {
        let io = StoreError::io("look at the cache of blobs");
        let mut lying = Vec::new();
        for fan in fs::read_dir(&self.folder).map_err(&io)? {
            let fan = fan.map_err(&io)?.path();
            if !fan.is_dir() {
                continue;
            }
            for entry in fs::read_dir(fan).map_err(&io)? {
                let entry = entry.map_err(&io)?;
                // One that was removed meanwhile takes no room.
                let Ok(meta) = entry.metadata() else { continue };
                let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                lying.push(Lying { used, bytes: meta.len(), path: entry.path() });
            }
        }
        Ok(lying)
    }
}

/// Notes that a file is used now. One that cannot be noted goes earlier.
pub(super) fn touch(file: &File) {
    let _ = file.set_modified(SystemTime::now());
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("remove a file of blobs")(fault))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let fan = fs::read_dir(folder.join("ab")).unwrap();
        let mut names: Vec<String> = fan.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_who_reads_it_reads_on() {
        let folder = tempfile::tempdir().unwrap();
        let fan = folder.path().join("ab");
        fs::create_dir(&fan).unwrap();
        for (at, name) in ["ab1", "ab2", "ab3"].iter().enumerate() {
            fs::write(fan.join(name), [7; 100]).unwrap();
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(at as u64);
            File::open(fan.join(name)).unwrap().set_modified(used).unwrap();
        }
        let cache = Cache::open(folder.path(), 400).unwrap();
        assert_eq!(names(folder.path()).len(), 3);
        cache.make_room(100).unwrap();
        assert_eq!(names(folder.path()).len(), 3, "there is room");
        let mut read = File::open(fan.join("ab1")).unwrap();
        touch(&read);
        cache.take_in(200).unwrap();
        assert_eq!(names(folder.path()), ["ab1"], "it was used a moment ago");
        cache.make_room(1_000).unwrap();
        assert!(names(folder.path()).is_empty());
        assert_eq!(std::io::copy(&mut read, &mut std::io::sink()).unwrap(), 100);
        assert!(
            matches!(cache.make_room(u64::MAX / 2), Err(StoreError::Full { .. })),
            "the disk has no room"
        );
    }
}
