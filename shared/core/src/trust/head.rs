//! What the index signs of a directory: everything but the hospitals, and the pieces that have these.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::piece::{Piece, Vouching};
use super::{Federation, TrustError, authority, certified, two_operators};
use crate::artefact::federation::{
    Authority, AuthorityCertificate, DIRECTORY_LIFE_MS, DIRECTORY_MAX_BYTES, Directory, FeeSchedule,
    PIECES_MAX,
};
use crate::artefact::patient::CLOCK_SKEW_MS;
use crate::artefact::{ArtefactError, SignatureVerifier, Signed, Verified};
use crate::id::{Digest, SigningPublic};
use crate::{Code, Edition, Timestamp};

/// A verified head of a directory.
#[derive(Clone, Debug)]
pub struct Head {
    pub(super) directory: Verified<Directory>,
    pub(super) schedules: Vec<FeeSchedule>,
    pub(super) indexes: Vec<AuthorityCertificate>,
    pub(super) vouching: Vouching,
}

/// The highest version that a directory of this time may have: its milliseconds. So a thief of the index's key gets
/// ahead of it by minutes, not for ever.
fn highest_version(issued: Timestamp) -> u64 {
    u64::try_from(issued.plus_ms(CLOCK_SKEW_MS).as_millis()).unwrap_or_default()
}

impl Head {
    /// Verifies a directory's head up to the root. Its own expiry is not checked here: an expired directory still tells
    /// who is who, it only allows nothing new (see [`Federation::check_fresh`]).
    ///
    /// # Errors
    /// [`TrustError`]; one false part refuses the whole.
    pub fn verify(
        envelope: &[u8],
        root: &SigningPublic,
        now: Timestamp,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Self, TrustError> {
        let claimed = Signed::<Directory>::read(envelope)?;
        let indexes = claimed
            .claim()
            .indexes
            .iter()
            .map(|part| authority(part.as_ref(), Authority::Index, root, now, verifier))
            .collect::<Result<Vec<_>, _>>()?;
        let index = indexes
            .iter()
            .find(|index| index.key.thumbprint() == *claimed.kid())
            .ok_or(TrustError::UnknownSigner)?;
        let directory = claimed.verify(&index.key, verifier)?;
        if directory.edition > Edition::last() {
            return Err(ArtefactError::NewerEdition(directory.edition).into());
        }
        // One that holds for less would stop everybody who takes it, until the index makes another.
        if directory.expires.since_ms(directory.issued) != DIRECTORY_LIFE_MS {
            return Err(TrustError::Life);
        }
        if directory.issued > now.plus_ms(CLOCK_SKEW_MS) {
            return Err(TrustError::NotYet);
        }
        if directory.version > highest_version(directory.issued) {
            return Err(TrustError::Ahead);
        }
        if !directory.pieces.len().is_power_of_two() || directory.pieces.len() > PIECES_MAX {
            return Err(TrustError::Mismatch("a directory has no such number of pieces"));
        }
        let operators = directory
            .operators
            .iter()
            .map(|part| certified(part.as_ref(), Authority::Operator, root, verifier))
            .collect::<Result<Vec<_>, _>>()?;
        let schedules = directory
            .schedules
            .iter()
            .map(|part| {
                two_operators::<FeeSchedule>(part.as_ref(), &operators, verifier).map(|it| (*it).clone())
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { directory, schedules, indexes, vouching: Vouching { root: *root, operators } })
    }

    /// The head itself.
    #[must_use]
    pub const fn directory(&self) -> &Verified<Directory> {
        &self.directory
    }

    /// Whether this head is of a later version than `held`; not if it is the same.
    ///
    /// # Errors
    /// [`Code::DirectoryRollback`], [`Code::DirectoryForked`]: two heads of one version prove that by themselves.
    pub fn follows(&self, held: &Self) -> Result<bool, Code> {
        let (new, old) = (&self.directory, &held.directory);
        if new.version < old.version {
            return Err(Code::DirectoryRollback);
        }
        if new.version == old.version {
            return if new.hash() == old.hash() { Ok(false) } else { Err(Code::DirectoryForked) };
        }
        Ok(true)
    }

    /// The directory: this head with its pieces, each of which is among `pieces`, in any order, or in `known`. A piece that
    /// `known` has at the same place is not verified again, if what its entries stand on stands here too: root and
    /// operators. Nothing else of a piece depends on anything but its bytes; terms and statuses are asked for at each use.
    ///
    /// # Errors
    /// [`TrustError`]; one false part refuses the whole.
    pub fn complete<P: AsRef<[u8]>>(
        self,
        pieces: &[P],
        known: Option<&Federation>,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Federation, TrustError> {
        let federation = self.complete_some(pieces, known, verifier)?;
        if federation.is_whole() { Ok(federation) } else { Err(TrustError::Incomplete) }
    }

    /// The same with those pieces alone that are there.
    pub(super) fn complete_some<P: AsRef<[u8]>>(
        self,
        pieces: &[P],
        known: Option<&Federation>,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Federation, TrustError> {
        let came: BTreeMap<Digest, &[u8]> =
            pieces.iter().map(|piece| (Digest::sha256(&[piece.as_ref()]), piece.as_ref())).collect();
        let count = self.directory.pieces.len();
        let vouched = known.filter(|known| {
            known.directory().pieces.len() == count && known.head().vouching.is_within(&self.vouching)
        });
        let (mut members, mut bytes) = (BTreeMap::new(), self.directory.envelope().len());
        for (place, digest) in self.directory.pieces.iter().enumerate() {
            let piece = match vouched.and_then(|known| known.piece_at(place)) {
                Some(piece) if piece.digest() == digest => Arc::clone(piece),
                _ => {
                    let held = || known.and_then(|known| known.piece(digest));
                    let Some(content) = came.get(digest).copied().or_else(held) else { continue };
                    Arc::new(Piece::verify(content, (place, count), &self.vouching, verifier)?)
                }
            };
            bytes = bytes.saturating_add(piece.bytes().len());
            if bytes > DIRECTORY_MAX_BYTES {
                return Err(TrustError::TooLarge);
            }
            members.insert(place, piece);
        }
        Ok(Federation::of(self, members))
    }
}
