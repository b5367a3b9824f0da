//! The pieces of a directory on their way: which are to be asked for, and what came.

use std::collections::{BTreeMap, BTreeSet};

use super::Head;
use crate::Code;
use crate::artefact::federation::{DIRECTORY_MAX_BYTES, PIECE_MAX_BYTES};
use crate::id::Digest;

/// What comes of a directory's pieces, each compared with the digests that its head names before it is kept. What came
/// of one whose rest does not is not asked for again, if the next one names it, too.
#[derive(Debug, Default)]
pub struct Gathering {
    missing: BTreeSet<Digest>,
    came: BTreeMap<Digest, Vec<u8>>,
    bytes: usize,
}

impl Gathering {
    /// Of a directory's pieces, those that are not held.
    #[must_use]
    pub fn of(head: &Head, held: &BTreeSet<Digest>) -> Self {
        let mut gathering = Self::default();
        gathering.turn_to(head, held);
        gathering
    }

    /// Goes on with another directory: what came stays, as far as that one needs it.
    pub fn turn_to(&mut self, head: &Head, held: &BTreeSet<Digest>) {
        let named: BTreeSet<Digest> = head.directory().pieces.iter().copied().collect();
        let needed: BTreeSet<Digest> = named.difference(held).copied().collect();
        self.came.retain(|digest, _| needed.contains(digest));
        self.bytes = self.came.values().map(Vec::len).sum();
        self.missing = needed.into_iter().filter(|digest| !self.came.contains_key(digest)).collect();
    }

    /// The digests to ask for next; none, if all are there.
    #[must_use]
    pub fn missing(&self) -> Vec<Digest> {
        self.missing.iter().copied().collect()
    }

    /// Takes what came.
    ///
    /// # Errors
    /// [`Code::DirectoryIncomplete`] if nothing did, so that nobody asks for ever; [`Code::Malformed`] for what is not
    /// missing; [`Code::TooLarge`].
    pub fn take(&mut self, pieces: Vec<Vec<u8>>) -> Result<(), Code> {
        if pieces.is_empty() {
            return Err(Code::DirectoryIncomplete);
        }
        for piece in pieces {
            self.bytes = self.bytes.saturating_add(piece.len());
            if piece.len() > PIECE_MAX_BYTES || self.bytes > DIRECTORY_MAX_BYTES {
                return Err(Code::TooLarge);
            }
            let digest = Digest::sha256(&[&piece]);
            if !self.missing.remove(&digest) {
                return Err(Code::Malformed);
            }
            self.came.insert(digest, piece);
        }
        Ok(())
    }

    /// Everything that came.
    #[must_use]
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        self.came.values().cloned().collect()
    }
}
