//! Balances: a cache of folded accounts up to some entry, and the entries after it. No booking touches the cache, so
//! no account is a hot row.

use handover_core::codec::Extensions;
use handover_core::ledger::Balances;
use handover_store::{SCAN_MAX_CELLS, Txn};

use super::rows::{self, Folded, Head, StoredBalance};
use super::{Book, BooksError};

impl Book {
    pub(super) fn folded(&self, txn: &mut dyn Txn) -> Result<u64, BooksError> {
        Ok(rows::get::<Folded>(txn, &self.keys.folded())?.map_or(0, |folded| folded.size))
    }

    /// How many entries the cache does not hold yet.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn unfolded(&self, txn: &mut dyn Txn) -> Result<u64, BooksError> {
        let size = rows::get::<Head>(txn, &self.keys.head())?.map_or(0, |head| head.size);
        size.checked_sub(self.folded(txn)?)
            .ok_or(BooksError::Damaged("balances of entries that are not there"))
    }

    /// Brings the cache forward by up to 1,000 entries; how many it was.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn fold(&self, txn: &mut dyn Txn) -> Result<usize, BooksError> {
        let folded = self.folded(txn)?;
        let entries = self.page(txn, folded.checked_sub(1), SCAN_MAX_CELLS)?;
        let mut balances = Balances::default();
        for listed in &entries {
            for account in listed.entry.postings.iter().flat_map(|posting| [&posting.debit, &posting.credit])
            {
                if balances.get(account).is_some() {
                    continue;
                }
                if let Some(row) = rows::get::<StoredBalance>(txn, &self.keys.balance(account))? {
                    balances.set(row.account, row.balance);
                }
            }
            balances.fold(&listed.entry)?;
        }
        for (account, balance) in balances.iter() {
            let row = StoredBalance {
                account: account.clone(),
                balance: balance.clone(),
                extensions: Extensions::default(),
            };
            rows::put(txn, &self.keys.balance(account), &row)?;
        }
        if let Some(last) = entries.last() {
            let size = last.sequence.saturating_add(1);
            rows::put(txn, &self.keys.folded(), &Folded { size, extensions: Extensions::default() })?;
        }
        Ok(entries.len())
    }

    /// What the cache holds, and up to which sequence number (not included).
    pub(super) fn cached(&self, txn: &mut dyn Txn) -> Result<(Balances, u64), BooksError> {
        let folded = self.folded(txn)?;
        let prefix = self.keys.balances().build();
        let mut balances = Balances::default();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = txn.scan(&prefix, after.as_deref(), SCAN_MAX_CELLS)?;
            for (_, row) in &page {
                let row: StoredBalance = rows::decode(row)?;
                balances.set(row.account, row.balance);
            }
            if page.len() < SCAN_MAX_CELLS {
                return Ok((balances, folded));
            }
            after = page.into_iter().next_back().map(|(key, _)| key);
        }
    }

    /// Every account's balance: the cache and the entries after it.
    ///
    /// # Errors
    /// [`BooksError`]; [`handover_core::ledger::LedgerError::Unbalanced`] if debits and credits differ.
    pub fn balances(&self, txn: &mut dyn Txn) -> Result<Balances, BooksError> {
        let (mut balances, folded) = self.cached(txn)?;
        let mut after = folded.checked_sub(1);
        loop {
            let page = self.page(txn, after, SCAN_MAX_CELLS)?;
            page.iter().try_for_each(|listed| balances.fold(&listed.entry))?;
            if page.len() < SCAN_MAX_CELLS {
                break;
            }
            after = page.last().map(|listed| listed.sequence);
        }
        balances.trial_balance()?;
        Ok(balances)
    }
}
