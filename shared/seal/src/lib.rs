//! Every key and every seal of Handover: signatures, public-key wraps, shares, sealed cells, streams, hash trees
//! and key files. What the other rooms need of cryptography goes through here, by purpose and not by algorithm.
//!
//! Invariants: secrets are zeroized and never printed; opening fails with one uniform error that does not tell
//! why; randomness is a parameter ([`handover_core::Random`]) and only [`OsRandom`] asks the operating system.
//! This room knows no transfer states, no network and no store.

pub mod break_glass;
pub mod cell;
mod clock;
mod error;
mod frame;
pub mod keyfile;
mod padding;
pub mod part;
mod random;
mod read;
mod remembered;
mod rsa_key;
mod sealing;
mod secret;
pub mod shares;
mod sign;
pub mod stream;
#[cfg(test)]
mod testkit;
pub mod tree;

pub use clock::SystemClock;
pub use error::SealError;
pub use random::OsRandom;
pub use remembered::Remembered;
pub use rsa_key::{KeyRing, RsaPrivateKey, RsaPublicKey};
pub use sealing::{SealingKey, hpke_open, hpke_open_padded, hpke_seal, hpke_seal_padded};
pub use secret::{Secret, Secret32};
pub use sign::{Ed25519, SigningKey, is_strong};
pub use zeroize::Zeroizing;
