//! How much was taken of each other party's: counted in the transaction that takes it, and told to that party, which keeps
//! the highest count. Who shows a higher one than is here shows that this store was rolled back, even if nothing is lost
//! that was signed here.
//!
//! Invariants: a count only grows, and was durable before it was told; none counts that does not bear this store's own
//! mark; once a party has told everything, no count that it was told before shows a loss any more.

use handover_core::codec::{self, Extensions};
use handover_core::message::{TALLY_MAX_BYTES, Tally};
use handover_core::{Party, Timestamp, cbor_map};
use handover_store::{KeyMaker, StoreError, Txn, rows};

cbor_map! {
    struct Row {
        1 => count: u64,
    }
}

fn of_key(keys: &KeyMaker, of: &Party) -> Vec<u8> {
    keys.space("tally").hashed(of.to_string()).build()
}

fn by_key(keys: &KeyMaker, by: &Party) -> Vec<u8> {
    keys.space("tally-kept").hashed(by.to_string()).build()
}

fn told(keys: &KeyMaker, of: &Party, count: u64) -> Tally {
    let mark = keys.mark("tally-mark", format!("{count} {of}"));
    Tally {
        count,
        mark,
        series: keys.mark("tally-series", of.to_string()),
        extensions: Extensions::default(),
    }
}

fn count(txn: &mut dyn Txn, keys: &KeyMaker, of: &Party) -> Result<u64, StoreError> {
    Ok(rows::get::<Row>(txn, &of_key(keys, of))?.map_or(0, |row| row.count))
}

fn is_own(keys: &KeyMaker, of: &Party, tally: &Tally) -> bool {
    told(keys, of, tally.count).mark == tally.mark
}

fn put(txn: &mut dyn Txn, key: &[u8], count: u64) -> Result<(), StoreError> {
    rows::put(txn, key, &Row { count, extensions: Extensions::default() })
}

/// How much was taken of a party's, as it is told.
///
/// # Errors
/// The store's.
pub fn taken(txn: &mut dyn Txn, keys: &KeyMaker, of: &Party) -> Result<Tally, StoreError> {
    Ok(told(keys, of, count(txn, keys, of)?))
}

/// Counts one more; how much that is, as it is told.
///
/// # Errors
/// The store's.
pub fn add(txn: &mut dyn Txn, keys: &KeyMaker, of: &Party) -> Result<Tally, StoreError> {
    let count = count(txn, keys, of)?.saturating_add(1);
    put(txn, &of_key(keys, of), count)?;
    Ok(told(keys, of, count))
}

/// Whether this tally, which a party shows, was told to it here, and counts more than is known.
///
/// # Errors
/// The store's.
pub fn is_beyond(txn: &mut dyn Txn, keys: &KeyMaker, of: &Party, shown: &Tally) -> Result<bool, StoreError> {
    Ok(is_own(keys, of, shown) && shown.count > count(txn, keys, of)?)
}

/// A party has told everything that may be lost here, and shows this tally at last: its count goes on from there, or from
/// the time in milliseconds, which is beyond what it was told before, as nobody takes one in each of them.
///
/// # Errors
/// The store's.
pub fn raise(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    of: &Party,
    shown: Option<&Tally>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let now = u64::try_from(now.as_millis()).unwrap_or(0);
    let shown = shown.filter(|shown| is_own(keys, of, shown)).map_or(0, |shown| shown.count);
    let count = count(txn, keys, of)?.max(shown).max(now);
    put(txn, &of_key(keys, of), count)
}

/// Keeps what a party says to have taken from here, if it is its highest.
///
/// # Errors
/// The store's.
pub fn keep(txn: &mut dyn Txn, keys: &KeyMaker, by: &Party, tally: &Tally) -> Result<(), StoreError> {
    let is_news = |kept: Tally| kept.series != tally.series || kept.count < tally.count;
    if kept(txn, keys, by)?.is_none_or(is_news) { rows::put(txn, &by_key(keys, by), tally) } else { Ok(()) }
}

/// The highest that a party has told.
///
/// # Errors
/// The store's.
pub fn kept(txn: &mut dyn Txn, keys: &KeyMaker, by: &Party) -> Result<Option<Tally>, StoreError> {
    rows::get(txn, &by_key(keys, by))
}

/// The tally in an answer; programs of before tell none.
#[must_use]
pub fn of_answer(items: &[Vec<u8>]) -> Option<Tally> {
    codec::decode(items.first()?, TALLY_MAX_BYTES).ok()
}
