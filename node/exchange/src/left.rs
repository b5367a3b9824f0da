//! What this hospital has left at the index for destinations that are away: the one `KeyRelease` of each attempt, stored
//! before it leaves, and what is known of the package there.
//!
//! Invariant: as long as a release may be handed out there, nobody here says that nothing was released.

use handover_core::codec::{Bytes, Extensions};
use handover_core::{Code, Timestamp, TransferId, cbor_map};
use handover_dossier::{Dossier, Kind};
use handover_store::{KeyMaker, StoreError, Txn, rows};

const LEFT: &str = "left-release";

cbor_map! {
    /// An attempt's package in the destination's folder, or on its way there.
    pub(crate) struct Left {
        /// Which attempt.
        1 => attempt: u32,
        /// The `KeyRelease` beside it; empty: whether there is one is not known any more.
        2 => release: Bytes,
        /// Until when the index keeps it, since it said so.
        3 => until: Option<Timestamp>,
        /// Why the index did not take it when it was last tried.
        4 => problem: Option<Code>,
        /// When it was taken back: nothing was handed out, and nothing will be.
        5 => withdrawn: Option<Timestamp>,
        /// When the index last said that it has it.
        6 => seen: Option<Timestamp>,
    }
}

impl Left {
    /// A package that is about to be left.
    pub(crate) fn new(attempt: u32, release: Vec<u8>) -> Self {
        Self {
            attempt,
            release: Bytes(release),
            until: None,
            problem: None,
            withdrawn: None,
            seen: None,
            extensions: Extensions::default(),
        }
    }
}

fn key(keys: &KeyMaker, transfer: TransferId, attempt: u32) -> Vec<u8> {
    keys.space(LEFT).raw(transfer.as_bytes()).u64(u64::from(attempt)).build()
}

/// Notes that an attempt may have been left, which the store that was restored does not know.
pub(crate) fn put_lost(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    attempt: u32,
) -> Result<(), StoreError> {
    match get(txn, keys, transfer, attempt)? {
        Some(_) => Ok(()),
        None => put(txn, keys, transfer, &Left::new(attempt, Vec::new())),
    }
}

/// Whether an attempt may have been left, and the index was not asked since.
pub(crate) fn is_lost(txn: &mut dyn Txn, keys: &KeyMaker, transfer: TransferId) -> Result<bool, StoreError> {
    Ok(all(txn, keys, transfer)?.iter().any(|left| left.withdrawn.is_none() && left.release.0.is_empty()))
}

/// Whether this is a release that was left there.
pub(crate) fn holds(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    release: &[u8],
) -> Result<bool, StoreError> {
    Ok(all(txn, keys, transfer)?.iter().any(|left| left.release.0 == release))
}

/// What was left of an attempt.
pub(crate) fn get(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    attempt: u32,
) -> Result<Option<Left>, StoreError> {
    rows::get(txn, &key(keys, transfer, attempt))
}

/// Keeps what is known of an attempt.
pub(crate) fn put(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    left: &Left,
) -> Result<(), StoreError> {
    rows::put(txn, &key(keys, transfer, left.attempt), left)
}

fn all(txn: &mut dyn Txn, keys: &KeyMaker, transfer: TransferId) -> Result<Vec<Left>, StoreError> {
    rows::all(txn, &keys.space(LEFT).raw(transfer.as_bytes()).build())
}

/// The last attempt whose release may be handed out at the index without that it is known here.
pub(crate) fn last_out(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<u32>, StoreError> {
    let mut last = None;
    for left in all(txn, keys, transfer)?.into_iter().filter(|left| left.withdrawn.is_none()) {
        let release = Kind::KeyRelease.of(left.attempt);
        if Dossier::of(txn, keys, transfer).get(release)?.is_none() {
            last = Some(left.attempt);
        }
    }
    Ok(last)
}

/// Notes that the index hands nothing out any more.
pub(crate) fn withdraw(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    now: Timestamp,
) -> Result<(), StoreError> {
    for left in all(txn, keys, transfer)? {
        put(txn, keys, transfer, &Left { withdrawn: left.withdrawn.or(Some(now)), ..left })?;
    }
    Ok(())
}

/// Forgets everything: the transfer is over.
pub(crate) fn forget(txn: &mut dyn Txn, keys: &KeyMaker, transfer: TransferId) -> Result<(), StoreError> {
    for left in all(txn, keys, transfer)? {
        txn.remove(&key(keys, transfer, left.attempt))?;
    }
    Ok(())
}
