//! Fees that are held until people settle them, the longest held first, so that people are told without reading all
//! of the books.
//!
//! Invariant: each transfer with an open hold stands here once, by when its hold was booked, and no other does.

use handover_core::Timestamp;
use handover_core::codec::Extensions;
use handover_core::ledger::TransferLedger;
use handover_store::{SCAN_MAX_CELLS, Txn};

use super::rows::{self, HeldSince};
use super::{Book, BooksError, Ledger};

/// How many fees are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// So many; 1,000 stands for as many or more.
    pub count: usize,
    /// Since when the first of them is.
    pub since: Option<Timestamp>,
}

impl Book {
    /// Notes whether a transfer's fee is held, after something was booked.
    pub(super) fn keep_held(&self, txn: &mut dyn Txn, ledger: &TransferLedger) -> Result<(), BooksError> {
        let Some(hold) = ledger.hold() else { return Ok(()) };
        let key = self.keys.held(hold.at, &hold.transfer);
        if ledger.open_hold().is_none() {
            return Ok(txn.remove(&key)?);
        }
        let row = HeldSince { transfer: hold.transfer, at: hold.at, extensions: Extensions::default() };
        rows::put(txn, &key, &row)
    }

    /// How many fees are held, and since when.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn held(&self, txn: &mut dyn Txn) -> Result<Held, BooksError> {
        let cells = txn.scan(&self.keys.all_held().build(), None, SCAN_MAX_CELLS)?;
        let first = cells.first().map(|(_, row)| rows::decode::<HeldSince>(row)).transpose()?;
        Ok(Held { count: cells.len(), since: first.map(|first| first.at) })
    }

    /// Whether the transfer's open hold is noted.
    pub(super) fn is_held(&self, txn: &mut dyn Txn, ledger: &TransferLedger) -> Result<bool, BooksError> {
        let Some(hold) = ledger.open_hold() else { return Ok(false) };
        Ok(txn.get(&self.keys.held(hold.at, &hold.transfer))?.is_some())
    }

    /// How many are noted, all of them.
    pub(super) fn count_held(&self, txn: &mut dyn Txn) -> Result<u64, BooksError> {
        let mut count: u64 = 0;
        rows::each(txn, &self.keys.all_held().build(), |_, row| {
            rows::decode::<HeldSince>(row)?;
            count = count.saturating_add(1);
            Ok(())
        })?;
        Ok(count)
    }
}

impl Ledger {
    /// As [`Book::held`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn held(&self) -> Result<Held, BooksError> {
        let book = self.book.clone();
        self.store.read(move |txn| book.held(txn)).await
    }
}
