//! When the fee of a transfer has to be looked at next. Each transfer has one such time or none; one with an open
//! reservation that is not held always has one, at the latest the reservation's expiry. What is to be done then, the caller decides.

use handover_core::codec::Extensions;
use handover_core::ledger::Entry;
use handover_core::{Timestamp, TransferId};
use handover_store::{SCAN_MAX_CELLS, Txn};

use super::rows::{self, Due};
use super::{Book, BooksError};

impl Book {
    /// The transfer's fee is looked at then, and no more at the time that was set before.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn look_at(&self, txn: &mut dyn Txn, transfer: &TransferId, at: Timestamp) -> Result<(), BooksError> {
        self.look_no_more(txn, transfer)?;
        txn.put(&self.keys.due(at, transfer), transfer.as_bytes().to_vec())?;
        let row = Due { transfer: *transfer, at, extensions: Extensions::default() };
        rows::put(txn, &self.keys.due_of(transfer), &row)
    }

    /// There is nothing to look at any more. Not for a transfer with an open reservation that is not held.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn look_no_more(&self, txn: &mut dyn Txn, transfer: &TransferId) -> Result<(), BooksError> {
        if let Some(at) = self.due_of(txn, transfer)? {
            txn.remove(&self.keys.due(at, transfer))?;
            txn.remove(&self.keys.due_of(transfer))?;
        }
        Ok(())
    }

    /// When the transfer's fee is looked at next.
    pub(super) fn due_of(
        &self,
        txn: &mut dyn Txn,
        transfer: &TransferId,
    ) -> Result<Option<Timestamp>, BooksError> {
        Ok(rows::get::<Due>(txn, &self.keys.due_of(transfer))?.map(|row| row.at))
    }

    /// A reservation is looked at when it expires, unless the caller sets an earlier time; with what resolves it there
    /// is nothing to look at any more.
    pub(super) fn keep_due(&self, txn: &mut dyn Txn, entry: &Entry) -> Result<(), BooksError> {
        match entry.expires {
            Some(expires) => self.look_at(txn, &entry.transfer, expires),
            None => self.look_no_more(txn, &entry.transfer),
        }
    }

    /// Transfers whose fees have to be looked at by `now`, the longest due first.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn due(
        &self,
        txn: &mut dyn Txn,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<TransferId>, BooksError> {
        // The first key that is not due yet, whatever its transfer.
        let end = self.keys.dues().u64(rows::due_order(now.plus_ms(1))).build();
        txn.scan(&self.keys.dues().build(), None, limit.clamp(1, SCAN_MAX_CELLS))?
            .iter()
            .take_while(|(key, _)| *key < end)
            .map(|(_, transfer)| {
                TransferId::try_from(transfer.as_slice()).map_err(|_| BooksError::Damaged("a due row"))
            })
            .collect()
    }

    /// Every time that is set stands in the order, and nothing else does; `false` if not.
    pub(super) fn are_dues_in_order(&self, txn: &mut dyn Txn) -> Result<bool, BooksError> {
        let (mut ordered, mut set, mut found): (u64, u64, u64) = (0, 0, 0);
        rows::each(txn, &self.keys.dues().build(), |_, _| {
            ordered = ordered.saturating_add(1);
            Ok(())
        })?;
        rows::each(txn, &self.keys.dues_of().build(), |txn, row| {
            let row: Due = rows::decode(row)?;
            let is_there = txn.get(&self.keys.due(row.at, &row.transfer))?.is_some();
            set = set.saturating_add(1);
            found = found.saturating_add(u64::from(is_there));
            Ok(())
        })?;
        Ok(ordered == set && set == found)
    }
}
