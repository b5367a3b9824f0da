//! The log is put back exactly as it was: each entry as hospitals give it, at its sequence number, with its salt.
//!
//! Invariants: what is kept meanwhile is durable, and the index knows it by its own mark or seal; it goes into the books in
//! one transaction, and only up to a root that the index signed.

use handover_core::TransferId;
use handover_core::codec::Bytes;
use handover_core::message::{BooksBackAnswer, OpenedEntry};
use handover_core::rules::{self, Context};
use handover_seal::Ed25519;
use handover_store::{KeyBuilder, KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows};

use super::RejoinError;
use crate::desk::Desk;
use crate::ledger::{Back, Book, TreeHead};
use crate::{routing, voice};

fn kept(keys: &KeyMaker) -> KeyBuilder {
    keys.space("rejoin-entry")
}

/// Whether what a hospital gave of its own is of the log that this index made.
pub(super) fn is_own(desk: &Desk, answer: &BooksBackAnswer) -> bool {
    answer.opened.iter().all(|it| desk.seat.keepsakes.knows(it))
}

/// Keeps what a hospital gave, as far as it is the index's own.
pub(super) async fn keep(desk: &Desk, answer: BooksBackAnswer) -> Result<(), StoreError> {
    let keepsakes = &desk.seat.keepsakes;
    let sealed = answer.sealed.iter().filter_map(|it| keepsakes.open(it));
    let opened = answer.opened.into_iter().filter(|it| keepsakes.knows(it));
    let entries: Vec<OpenedEntry> = opened.chain(sealed).collect();
    let keys = desk.keys.clone();
    let put = move |txn: &mut dyn Txn| {
        entries.iter().try_for_each(|entry| rows::put(txn, &kept(&keys).u64(entry.sequence).build(), entry))
    };
    desk.store.write(put).await
}

/// Puts back what is kept, up to the largest of these logs that it makes whole. Whether that is the largest of all.
pub(super) async fn put_back(desk: &Desk, trees: Vec<TreeHead>) -> Result<bool, RejoinError> {
    let (keys, book, current) = (desk.keys.clone(), desk.ledger.book().clone(), desk.current());
    let put = move |txn: &mut dyn Txn| -> Result<bool, RejoinError> {
        let size = book.tree_head(txn)?.size;
        let context = Context { federation: current.federation(), verifier: &Ed25519 };
        let (entries, orders) = gather(txn, &keys, size, context)?;
        let largest = trees.iter().map(|tree| tree.size).max().unwrap_or(0);
        let reached = book.put_back(txn, entries, &trees)?;
        let added = reached.map_or(0, |reached| reached.saturating_sub(size));
        for (sequence, transfer, order) in orders {
            if reached.is_some_and(|reached| sequence < reached) {
                routing::put_order_back(txn, &keys, &transfer, order)?;
            }
        }
        forget(txn, &keys)?;
        let is_whole = is_whole(txn, &book, &trees, largest)?;
        voice::change_head(txn, &keys, |head| {
            head.entries = head.entries.saturating_add(added);
            head.forked = if is_whole { None } else { Some(largest) };
        })?;
        Ok(is_whole)
    };
    desk.store.write(put).await
}

/// Whether these books have grown out of all those logs. None of which they have is stated smaller again.
fn is_whole(txn: &mut dyn Txn, book: &Book, trees: &[TreeHead], largest: u64) -> Result<bool, RejoinError> {
    let mut is_whole = book.tree_head(txn)?.size >= largest;
    for tree in trees {
        if book.continues(txn, tree)? {
            book.put_stated(txn, tree.size)?;
        } else {
            is_whole = false;
        }
    }
    Ok(is_whole)
}

/// By the sequence number of the entry that stands on one, and its transfer.
type Orders = Vec<(u64, TransferId, Bytes)>;

/// What is kept without a gap from a sequence number on, and the orders that it stands on.
fn gather(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    from: u64,
    context: Context<'_>,
) -> Result<(Vec<Back>, Orders), RejoinError> {
    let (mut entries, mut orders) = (Vec::new(), Orders::new());
    let mut next = from;
    loop {
        let after = next.checked_sub(1).map(|before| kept(keys).u64(before).build());
        let page = txn.scan(&kept(keys).build(), after.as_deref(), SCAN_MAX_CELLS)?;
        for (_, row) in &page {
            let OpenedEntry { sequence, salt, entry, order, .. } = rows::read(row)?;
            if sequence != next {
                return Ok((entries, orders));
            }
            next = next.saturating_add(1);
            let back = Back::read(sequence, salt, entry)?;
            // No mark covers it, but the entry names it.
            let is_named = |order: &Bytes| {
                rules::hold_order(order.as_ref(), context)
                    .is_ok_and(|it| Some(it.hash()) == back.entry.evidence.order)
            };
            let order = order.filter(is_named);
            orders.extend(order.map(|order| (sequence, back.entry.transfer, order)));
            entries.push(back);
        }
        if page.len() < SCAN_MAX_CELLS {
            return Ok((entries, orders));
        }
    }
}

/// What was kept is in the books, or never will be.
fn forget(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<(), StoreError> {
    loop {
        let page = txn.scan(&kept(keys).build(), None, SCAN_MAX_CELLS)?;
        page.iter().try_for_each(|(key, _)| txn.remove(key))?;
        if page.len() < SCAN_MAX_CELLS {
            return Ok(());
        }
    }
}
