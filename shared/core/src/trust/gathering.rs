//! The pieces of a directory on their way: which are to be asked for, and what came.

use std::collections::BTreeSet;

use super::Head;
use crate::Code;
use crate::artefact::federation::{DIRECTORY_MAX_BYTES, PIECE_MAX_BYTES};
use crate::id::Digest;

/// What comes of a directory's pieces, each compared with the digests that its head names before it is kept.
#[derive(Debug)]
pub struct Gathering {
    missing: BTreeSet<Digest>,
    came: Vec<Vec<u8>>,
    bytes: usize,
}

impl Gathering {
    /// Of a directory's pieces, those that are not held.
    #[must_use]
    pub fn of(head: &Head, held: &BTreeSet<Digest>) -> Self {
        let named: BTreeSet<Digest> = head.directory().pieces.iter().copied().collect();
        Self { missing: named.difference(held).copied().collect(), came: Vec::new(), bytes: 0 }
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
            if !self.missing.remove(&Digest::sha256(&[&piece])) {
                return Err(Code::Malformed);
            }
            self.came.push(piece);
        }
        Ok(())
    }

    /// Everything that came.
    #[must_use]
    pub fn end(self) -> Vec<Vec<u8>> {
        self.came
    }
}
