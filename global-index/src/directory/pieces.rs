//! The hospitals' entries in the pieces of a directory.

use std::collections::BTreeSet;

use handover_core::artefact::federation::{
    DIRECTORY_MAX_BYTES, Directory, DirectoryEntry, DirectoryPiece, HospitalCertificate, PIECE_ENTRIES_MAX,
    PIECE_ENTRIES_MEAN_MAX, PIECE_MAX_BYTES, PIECES_MAX, pieces_for, place_of,
};
use handover_core::artefact::{ArtefactError, Signed};
use handover_core::codec::{self, Extensions};
use handover_core::trust::TrustError;
use handover_core::{Digest, HospitalId};
use handover_dossier::directories;
use handover_store::{KeyMaker, Txn};

use super::DirectoryError;

/// The pieces of these hospitals, ascending by identifier, in their places.
pub(super) fn divided(entries: Vec<(HospitalId, DirectoryEntry)>) -> Result<Vec<Vec<u8>>, DirectoryError> {
    let max = PIECES_MAX * PIECE_ENTRIES_MEAN_MAX;
    let full = |what, found, max| Err(DirectoryError::Full { what, found, max });
    let Some(count) = pieces_for(entries.len()) else { return full("hospitals", entries.len(), max) };
    let mut places = vec![Vec::new(); count];
    for (hospital, entry) in entries {
        if let Some(place) = places.get_mut(place_of(&hospital, count)) {
            place.push(entry);
        }
    }
    let (mut pieces, mut bytes) = (Vec::with_capacity(count), 0_usize);
    for hospitals in places {
        if hospitals.len() > PIECE_ENTRIES_MAX {
            return full("hospitals in one piece", hospitals.len(), PIECE_ENTRIES_MAX);
        }
        let piece = codec::encode(&DirectoryPiece { hospitals, extensions: Extensions::default() });
        if piece.len() > PIECE_MAX_BYTES {
            return full("bytes in one piece", piece.len(), PIECE_MAX_BYTES);
        }
        bytes = bytes.saturating_add(piece.len());
        pieces.push(piece);
    }
    // Every head is smaller than a message.
    let room = DIRECTORY_MAX_BYTES - codec::MAX_MESSAGE_BYTES;
    if bytes > room { full("bytes", bytes, room) } else { Ok(pieces) }
}

/// Refuses to leave out a hospital that stands in the directory that is held, of which the pieces with these digests stay.
pub(super) fn none_dropped(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    kept: &BTreeSet<HospitalId>,
    staying: &[Digest],
) -> Result<(), DirectoryError> {
    let Some(head) = directories::head(txn, keys)? else { return Ok(()) };
    let head = Signed::<Directory>::read(&head).map_err(TrustError::from)?;
    let staying: BTreeSet<&Digest> = staying.iter().collect();
    let changed: BTreeSet<&Digest> = head.claim().pieces.iter().filter(|it| !staying.contains(it)).collect();
    for piece in directories::pieces(txn, keys, changed)? {
        let piece = DirectoryPiece::read(&piece).map_err(ArtefactError::from).map_err(TrustError::from)?;
        for entry in piece.hospitals {
            let certificate = Signed::<HospitalCertificate>::read(entry.certificate.as_ref());
            let hospital = certificate.map_err(TrustError::from)?.claim().hospital.clone();
            if !kept.contains(&hospital) {
                return Err(DirectoryError::Dropped(hospital));
            }
        }
    }
    Ok(())
}
