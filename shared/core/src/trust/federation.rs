//! A verified directory, and what it says at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::piece::Piece;
use super::{Head, Member, TrustError, in_time};
use crate::artefact::federation::{
    AuthorityCertificate, Directory, DirectoryEntry, DirectoryPiece, FeeSchedule, Status, WholeDirectory,
    place_of,
};
use crate::artefact::{ArtefactError, Payload, SignatureVerifier, Signed, Verified, peek_edition, peek_kid};
use crate::codec::{Bytes, DecodeError, Extensions, MAX_MESSAGE_BYTES};
use crate::id::{Digest, HospitalId, Party, SigningPublic};
use crate::{Code, Timestamp};

/// What stands around the pieces in one answer, at most; each has a few bytes of its own.
const ANSWER_ROOM_BYTES: usize = 16 * 1024;

/// A verified directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Federation {
    head: Arc<Head>,
    /// By place; all of them, or of a file some.
    pieces: Arc<BTreeMap<usize, Arc<Piece>>>,
    forked: bool,
}

impl Federation {
    pub(super) fn of(head: Head, pieces: BTreeMap<usize, Arc<Piece>>) -> Self {
        Self { head: Arc::new(head), pieces: Arc::new(pieces), forked: false }
    }

    /// Verifies a directory and every part of it up to the root, from nothing.
    ///
    /// # Errors
    /// As [`Head::verify`] and [`Head::complete`].
    pub fn verify(
        whole: &WholeDirectory,
        root: &SigningPublic,
        now: Timestamp,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Self, TrustError> {
        Head::verify(whole.head.as_ref(), root, now, verifier)?.complete(&whole.pieces, None, verifier)
    }

    /// The same for a directory in a file, which need not have the pieces of all hospitals: of the others it says nothing.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_part(
        whole: &WholeDirectory,
        root: &SigningPublic,
        now: Timestamp,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Self, TrustError> {
        Head::verify(whole.head.as_ref(), root, now, verifier)?.complete_some(&whole.pieces, None, verifier)
    }

    /// The same directory, of which another with the same version is known: it still tells who is who.
    #[must_use]
    pub fn forked(&self) -> Self {
        Self { forked: true, ..self.clone() }
    }

    /// Whether this directory may take the place of `held`; not if it is the same.
    ///
    /// A directory is never older than the one held, never leaves a hospital out, never lowers the edition or the number of
    /// a status order, fee schedule or profile, nor forgets a key that spoke for a hospital: an index that was broken into
    /// cannot un-revoke by forgetting, bring back replaced keys, nor unsay what they signed. One that has expired takes the
    /// place of none that holds or held longer, however high its version: it could stop everybody, or end break-glass.
    ///
    /// # Errors
    /// [`Code::DirectoryRollback`], [`Code::DirectoryForked`], [`Code::DirectoryTakesBack`],
    /// [`Code::DirectoryExpired`].
    pub fn succeeds(&self, held: &Self, now: Timestamp) -> Result<bool, Code> {
        if !self.head.follows(&held.head)? {
            return Ok(false);
        }
        let (new, old) = (self.directory(), held.directory());
        let keeps_schedules = held.schedules().iter().all(|schedule| {
            self.schedules()
                .iter()
                .any(|now| now.jurisdiction == schedule.jurisdiction && now.number >= schedule.number)
        });
        if !keeps_schedules || new.edition < old.edition || self.taken_back(held).is_some() {
            return Err(Code::DirectoryTakesBack);
        }
        if new.expires <= now && new.expires < old.expires { Err(Code::DirectoryExpired) } else { Ok(true) }
    }

    /// A hospital of `held` of which this directory takes something back, if there is one.
    #[must_use]
    pub fn taken_back(&self, held: &Self) -> Option<HospitalId> {
        let keeps = |member: &Member| {
            self.member(&member.certificate.hospital).is_ok_and(|now| {
                // Profiles are numbered by each key for itself: a thief of one may have used up its numbers.
                let (order, known) = (now.order.number, member.order.number);
                let follows = match now.certificate.key == member.certificate.key {
                    true => order >= known && now.profile.number >= member.profile.number,
                    false => order > known,
                };
                follows && member.keys().all(|key| now.keys().any(|known| known == key))
            })
        };
        let own: BTreeSet<&Digest> = self.pieces.values().map(|piece| piece.digest()).collect();
        let changed = held.pieces.values().filter(|piece| !own.contains(piece.digest()));
        let lost = changed.flat_map(|piece| piece.members()).find(|member| !keeps(member));
        lost.map(|member| member.certificate.hospital.clone())
    }

    /// The head, with what was verified of it.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The head itself.
    #[must_use]
    pub fn directory(&self) -> &Verified<Directory> {
        &self.head.directory
    }

    pub(super) fn is_whole(&self) -> bool {
        self.pieces.len() == self.directory().pieces.len()
    }

    pub(super) fn piece_at(&self, place: usize) -> Option<&Arc<Piece>> {
        self.pieces.get(&place)
    }

    /// The piece with this digest, if there is one.
    #[must_use]
    pub fn piece(&self, digest: &Digest) -> Option<&[u8]> {
        self.pieces.values().find(|piece| piece.digest() == digest).map(|piece| piece.bytes())
    }

    /// How many bytes head and pieces have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pieces: usize = self.pieces.values().map(|piece| piece.bytes().len()).sum();
        pieces.saturating_add(self.directory().envelope().len())
    }

    /// The digests of its pieces.
    #[must_use]
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.pieces.values().map(|piece| *piece.digest()).collect()
    }

    /// Of the pieces that somebody asks for by their digests, as many as one answer has room for; what is not of this
    /// directory is left out.
    #[must_use]
    pub fn pieces(&self, wanted: &BTreeSet<Digest>) -> Vec<Vec<u8>> {
        let (mut room, mut pieces, mut given) =
            (MAX_MESSAGE_BYTES - ANSWER_ROOM_BYTES, Vec::new(), BTreeSet::new());
        for piece in self.pieces.values().filter(|piece| wanted.contains(piece.digest())) {
            match room.checked_sub(piece.bytes().len()) {
                // Two that are empty are one.
                _ if !given.insert(piece.digest()) => {}
                Some(left) => {
                    room = left;
                    pieces.push(piece.bytes().to_vec());
                }
                None => break,
            }
        }
        pieces
    }

    /// The directory in one.
    #[must_use]
    pub fn whole(&self) -> WholeDirectory {
        self.with_pieces(self.pieces.values())
    }

    /// The same for a file that is about these hospitals.
    #[must_use]
    pub fn part<'h>(&self, about: impl IntoIterator<Item = &'h HospitalId>) -> WholeDirectory {
        let count = self.directory().pieces.len();
        let places: BTreeSet<usize> = about.into_iter().map(|it| place_of(it, count)).collect();
        self.with_pieces(places.iter().filter_map(|place| self.piece_at(*place)))
    }

    fn with_pieces<'p>(&self, pieces: impl Iterator<Item = &'p Arc<Piece>>) -> WholeDirectory {
        WholeDirectory {
            head: Bytes(self.directory().envelope().to_vec()),
            pieces: pieces.map(|piece| Bytes(piece.bytes().to_vec())).collect(),
            extensions: Extensions::default(),
        }
    }

    /// The places that have pieces, ascending.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.pieces.keys().copied()
    }

    /// The hospitals at a place, each with its entry as the index has put it.
    ///
    /// # Errors
    /// None of a verified directory.
    pub fn entries(&self, place: usize) -> Result<Vec<(DirectoryEntry, &Member)>, DecodeError> {
        let Some(piece) = self.piece_at(place) else { return Ok(Vec::new()) };
        Ok(DirectoryPiece::read(piece.bytes())?.hospitals.into_iter().zip(piece.members()).collect())
    }

    /// The operators.
    #[must_use]
    pub fn operators(&self) -> &[AuthorityCertificate] {
        &self.head.vouching.operators
    }

    /// Every hospital, whatever its status; in no order that says something.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.pieces.values().flat_map(|piece| piece.members())
    }

    /// A hospital, whatever its status.
    ///
    /// # Errors
    /// [`Code::UnknownHospital`]; [`Code::DirectoryIncomplete`] if a file leaves out the piece that would have it.
    pub fn member(&self, hospital: &HospitalId) -> Result<&Member, Code> {
        let place = place_of(hospital, self.directory().pieces.len());
        let piece = self.piece_at(place).ok_or(Code::DirectoryIncomplete)?;
        piece.member(hospital).ok_or(Code::UnknownHospital)
    }

    /// A hospital that takes part now.
    ///
    /// # Errors
    /// [`Code::UnknownHospital`], [`Code::HospitalSuspended`], [`Code::HospitalRevoked`],
    /// [`Code::CertificateExpired`].
    pub fn active(&self, hospital: &HospitalId, now: Timestamp) -> Result<&Member, Code> {
        let member = self.member(hospital)?;
        match member.order.status {
            Status::Active => {}
            Status::Suspended => return Err(Code::HospitalSuspended),
            Status::Revoked => return Err(Code::HospitalRevoked),
        }
        let certificate = &member.certificate;
        in_time(certificate.not_before, certificate.not_after, now).map_err(|fault| fault.code())?;
        Ok(member)
    }

    /// Refuses new work on an expired directory, or on one of two.
    ///
    /// # Errors
    /// [`Code::DirectoryExpired`], [`Code::DirectoryForked`].
    pub fn check_fresh(&self, now: Timestamp) -> Result<(), Code> {
        if self.forked {
            return Err(Code::DirectoryForked);
        }
        if now < self.directory().expires { Ok(()) } else { Err(Code::DirectoryExpired) }
    }

    /// Verifies an artefact of a hospital, whatever its status now: evidence of the past stays evidence.
    ///
    /// # Errors
    /// [`Code`] naming the cause.
    pub fn verify_from<T: Payload>(
        &self,
        hospital: &HospitalId,
        signed: Signed<T>,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Verified<T>, Code> {
        let key = self.member(hospital)?.key(signed.kid());
        signed.verify(&key, verifier).map_err(|fault| fault.code())
    }

    /// Whose replaced key has this thumbprint.
    fn owners<'f>(&'f self, kid: &'f Digest) -> impl Iterator<Item = &'f HospitalId> {
        self.pieces.values().flat_map(move |piece| piece.owners(kid))
    }

    /// Whether a hospital has replaced the key with this thumbprint.
    #[must_use]
    pub fn is_former(&self, kid: &Digest) -> bool {
        self.owners(kid).next().is_some()
    }

    /// Refuses what is in a later edition than the one in force: not everybody reads it. What is no envelope is in none.
    ///
    /// # Errors
    /// [`Code::NewerEdition`].
    pub fn check_edition(&self, envelope: &[u8]) -> Result<(), Code> {
        match peek_edition(envelope) {
            Ok(it) | Err(ArtefactError::NewerEdition(it)) if it > self.directory().edition => {
                Err(Code::NewerEdition)
            }
            _ => Ok(()),
        }
    }

    /// Refuses what a key signed that its hospital has replaced since, unless that hospital itself brings it, which it
    /// proves on its connection with the key of now: whoever has the former key could sign anything, of any day. What is
    /// held already stays, whoever signed it.
    ///
    /// # Errors
    /// [`Code::KeyReplaced`].
    pub fn check_bringer(&self, envelope: &[u8], bringer: &Party) -> Result<(), Code> {
        // What is no envelope is for its own rule to refuse.
        let Ok(kid) = peek_kid(envelope) else { return Ok(()) };
        let mut owners = self.owners(&kid).map(|owner| Party::Hospital(owner.clone()));
        if owners.all(|owner| owner == *bringer) { Ok(()) } else { Err(Code::KeyReplaced) }
    }

    /// Verifies what one of the index's online keys signed.
    ///
    /// # Errors
    /// [`Code`] naming the cause.
    pub fn verify_from_index<T: Payload>(
        &self,
        signed: Signed<T>,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Verified<T>, Code> {
        let by = self.head.indexes.iter().find(|index| index.key.thumbprint() == *signed.kid());
        let key = by.ok_or(Code::WrongSigner)?.key;
        signed.verify(&key, verifier).map_err(|fault| fault.code())
    }

    /// Every fee schedule.
    #[must_use]
    pub fn schedules(&self) -> &[FeeSchedule] {
        &self.head.schedules
    }

    /// The fee schedule of a jurisdiction at a time: its own newest, else the newest for all.
    #[must_use]
    pub fn schedule(&self, jurisdiction: &str, now: Timestamp) -> Option<&FeeSchedule> {
        let newest = |wanted: &str| {
            self.schedules()
                .iter()
                .filter(|schedule| schedule.jurisdiction == wanted && schedule.valid_from <= now)
                .max_by_key(|schedule| schedule.number)
        };
        newest(jurisdiction).or_else(|| newest("*"))
    }
}
