//! The index is restored from a backup and rejoins: its log, its orders and what it was told come back from the hospitals,
//! entry by entry, and until they have, it books, signs and hands out nothing. No log is ever stated that it cannot go on
//! with, and nobody is accused. On real processes; a backup is a copy of the data folder.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod away;
mod killed;
mod left_out;
mod rejoins;
mod stage;
mod unheard;
mod unheld;

use handover_tests::moves;
