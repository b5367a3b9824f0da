//! Values larger than a cell, cut into pieces under one key.

use handover_store::{KeyBuilder, StoreError, Txn};

/// One piece, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Puts a value; an earlier, longer one leaves nothing behind.
pub(crate) fn put(txn: &mut dyn Txn, place: &KeyBuilder, value: &[u8]) -> Result<(), StoreError> {
    remove(txn, place)?;
    let mut pieces: Vec<&[u8]> = value.chunks(PIECE_BYTES).collect();
    // The last piece is always shorter than a full one, so that reading knows where to end.
    if value.len().is_multiple_of(PIECE_BYTES) {
        pieces.push(&[]);
    }
    for (number, piece) in (0..).zip(pieces) {
        txn.put(&place.clone().u64(number).build(), piece.to_vec())?;
    }
    Ok(())
}

/// Gets a value.
pub(crate) fn get(txn: &mut dyn Txn, place: &KeyBuilder) -> Result<Option<Vec<u8>>, StoreError> {
    let mut whole: Option<Vec<u8>> = None;
    for number in 0.. {
        let Some(piece) = txn.get(&place.clone().u64(number).build())? else { break };
        let is_last = piece.len() < PIECE_BYTES;
        whole.get_or_insert_default().extend(piece);
        if is_last {
            break;
        }
    }
    Ok(whole)
}

/// Removes a value.
pub(crate) fn remove(txn: &mut dyn Txn, place: &KeyBuilder) -> Result<(), StoreError> {
    for number in 0.. {
        let key = place.clone().u64(number).build();
        if txn.get(&key)?.is_none() {
            break;
        }
        txn.remove(&key)?;
    }
    Ok(())
}
