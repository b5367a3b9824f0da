//! What is kept of the index's books. Keys are made here and nowhere else in the room.

use handover_core::codec::{Bytes, Extensions};
use handover_core::message::OpenedEntry;
use handover_core::{Code, Digest, Timestamp, TransferId, cbor_map};
use handover_store::{KeyBuilder, KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows};

cbor_map! {
    /// How far this hospital's copy is.
    pub(super) struct Head {
        /// The next sequence number to ask for.
        1 => next: u64,
        /// The newest page, whole: what the log has to continue.
        2 => page: Bytes,
    }
}

cbor_map! {
    /// An entry of the copy.
    pub(super) struct Held {
        /// As it came.
        1 => opened: OpenedEntry,
        /// The number under which the page lies that it was signed on.
        2 => page: u64,
        /// Whose it is.
        3 => transfer: TransferId,
    }
}

cbor_map! {
    /// A transfer that is looked at again.
    pub(super) struct Open {
        /// Which.
        1 => transfer: TransferId,
        /// Not before.
        2 => at: Timestamp,
        /// Since when something is late, by the books' own time.
        3 => since: Option<Timestamp>,
        /// Tells whether something came since it was read.
        4 => touched: u64,
        /// As of when the books were when it was looked at last.
        5 => looked: Option<Timestamp>,
    }
}

cbor_map! {
    /// Something that the index has booked wrongly, as far as its copy goes.
    pub(super) struct Difference {
        /// The transfer.
        1 => transfer: TransferId,
        /// What is wrong.
        2 => code: Code,
        /// Since when that is known.
        3 => since: Timestamp,
        /// What the incident is called, if it is proven and kept.
        4 => incident: Option<Digest>,
    }
}

cbor_map! {
    /// That something is so, and nobody has changed it.
    pub(super) struct Since {
        /// Since when.
        1 => at: Timestamp,
    }
}

/// What is remembered of the books as a whole.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    /// They did not continue what was signed before.
    Rewritten,
    /// The index was there and did not show them whole and as of now.
    Behind,
    /// The copy is being forgotten.
    Forgetting,
}

fn mark_key(keys: &KeyMaker, mark: Mark) -> Vec<u8> {
    let space = match mark {
        Mark::Rewritten => "books-rewritten",
        Mark::Behind => "books-behind",
        Mark::Forgetting => "books-forgetting",
    };
    keys.space(space).build()
}

/// Since when something is so of the books as a whole.
pub(super) fn marked(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    mark: Mark,
) -> Result<Option<Timestamp>, StoreError> {
    Ok(rows::get::<Since>(txn, &mark_key(keys, mark))?.map(|since| since.at))
}

/// Notes that it is so, since now or before; whether it is new.
pub(super) fn put_mark(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    mark: Mark,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let is_new = marked(txn, keys, mark)?.is_none();
    if is_new {
        rows::put(txn, &mark_key(keys, mark), &Since { at, extensions: Extensions::default() })?;
    }
    Ok(is_new)
}

pub(super) fn remove_mark(txn: &mut dyn Txn, keys: &KeyMaker, mark: Mark) -> Result<(), StoreError> {
    txn.remove(&mark_key(keys, mark))
}

fn head_key(keys: &KeyMaker) -> Vec<u8> {
    keys.space("books-head").build()
}

pub(super) fn head(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Option<Head>, StoreError> {
    rows::get(txn, &head_key(keys))
}

/// The newest page, whole.
pub(crate) fn newest_page(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Option<Bytes>, StoreError> {
    Ok(head(txn, keys)?.map(|head| head.page))
}

pub(super) fn put_head(txn: &mut dyn Txn, keys: &KeyMaker, head: &Head) -> Result<(), StoreError> {
    rows::put(txn, &head_key(keys), head)
}

pub(super) fn pages(keys: &KeyMaker) -> KeyBuilder {
    keys.space("books-page")
}

pub(super) fn entries(keys: &KeyMaker) -> KeyBuilder {
    keys.space("books-entry")
}

fn entries_of(keys: &KeyMaker, transfer: &TransferId) -> KeyBuilder {
    keys.space("books-of").raw(transfer.as_bytes())
}

/// Others' entries, which are kept for the index, by sequence number.
pub(super) fn sealed(keys: &KeyMaker) -> KeyBuilder {
    keys.space("books-sealed")
}

pub(super) fn put_entry(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: &TransferId,
    held: &Held,
) -> Result<(), StoreError> {
    let sequence = held.opened.sequence;
    rows::put(txn, &entries(keys).u64(sequence).build(), held)?;
    txn.put(&entries_of(keys, transfer).u64(sequence).build(), Vec::new())
}

/// A transfer's entries, oldest first.
pub(super) fn held(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: &TransferId,
) -> Result<Vec<Held>, StoreError> {
    let places = txn.scan(&entries_of(keys, transfer).build(), None, SCAN_MAX_CELLS)?;
    let mut held = Vec::with_capacity(places.len());
    for (key, _) in places {
        let sequence = key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let sequence = sequence.ok_or_else(|| rows::damaged("a key without its number"))?;
        let entry: Option<Held> = rows::get(txn, &entries(keys).u64(sequence).build())?;
        held.push(entry.ok_or_else(|| rows::damaged("an entry of the books' copy"))?);
    }
    Ok(held)
}

/// The transfers of a part of the copy, after a key; the key to go on from.
pub(super) fn transfers(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    after: Option<&[u8]>,
) -> Result<(Vec<TransferId>, Option<Vec<u8>>), StoreError> {
    let page = txn.scan(&entries(keys).build(), after, SCAN_MAX_CELLS)?;
    let next = page.last().map(|(key, _)| key.clone()).filter(|_| page.len() == SCAN_MAX_CELLS);
    let transfers = page.iter().map(|(_, row)| Ok(rows::read::<Held>(row)?.transfer));
    Ok((transfers.collect::<Result<_, StoreError>>()?, next))
}

/// Removes a part of the copy, and all of it by being repeated: the transfers of which that was, or nothing when no more
/// is left.
pub(super) fn forget_some(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Option<Vec<TransferId>>, StoreError> {
    for space in [entries(keys), keys.space("books-of"), pages(keys), sealed(keys)] {
        let prefix = space.build();
        let cells = txn.scan(&prefix, None, SCAN_MAX_CELLS)?;
        if cells.is_empty() {
            continue;
        }
        let mut transfers = Vec::new();
        for (key, row) in cells {
            if prefix == entries(keys).build() {
                transfers.push(rows::read::<Held>(&row)?.transfer);
            }
            txn.remove(&key)?;
        }
        return Ok(Some(transfers));
    }
    txn.remove(&head_key(keys))?;
    Ok(None)
}

fn open_key(keys: &KeyMaker, transfer: &TransferId) -> Vec<u8> {
    keys.space("books-open").raw(transfer.as_bytes()).build()
}

pub(super) fn open(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: &TransferId,
) -> Result<Option<Open>, StoreError> {
    rows::get(txn, &open_key(keys, transfer))
}

pub(super) fn put_open(txn: &mut dyn Txn, keys: &KeyMaker, open: &Open) -> Result<(), StoreError> {
    rows::put(txn, &open_key(keys, &open.transfer), open)
}

pub(super) fn close(txn: &mut dyn Txn, keys: &KeyMaker, transfer: &TransferId) -> Result<(), StoreError> {
    txn.remove(&open_key(keys, transfer))
}

/// A part of those that are looked at again, after a transfer.
pub(super) fn all_open(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    after: Option<&TransferId>,
) -> Result<Vec<Open>, StoreError> {
    let after = after.map(|transfer| open_key(keys, transfer));
    let page = txn.scan(&keys.space("books-open").build(), after.as_deref(), SCAN_MAX_CELLS)?;
    page.iter().map(|(_, row)| rows::read(row)).collect()
}

fn differences_of(keys: &KeyMaker) -> KeyBuilder {
    keys.space("books-difference")
}

pub(super) fn difference(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: &TransferId,
) -> Result<Option<Difference>, StoreError> {
    rows::get(txn, &differences_of(keys).raw(transfer.as_bytes()).build())
}

pub(super) fn put_difference(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    difference: &Difference,
) -> Result<(), StoreError> {
    rows::put(txn, &differences_of(keys).raw(difference.transfer.as_bytes()).build(), difference)
}

pub(super) fn agree(txn: &mut dyn Txn, keys: &KeyMaker, transfer: &TransferId) -> Result<(), StoreError> {
    txn.remove(&differences_of(keys).raw(transfer.as_bytes()).build())
}

/// The first thousand that stand.
pub(super) fn differences(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Vec<Difference>, StoreError> {
    let page = txn.scan(&differences_of(keys).build(), None, SCAN_MAX_CELLS)?;
    page.iter().map(|(_, row)| rows::read(row)).collect()
}
