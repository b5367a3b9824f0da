//! Entries that were booked and that nobody holds. A backup can have some that the books never came to have: it was
//! made before the index was put back to an older one, after which hospitals were told of others in their place. They
//! are taken out, and what they stood on is booked again.
//!
//! Invariant: nothing is taken out that is with others, or that was signed for all.

use std::collections::BTreeSet;

use handover_core::codec::Extensions;
use handover_core::{HospitalId, TransferId};
use handover_store::{SCAN_MAX_CELLS, Txn};

use super::book::read_entry;
use super::rows::{self, CopyOf, Head};
use super::{Book, BooksError, tables};

impl Book {
    /// The first sequence number of which nobody was told, as far as is known here: not by what is with others or was
    /// signed for all, nor by what was stated to one of these hospitals.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn unstated_from(&self, txn: &mut dyn Txn, hospitals: &[HospitalId]) -> Result<u64, BooksError> {
        hospitals.iter().try_fold(self.stated(txn)?.size, |from, it| Ok(from.max(self.stated_to(txn, it)?)))
    }

    /// Takes out all entries from a sequence number on; whose they were.
    pub(super) fn take_out(&self, txn: &mut dyn Txn, from: u64) -> Result<BTreeSet<TransferId>, BooksError> {
        let size = self.size(txn)?;
        let mut transfers = BTreeSet::new();
        for sequence in from..size {
            let entry = read_entry(&self.stored(txn, sequence)?)?;
            if transfers.insert(entry.transfer)
                && let Some(hold) = self.story(txn, &entry.transfer)?.hold()
            {
                txn.remove(&self.keys.held(hold.at, &hold.transfer))?;
            }
            txn.remove(&self.keys.transfer(&entry.transfer).u64(sequence).build())?;
            txn.remove(&self.keys.entry(sequence))?;
        }
        // Every node that one of their leaves completed.
        for level in
            (0..u8::MAX).take_while(|level| size.checked_shr((*level).into()).is_some_and(|it| it > 0))
        {
            for index in (from >> level)..(size >> level) {
                txn.remove(&self.keys.node(level, index))?;
            }
        }
        tables::take_out(txn, from)?;
        self.forget_balances(txn, from)?;
        self.forget_copies(txn, from)?;
        match from.checked_sub(1) {
            None => txn.remove(&self.keys.head())?,
            Some(last) => {
                let cycle = read_entry(&self.stored(txn, last)?)?.cycle;
                rows::put(
                    txn,
                    &self.keys.head(),
                    &Head { size: from, cycle, extensions: Extensions::default() },
                )?;
            }
        }
        for transfer in &transfers {
            let left = self.transfer(txn, transfer)?;
            match left.last() {
                Some(last) => self.keep_due(txn, &last.entry)?,
                None => self.look_no_more(txn, transfer)?,
            }
            let ledger = self.story(txn, transfer)?;
            self.keep_held(txn, &ledger)?;
        }
        Ok(transfers)
    }

    /// Balances that hold entries from a sequence number on are counted anew.
    fn forget_balances(&self, txn: &mut dyn Txn, from: u64) -> Result<(), BooksError> {
        if self.folded(txn)? <= from {
            return Ok(());
        }
        loop {
            let page = txn.scan(&self.keys.balances().build(), None, SCAN_MAX_CELLS)?;
            page.iter().try_for_each(|(key, _)| txn.remove(key))?;
            if page.len() < SCAN_MAX_CELLS {
                return Ok(txn.remove(&self.keys.folded())?);
            }
        }
    }

    /// Whom others of them were stated to does not hold them.
    fn forget_copies(&self, txn: &mut dyn Txn, from: u64) -> Result<(), BooksError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = txn.scan(&self.keys.copies().build(), after.as_deref(), SCAN_MAX_CELLS)?;
            for (key, row) in &page {
                let row: CopyOf = rows::decode(row)?;
                let row = CopyOf { until: row.until.min(from), stated: row.stated.min(from), ..row };
                rows::put(txn, key, &row)?;
            }
            if page.len() < SCAN_MAX_CELLS {
                return Ok(());
            }
            after = page.into_iter().next_back().map(|(key, _)| key);
        }
    }
}
