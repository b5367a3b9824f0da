//! A transfer's dossier: its artefacts, and the state that they lead to, as source, destination and index each keep
//! them.
//!
//! All three take an artefact in by the same path ([`Dossier::take_in`]): find its kind, check it against those
//! before it, keep it, advance the state, in one transaction. What follows from it (send, seal, file, post) is
//! theirs to decide from what was [`Taken`]. Invariants: an artefact kept is never replaced; the same one again
//! changes nothing; another one in its place is a conflict; nothing is kept that does not verify; nothing new of a
//! patient is taken under key records that are not the newest known here ([`key_records`]).
//!
//! Nothing here knows networks, records or ledgers.

mod deliveries;
mod error;
mod evidence;
pub mod incidents;
mod intake;
mod keep;
pub mod key_records;
mod kind;
mod recalls;

pub use deliveries::Standing;
pub use error::DossierError;
pub use intake::{Taken, transfer_of};
pub use keep::{Dossier, Row, active, list};
pub use kind::{Kind, Place};
