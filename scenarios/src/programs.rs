//! The three programs that a world is made of: built first, found where cargo says that they are.
//!
//! Must not know what the programs do.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::json;

/// The packages; each has one binary of the same name.
const PACKAGES: [&str; 3] = ["handover-index", "handover-node", "handover-patient"];
/// The workspace's manifest, as it lay when this package was built.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");

/// Where the programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// `handover-index`.
    pub index: PathBuf,
    /// `handover-node`.
    pub node: PathBuf,
    /// `handover-patient`.
    pub patient: PathBuf,
    /// What they take the time from, if not from the system.
    clock: Option<Clock>,
    /// Whether they are to be of the next version, as far as there is one.
    next: bool,
}

/// Lets a program read the draft of the next edition of the formats.
const REHEARSE_VARIABLE: &str = "HANDOVER_REHEARSE_DRAFT";

/// A clock that is ahead of the system's by what stands in its file; who runs sees at once that it was set. Who runs
/// on has one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    library: PathBuf,
    file: PathBuf,
}

/// Where Debian has its libraries, below a folder for each architecture.
const LIBRARIES: &str = "/usr/lib";
const LIBFAKETIME: &str = "faketime/libfaketimeMT.so.1";

impl Clock {
    /// A clock that shows the system's time until it is set.
    pub(crate) fn make(file: PathBuf) -> Result<Self> {
        let folders = std::fs::read_dir(LIBRARIES).with_context(|| LIBRARIES.to_owned())?;
        let library =
            folders.flatten().map(|folder| folder.path().join(LIBFAKETIME)).find(|path| path.exists());
        let library = library.context("libfaketime is missing: install the package of that name")?;
        let clock = Self { library, file };
        clock.set_ahead(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds ahead; back, if they are fewer than before.
    pub(crate) fn set_ahead(&self, seconds: i64) -> Result<()> {
        // Whole at once: it is read at any time.
        let mut new = self.file.clone().into_os_string();
        new.push("-new");
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(&new, &self.file)?)
    }

    /// The clock of one process, beside the one for all others.
    pub(crate) fn of(&self, name: &str) -> Self {
        Self { library: self.library.clone(), file: self.file.with_extension(name) }
    }

    fn wind(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        // What is waited for goes on by the true clock.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
    }
}

impl Programs {
    /// The same, on this clock.
    #[must_use]
    pub(crate) fn at(&self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self.clone() }
    }

    /// The same, of the next version or of this one.
    #[must_use]
    pub(crate) fn of_version(&self, next: bool) -> Self {
        Self { next, ..self.clone() }
    }

    /// A command of one of them.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if self.next {
            command.env(REHEARSE_VARIABLE, "1");
        }
        if let Some(clock) = &self.clock {
            clock.wind(&mut command);
        }
        command
    }

    /// A command that runs on, with a clock of its own if there are any.
    pub(crate) fn wound(&self, mut command: Command, name: &str) -> Command {
        if let Some(clock) = &self.clock {
            clock.of(name).wind(&mut command);
        }
        command
    }

    /// Builds the programs in the profile that this program was built in. Cargo's own words go to stderr.
    ///
    /// Where the sources are no longer there, the programs beside this one are taken.
    ///
    /// # Errors
    /// They do not build, or there are neither sources nor programs.
    pub fn build() -> Result<Self> {
        let beside = folder_of_this()?;
        if !Path::new(MANIFEST).exists() {
            return Self::found(|name| Some(beside.join(name)).filter(|path| path.exists()))
                .with_context(|| format!("neither {MANIFEST} nor programs in {}", beside.display()));
        }
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.args(["build", "--message-format=json-render-diagnostics", "--manifest-path", MANIFEST]);
        command.args(["--profile", profile(&beside)]);
        for package in PACKAGES {
            command.args(["--package", package]);
        }
        for (name, _) in env::vars_os() {
            if is_of_this_package(&name) {
                command.env_remove(name);
            }
        }
        let output =
            command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo cannot be run")?;
        if !output.status.success() {
            bail!("the programs do not build; cargo said why above");
        }
        let built = String::from_utf8_lossy(&output.stdout);
        let artefacts: Vec<Value> =
            built.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Self::found(|name| {
            let artefact = artefacts.iter().rev().find(|it| {
                json::text(json::at(it, "target"), "name") == name && json::at(it, "executable").is_string()
            })?;
            json::at(artefact, "executable").as_str().map(PathBuf::from)
        })
    }

    /// [`Programs::build`], once for this process: for tests, which all need them.
    ///
    /// # Errors
    /// As [`Programs::build`].
    pub fn shared() -> Result<&'static Self> {
        static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| Self::build().map_err(|error| format!("{error:#}")));
        built.as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn found(find: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        let program = |name: &str| find(name).with_context(|| format!("{name} was not built"));
        let [index, node, patient] = PACKAGES;
        Ok(Self {
            index: program(index)?,
            node: program(node)?,
            patient: program(patient)?,
            clock: None,
            next: false,
        })
    }
}

/// The folder of cargo's profile in which this program lies; tests lie one folder deeper.
fn folder_of_this() -> Result<PathBuf> {
    let this = env::current_exe().context("where is this program?")?;
    let deeper = |folder: &&Path| folder.file_name().is_some_and(|name| name == "deps" || name == "examples");
    let folder = this.parent().context("this program lies in no folder")?;
    Ok(if deeper(&folder) { folder.parent().unwrap_or(folder) } else { folder }.to_owned())
}

/// What `cargo run` and `cargo test` tell this program of its own package. Handed on, it would look to build scripts
/// like a change, and half of the network's crates would be built again each time.
fn is_of_this_package(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

fn profile(folder: &Path) -> &str {
    match folder.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_this_programs_own() {
        for (folder, expected) in [("/t/debug", "dev"), ("/t/release", "release"), ("/t/x86/bench", "bench")]
        {
            assert_eq!(profile(Path::new(folder)), expected);
        }
        assert!(!folder_of_this().unwrap().ends_with("deps"));
    }
}
