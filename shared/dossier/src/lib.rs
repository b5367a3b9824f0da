//! A transfer's dossier: its artefacts, and the state that they lead to, as source, destination and index each keep
//! them.
//!
//! All three take an artefact in by the same path ([`Dossier::take_in`]): find its kind, check it against those
//! before it, keep it, advance the state, in one transaction. What follows from it (send, seal, file, post) is
//! theirs to decide from what was [`Taken`]. Invariants: an artefact kept is never replaced, but at the index what a
//! destination signed twice, before anything follows ([`Dossier::take_instead`]); the same one again changes nothing;
//! another one in its place is a conflict; nothing is kept that does not verify; nothing new of a patient is taken under
//! key records that are not the newest known here ([`key_records`]).
//!
//! A hospital whose store was restored from a backup has lost what it signed since, and others hold it. So each notes the
//! newest artefact that each other hospital signed ([`newest_signed`]), hands back what it holds ([`evidence`]), and
//! takes back what it lost by the same path ([`Dossier::take_back`]). What it lost of others' work it finds by what they
//! were told of it ([`tally`]).
//!
//! The directory by which all three check everybody lies beside the dossiers ([`directories`]).
//!
//! Nothing here knows networks, records or ledgers.

mod deliveries;
pub mod directories;
mod error;
mod evidence;
mod handing_back;
pub mod incidents;
mod instead;
mod intake;
mod keep;
pub mod key_records;
mod kind;
mod newest;
mod recalls;
mod shown;
mod taking_back;
pub mod tally;

pub use deliveries::Standing;
pub use error::DossierError;
pub use handing_back::{Between, evidence};
pub use intake::{Taken, transfer_of};
pub use keep::{Dossier, Row, active, list};
pub use kind::{Kind, Place};
pub use newest::{issued, newest_signed};
