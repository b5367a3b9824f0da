//! Signatures that were found valid, so that whoever reads an artefact again does not check it again.
//!
//! A step of a transfer is judged by all that stand before it, each time from their envelopes: without this, most of the
//! time of an index's one writer is the same few signatures over and over.
//!
//! Invariants: what is remembered is that one key signed one message with one signature, strictly verified, by a hash
//! over all three; only what is valid is, and no more than [`REMEMBERED_MAX`]. Whether a key may speak, and whether an
//! artefact belongs to the others, is asked anew each time: that can change.

use std::sync::LazyLock;

use handover_core::artefact::SignatureVerifier;
use handover_core::id::SigningPublic;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use crate::Ed25519;

/// The most signatures that are remembered: those of some two thousand transfers, in about 5 MiB.
const REMEMBERED_MAX: u64 = 20_000;

static VALID: LazyLock<Cache<[u8; 32], ()>> = LazyLock::new(|| {
    Cache::builder().max_capacity(REMEMBERED_MAX).eviction_policy(EvictionPolicy::lru()).build()
});

/// [`Ed25519`], which remembers: for whoever meets the same signatures again and again, as servers do, and a wallet that
/// looks at its directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remembered;

impl SignatureVerifier for Remembered {
    fn is_valid(&self, key: &SigningPublic, message: &[u8], signature: &[u8; 64]) -> bool {
        // Key and signature have fixed lengths, so no two checks are hashed alike.
        let hash = Sha256::new().chain_update(key.as_bytes()).chain_update(signature).chain_update(message);
        let check = hash.finalize().into();
        if VALID.get(&check).is_some() {
            return true;
        }
        let is_valid = Ed25519.is_valid(key, message, signature);
        if is_valid {
            VALID.insert(check, ());
        }
        is_valid
    }
}

#[cfg(test)]
mod tests {
    use handover_core::artefact::Signer as _;

    use super::*;
    use crate::{Secret32, SigningKey};

    #[test]
    fn only_the_very_same_is_remembered() {
        let own = SigningKey::from_seed(&Secret32::from_bytes([7; 32]));
        let other = SigningKey::from_seed(&Secret32::from_bytes([8; 32]));
        let (message, signature) = (b"a message".as_slice(), own.sign(b"a message"));
        for _ in 0..2 {
            assert!(Remembered.is_valid(&own.public(), message, &signature));
            assert!(!Remembered.is_valid(&other.public(), message, &signature));
            assert!(!Remembered.is_valid(&own.public(), b"a messagf", &signature));
            for at in [0, 31, 32, 63] {
                let mut bent = signature;
                bent[at] ^= 1;
                assert!(!Remembered.is_valid(&own.public(), message, &bent));
            }
        }
    }
}
