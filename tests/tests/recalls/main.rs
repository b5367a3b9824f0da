//! Recalls: what was sent and was wrong is marked where it was sent to, and the fee given back. The rules, dossiers and
//! transfer files; and real processes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that fails is a failed test")]

mod people;
mod processes;
mod rules;
