//! How rooms keep their rows: a version byte, then one deterministic map. Large content lies in pieces.
//!
//! Nothing here knows what a row means. A row of a version that this one does not know is never guessed at.

use handover_core::codec::{self, CborMap};

use crate::{KeyBuilder, SCAN_MAX_CELLS, StoreError, Txn};

/// The version of every row.
const ROW_VERSION: u8 = 1;
/// The most bytes of a row.
const MAX_ROW_BYTES: usize = 120 * 1024;
/// The bytes of one piece of a large content.
const PIECE_BYTES: usize = 64 * 1024;

/// What is stored is not what was written.
#[must_use]
pub fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { what: what.to_owned(), advice: "run check, then restore from a backup" }
}

/// Writes a row.
///
/// # Errors
/// The store's; [`StoreError::Damaged`] for what cannot be read as such a row.
pub fn put<T: CborMap>(txn: &mut dyn Txn, key: &[u8], row: &T) -> Result<(), StoreError> {
    txn.put(key, versioned(row))
}

fn versioned<T: CborMap>(row: &T) -> Vec<u8> {
    let mut bytes = vec![ROW_VERSION];
    bytes.extend(codec::encode(row));
    bytes
}

/// Reads a row back.
///
/// # Errors
/// The store's; [`StoreError::Damaged`] for what cannot be read as such a row.
pub fn read<T: CborMap>(bytes: &[u8]) -> Result<T, StoreError> {
    read_bounded(bytes, MAX_ROW_BYTES)
}

fn read_bounded<T: CborMap>(bytes: &[u8], max_bytes: usize) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&ROW_VERSION, map)) => codec::decode(map, max_bytes).map_err(|_| damaged("a row")),
        _ => Err(damaged("a row of an unknown version")),
    }
}

/// The row under a key.
///
/// # Errors
/// The store's; [`StoreError::Damaged`] for what cannot be read as such a row.
pub fn get<T: CborMap>(txn: &mut dyn Txn, key: &[u8]) -> Result<Option<T>, StoreError> {
    txn.get(key)?.map(|bytes| read(&bytes)).transpose()
}

/// Every row under a prefix. Only for what is bounded elsewhere: it is all held in memory.
///
/// # Errors
/// The store's; [`StoreError::Damaged`] for what cannot be read as such a row.
pub fn all<T: CborMap>(txn: &mut dyn Txn, prefix: &[u8]) -> Result<Vec<T>, StoreError> {
    let mut rows = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = txn.scan(prefix, after.as_deref(), SCAN_MAX_CELLS)?;
        for (_, bytes) in &page {
            rows.push(read(bytes)?);
        }
        if page.len() < SCAN_MAX_CELLS {
            return Ok(rows);
        }
        after = page.into_iter().next_back().map(|(key, _)| key);
    }
}

/// Replaces a large content.
///
/// # Errors
/// The store's; [`StoreError::Damaged`] for what cannot be read as such a row.
pub fn put_pieces(txn: &mut dyn Txn, space: &KeyBuilder, content: &[u8]) -> Result<(), StoreError> {
    let mut number: u64 = 0;
    for piece in content.chunks(PIECE_BYTES) {
        txn.put(&space.clone().u64(number).build(), piece.to_vec())?;
        number = number.saturating_add(1);
    }
    // A longer content may have been here before.
    loop {
        let key = space.clone().u64(number).build();
        if txn.get(&key)?.is_none() {
            return Ok(());
        }
        txn.remove(&key)?;
        number = number.saturating_add(1);
    }
}

/// A large content, or nothing.
///
/// # Errors
/// The store's; [`StoreError::Damaged`] for what cannot be read as such a row.
pub fn get_pieces(txn: &mut dyn Txn, space: &KeyBuilder) -> Result<Option<Vec<u8>>, StoreError> {
    let mut whole: Option<Vec<u8>> = None;
    for number in 0_u64.. {
        let Some(piece) = txn.get(&space.clone().u64(number).build())? else { break };
        whole.get_or_insert_default().extend(piece);
    }
    Ok(whole)
}

/// Removes a large content.
///
/// # Errors
/// The store's.
pub fn remove_pieces(txn: &mut dyn Txn, space: &KeyBuilder) -> Result<(), StoreError> {
    put_pieces(txn, space, &[])
}

/// Replaces a row that may be larger than a cell.
///
/// # Errors
/// The store's.
pub fn put_large<T: CborMap>(txn: &mut dyn Txn, space: &KeyBuilder, row: &T) -> Result<(), StoreError> {
    put_pieces(txn, space, &versioned(row))
}

/// A row that may be larger than a cell, up to `max_bytes`.
///
/// # Errors
/// The store's; [`StoreError::Damaged`].
pub fn get_large<T: CborMap>(
    txn: &mut dyn Txn,
    space: &KeyBuilder,
    max_bytes: usize,
) -> Result<Option<T>, StoreError> {
    get_pieces(txn, space)?.map(|bytes| read_bounded(&bytes, max_bytes)).transpose()
}

#[cfg(test)]
mod tests {
    use crate::{CellKey, Store};

    use super::*;

    #[tokio::test]
    async fn a_content_is_replaced_whole() {
        let store = Store::memory(&CellKey::from_bytes([1; 32]));
        let space = store.keys().space("content");
        let read = store
            .write::<_, StoreError, _>(move |txn| {
                assert_eq!(get_pieces(txn, &space)?, None);
                put_pieces(txn, &space, &[1; 3 * PIECE_BYTES])?;
                assert_eq!(get_pieces(txn, &space)?, Some(vec![1; 3 * PIECE_BYTES]));
                put_pieces(txn, &space, &[2; PIECE_BYTES + 1])?;
                get_pieces(txn, &space)
            })
            .await;
        assert_eq!(read.unwrap(), Some(vec![2; PIECE_BYTES + 1]));
    }
}
