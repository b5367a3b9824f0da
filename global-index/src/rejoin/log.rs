//! The log is put back exactly as it was: each entry as hospitals give it, at its sequence number, with its salt.
//!
//! What stands in its place and nobody was told of makes room.
//!
//! Invariants: what is kept meanwhile is durable, and the index knows it by its own mark or seal; it goes into the books in
//! one transaction, and only up to a root that the index signed; what two operators ordered is put back in any case.

use handover_core::codec::{Bytes, Extensions};
use handover_core::message::{BooksBackAnswer, OpenedEntry};
use handover_core::rules::{self, Context};
use handover_core::{HospitalId, TransferId};
use handover_seal::Remembered;
use handover_store::{KeyBuilder, KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows};

use super::{RejoinError, evidence};
use crate::desk::Desk;
use crate::ledger::{Back, Book, PutBack, TreeHead};
use crate::routing;
use crate::voice::{self, GivenUp};

fn kept(keys: &KeyMaker) -> KeyBuilder {
    keys.space("rejoin-entry")
}

/// What a hospital gave of the log that this index made: a false entry counts for nothing, and takes nothing with it.
fn own<'a>(desk: &'a Desk, answer: &'a BooksBackAnswer) -> impl Iterator<Item = OpenedEntry> + 'a {
    let keepsakes = &desk.seat.keepsakes;
    let opened = answer.opened.iter().filter(|it| keepsakes.knows(it)).cloned();
    opened.chain(answer.sealed.iter().filter_map(|it| keepsakes.open(it)))
}

/// Whether everything that a hospital gave is of another log.
pub(super) fn is_foreign(desk: &Desk, answer: &BooksBackAnswer) -> bool {
    let is_empty = answer.opened.is_empty() && answer.sealed.is_empty();
    !is_empty && own(desk, answer).next().is_none()
}

/// Keeps what a hospital gave from a sequence number on, as far as it is the index's own; how much that is.
pub(super) async fn keep(desk: &Desk, from: u64, answer: BooksBackAnswer) -> Result<usize, StoreError> {
    let entries: Vec<OpenedEntry> = own(desk, &answer).filter(|it| it.sequence >= from).collect();
    let (keys, count) = (desk.keys.clone(), entries.len());
    let put = move |txn: &mut dyn Txn| {
        entries.iter().try_for_each(|entry| rows::put(txn, &kept(&keys).u64(entry.sequence).build(), entry))
    };
    desk.store.write(put).await?;
    Ok(count)
}

/// Puts back what is kept, up to the largest of these logs that it makes whole. Whether that is the largest of all.
/// `others` have not told what they hold.
pub(super) async fn put_back(
    desk: &Desk,
    trees: Vec<TreeHead>,
    others: Vec<HospitalId>,
) -> Result<bool, RejoinError> {
    let (keys, book, current) = (desk.keys.clone(), desk.ledger.book().clone(), desk.current());
    let put = move |txn: &mut dyn Txn| -> Result<bool, RejoinError> {
        let context = Context { federation: current.federation(), verifier: &Remembered };
        note_stated(txn, &book, &trees)?;
        let (from, size) = (book.stated(txn)?.size, book.tree_head(txn)?.size);
        let (entries, orders) = gather(txn, &keys, (from, size), context)?;
        let put_back = book.put_back(txn, entries, &trees, &others)?;
        let added = put_back.as_ref().map_or(0, |it| it.size.saturating_sub(it.from));
        if let Some(PutBack { from, made_room, .. }) = &put_back
            && *from < size
        {
            let taken_out = size.saturating_sub(*from);
            tracing::warn!(%from, taken_out, "entries that nobody was told of make room for those that others were told of");
            made_room.iter().try_for_each(|transfer| evidence::put_unbooked(txn, &keys, *transfer))?;
        }
        // Two operators signed them, whatever becomes of the entries that stand on them.
        for (transfer, order) in orders {
            routing::put_order_back(txn, &keys, &transfer, order)?;
        }
        forget(txn, &keys)?;
        note_stated(txn, &book, &trees)?;
        let given_up = given_up(txn, &book, &trees)?;
        let is_whole = given_up.is_empty();
        voice::change_head(txn, &keys, |head| {
            head.entries = head.entries.saturating_add(added);
            head.given_up = given_up;
        })?;
        Ok(is_whole)
    };
    desk.store.write(put).await
}

/// None of these logs that the books have is stated smaller again.
fn note_stated(txn: &mut dyn Txn, book: &Book, trees: &[TreeHead]) -> Result<(), RejoinError> {
    let size = book.tree_head(txn)?.size;
    for tree in trees.iter().filter(|tree| tree.size <= size) {
        if book.continues(txn, tree)? {
            book.put_stated(txn, tree.size)?;
        }
    }
    Ok(())
}

/// Those of these logs that the books have not grown out of.
fn given_up(txn: &mut dyn Txn, book: &Book, trees: &[TreeHead]) -> Result<Vec<GivenUp>, RejoinError> {
    let mut given_up: Vec<GivenUp> = Vec::new();
    let size = book.tree_head(txn)?.size;
    for &TreeHead { size: of, root } in trees {
        if of > size || !book.continues(txn, &TreeHead { size: of, root })? {
            given_up.push(GivenUp { size: of, root, extensions: Extensions::default() });
        }
    }
    given_up.sort_by_key(|it| (it.size, *it.root.as_bytes()));
    given_up.dedup();
    Ok(given_up)
}

/// What two operators ordered about the fees of transfers.
type Orders = Vec<(TransferId, Bytes)>;

/// What is kept from a sequence number on, and without a gap from the end of what is here; and all orders that entries
/// stand on.
fn gather(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    (from, size): (u64, u64),
    context: Context<'_>,
) -> Result<(Vec<Back>, Orders), RejoinError> {
    let (mut entries, mut orders) = (Vec::new(), Orders::new());
    let (mut next, mut after) = (size, from.checked_sub(1).map(|before| kept(keys).u64(before).build()));
    loop {
        let page = txn.scan(&kept(keys).build(), after.as_deref(), SCAN_MAX_CELLS)?;
        let is_last = page.len() < SCAN_MAX_CELLS;
        for (key, row) in page {
            let OpenedEntry { sequence, salt, entry, order, .. } = rows::read(&row)?;
            let back = Back::read(sequence, salt, entry)?;
            // No mark covers it, but the entry names it.
            let is_named = |order: &Bytes| {
                rules::hold_order(order.as_ref(), context)
                    .is_ok_and(|it| Some(it.hash()) == back.entry.evidence.order)
            };
            orders.extend(order.filter(is_named).map(|order| (back.entry.transfer, order)));
            if sequence <= next {
                next = next.max(sequence.saturating_add(1));
                entries.push(back);
            }
            after = Some(key);
        }
        if is_last {
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
