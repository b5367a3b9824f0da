//! Where a store is, as a configuration says it: which engine, and where that one keeps it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::engine::Engine;
use crate::meta::Meta;
use crate::postgres::PostgresEngine;
use crate::sled_engine::SledEngine;
use crate::{Database, Schema, StoreError};

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
    /// Opens the engine there.
    pub(crate) async fn open(&self, meta: Meta) -> Result<Arc<dyn Engine>, StoreError> {
        let place = self.clone();
        let opening = tokio::task::spawn_blocking(move || -> Result<Arc<dyn Engine>, StoreError> {
            Ok(match place {
                Self::Folder(folder) => {
                    // Opening it makes files, and whoever may not make a store leaves none.
                    if is_occupied(&folder) {
                        return Ok(Arc::new(SledEngine::open(&folder, &meta)?));
                    }
                    let note = note(&folder);
                    let meta = match std::fs::read_to_string(&note) {
                        Ok(place) => meta.beside(format!("{place} (so says {})", note.display())),
                        Err(_) => meta,
                    };
                    meta.admit_new()?;
                    Arc::new(SledEngine::open(&folder, &meta)?)
                }
                Self::Database { database, beside } => {
                    let meta = match beside.as_ref().filter(|folder| is_occupied(folder)) {
                        Some(folder) => meta.beside(Self::Folder(folder.clone()).to_string()),
                        None => meta,
                    };
                    let place = database.to_string();
                    let engine = PostgresEngine::open(*database, meta)?;
                    if let Some(folder) = beside {
                        std::fs::write(note(&folder), place)
                            .map_err(StoreError::io("note which database has the store"))?;
                    }
                    Arc::new(engine)
                }
            })
        });
        opening.await.unwrap_or(Err(StoreError::Panicked))
    }
}

/// The file beside the embedded engine's folder that names the database in which a store was opened: where that lies,
/// no new store is made in the folder.
fn note(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".database");
    name.into()
}

/// Whether something lies in a folder, a store most likely.
fn is_occupied(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}
