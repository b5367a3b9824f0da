//! The pure heart of Handover: identifiers, time, money, artefacts and their codec, the fee and ledger rules,
//! the transfer state machine and the problem codes.
//!
//! Nothing here knows a runtime, a socket, a file or a database. Clock and randomness are parameters. What was
//! verified ([`artefact::Verified`]) is a different type from what was claimed ([`artefact::Signed`]), and only a
//! [`artefact::SignatureVerifier`] leads from one to the other.

pub mod artefact;
pub mod codec;
mod edition;
pub mod id;
pub mod key_chain;
pub mod ledger;
pub mod message;
pub mod money;
pub mod problem;
pub mod random;
pub mod rules;
mod short_code;
pub mod time;
pub mod transfer;
pub mod trust;
pub mod verify;

pub use edition::{Edition, SignsIn};
pub use id::{
    BreakGlassId, ContentRoot, Department, Digest, HospitalId, Party, PatientRef, RemoteLinkId, TransferId,
};
pub use key_chain::KeyChain;
pub use money::{Amount, Currency};
pub use problem::Code;
pub use random::Random;
pub use short_code::short_code;
pub use time::Timestamp;
