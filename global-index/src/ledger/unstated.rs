//! Entries that were booked and that nobody holds. A backup can have some that the books never came to have: it was
//! made before the index was put back to an older one, after which hospitals were told of others in their place. They
//! make room, and are booked again behind, in their order, as far as that did not come otherwise: the books alone know
//! what went before what.
//!
//! Invariants: nothing makes room that is with others, or that was signed for all; what made room is kept until it was
//! booked again.

use std::collections::BTreeSet;

use handover_core::codec::Extensions;
use handover_core::ledger::{Command, Entry, EntryKind, Evidence, Reason, Terms, TransferLedger};
use handover_core::{HospitalId, TransferId};
use handover_store::{SCAN_MAX_CELLS, Txn};

use super::book::read_entry;
use super::rows::{self, CopyOf, Head, StoredEntry};
use super::{Book, Booking, BooksError, tables};

impl Book {
    /// The first sequence number of which nobody was told, as far as is known here: not by what is with others or was
    /// signed for all, nor by what was stated to one of these hospitals.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn unstated_from(&self, txn: &mut dyn Txn, hospitals: &[HospitalId]) -> Result<u64, BooksError> {
        hospitals.iter().try_fold(self.stated(txn)?.size, |from, it| Ok(from.max(self.stated_to(txn, it)?)))
    }

    /// Has the last entries make room, at most `limit`, but none below a sequence number; how many did. Whoever holds one
    /// has shown so, or is one of the `others`.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn make_room(
        &self,
        txn: &mut dyn Txn,
        from: u64,
        others: &[HospitalId],
        limit: u64,
    ) -> Result<u64, BooksError> {
        let size = self.size(txn)?;
        let from = from.max(size.saturating_sub(limit));
        if from >= size {
            return Ok(0);
        }
        if from < self.unstated_from(txn, others)? {
            return Err(BooksError::Damaged("entries that others hold would make room"));
        }
        let mut transfers = BTreeSet::new();
        // What made room before came after these.
        let mut place = self.first_that_made_room(txn)?;
        for sequence in (from..size).rev() {
            let stored = self.stored(txn, sequence)?;
            let transfer = read_entry(&stored)?.transfer;
            if transfers.insert(transfer)
                && let Some(hold) = self.story(txn, &transfer)?.hold()
            {
                txn.remove(&self.keys.held(hold.at, &transfer))?;
            }
            place =
                place.checked_sub(1).ok_or(BooksError::Damaged("there is no place before what made room"))?;
            rows::put(txn, &self.keys.made_room().u64(place).build(), &stored)?;
        }
        for sequence in from..size {
            let transfer = read_entry(&self.stored(txn, sequence)?)?.transfer;
            txn.remove(&self.keys.transfer(&transfer).u64(sequence).build())?;
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
            match self.transfer(txn, transfer)?.last() {
                Some(last) => self.keep_due(txn, &last.entry)?,
                None => self.look_no_more(txn, transfer)?,
            }
            let ledger = self.story(txn, transfer)?;
            self.keep_held(txn, &ledger)?;
        }
        Ok(size.saturating_sub(from))
    }

    /// Before which place the next entry that makes room is put.
    fn first_that_made_room(&self, txn: &mut dyn Txn) -> Result<u64, BooksError> {
        let first = txn.scan(&self.keys.made_room().build(), None, 1)?;
        first.first().map_or(Ok(u64::MAX), |(key, _)| rows::sequence_of(key))
    }

    /// Books again what made room, as of when it was booked first, at most `limit` entries, with fresh randomness for the
    /// commitments; whose they were, none when there are no more.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn book_again(
        &self,
        txn: &mut dyn Txn,
        salt_seed: [u8; 32],
        limit: usize,
    ) -> Result<Vec<TransferId>, BooksError> {
        let mut transfers = Vec::new();
        for (key, row) in txn.scan(&self.keys.made_room().build(), None, limit.clamp(1, SCAN_MAX_CELLS))? {
            let entry = read_entry(&rows::decode::<StoredEntry>(&row)?)?;
            let transfer = entry.transfer;
            let booking = Booking { now: entry.at, salt_seed };
            let command = again(&entry, &self.story(txn, &transfer)?);
            match command.map(|command| self.book(txn, &booking, &transfer, &command)) {
                // What stands by now says otherwise.
                Some(Err(BooksError::Rule(fault))) => {
                    tracing::warn!(%transfer, kind = entry.kind.as_str(), %fault, "what made room is not booked again");
                }
                booked => drop(booked.transpose()?),
            }
            txn.remove(&key)?;
            transfers.push(transfer);
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

/// What an entry was booked by; none if it was booked with another one, which is booked again with it, or does not hold any
/// more.
fn again(entry: &Entry, ledger: &TransferLedger) -> Option<Command> {
    let evidence = entry.evidence.clone();
    if entry.kind != EntryKind::Release && evidence.order.is_some() {
        return None;
    }
    // Where a dispute was stated meanwhile, silence says nothing, and nothing ends by time.
    let is_silence = match entry.kind {
        EntryKind::Post | EntryKind::PostDirect => evidence.receipt.is_none(),
        EntryKind::Void => entry.reason == Some(Reason::NotDelivered) && evidence.refusal.is_none(),
        _ => false,
    };
    if is_silence && ledger.open_hold().is_some() {
        return None;
    }
    let terms = Terms::of(entry);
    Some(match entry.kind {
        EntryKind::Reserve => Command::Reserve { terms, expires: entry.expires?, evidence },
        EntryKind::Post | EntryKind::PostDirect => Command::Post { terms, evidence },
        EntryKind::Void => Command::Void { reason: entry.reason?, evidence },
        EntryKind::Reverse => Command::Reverse {
            sequence: entry.sequence,
            amount: entry.amount,
            reason: entry.reason?,
            evidence,
        },
        EntryKind::Hold => Command::Hold { terms, stated: entry.stated, evidence },
        EntryKind::Release => {
            let agreed = ledger.hold()?.evidence.clone();
            let evidence = Evidence { receipt: None, refusal: None, order: evidence.order, ..agreed };
            Command::Settle { terms, is_due: entry.reason == Some(Reason::SettledForSource), evidence }
        }
    })
}
