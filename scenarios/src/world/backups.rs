//! Backups: the data folder of a hospital or of the index is copied while its process is stopped, and put back later.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::files::copy_folder;
use super::{INDEX, World};

/// Where they lie in the world's folder.
const BACKUPS: &str = "backups";

impl World {
    /// The data folder of a hospital's process, or of the [`INDEX`].
    ///
    /// # Errors
    /// There is no such hospital.
    pub fn data(&self, whose: &str) -> Result<PathBuf> {
        if whose == INDEX { Ok(self.federation.data()) } else { Ok(self.hospital(whose)?.data()) }
    }

    /// Stops a hospital's process, or the [`INDEX`]'s, copies its data folder and starts the process again; the copy.
    ///
    /// # Errors
    /// It does not stop or start, or the folder cannot be copied.
    pub fn back_up(&mut self, whose: &str) -> Result<PathBuf> {
        let all = self.folder().join(BACKUPS);
        fs::create_dir_all(&all).with_context(|| all.display().to_string())?;
        let copy = all.join(self.unique(whose));
        if whose == INDEX {
            self.stop_index()?
        } else {
            self.stop(whose)?
        }
        copy_folder(&self.data(whose)?, &copy, &[])?;
        if whose == INDEX {
            self.restart_index(false)?
        } else {
            self.restart(whose)?
        }
        Ok(copy)
    }

    /// Puts a copy of a data folder in the folder's place: whatever was stored since is gone. The process does not run
    /// meanwhile; [`World::restart`] or [`World::restart_index`] starts it.
    ///
    /// # Errors
    /// The folder cannot be exchanged.
    pub fn put_back(&self, whose: &str, copy: &Path) -> Result<()> {
        let data = self.data(whose)?;
        fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
        copy_folder(copy, &data, &[])
    }

    /// A hospital's machine burns with everything on it; another one is set up in its place, with keys of its own, and runs.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn burn(&mut self, hospital: &str) -> Result<()> {
        self.kill(hospital)?;
        let data = self.data(hospital)?;
        fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
        self.node(hospital, &["init"])?.done()?;
        self.restart(hospital)
    }

    /// As [`World::put_back`], and the data folder as it was is kept: where.
    ///
    /// # Errors
    /// As [`World::put_back`].
    pub fn exchange_data(&mut self, hospital: &str, copy: &Path) -> Result<PathBuf> {
        let (data, own) = (self.data(hospital)?, self.folder().join(BACKUPS).join(self.unique(hospital)));
        copy_folder(&data, &own, &[])?;
        self.put_back(hospital, copy)?;
        Ok(own)
    }
}
