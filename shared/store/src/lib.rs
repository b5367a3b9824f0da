//! The one place where things are kept: transactions over ordered keys, and blobs for large content.
//!
//! A closure is run as a transaction ([`Store::write`], [`Store::read`]); the answer comes when everything is on
//! disk. The rules (limits, encryption of values, key making) are written once, above the engines:
//!
//! ```text
//!   Store ── cells: AES-256-GCM, bound to the key ── engine: memory | sled | postgres (and tables beside them)
//!   Blobs ── sealed content by its BLAKE3 root, in a folder
//!   Keyring ── secrets that can be forgotten, wrapped under an epoch's key outside the store
//! ```
//!
//! Invariants: all or nothing; answered only when durable; readers see a consistent state of what is durable; a
//! store that cannot tell whether a write was made durable refuses everything until it is opened again.
//!
//! This package must not know what is stored: no record, transfer, account or protocol type is named here. The
//! storage engines are named nowhere else.

mod before;
mod behind;
mod blobs;
mod cell;
mod check;
mod confirmed;
mod engine;
mod epochs;
mod error;
mod forgettable;
mod keys;
mod memory;
mod meta;
mod moving;
mod note;
mod own_folder;
mod place;
mod postgres;
mod repair;
mod repair_files;
mod repaired;
mod rotation;
pub mod rows;
mod salvage;
mod shared_folder;
mod sled_engine;
mod sled_files;
mod sled_tree;
mod standing;
mod store;
mod sums;
mod tables;
mod telling;
mod trees;
mod txn;
mod verified;

pub use behind::WriteBehind;
pub use blobs::{Blobs, Spool};
pub use cell::CellKey;
pub use check::{CheckProgress, CheckReport};
pub use engine::Health;
pub use error::StoreError;
pub use forgettable::Keyring;
pub use keys::{KeyBuilder, KeyMaker};
pub use memory::{Faults, Unflushed};
pub use moving::{Moved, Step, accept_loss, copy, undo};
pub use own_folder::own_folder;
pub use place::{EngineName, Place, Settings};
pub use postgres::{Database, Schema, Standing};
pub use repair::{KindRepaired, Repaired};
pub use repaired::RepairMark;
pub use rotation::{DamagedSecrets, Rotated};
pub use sled_engine::ROOM_BYTES;
pub use standing::{Epoch, RingReport};
pub use store::Store;
pub use tables::{Rows, Tables};
pub use txn::{Cell, KEY_MAX_BYTES, SCAN_MAX_CELLS, TRANSACTION_MAX_BYTES, Txn, VALUE_MAX_BYTES};
