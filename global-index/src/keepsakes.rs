//! What others keep of the log for the index: a hospital's own entries, by whose marks the index knows them again, and
//! others' entries, which only the index can open.
//!
//! Invariant: what this key did not mark or seal, for this sequence number, is never taken for an entry of the log. The key
//! is derived from one that lies in the index's key file, so it is the same after a restored backup.

use std::sync::Arc;

use handover_core::codec::{self, Bytes, Extensions};
use handover_core::message::{OpenedEntry, SEALED_ENTRY_MAX_BYTES, SealedEntry};
use handover_core::{Digest, Random};
use handover_seal::{SealError, Secret32, cell};

/// Sets these keys apart from others that are derived from the same.
const MARK_LABEL: &str = "handover/ledger-mark/1";
const SEAL_LABEL: &str = "handover/ledger-seal/1";

/// Marks and seals entries. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keepsakes(Arc<Keys>);

struct Keys {
    mark: Secret32,
    seal: Secret32,
}

impl Keepsakes {
    /// From a key that survives a restored backup.
    pub(crate) fn of(key: &Secret32) -> Self {
        let derived = |label| cell::derive(key, label, &[]);
        Self(Arc::new(Keys { mark: derived(MARK_LABEL), seal: derived(SEAL_LABEL) }))
    }

    /// By which the index knows an entry again.
    pub(crate) fn mark(&self, sequence: u64, salt: &[u8; 32], entry: &[u8]) -> Digest {
        Digest::from_bytes(cell::keyed_hash(&self.0.mark, &[&sequence.to_be_bytes(), salt, entry]))
    }

    /// An entry, for somebody to keep whose matter it is not.
    pub(crate) fn seal(
        &self,
        entry: &OpenedEntry,
        random: &mut dyn Random,
    ) -> Result<SealedEntry, SealError> {
        let sequence = entry.sequence;
        let plain = codec::encode(entry);
        let sealed = cell::seal_cell_padded(&self.0.seal, &sequence.to_be_bytes(), &plain, random)?;
        Ok(SealedEntry { sequence, sealed: Bytes(sealed), extensions: Extensions::default() })
    }

    /// What was sealed here, if it was.
    pub(crate) fn open(&self, kept: &SealedEntry) -> Option<OpenedEntry> {
        if kept.sealed.as_ref().len() > SEALED_ENTRY_MAX_BYTES {
            return None;
        }
        let binding = kept.sequence.to_be_bytes();
        let plain = cell::open_cell_padded(&self.0.seal, &binding, kept.sealed.as_ref()).ok()?;
        codec::decode(&plain, SEALED_ENTRY_MAX_BYTES).ok()
    }

    /// Whether an entry bears the mark that it was given here.
    pub(crate) fn knows(&self, entry: &OpenedEntry) -> bool {
        let mark = self.mark(entry.sequence, &entry.salt, entry.entry.as_ref());
        entry.mark == Some(mark)
    }
}

#[cfg(test)]
mod tests {
    use handover_seal::OsRandom;

    use super::*;

    fn entry() -> OpenedEntry {
        OpenedEntry {
            sequence: 7,
            salt: [1; 32],
            entry: Bytes(b"an entry".to_vec()),
            path: Vec::new(),
            order: None,
            mark: None,
            extensions: Extensions::default(),
        }
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_to_the_same_key_only() {
        let keepsakes = Keepsakes::of(&Secret32::from_bytes([3; 32]));
        let kept = keepsakes.seal(&entry(), &mut OsRandom).unwrap();
        assert_eq!(keepsakes.open(&kept), Some(entry()));
        assert_eq!(keepsakes.open(&SealedEntry { sequence: 8, ..kept.clone() }), None);
        assert_eq!(Keepsakes::of(&Secret32::from_bytes([4; 32])).open(&kept), None);
        let long = SealedEntry { sealed: Bytes(vec![1; SEALED_ENTRY_MAX_BYTES + 1]), ..kept };
        assert_eq!(keepsakes.open(&long), None);
    }

    #[test]
    fn a_mark_is_of_one_entry_in_one_place() {
        let keepsakes = Keepsakes::of(&Secret32::from_bytes([3; 32]));
        let marked = OpenedEntry { mark: Some(keepsakes.mark(7, &[1; 32], b"an entry")), ..entry() };
        assert!(keepsakes.knows(&marked));
        assert!(!keepsakes.knows(&entry()));
        assert!(!keepsakes.knows(&OpenedEntry { sequence: 8, ..marked.clone() }));
        assert!(!keepsakes.knows(&OpenedEntry { salt: [2; 32], ..marked.clone() }));
        assert!(!keepsakes.knows(&OpenedEntry { entry: Bytes(b"another".to_vec()), ..marked }));
    }
}
