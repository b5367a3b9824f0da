//! How far hospitals hold copies of the log, so that nothing that is signed states a log of which an entry is with nobody
//! but the index: a store that is restored from a backup gets everything back that was ever stated.
//!
//! A hospital that asks for the books from a sequence number on holds all before it: its own entries open, and of others'
//! those that were not with their own hospitals when it was told, sealed to the index. So the log is *copied* as far as
//! the furthest of them is, and *held* as far as each entry is with its source and its destination; below that nobody needs
//! to keep sealed ones. Both, so that one of them alone cannot make it disappear.
//!
//! Invariants: both only grow; `held <= copied <= size` of the log; a hospital counts for no more than was stated to it.

use std::collections::BTreeMap;

use handover_core::HospitalId;
use handover_core::codec::Extensions;
use handover_store::{SCAN_MAX_CELLS, Txn};

use super::book::read_entry;
use super::rows::{self, Copied, CopyOf};
use super::{Book, BooksError, TreeHead};

impl Book {
    /// How far the log is with others.
    pub(super) fn copied(&self, txn: &mut dyn Txn) -> Result<Copied, BooksError> {
        if let Some(copied) = rows::get(txn, &self.keys.copied())? {
            return Ok(copied);
        }
        // A store from before this was kept: what was stated then bears no mark, and nobody keeps it sealed.
        let stated = self.last_checkpoint(txn)?.map_or(0, |last| last.size);
        Ok(Copied { copied: stated, held: stated, extensions: Extensions::default() })
    }

    fn copy_of(&self, txn: &mut dyn Txn, hospital: &HospitalId) -> Result<CopyOf, BooksError> {
        Ok(rows::get(txn, &self.keys.copy(hospital))?.unwrap_or_default())
    }

    /// Whether it is news that a hospital holds the log up to here.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn is_copy_new(
        &self,
        txn: &mut dyn Txn,
        hospital: &HospitalId,
        until: u64,
    ) -> Result<bool, BooksError> {
        let until = until.min(self.stated_to(txn, hospital)?);
        Ok(self.copy_of(txn, hospital)?.until != until || self.copied(txn)?.copied < until)
    }

    /// Notes that a hospital holds the log up to here, by its own word.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn put_copy(&self, txn: &mut dyn Txn, hospital: &HospitalId, until: u64) -> Result<(), BooksError> {
        let until = until.min(self.stated_to(txn, hospital)?);
        let row = CopyOf { until, ..self.copy_of(txn, hospital)? };
        rows::put(txn, &self.keys.copy(hospital), &row)?;
        let mut all = self.copied(txn)?;
        all.copied = all.copied.max(until);
        all.held = self.held_from(txn, all.held)?;
        rows::put(txn, &self.keys.copied(), &all)
    }

    /// Whether a log of this size is larger than any that was stated to a hospital.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn is_told_new(
        &self,
        txn: &mut dyn Txn,
        hospital: &HospitalId,
        size: u64,
    ) -> Result<bool, BooksError> {
        Ok(self.copy_of(txn, hospital)?.stated < size.min(self.size(txn)?))
    }

    /// Notes that a log of this size is stated to a hospital: before it is, or when the hospital shows that it was.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn put_told(&self, txn: &mut dyn Txn, hospital: &HospitalId, size: u64) -> Result<(), BooksError> {
        let size = size.min(self.size(txn)?);
        let row = self.copy_of(txn, hospital)?;
        let row = CopyOf { stated: row.stated.max(size), ..row };
        rows::put(txn, &self.keys.copy(hospital), &row)
    }

    /// Up to where the log was stated to a hospital, or may be stated to everybody.
    pub(super) fn stated_to(&self, txn: &mut dyn Txn, hospital: &HospitalId) -> Result<u64, BooksError> {
        let told = self.copy_of(txn, hospital)?.stated;
        Ok(self.stated_with(txn, told)?.size)
    }

    /// Notes that a log of this size was stated, by a store that was rolled back since: it is not stated smaller again.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn put_stated(&self, txn: &mut dyn Txn, size: u64) -> Result<(), BooksError> {
        let mut all = self.copied(txn)?;
        if size <= all.copied || size > self.size(txn)? {
            return Ok(());
        }
        all.copied = size;
        rows::put(txn, &self.keys.copied(), &all)
    }

    /// Up to where each entry is with its source and destination, if it was so up to `from`; looks at a page of them.
    fn held_from(&self, txn: &mut dyn Txn, from: u64) -> Result<u64, BooksError> {
        let mut copies: BTreeMap<HospitalId, u64> = BTreeMap::new();
        let mut held = from;
        for (sequence, stored) in self.stored_from(txn, from, SCAN_MAX_CELLS)? {
            let entry = read_entry(&stored)?;
            let mut is_held = true;
            for hospital in [entry.source, entry.destination] {
                let until = match copies.get(&hospital) {
                    Some(until) => *until,
                    None => self.copy_of(txn, &hospital)?.until,
                };
                is_held &= sequence < until;
                copies.insert(hospital, until);
            }
            if !is_held {
                break;
            }
            held = sequence.saturating_add(1);
        }
        Ok(held)
    }

    /// The tree as far as it may be stated to everybody: it is with others, or was stated before.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn stated(&self, txn: &mut dyn Txn) -> Result<TreeHead, BooksError> {
        self.stated_with(txn, 0)
    }

    /// The same to somebody who is given everything up to `given` with it.
    pub(super) fn stated_with(&self, txn: &mut dyn Txn, given: u64) -> Result<TreeHead, BooksError> {
        let before = self.last_checkpoint(txn)?.map_or(0, |last| last.size);
        let size = self.copied(txn)?.copied.max(before).max(given).min(self.size(txn)?);
        Ok(TreeHead { size, root: self.root_at(txn, size)? })
    }
}
