//! Replays the books: every entry, leaf and node, every transfer's story, and the caches.

use handover_core::ledger::{Balances, Cycle, TransferLedger, TrialRow, merkle};
use handover_core::{Digest, Timestamp};
use handover_store::{Cell, SCAN_MAX_CELLS, Txn};

use super::book::read_entry;
use super::rows::{self, Head, StoredEntry};
use super::{Book, BooksError, tables};

/// The most faults that a report names.
const MAX_FAULTS: usize = 100;

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The entry it was found at, if at one.
    pub sequence: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Entries replayed.
    pub entries: u64,
    /// Transfers that have entries.
    pub transfers: u64,
    /// Reservations neither posted nor voided.
    pub open_reservations: u64,
    /// Holds that nobody has settled.
    pub open_holds: u64,
    /// Since when the first of them is.
    pub held_since: Option<Timestamp>,
    /// The tree's root; `None` if the tree is damaged.
    pub root: Option<Digest>,
    /// Totals per currency; empty if they do not balance.
    pub trial_balance: Vec<TrialRow>,
    /// What does not hold, at most the first hundred.
    pub faults: Vec<Fault>,
}

impl CheckReport {
    /// Whether everything holds.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, sequence: Option<u64>, what: impl ToString) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { sequence, what: what.to_string() });
        }
    }

    /// Notes a fault of the books; a fault of the store ends the check.
    fn note<T>(
        &mut self,
        sequence: Option<u64>,
        result: Result<T, BooksError>,
    ) -> Result<Option<T>, BooksError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(BooksError::Store(fault)) => Err(fault.into()),
            Err(fault) => {
                self.fault(sequence, fault);
                Ok(None)
            }
        }
    }
}

/// Runs over everything in pages; memory grows with the number of accounts only.
pub(super) fn run(book: &Book, txn: &mut dyn Txn) -> Result<CheckReport, BooksError> {
    let mut report = CheckReport {
        entries: 0,
        transfers: 0,
        open_reservations: 0,
        open_holds: 0,
        held_since: None,
        root: None,
        trial_balance: Vec::new(),
        faults: Vec::new(),
    };
    let size = rows::get::<Head>(txn, &book.keys.head())?.map_or(0, |head| head.size);
    let (cached, folded) = book.cached(txn)?;
    let mut replay = Replay { balances: Balances::default(), cycle: None };
    let mut is_cache_checked = false;
    let prefix = book.keys.entries().build();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = txn.scan(&prefix, after.as_deref(), SCAN_MAX_CELLS)?;
        for (key, row) in &page {
            let sequence = rows::sequence_of(key)?;
            if sequence != report.entries {
                report.fault(Some(sequence), "a sequence number is missing or stands twice");
            }
            if report.entries == folded {
                is_cache_checked = true;
                compare_cache(&mut report, &replay.balances, &cached);
            }
            let result = replay.entry(book, txn, sequence, row);
            report.note(Some(sequence), result)?;
            report.entries = report.entries.saturating_add(1);
        }
        compare_tables(&mut report, txn, &page)?;
        if page.len() < SCAN_MAX_CELLS {
            break;
        }
        after = page.into_iter().next_back().map(|(key, _)| key);
    }
    if !is_cache_checked {
        compare_cache(&mut report, &replay.balances, &cached);
    }
    if !book.are_tables_as_long(txn, size)? {
        report.fault(None, "the tables of the database have more or fewer entries");
    }
    if report.entries != size || folded > size {
        report.fault(None, "the number of entries is not the one that was counted");
    }
    let trial = replay.balances.trial_balance().map_err(BooksError::from);
    report.trial_balance = report.note(None, trial)?.unwrap_or_default();
    check_tree(book, txn, size, &mut report)?;
    check_transfers(book, txn, &mut report)?;
    Ok(report)
}

/// A page of the books, and what the tables of the database have of it.
fn compare_tables(report: &mut CheckReport, txn: &mut dyn Txn, page: &[Cell]) -> Result<(), BooksError> {
    let sequence = |cell: Option<&Cell>| cell.and_then(|(key, _)| rows::sequence_of(key).ok());
    let (Some(first), Some(last)) = (sequence(page.first()), sequence(page.last())) else { return Ok(()) };
    if report.faults.len() == MAX_FAULTS {
        return Ok(());
    }
    let readable =
        page.iter().filter_map(|(key, row)| Some((rows::sequence_of(key).ok()?, rows::decode(row).ok()?)));
    let readable: Vec<_> = readable.collect();
    for sequence in tables::otherwise(txn, first..=last, &readable)? {
        report.fault(Some(sequence), "the tables of the database say something else");
    }
    Ok(())
}

fn compare_cache(report: &mut CheckReport, replayed: &Balances, cached: &Balances) {
    if replayed != cached {
        report.fault(None, "the cached balances are not what the entries add up to");
    }
}

struct Replay {
    balances: Balances,
    cycle: Option<Cycle>,
}

impl Replay {
    fn entry(&mut self, book: &Book, txn: &mut dyn Txn, sequence: u64, row: &[u8]) -> Result<(), BooksError> {
        let stored: StoredEntry = rows::decode(row)?;
        let entry = read_entry(&stored)?;
        entry.check()?;
        self.balances.fold(&entry)?;
        if self.cycle.as_ref().is_some_and(|before| entry.cycle < *before) {
            return Err(BooksError::Damaged("an entry is dated into a closed cycle"));
        }
        self.cycle = Some(entry.cycle.clone());
        if txn.get(&book.keys.transfer(&entry.transfer).u64(sequence).build())?.is_none() {
            return Err(BooksError::Damaged("an entry is not listed under its transfer"));
        }
        let leaf = stored.leaf();
        // Nodes to the left were compared when their own leaves were.
        for (position, hash) in merkle::append(sequence, leaf, &mut |at| book.node(txn, at))? {
            if book.node(txn, position)? != hash {
                return Err(BooksError::Damaged("a node of the Merkle tree does not recompute"));
            }
        }
        Ok(())
    }
}

fn check_tree(book: &Book, txn: &mut dyn Txn, size: u64, report: &mut CheckReport) -> Result<(), BooksError> {
    let root = book.root_at(txn, size);
    report.root = report.note(None, root)?;
    if let Some(last) = book.last_checkpoint(txn)? {
        let root = book.root_at(txn, last.size);
        if report.note(None, root)?.is_some_and(|root| root != last.root) || last.size > size {
            report.fault(None, "the tree does not continue the last checkpoint");
        }
    }
    Ok(())
}

/// Every transfer's entries tell a story that the rules allow, and open reservations are looked at again.
fn check_transfers(book: &Book, txn: &mut dyn Txn, report: &mut CheckReport) -> Result<(), BooksError> {
    let prefix = book.keys.transfers().build();
    let mut after: Option<Vec<u8>> = None;
    let mut listed: u64 = 0;
    while let Some((key, _)) = txn.scan(&prefix, after.as_deref(), 1)?.into_iter().next() {
        let sequence = rows::sequence_of(&key)?;
        let stored = book.stored(txn, sequence).and_then(|stored| read_entry(&stored));
        let Some(first) = report.note(Some(sequence), stored)? else {
            after = Some(key);
            continue;
        };
        let story = book.transfer(txn, &first.transfer);
        let Some(story) = report.note(Some(sequence), story)? else {
            after = Some(key);
            continue;
        };
        report.transfers = report.transfers.saturating_add(1);
        listed = listed.saturating_add(u64::try_from(story.len()).unwrap_or(u64::MAX));
        // The last place of this transfer; going on from it skips the rest of the story.
        let last = story.last().map_or(sequence, |last| last.sequence);
        after = Some(book.keys.transfer(&first.transfer).u64(last).build().max(key));
        let ledger = TransferLedger::from_entries(story.into_iter().map(|listed| listed.entry));
        let Some(ledger) = report.note(Some(sequence), ledger.map_err(BooksError::from))? else { continue };
        let is_held = ledger.open_hold().is_some();
        report.open_holds = report.open_holds.saturating_add(u64::from(is_held));
        if is_held && !book.is_held(txn, &ledger)? {
            report.fault(Some(sequence), "nobody is told of a fee that is held");
        }
        let Some(reserved) = ledger.open_reservation() else { continue };
        report.open_reservations = report.open_reservations.saturating_add(1);
        let due = book.due_of(txn, &reserved.transfer);
        // What is held waits for people.
        if report.note(Some(sequence), due)? == Some(None) && !is_held {
            report.fault(Some(sequence), "nobody will look at an open reservation");
        }
    }
    if listed != report.entries {
        report.fault(None, "transfers list more or fewer entries than there are");
    }
    let counted = book.count_held(txn);
    if report.note(None, counted)?.is_some_and(|counted| counted != report.open_holds) {
        report.fault(None, "other fees are noted as held than are");
    }
    let held = book.held(txn);
    report.held_since = report.note(None, held)?.and_then(|held| held.since);
    let dues = book.are_dues_in_order(txn);
    if report.note(None, dues)? == Some(false) {
        report.fault(None, "the times at which fees are looked at are not in their order");
    }
    Ok(())
}
