//! The global index of a federation: who takes part (registry, directory), which hospitals hold a patient's records
//! (locator), artefacts on their way (routing), the fee's books (ledger) and their signed log.
//!
//! ```text
//!   ops · http · service          commands, HTTPS, the running process
//!   folders                       sealed packages that wait for a hospital that is away
//!   rejoin                        a store from a backup gets back what others hold
//!   registry · locator · routing  the rooms that decide
//!   directory · log · statements  what the index signs
//!   ledger                        the books
//! ```
//!
//! Rooms above may use rooms below. What the index may not know: departments, purposes, doctors, tests, content. It
//! keeps artefacts as they came, and what is sealed in them stays sealed.

pub mod cli;
pub mod config;
mod desk;
mod directory;
mod emergency;
mod folders;
mod http;
mod keepsakes;
pub mod keys;
pub mod ledger;
pub mod locator;
mod log;
mod ops;
mod registry;
mod rejoin;
mod routing;
mod service;
mod statements;
mod voice;

pub use config::{Config, FolderRules};
pub use desk::Edge;
pub use directory::DirectoryError;
pub use service::{Index, IndexError, Ready, Rooms, Served};
