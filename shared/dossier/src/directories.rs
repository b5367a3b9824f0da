//! The directory that is held, in a store: its head, and each piece by its digest.
//!
//! Invariant: exactly the pieces are kept that the head names.

use std::collections::BTreeSet;

use handover_core::Digest;
use handover_core::artefact::Signed;
use handover_core::artefact::federation::Directory;
use handover_core::trust::Federation;
use handover_store::{KeyBuilder, KeyMaker, StoreError, Txn, rows};

fn head_space(keys: &KeyMaker) -> KeyBuilder {
    keys.space("directory-head")
}

fn piece_space(keys: &KeyMaker, digest: &Digest) -> KeyBuilder {
    keys.space("directory-piece").raw(digest.as_bytes())
}

/// The head's envelope, if a directory is held.
///
/// # Errors
/// The store's.
pub fn head(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Option<Vec<u8>>, StoreError> {
    rows::get_pieces(txn, &head_space(keys))
}

/// The held directory's pieces with these digests.
///
/// # Errors
/// The store's; [`StoreError::Damaged`] if one is not there.
pub fn pieces<'d>(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    digests: impl IntoIterator<Item = &'d Digest>,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut pieces = Vec::new();
    for digest in digests {
        let piece = rows::get_pieces(txn, &piece_space(keys, digest))?;
        pieces.push(piece.ok_or_else(|| rows::damaged("a piece of the directory"))?);
    }
    Ok(pieces)
}

/// Keeps a directory in the place of the one held, of which those pieces stay that are its, too.
///
/// # Errors
/// The store's.
pub fn keep(txn: &mut dyn Txn, keys: &KeyMaker, federation: &Federation) -> Result<(), StoreError> {
    let before = named(head(txn, keys)?.as_deref())?;
    let now = federation.digests();
    for digest in before.difference(&now) {
        rows::remove_pieces(txn, &piece_space(keys, digest))?;
    }
    for digest in now.difference(&before) {
        let piece = federation.piece(digest).unwrap_or_default();
        rows::put_pieces(txn, &piece_space(keys, digest), piece)?;
    }
    rows::put_pieces(txn, &head_space(keys), federation.directory().envelope())
}

/// The digests that a kept head names.
fn named(head: Option<&[u8]>) -> Result<BTreeSet<Digest>, StoreError> {
    let Some(head) = head else { return Ok(BTreeSet::new()) };
    let head = Signed::<Directory>::read(head).map_err(|_| rows::damaged("the directory"))?;
    Ok(head.claim().pieces.iter().copied().collect())
}
