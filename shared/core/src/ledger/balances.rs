//! Balances are never stored as a truth of their own: they are what the entries add up to.

use std::collections::BTreeMap;

use crate::{Currency, cbor_map};

use super::{Account, Entry, EntryKind, LedgerError};

cbor_map! {
    /// What is debited and credited to an account, in minor units.
    #[derive(Default)]
    pub struct Sides {
        /// Owed by its holder.
        1 => debits_minor: i64,
        /// Owed to its holder.
        2 => credits_minor: i64,
    }
}

cbor_map! {
    /// One account's standing.
    #[derive(Default)]
    pub struct AccountBalance {
        /// Reserved, neither posted nor voided yet.
        1 => pending: Sides,
        /// Due.
        2 => posted: Sides,
    }
}

/// One currency's totals over all accounts, in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialRow {
    /// The currency.
    pub currency: Currency,
    /// Pending and posted totals; in each, debits equal credits.
    pub total: AccountBalance,
}

/// A fold of entries: per account pending and posted debits and credits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances {
    accounts: BTreeMap<Account, AccountBalance>,
}

const RANGE: LedgerError = LedgerError::OutOfRange("balance");

impl Sides {
    fn add(&mut self, debits_minor: i64, credits_minor: i64) -> Result<(), LedgerError> {
        self.debits_minor = self.debits_minor.checked_add(debits_minor).ok_or(RANGE)?;
        self.credits_minor = self.credits_minor.checked_add(credits_minor).ok_or(RANGE)?;
        // Only a void or a post of what was never reserved takes a side below zero.
        if self.debits_minor < 0 || self.credits_minor < 0 {
            return Err(LedgerError::Damaged("more was resolved than reserved"));
        }
        Ok(())
    }
}

impl AccountBalance {
    /// What its holder is owed (negative: owes) once all that is posted is settled, in minor units.
    ///
    /// # Errors
    /// [`LedgerError::OutOfRange`].
    pub fn net_posted_minor(&self) -> Result<i64, LedgerError> {
        self.posted.credits_minor.checked_sub(self.posted.debits_minor).ok_or(RANGE)
    }
}

impl Balances {
    /// Takes an account's stored balance, replacing what was there.
    pub fn set(&mut self, account: Account, balance: AccountBalance) {
        self.accounts.insert(account, balance);
    }

    /// An account's balance; an account without entries has none.
    #[must_use]
    pub fn get(&self, account: &Account) -> Option<&AccountBalance> {
        self.accounts.get(account)
    }

    /// Every account with its balance, ordered.
    pub fn iter(&self) -> impl Iterator<Item = (&Account, &AccountBalance)> {
        self.accounts.iter()
    }

    /// Adds an entry's postings. Entries are folded once each, in their order.
    ///
    /// # Errors
    /// [`LedgerError::OutOfRange`], [`LedgerError::Damaged`]; the fold is not to be used then.
    pub fn fold(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        for posting in &entry.postings {
            let minor = posting.amount_minor;
            let (pending, posted) = match entry.kind {
                EntryKind::Reserve => (minor, 0),
                EntryKind::Post => (minor.checked_neg().ok_or(RANGE)?, minor),
                EntryKind::Void => (minor.checked_neg().ok_or(RANGE)?, 0),
                EntryKind::PostDirect | EntryKind::Reverse => (0, minor),
                EntryKind::Hold | EntryKind::Release => (0, 0),
            };
            let debit = self.accounts.entry(posting.debit.clone()).or_default();
            debit.pending.add(pending, 0)?;
            debit.posted.add(posted, 0)?;
            let credit = self.accounts.entry(posting.credit.clone()).or_default();
            credit.pending.add(0, pending)?;
            credit.posted.add(0, posted)?;
        }
        Ok(())
    }

    /// Totals per currency, ordered.
    ///
    /// # Errors
    /// [`LedgerError::Unbalanced`] if in one of them debits and credits differ, pending or posted.
    pub fn trial_balance(&self) -> Result<Vec<TrialRow>, LedgerError> {
        let mut totals: BTreeMap<Currency, AccountBalance> = BTreeMap::new();
        for (account, balance) in &self.accounts {
            let total = totals.entry(account.currency).or_default();
            total.pending.add(balance.pending.debits_minor, balance.pending.credits_minor)?;
            total.posted.add(balance.posted.debits_minor, balance.posted.credits_minor)?;
        }
        totals
            .into_iter()
            .map(|(currency, total)| {
                let equal = |sides: &Sides| sides.debits_minor == sides.credits_minor;
                if equal(&total.pending) && equal(&total.posted) {
                    Ok(TrialRow { currency, total })
                } else {
                    Err(LedgerError::Unbalanced(currency))
                }
            })
            .collect()
    }
}
