//! What is kept of a store that came from a backup: since when that is known, who has told everything, what is left to
//! be done. And when others were last found to know nothing more of this hospital than it does itself.

use std::collections::BTreeSet;

use handover_core::codec::Extensions;
use handover_core::{Digest, Party, Timestamp, TransferId, cbor_map};
use handover_store::{KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows};

const HEAD: &str = "rejoin";
const TOLD: &str = "rejoin-told";
const TAKEN: &str = "rejoin-taken";
const UNFILED: &str = "rejoin-unfiled";
const GIVEN_UP: &str = "rejoin-given-up";
const COMPARED: &str = "rejoin-compared";

cbor_map! {
    /// A store that came from a backup.
    pub(crate) struct Head {
        /// When that was found, or said by hand.
        1 => found: Timestamp,
        /// Artefacts that others gave back.
        2 => artefacts: u64,
        /// When everybody had told everything.
        3 => done: Option<Timestamp>,
        /// From when on it is asked for what others hold.
        4 => since: Timestamp,
    }
}

fn of_party(keys: &KeyMaker, space: &'static str, party: &Party) -> Vec<u8> {
    match party {
        Party::Index => keys.space(space).raw("").build(),
        Party::Hospital(hospital) => keys.space(space).raw(hospital.as_str()).build(),
    }
}

/// How it stands with the store, if it ever came from a backup.
pub(crate) fn head(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Option<Head>, StoreError> {
    rows::get(txn, &keys.space(HEAD).build())
}

pub(crate) fn put_head(txn: &mut dyn Txn, keys: &KeyMaker, head: &Head) -> Result<(), StoreError> {
    rows::put(txn, &keys.space(HEAD).build(), head)
}

cbor_map! {
    /// Somebody, and when.
    struct PartyRow {
        /// Who.
        1 => party: Party,
        /// When.
        2 => at: Timestamp,
    }
}

fn put_party(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    space: &'static str,
    (party, at): (&Party, Timestamp),
) -> Result<(), StoreError> {
    let row = PartyRow { party: party.clone(), at, extensions: Extensions::default() };
    rows::put(txn, &of_party(keys, space, party), &row)
}

/// Who has told everything since that was found.
pub(crate) fn told(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<BTreeSet<Party>, StoreError> {
    let rows = rows::all::<PartyRow>(txn, &keys.space(TOLD).build())?;
    Ok(rows.into_iter().map(|row| row.party).collect())
}

/// Notes that somebody has told everything, which is a comparison, too.
pub(crate) fn put_told(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    party: &Party,
    now: Timestamp,
) -> Result<(), StoreError> {
    put_party(txn, keys, TOLD, (party, now))?;
    put_compared(txn, keys, party, now)
}

/// Notes that somebody knows nothing of this hospital's that it does not know itself.
pub(crate) fn put_compared(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    party: &Party,
    now: Timestamp,
) -> Result<(), StoreError> {
    put_party(txn, keys, COMPARED, (party, now))
}

/// Who was ever found to know nothing more, and when that was last so of all of them, as far as this store knows.
pub(crate) fn compared(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
) -> Result<(BTreeSet<Party>, Option<Timestamp>), StoreError> {
    let rows = rows::all::<PartyRow>(txn, &keys.space(COMPARED).build())?;
    let first = rows.iter().map(|row| row.at).min();
    Ok((rows.into_iter().map(|row| row.party).collect(), first))
}

/// Begins anew: nobody has told anything yet.
pub(crate) fn clear(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<(), StoreError> {
    loop {
        let page = txn.scan(&keys.space(TOLD).build(), None, SCAN_MAX_CELLS)?;
        page.iter().try_for_each(|(key, _)| txn.remove(key))?;
        if page.len() < SCAN_MAX_CELLS {
            return Ok(());
        }
    }
}

fn put_transfer(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    space: &'static str,
    transfer: TransferId,
) -> Result<(), StoreError> {
    txn.put(&keys.space(space).raw(transfer.as_bytes()).build(), transfer.as_bytes().to_vec())
}

fn transfers(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    space: &'static str,
    after: Option<TransferId>,
) -> Result<Vec<TransferId>, StoreError> {
    let after = after.map(|transfer| keys.space(space).raw(transfer.as_bytes()).build());
    let page = txn.scan(&keys.space(space).build(), after.as_deref(), SCAN_MAX_CELLS)?;
    let read = |(_, id): (Vec<u8>, Vec<u8>)| {
        TransferId::try_from(id.as_slice()).map_err(|_| rows::damaged("a transfer that was taken back"))
    };
    page.into_iter().map(read).collect()
}

/// Notes that something of a transfer was taken back, of which it is still to be seen what follows.
pub(crate) fn put_taken(txn: &mut dyn Txn, keys: &KeyMaker, transfer: TransferId) -> Result<(), StoreError> {
    put_transfer(txn, keys, TAKEN, transfer)
}

/// A page of those transfers, ascending.
pub(crate) fn taken(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    after: Option<TransferId>,
) -> Result<Vec<TransferId>, StoreError> {
    transfers(txn, keys, TAKEN, after)
}

/// What follows from it has been seen to.
pub(crate) fn remove_taken(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<(), StoreError> {
    txn.remove(&keys.space(TAKEN).raw(transfer.as_bytes()).build())
}

/// Notes a transfer that was filed here, and whose records are not here any more.
pub(crate) fn put_unfiled(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<(), StoreError> {
    put_transfer(txn, keys, UNFILED, transfer)
}

/// Whether a transfer is one of those.
pub(crate) fn is_unfiled(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<bool, StoreError> {
    Ok(txn.get(&keys.space(UNFILED).raw(transfer.as_bytes()).build())?.is_some())
}

/// A page of those transfers, ascending.
pub(crate) fn unfiled(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    after: Option<TransferId>,
) -> Result<Vec<TransferId>, StoreError> {
    transfers(txn, keys, UNFILED, after)
}

/// Notes something that this hospital signed and cannot take back: another one is in its place, or what it stands on is
/// nowhere. It is not asked for again.
pub(crate) fn put_given_up(txn: &mut dyn Txn, keys: &KeyMaker, content: &[u8]) -> Result<(), StoreError> {
    let hash = Digest::sha256(&[content]);
    txn.put(&keys.space(GIVEN_UP).raw(hash.as_bytes()).build(), hash.as_bytes().to_vec())
}

/// Whether it was.
pub(crate) fn is_given_up(txn: &mut dyn Txn, keys: &KeyMaker, content: &[u8]) -> Result<bool, StoreError> {
    let hash = Digest::sha256(&[content]);
    Ok(txn.get(&keys.space(GIVEN_UP).raw(hash.as_bytes()).build())?.is_some())
}
