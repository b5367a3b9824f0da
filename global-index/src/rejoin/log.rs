//! The log is put back exactly as it was: each entry as hospitals give it, at its sequence number, with its salt.
//!
//! What stands in its place and nobody holds makes room.
//!
//! Invariants: what is kept meanwhile is durable, and the index knows it by its own mark or seal; it goes into the books only
//! up to a root that the index signed; what two operators ordered is put back in any case.

use handover_core::HospitalId;
use handover_core::codec::{Bytes, Extensions};
use handover_core::message::{BooksBackAnswer, OpenedEntry};
use handover_core::rules::{self, Context};
use handover_seal::Remembered;
use handover_store::{KeyBuilder, KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows};

use super::RejoinError;
use crate::desk::Desk;
use crate::ledger::{Back, Book, Booking, Plan, TreeHead};
use crate::routing;
use crate::voice::{self, GivenUp};

/// Entries in one transaction.
const PAGE: usize = 500;

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

/// The way back of the log.
#[derive(Clone)]
struct WayBack {
    keys: KeyMaker,
    book: Book,
    /// What of it the index signed.
    trees: Vec<TreeHead>,
    /// Who has not told what it holds.
    others: Vec<HospitalId>,
}

/// Puts back what is kept, up to the largest of these logs that it makes whole, page by page: each leaves books that there
/// have been. Whether that is the largest of all. `others` have not told what they hold.
pub(super) async fn put_back(
    desk: &Desk,
    trees: Vec<TreeHead>,
    others: Vec<HospitalId>,
) -> Result<bool, RejoinError> {
    let way = WayBack { keys: desk.keys.clone(), book: desk.ledger.book().for_the_way_back(), trees, others };
    let of = way.clone();
    desk.store.write(move |txn| of.note_stated(txn)).await?;
    let (of, current) = (way.clone(), desk.current());
    let planned = move |txn: &mut dyn Txn| {
        of.plan(txn, Context { federation: current.federation(), verifier: &Remembered })
    };
    let (plan, orders) = desk.store.read(planned).await?;
    if let Some(Plan { from, entries }) = plan {
        make_room(desk, &way, from).await?;
        for page in entries.chunks(PAGE) {
            let (of, page) = (way.clone(), page.to_vec());
            desk.store.write(move |txn| of.put(txn, &page)).await?;
        }
    }
    book_again(desk, &way.book).await?;
    take_orders_back(desk, &way, orders).await?;
    let of = way.clone();
    let is_whole = desk.store.write(move |txn| of.conclude(txn)).await?;
    forget(desk, &way.keys).await?;
    Ok(is_whole)
}

/// Has what nobody holds make room from a sequence number on.
async fn make_room(desk: &Desk, way: &WayBack, from: u64) -> Result<(), RejoinError> {
    let mut made: u64 = 0;
    loop {
        let of = way.clone();
        let page = move |txn: &mut dyn Txn| of.book.make_room(txn, from, &of.others, PAGE as u64);
        match desk.store.write(page).await? {
            0 => break,
            more => made = made.saturating_add(more),
        }
    }
    if made > 0 {
        tracing::warn!(from, entries = made, "what nobody holds makes room for what others were told of");
    }
    Ok(())
}

/// Books again what made room, now or before a stop. What is to be done about these fees by now is looked at once the index
/// speaks, with all evidence.
async fn book_again(desk: &Desk, book: &Book) -> Result<(), RejoinError> {
    loop {
        let (book, seed, now) = (book.clone(), desk.random_32(), desk.now());
        let again = move |txn: &mut dyn Txn| -> Result<bool, RejoinError> {
            let transfers = book.book_again(txn, seed, PAGE)?;
            for transfer in &transfers {
                book.look_at(txn, transfer, now)?;
            }
            Ok(transfers.is_empty())
        };
        if desk.store.write(again).await? {
            return Ok(());
        }
    }
}

/// Puts back what two operators signed, whatever became of the entries that stand on it, and books what is missing of these.
async fn take_orders_back(desk: &Desk, way: &WayBack, orders: Vec<Bytes>) -> Result<(), RejoinError> {
    for order in orders {
        let (of, current) = (way.clone(), desk.current());
        let booking = Booking { now: desk.now(), salt_seed: desk.random_32() };
        let settle = move |txn: &mut dyn Txn| -> Result<(), RejoinError> {
            let context = Context { federation: current.federation(), verifier: &Remembered };
            Ok(routing::take_order_back(txn, &of.keys, &of.book, &booking, order.clone(), context)?)
        };
        desk.store.write(settle).await?;
    }
    Ok(())
}

impl WayBack {
    /// What to put back of what is kept, and what two operators ordered.
    fn plan(
        &self,
        txn: &mut dyn Txn,
        context: Context<'_>,
    ) -> Result<(Option<Plan>, Vec<Bytes>), RejoinError> {
        let range = (self.book.stated(txn)?.size, self.book.tree_head(txn)?.size);
        let (entries, orders) = gather(txn, &self.keys, range, context)?;
        Ok((self.book.plan(txn, entries, &self.trees, &self.others)?, orders))
    }

    fn put(&self, txn: &mut dyn Txn, page: &[Back]) -> Result<(), RejoinError> {
        self.book.put_back(txn, page)?;
        self.note_stated(txn)?;
        let count = u64::try_from(page.len()).unwrap_or(u64::MAX);
        Ok(voice::change_head(txn, &self.keys, |head| head.entries = head.entries.saturating_add(count))?)
    }

    /// Whether no larger log is known than the books are by now.
    fn conclude(&self, txn: &mut dyn Txn) -> Result<bool, RejoinError> {
        self.note_stated(txn)?;
        let given_up = self.given_up(txn)?;
        let is_whole = given_up.is_empty();
        voice::change_head(txn, &self.keys, |head| head.given_up = given_up)?;
        Ok(is_whole)
    }

    /// None of these logs that the books have is stated smaller again.
    fn note_stated(&self, txn: &mut dyn Txn) -> Result<(), RejoinError> {
        let size = self.book.tree_head(txn)?.size;
        for tree in self.trees.iter().filter(|tree| tree.size <= size) {
            if self.book.continues(txn, tree)? {
                self.book.put_stated(txn, tree.size)?;
            }
        }
        Ok(())
    }

    /// Those of these logs that the books have not grown out of.
    fn given_up(&self, txn: &mut dyn Txn) -> Result<Vec<GivenUp>, RejoinError> {
        let mut given_up: Vec<GivenUp> = Vec::new();
        let size = self.book.tree_head(txn)?.size;
        for &TreeHead { size: of, root } in &self.trees {
            if of > size || !self.book.continues(txn, &TreeHead { size: of, root })? {
                given_up.push(GivenUp { size: of, root, extensions: Extensions::default() });
            }
        }
        given_up.sort_by_key(|it| (it.size, *it.root.as_bytes()));
        given_up.dedup();
        Ok(given_up)
    }
}

/// What is kept from a sequence number on, and without a gap from the end of what is here; and all orders that entries
/// stand on, also those that went back before a stop.
fn gather(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    (from, size): (u64, u64),
    context: Context<'_>,
) -> Result<(Vec<Back>, Vec<Bytes>), RejoinError> {
    let (mut entries, mut orders) = (Vec::new(), Vec::new());
    let (mut next, mut after) = (size, None);
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
            orders.extend(order.filter(is_named));
            if (from..=next).contains(&sequence) {
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
async fn forget(desk: &Desk, keys: &KeyMaker) -> Result<(), StoreError> {
    loop {
        let keys = keys.clone();
        let page = move |txn: &mut dyn Txn| -> Result<bool, StoreError> {
            let page = txn.scan(&kept(&keys).build(), None, SCAN_MAX_CELLS)?;
            page.iter().try_for_each(|(key, _)| txn.remove(key))?;
            Ok(page.len() < SCAN_MAX_CELLS)
        };
        if desk.store.write(page).await? {
            return Ok(());
        }
    }
}
