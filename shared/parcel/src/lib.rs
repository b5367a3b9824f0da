//! How a sealed package goes over a stream, whoever carries it: the words before and after it, its parts from the blobs
//! of one side from where the other has them, and into the blobs of the other with every group verified on arrival.
//!
//! Invariants: no byte travels twice; what is damaged here does not leave; what is said to lie here has been verified;
//! a peer that falls silent or trickles holds nothing up for ever. Nothing here decides whether a package is taken, and
//! nothing here knows transfers' states, records or ledgers.

mod bridge;
mod error;
mod places;
mod receive;
mod send;
pub mod wire;

pub use error::ParcelError;
pub use places::{Place, Places, is_large, is_many};
pub use receive::{Arriving, part_path};
pub use send::{Sent, send, word};
