//! How the rooms keep their rows: a version byte, then one deterministic map. Large content lies in pieces.
//!
//! Nothing here knows what a row means.

use handover_core::codec::{self, CborMap};
use handover_store::{KeyBuilder, StoreError, Txn};

/// The version of every row.
const ROW_VERSION: u8 = 1;
/// The most bytes of a row.
const MAX_ROW_BYTES: usize = 120 * 1024;
/// The bytes of one piece of a large content.
const PIECE_BYTES: usize = 64 * 1024;

/// What is stored is not what was written.
pub(crate) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { what: what.to_owned(), advice: "run check, then restore from a backup" }
}

/// Writes a row.
pub(crate) fn put<T: CborMap>(txn: &mut dyn Txn, key: &[u8], row: &T) -> Result<(), StoreError> {
    let mut bytes = vec![ROW_VERSION];
    bytes.extend(codec::encode(row));
    txn.put(key, bytes)
}

/// Reads a row back.
pub(crate) fn read<T: CborMap>(bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&ROW_VERSION, map)) => codec::decode(map, MAX_ROW_BYTES).map_err(|_| damaged("a row")),
        _ => Err(damaged("a row of an unknown version")),
    }
}

/// The row under a key.
pub(crate) fn get<T: CborMap>(txn: &mut dyn Txn, key: &[u8]) -> Result<Option<T>, StoreError> {
    txn.get(key)?.map(|bytes| read(&bytes)).transpose()
}

/// Every row under a prefix. Only for what is bounded elsewhere: it is all held in memory.
pub(crate) fn all<T: CborMap>(txn: &mut dyn Txn, prefix: &[u8]) -> Result<Vec<T>, StoreError> {
    let mut rows = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = txn.scan(prefix, after.as_deref(), handover_store::SCAN_MAX_CELLS)?;
        for (_, bytes) in &page {
            rows.push(read(bytes)?);
        }
        if page.len() < handover_store::SCAN_MAX_CELLS {
            return Ok(rows);
        }
        after = page.into_iter().next_back().map(|(key, _)| key);
    }
}

/// Replaces a large content.
pub(crate) fn put_pieces(txn: &mut dyn Txn, space: &KeyBuilder, content: &[u8]) -> Result<(), StoreError> {
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
pub(crate) fn get_pieces(txn: &mut dyn Txn, space: &KeyBuilder) -> Result<Option<Vec<u8>>, StoreError> {
    let mut whole: Option<Vec<u8>> = None;
    for number in 0_u64.. {
        let Some(piece) = txn.get(&space.clone().u64(number).build())? else { break };
        whole.get_or_insert_default().extend(piece);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use handover_store::{CellKey, Store};

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
