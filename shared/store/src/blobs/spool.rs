//! Files that are being written, before they are blobs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::behind::WriteBehind;

/// A file that is being written. It removes itself unless it is kept by [`crate::Blobs::put`].
#[derive(Debug)]
pub struct Spool {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) is_kept: bool,
}

impl Spool {
    /// The file, open for reading and writing.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Writes to it from where it stands, as [`WriteBehind`] does.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn writer(&self) -> Result<WriteBehind, StoreError> {
        Ok(WriteBehind::new(self.file.try_clone().map_err(StoreError::io("write a spool file"))?))
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the file where it is. It stays until it is put as a blob or the blobs are opened again.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        self.path.clone()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed now is removed when the blobs are opened again.
            let _ = fs::remove_file(&self.path);
        }
    }
}
