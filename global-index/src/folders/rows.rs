//! What this room stores: a row for each package, its parts beside it, and which packages name a blob.

use std::collections::BTreeSet;

use handover_core::artefact::transfer::PartList;
use handover_core::codec::{Bytes, Extensions};
use handover_core::time::DAY_MS;
use handover_core::{Code, ContentRoot, Digest, HospitalId, Timestamp, TransferId, cbor_map};
use handover_dossier::{Dossier, DossierError};
use handover_store::rows as cells;
use handover_store::{KeyBuilder, KeyMaker, StoreError, Txn};

/// The most bytes of a stored list of parts.
const PARTS_MAX_BYTES: usize = 2 * 1024 * 1024;

cbor_map! {
    /// A package in its destination's folder, or on its way there.
    pub struct Left {
        /// The transfer.
        1 => transfer: TransferId,
        /// Which attempt of it.
        2 => attempt: u32,
        /// Who left it.
        3 => source: HospitalId,
        /// Whose folder it is in.
        4 => destination: HospitalId,
        /// The hash of its header.
        5 => header: Digest,
        /// Bytes of all its parts.
        6 => bytes: u64,
        /// When it was begun to be left.
        7 => begun: Timestamp,
        /// When all of it lay here; absent: it is still arriving.
        8 => left: Option<Timestamp>,
        /// Until when it is kept.
        9 => expires: Timestamp,
        /// The source's `KeyRelease`, which is handed out against `Delivered` only.
        10 => release: Bytes,
    }
}

cbor_map! {
    /// The source took back what it left: nothing of these attempts leaves the folder any more.
    pub struct Withdrawn {
        /// The last attempt.
        1 => attempt: u32,
        /// The transfer.
        2 => transfer: TransferId,
        /// Since when.
        3 => at: Timestamp,
    }
}

/// What one source has taken back and is remembered.
const WITHDRAWN_MAX: usize = 1_000;
/// How long it is remembered of a transfer that is over, or that the index does not know: longer than a package of it
/// could still be on its way.
const WITHDRAWN_MS: i64 = DAY_MS;

fn folder(keys: &KeyMaker, destination: &HospitalId) -> KeyBuilder {
    keys.space("folder").hashed(destination.as_str())
}

fn left_key(keys: &KeyMaker, left: &Left) -> Vec<u8> {
    folder(keys, &left.destination).raw(left.transfer.as_bytes()).u64(u64::from(left.attempt)).build()
}

fn parts_key(keys: &KeyMaker, left: &Left) -> KeyBuilder {
    keys.space("folder-parts").raw(left.transfer.as_bytes()).u64(u64::from(left.attempt))
}

fn name_key(keys: &KeyMaker, root: ContentRoot, left: &Left) -> Vec<u8> {
    let name = keys.space("folder-blob").hashed(root.as_bytes()).raw(left.transfer.as_bytes());
    name.u64(u64::from(left.attempt)).build()
}

fn withdrawn_key(keys: &KeyMaker, source: &HospitalId, transfer: TransferId) -> Vec<u8> {
    keys.space("folder-withdrawn").hashed(source.as_str()).raw(transfer.as_bytes()).build()
}

/// Everything in one hospital's folder.
pub(crate) fn of_hospital(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    destination: &HospitalId,
) -> Result<Vec<Left>, StoreError> {
    cells::all(txn, &folder(keys, destination).build())
}

/// Everything in every folder.
pub(crate) fn all(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Vec<Left>, StoreError> {
    cells::all(txn, &keys.space("folder").build())
}

/// What there is of one transfer.
pub(super) fn of_transfer(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    destination: &HospitalId,
    transfer: TransferId,
) -> Result<Vec<Left>, StoreError> {
    cells::all(txn, &folder(keys, destination).raw(transfer.as_bytes()).build())
}

/// The row as it stands now.
pub(super) fn again(txn: &mut dyn Txn, keys: &KeyMaker, left: &Left) -> Result<Option<Left>, StoreError> {
    cells::get(txn, &left_key(keys, left))
}

pub(super) fn put(txn: &mut dyn Txn, keys: &KeyMaker, left: &Left) -> Result<(), StoreError> {
    cells::put(txn, &left_key(keys, left), left)
}

/// Puts a package's parts, and that it names their blobs.
pub(super) fn put_parts(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    left: &Left,
    parts: &PartList,
) -> Result<(), StoreError> {
    for part in parts.iter() {
        txn.put(&name_key(keys, part.root, left), Vec::new())?;
    }
    cells::put_large(txn, &parts_key(keys, left), parts)
}

pub(super) fn parts(txn: &mut dyn Txn, keys: &KeyMaker, left: &Left) -> Result<PartList, StoreError> {
    let parts = cells::get_large(txn, &parts_key(keys, left), PARTS_MAX_BYTES)?;
    parts.ok_or_else(|| cells::damaged("the parts of a package in a folder"))
}

/// Removes a package; the blobs that nobody names any more.
pub(super) fn remove(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    left: &Left,
) -> Result<BTreeSet<ContentRoot>, StoreError> {
    let roots: BTreeSet<ContentRoot> = parts(txn, keys, left)?.iter().map(|part| part.root).collect();
    let mut unnamed = BTreeSet::new();
    for root in roots {
        txn.remove(&name_key(keys, root, left))?;
        if !is_named(txn, keys, root)? {
            unnamed.insert(root);
        }
    }
    cells::remove_pieces(txn, &parts_key(keys, left))?;
    txn.remove(&left_key(keys, left))?;
    Ok(unnamed)
}

/// Whether a package names a blob.
pub(super) fn is_named(txn: &mut dyn Txn, keys: &KeyMaker, root: ContentRoot) -> Result<bool, StoreError> {
    let names = keys.space("folder-blob").hashed(root.as_bytes()).build();
    Ok(!txn.scan(&names, None, 1)?.is_empty())
}

/// Notes that a source took back everything up to an attempt. What is over gives way if there is much.
///
/// # Errors
/// [`Code::Busy`] if all of it still counts; the store's.
pub(super) fn withdraw(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    source: &HospitalId,
    transfer: TransferId,
    attempt: u32,
    now: Timestamp,
) -> Result<(), DossierError> {
    let attempt = attempt.max(withdrawn(txn, keys, source, transfer)?);
    let of_source = keys.space("folder-withdrawn").hashed(source.as_str()).build();
    let remembered = txn.scan(&of_source, None, WITHDRAWN_MAX)?;
    if remembered.len() == WITHDRAWN_MAX {
        let mut is_full = true;
        for (key, value) in &remembered {
            let row: Withdrawn = cells::read(value)?;
            let is_over =
                Dossier::of(txn, keys, row.transfer).row()?.is_none_or(|it| it.state.phase.is_final());
            if is_over && row.at.plus_ms(WITHDRAWN_MS) <= now {
                txn.remove(key)?;
                is_full = false;
            }
        }
        if is_full {
            return Err(Code::Busy.into());
        }
    }
    let row = Withdrawn { attempt, transfer, at: now, extensions: Extensions::default() };
    Ok(cells::put(txn, &withdrawn_key(keys, source, transfer), &row)?)
}

/// The last attempt that its source took back; 0 if none.
pub(super) fn withdrawn(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    source: &HospitalId,
    transfer: TransferId,
) -> Result<u32, StoreError> {
    let row: Option<Withdrawn> = cells::get(txn, &withdrawn_key(keys, source, transfer))?;
    Ok(row.map_or(0, |row| row.attempt))
}
