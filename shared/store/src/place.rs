//! Where a store is, as a configuration says it: which engine, and where that one keeps it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::confirmed::Confirmed;
use crate::engine::Engine;
use crate::meta::Meta;
use crate::postgres::{Opening, PostgresEngine, Told};
use crate::sled_engine::SledEngine;
use crate::{Database, Schema, StoreError, Tables};

/// The engines that a configuration can choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineName {
    /// Embedded, in a folder.
    #[default]
    Sled,
    /// A database that speaks the PostgreSQL protocol.
    Postgres,
}

impl EngineName {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Sled => Self::Postgres,
            Self::Postgres => Self::Sled,
        }
    }
}

impl FromStr for EngineName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sled" => Ok(Self::Sled),
            "postgres" => Ok(Self::Postgres),
            _ => Err("has to be sled or postgres"),
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sled => "sled",
            Self::Postgres => "postgres",
        })
    }
}

/// The part `[store]` of a configuration. What it says of a database may stand there before that is the engine: it is
/// where the store can be moved to.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `store.engine`.
    pub engine: EngineName,
    /// `store.url_file`: the file (mode 0600) with the database's URL.
    pub url_file: Option<PathBuf>,
    /// `store.ca_file`: what the database's certificate leads up to.
    pub ca_file: Option<PathBuf>,
    /// `store.schema`: where in the database.
    pub schema: Schema,
}

impl Settings {
    /// What is missing: the key, and why it is needed.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let is_missing = self.engine == EngineName::Postgres && self.url_file.is_none();
        is_missing
            .then_some(("store.url_file", "is missing: engine = \"postgres\" needs the file with its URL"))
    }

    /// Where the configured engine has its store, or the other one would.
    ///
    /// # Errors
    /// [`StoreError::Settings`] or [`StoreError::Unavailable`].
    pub fn place(&self, engine: EngineName, folder: &Path) -> Result<Place, StoreError> {
        // Named in the mark of a move, which is read from other folders.
        let folder = std::path::absolute(folder).map_err(StoreError::io("find the store's folder"))?;
        match (engine, &self.url_file) {
            (EngineName::Sled, _) => Ok(Place::Folder(folder)),
            (EngineName::Postgres, Some(url_file)) => {
                let database = Database::from_files(url_file, self.ca_file.as_deref(), &self.schema)?;
                Ok(Place::Database { database: Box::new(database), beside: Some(folder) })
            }
            (EngineName::Postgres, None) => {
                let reason = "[store] url_file is missing: the file (mode 0600) with the database's URL";
                Err(StoreError::Settings { reason: reason.to_owned() })
            }
        }
    }
}

/// Where a store is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a folder, by sled.
    Folder(PathBuf),
    /// In a database.
    Database {
        /// Which.
        database: Box<Database>,
        /// The folder that the embedded engine has. While a store lies there, no new one is made in the database; nor
        /// there, once one was opened in the database.
        beside: Option<PathBuf>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "the folder {}", folder.display()),
            Self::Database { database, .. } => database.fmt(f),
        }
    }
}

impl Place {
    /// The same with tables beside the cells, if it is in a database.
    #[must_use]
    pub fn with_tables(self, tables: &'static Tables) -> Self {
        match self {
            Self::Folder(folder) => Self::Folder(folder),
            Self::Database { database, beside } => {
                Self::Database { database: Box::new(database.with_tables(tables)), beside }
            }
        }
    }

    /// Opens the engine there; with `told`, stands by while another process has the store.
    pub(crate) async fn open(&self, meta: Meta, told: Option<Told>) -> Result<Arc<dyn Engine>, StoreError> {
        let (place, (opened, opening)) = (self.clone(), oneshot::channel());
        // A thread of its own: nobody who ends meanwhile waits for it.
        let thread = std::thread::Builder::new().name("store-opening".to_owned());
        let spawned = thread.spawn(move || opened.send(place.open_here(meta, told)));
        spawned.map_err(StoreError::io("start a thread of the store"))?;
        opening.await.unwrap_or(Err(StoreError::Panicked))
    }

    fn open_here(self, meta: Meta, told: Option<Told>) -> Result<Arc<dyn Engine>, StoreError> {
        Ok(match self {
            Self::Folder(folder) => {
                // Opening it makes files, and whoever may not make a store leaves none.
                if is_occupied(&folder) {
                    return Ok(Arc::new(SledEngine::open(&folder, &meta)?));
                }
                let note = note(&folder);
                let meta = match Confirmed::read(&note)? {
                    Some(noted) => meta.beside(&format!("{} (so says {})", noted.place, note.display())),
                    None => meta,
                };
                meta.admit_new()?;
                Arc::new(SledEngine::open(&folder, &meta)?)
            }
            Self::Database { database, beside } => {
                let mut meta = match beside.as_ref().filter(|folder| is_occupied(folder)) {
                    Some(folder) => meta.beside(&Self::Folder(folder.clone()).to_string()),
                    None => meta,
                };
                let note = beside.as_deref().map(note);
                if let Some(path) = note.as_deref().filter(|path| path.exists()) {
                    meta = meta.never_new(gone(&database, path));
                }
                let opening = Opening { meta, note, told };
                Arc::new(PostgresEngine::open(*database, opening)?)
            }
        })
    }
}

/// The file beside the embedded engine's folder that names the database in which a store was opened: where that lies,
/// no new store is made in the folder.
fn note(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".database");
    name.into()
}

/// What is said of a database without a store where a note says that this machine had one.
fn gone(database: &Database, note: &Path) -> StoreError {
    StoreError::Lost {
        what: format!("{} says that there was a store, and there is none in {database}", note.display()),
        advice: "check url_file and schema of [store], or restore the database; to begin a new store in its place, take \
                 that file away, and `shared` too",
    }
}

/// Whether something lies in a folder, a store most likely.
fn is_occupied(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}
