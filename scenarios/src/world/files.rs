//! The world's folder: configurations, passphrases, logs, data.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Random bytes of a passphrase.
const PASSPHRASE_BYTES: usize = 16;
/// The longest folder name: the control sockets below have to fit into 107 bytes.
const MAX_FOLDER_BYTES: usize = 60;

/// Temporary folders that are in use.
static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn temporary() -> MutexGuard<'static, Vec<PathBuf>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the temporary folders of all worlds, once their processes are gone: for a handler of Ctrl-C.
pub fn remove_temporary_folders() {
    for path in std::mem::take(&mut *temporary()) {
        let _ = fs::remove_dir_all(path);
    }
}

/// Whether a world can lie there: a folder that is empty, or not there yet. Nothing is made.
///
/// # Errors
/// It cannot, and why.
pub fn check_folder(wanted: &Path) -> Result<()> {
    let shown = || wanted.display().to_string();
    let path = std::path::absolute(wanted).with_context(shown)?;
    // The folder itself, or the one in which it is made.
    let there = path.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
    ensure!(there.is_dir(), "{} is not a folder", there.display());
    let missing = path.strip_prefix(there)?;
    let path = fs::canonicalize(there).with_context(shown)?.join(missing);
    if missing.as_os_str().is_empty() {
        ensure!(fs::read_dir(&path).with_context(shown)?.next().is_none(), "{} is not empty", shown());
    }
    fits(&path)?;
    tempfile::tempdir_in(there).map(drop).with_context(|| format!("{} cannot be made", shown()))
}

fn fits(path: &Path) -> Result<()> {
    ensure!(
        path.as_os_str().len() <= MAX_FOLDER_BYTES,
        "{} is too long a name: with more than {MAX_FOLDER_BYTES} bytes no sockets fit below it",
        path.display()
    );
    Ok(())
}

/// The folder. Only its owner may look in: passphrases and records lie there.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

fn private() -> fs::Permissions {
    fs::Permissions::from_mode(0o700)
}

impl Folder {
    /// Makes it: at `wanted`, or a temporary one.
    pub(super) fn make(wanted: Option<&Path>) -> Result<Self> {
        let (path, temporary) = match wanted {
            Some(wanted) => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(wanted)?;
                let path = fs::canonicalize(wanted).with_context(|| wanted.display().to_string())?;
                fits(&path)?;
                ensure!(fs::read_dir(&path)?.next().is_none(), "{} is not empty", path.display());
                fs::set_permissions(&path, private()).with_context(|| path.display().to_string())?;
                (path, None)
            }
            None => {
                let made = tempfile::Builder::new().prefix("handover-").permissions(private()).tempdir();
                let made = made.context("no temporary folder")?;
                fits(made.path())?;
                temporary().push(made.path().to_owned());
                (made.path().to_owned(), Some(made))
            }
        };
        let folder = Self { path, temporary };
        for name in ["federation", "hospitals", "logs", "records", "secrets", "wallets"] {
            fs::DirBuilder::new().mode(0o700).create(folder.path.join(name))?;
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(super) fn records(&self) -> PathBuf {
        self.path.join("records")
    }

    pub(super) fn federation(&self, name: &str) -> PathBuf {
        self.path.join("federation").join(name)
    }

    /// Writes a text; its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The file with somebody's passphrase, made with fresh randomness when it is first asked for.
    pub(super) fn secret(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join("secrets").join(name);
        if path.exists() {
            return Ok(path);
        }
        let mut bytes = [0; PASSPHRASE_BYTES];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        writeln!(file, "{}", hex::encode(bytes))?;
        Ok(path)
    }

    /// A temporary folder stays.
    pub(super) fn keep(&mut self) {
        if let Some(made) = self.temporary.take() {
            let kept = made.keep();
            temporary().retain(|path| *path != kept);
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        temporary().retain(|path| *path != self.path);
    }
}

/// Copies a folder and everything in it as it lies, but for what is named so, wherever below. What is no file, such as
/// the socket of a process, is left out.
pub(super) fn copy_folder(from: &Path, to: &Path, but: &[&str]) -> Result<()> {
    let shown = || from.display().to_string();
    fs::create_dir(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(shown)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if name.to_str().is_some_and(|name| but.contains(&name)) {
            continue;
        }
        if kind.is_dir() {
            copy_folder(&entry.path(), &to.join(name), but)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name)).with_context(|| entry.path().display().to_string())?;
        }
    }
    fs::set_permissions(to, fs::metadata(from).with_context(shown)?.permissions())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passphrases_are_private_fresh_and_stay() {
        let folder = Folder::make(None).unwrap();
        let one = folder.secret("one").unwrap();
        assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&one).unwrap();
        assert_eq!(text, fs::read_to_string(folder.secret("one").unwrap()).unwrap());
        assert_ne!(text, fs::read_to_string(folder.secret("two").unwrap()).unwrap());
        assert!(Folder::make(Some(folder.path())).is_err());
    }

    #[test]
    fn a_copy_is_as_private_and_has_what_is_wanted() {
        let outer = tempfile::tempdir().unwrap();
        let (from, to) = (outer.path().join("from"), outer.path().join("to"));
        fs::create_dir_all(from.join("inner/lock")).unwrap();
        fs::write(from.join("inner/key"), "secret").unwrap();
        fs::set_permissions(from.join("inner/key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(from.join("inner"), private()).unwrap();
        copy_folder(&from, &to, &["lock"]).unwrap();
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("inner"), mode("inner/key")), (0o700, 0o600));
        assert_eq!(fs::read_to_string(to.join("inner/key")).unwrap(), "secret");
        assert!(!to.join("inner/lock").exists());
        assert!(copy_folder(&from, &to, &[]).is_err(), "over what is there");
    }

    #[test]
    fn only_the_owner_looks_in() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(Folder::make(None).unwrap().path()), 0o700);
        let outer = tempfile::tempdir().unwrap();
        let wanted = outer.path().join("kept");
        fs::DirBuilder::new().mode(0o755).create(&wanted).unwrap();
        check_folder(&wanted).unwrap();
        assert_eq!(mode(Folder::make(Some(&wanted)).unwrap().path()), 0o700);
        assert!(check_folder(&wanted).is_err());
    }
}
