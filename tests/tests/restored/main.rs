//! A hospital's node is restored from a backup and rejoins: what it signed since comes back to it from the index and the
//! other hospital, and until it has, the node signs and gives out nothing. No key leaves that was taken back, nothing is
//! charged a second time, and nobody is accused. On real processes; a backup is a copy of the data folder.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod alone;
mod both;
mod by_hand;
mod destination;
mod killed;
mod recalls;
mod source;
mod stage;
mod unaware;

use handover_tests::{ends, moves, people};
