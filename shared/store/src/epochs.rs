//! Epoch keys: one file each, in a folder of its own that no backup of the store takes along.
//!
//! A file is sealed under a key of the hospital's and bound to its number, so the folder alone tells nothing. It is
//! durable before the key is first used, and overwritten before it goes. What a key wraps is not known here.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use handover_seal::cell::{derive, open_cell, seal_cell};
use handover_seal::keyfile::read_private;
use handover_seal::{OsRandom, SealError, Secret32};

use crate::StoreError;
use crate::sled_files::{make_private_folder, sync_folder};

const SEAL_LABEL: &str = "handover store v1 epoch key file";
const NAME_START: &str = "epoch-";
const NAME_END: &str = ".key";
/// A file that is being written. One that is found was never used.
const UNFINISHED: &str = "unfinished";
/// What to do about a key that does not serve.
const PUT_BACK: &str = "put back the folder of epoch keys that belongs to this store, from its second copy";

/// The folder.
pub(crate) struct EpochFiles {
    folder: PathBuf,
    seal_key: Secret32,
}

impl EpochFiles {
    /// The folder is made with the first key: one that is empty must not stand in for keys that are missing.
    pub(crate) fn at(folder: &Path, hospital_key: &Secret32) -> Self {
        Self { folder: folder.to_owned(), seal_key: derive(hospital_key, SEAL_LABEL, b"") }
    }

    fn make_folder(&self) -> Result<(), StoreError> {
        make_private_folder(&self.folder)?;
        match self.folder.parent().filter(|above| !above.as_os_str().is_empty()) {
            Some(above) => sync_folder(above),
            None => Ok(()),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{NAME_START}{number:06}{NAME_END}"))
    }

    /// The epochs that have a file, whether or not it opens.
    pub(crate) fn numbers(&self) -> Result<BTreeSet<u64>, StoreError> {
        let io = StoreError::io("list the epoch keys");
        let mut numbers = BTreeSet::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(numbers),
            entries => entries.map_err(&io)?,
        };
        for entry in entries {
            let name = entry.map_err(&io)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(NAME_START)?.strip_suffix(NAME_END));
            numbers.extend(number.and_then(|digits| digits.parse::<u64>().ok()));
        }
        Ok(numbers)
    }

    pub(crate) fn read(&self, number: u64) -> Result<Secret32, StoreError> {
        let fault = |reason: String| self.fault(number, reason);
        let sealed = read_private(&self.path(number)).map_err(|error| match error {
            SealError::Io(io) if io.kind() == std::io::ErrorKind::NotFound => self.missing(number),
            other => fault(format!("cannot be read ({other})")),
        })?;
        open_cell(&self.seal_key, &number.to_be_bytes(), &sealed)
            .and_then(|key| Secret32::from_slice(&key))
            .map_err(|_| fault("is damaged or another hospital's".to_owned()))
    }

    /// Makes a key that is durable before it is given. A number is made once.
    pub(crate) fn make(&self, number: u64) -> Result<Secret32, StoreError> {
        let io = StoreError::io("write an epoch key");
        let path = self.path(number);
        if path.exists() {
            return Err(self.fault(number, "is there already"));
        }
        self.make_folder()?;
        let key = Secret32::generate(&mut OsRandom);
        let sealed = seal_cell(&self.seal_key, &number.to_be_bytes(), key.expose(), &mut OsRandom)
            .map_err(|error| self.fault(number, error.to_string()))?;
        let unfinished = self.folder.join(UNFINISHED);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&unfinished).map_err(&io)?;
        file.write_all(&sealed).and_then(|()| file.sync_all()).map_err(&io)?;
        fs::rename(&unfinished, path).map_err(&io)?;
        sync_folder(&self.folder)?;
        Ok(key)
    }

    /// Destroys a key for good. Nothing happens if it is not there.
    pub(crate) fn destroy(&self, number: u64) -> Result<(), StoreError> {
        let io = StoreError::io("destroy an epoch key");
        let path = self.path(number);
        match OpenOptions::new().write(true).open(&path) {
            Ok(mut file) => {
                let length = usize::try_from(file.metadata().map_err(&io)?.len()).unwrap_or_default();
                file.write_all(&vec![0; length]).and_then(|()| file.sync_all()).map_err(&io)?;
                fs::remove_file(&path).map_err(&io)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        sync_folder(&self.folder)
    }

    fn missing(&self, number: u64) -> StoreError {
        if self.numbers().is_ok_and(|numbers| numbers.last().is_some_and(|last| *last > number)) {
            let reason = "was destroyed by a rotation: this store is a copy from before it and does not open any \
                          more; restore a newer one";
            return StoreError::EpochKey { file: self.path(number), reason: reason.to_owned() };
        }
        self.fault(number, "is missing")
    }

    pub(crate) fn fault(&self, number: u64, reason: impl Into<String>) -> StoreError {
        let reason = format!("{}; {PUT_BACK}", reason.into());
        StoreError::EpochKey { file: self.path(number), reason }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn reason(fault: StoreError) -> String {
        match fault {
            StoreError::EpochKey { reason, .. } => reason,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_file_opens_for_its_hospital_and_number_only() {
        let folder = tempfile::tempdir().unwrap();
        let own = Secret32::from_bytes([1; 32]);
        let files = EpochFiles::at(folder.path(), &own);
        fs::write(folder.path().join(UNFINISHED), b"half").unwrap();
        let key = files.make(3).unwrap();
        assert_eq!(files.read(3).unwrap().expose(), key.expose());
        assert!(files.make(3).is_err(), "a key is never replaced");
        assert_eq!(files.read(3).unwrap().expose(), key.expose());
        let mode = fs::metadata(files.path(3)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(reason(files.read(4).unwrap_err()).starts_with("is missing"));
        assert!(reason(files.read(2).unwrap_err()).starts_with("was destroyed by a rotation"));
        fs::copy(files.path(3), files.path(4)).unwrap();
        assert!(reason(files.read(4).unwrap_err()).starts_with("is damaged"));
        let other = EpochFiles::at(folder.path(), &Secret32::from_bytes([2; 32]));
        assert!(reason(other.read(3).unwrap_err()).contains("another hospital's"));
        fs::set_permissions(files.path(3), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(reason(files.read(3).unwrap_err()).starts_with("cannot be read"));
        files.destroy(4).unwrap();
        files.destroy(4).unwrap();
        assert_eq!(files.numbers().unwrap(), BTreeSet::from([3]));
    }
}
