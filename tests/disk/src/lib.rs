//! A disk in memory under a FUSE mount, for tests: it can be full, slow, and lose what was not flushed.
//!
//! It notes every write, name and flush in their order, so that what a loss of power leaves at any moment can be put
//! together: afterwards, from everything that was noted ([`left`]), or while it is mounted ([`Disk::lose_power`]).
//! `sync_file_range` does not come here, as it does not reach a real disk's cache: only `fsync` and `fdatasync` count.
//!
//! Invariants: what was flushed is never lost. Must not know what is written.

mod mounted;
mod power;
mod state;

pub use mounted::{Disk, Trouble};
pub use power::{Seeded, Survives, lay_out_all, left};
pub use state::{Node, Nodes, Op, State};
