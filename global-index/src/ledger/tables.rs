//! The books as tables with constraints, where the store lies in a database: each entry is appended there in the
//! transaction that books it, and whatever contradicts a constraint is not booked.
//!
//! The books are the sealed entries; the tables are for who asks the database. [`Ledger::check`] compares both.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use handover_core::ledger::Entry;
use handover_core::{Digest, Timestamp};
use handover_store::{Tables, Txn};
use serde_json::{Value, json};

use super::book::read_entry;
use super::rows::{self, Head, StoredEntry};
use super::{Book, BooksError, Ledger};

/// What a database keeps beside the index's store.
pub static TABLES: Tables = Tables {
    name: "ledger",
    steps: &[include_str!("tables/1.sql"), include_str!("tables/2.sql"), include_str!("tables/3.sql")],
};

const ENTRIES: &str = "ledger_entry";
const POSTINGS: &str = "ledger_posting";
/// Entries that are appended to tables in one go, when these are made or made anew.
const FILL_ENTRIES: usize = 500;
const OTHERWISE: BooksError = BooksError::Damaged(
    "the tables beside them say something else: see `check`; to have them made anew, stop the index, \
     DROP VIEW ledger_fee, ledger_balance and TABLE ledger_posting, ledger_entry, ledger_version in its schema, start it, \
     and grant again what others may read",
);
/// What comes after it has no date that every database can write.
const FAR_FUTURE: Timestamp = Timestamp::from_millis(253_402_300_800_000);

/// An entry as rows: its own, and those of its postings.
struct EntryRows {
    entry: String,
    postings: Vec<String>,
}

impl EntryRows {
    fn new(sequence: u64, leaf: Digest, entry: &Entry) -> Self {
        let (currency, evidence) = (entry.amount.currency(), &entry.evidence);
        let row = json!({
            "sequence": sequence,
            "previous": sequence.checked_sub(1),
            "leaf": bytes(Some(leaf)),
            "id": bytes(Some(entry.id)),
            "kind": entry.kind.as_str(),
            "number": entry.sequence,
            "transfer": entry.transfer.to_string(),
            "source": entry.source.as_str(),
            "destination": entry.destination.as_str(),
            "payer": entry.payer.to_string(),
            "currency": currency.to_string(),
            "exponent": currency.exponent(),
            "amount_minor": entry.amount.minor(),
            "cap_minor": entry.cap.minor(),
            "stated_minor": entry.stated.map(|stated| stated.minor()),
            "stated_currency": entry.stated.map(|stated| stated.currency().to_string()),
            "about": bytes(entry.about),
            "reason": entry.reason.map(|reason| reason.as_str()),
            "expires": entry.expires.map(time),
            "booked": time(entry.at),
            "cycle": entry.cycle.as_str(),
            "quote": bytes(evidence.quote),
            "consent": bytes(evidence.consent),
            "acceptance": bytes(evidence.acceptance),
            "header": bytes(evidence.header),
            "delivered": bytes(evidence.delivered),
            "key_release": bytes(evidence.key_release),
            "share_release": bytes(evidence.share_release),
            "receipt": bytes(evidence.receipt),
            "revocation": bytes(evidence.revocation),
            "recall": bytes(evidence.recall),
            "hold_order": bytes(evidence.order),
            "refusal": bytes(evidence.refusal),
        });
        let postings = entry.postings.iter().enumerate().map(|(line, posting)| {
            let row = json!({
                "sequence": sequence,
                "line": line,
                "debit": posting.debit.holder.to_string(),
                "credit": posting.credit.holder.to_string(),
                "currency": posting.debit.currency.to_string(),
                "amount_minor": posting.amount_minor,
            });
            written(row)
        });
        Self { entry: written(row), postings: postings.collect() }
    }

    fn read(sequence: u64, stored: &StoredEntry) -> Result<Self, BooksError> {
        Ok(Self::new(sequence, stored.leaf(), &read_entry(stored)?))
    }

    fn append(self, txn: &mut dyn Txn) -> Result<(), BooksError> {
        let Some(mut rows) = txn.rows() else { return Ok(()) };
        rows.append(ENTRIES, self.entry)?;
        Ok(self.postings.into_iter().try_for_each(|row| rows.append(POSTINGS, row))?)
    }
}

fn bytes(hash: Option<Digest>) -> Value {
    hash.map_or(Value::Null, |hash| format!("\\x{}", hex::encode(hash.as_bytes())).into())
}

/// From the year 10000 on it is as good as never.
fn time(at: Timestamp) -> String {
    if at < FAR_FUTURE { at.to_string() } else { "infinity".to_owned() }
}

/// A row without what is null.
fn written(mut row: Value) -> String {
    if let Some(columns) = row.as_object_mut() {
        columns.retain(|_, value| !value.is_null());
    }
    row.to_string()
}

/// Appends an entry that was booked.
pub(super) fn append(
    txn: &mut dyn Txn,
    sequence: u64,
    leaf: Digest,
    entry: &Entry,
) -> Result<(), BooksError> {
    if txn.rows().is_none() {
        return Ok(());
    }
    EntryRows::new(sequence, leaf, entry).append(txn)
}

/// Takes entries out that make room.
pub(super) fn take_out(txn: &mut dyn Txn, from: u64) -> Result<(), BooksError> {
    let Some(mut rows) = txn.rows() else { return Ok(()) };
    Ok([POSTINGS, ENTRIES].into_iter().try_for_each(|table| rows.take_out(table, from))?)
}

impl Book {
    /// Appends to the tables what they do not have yet, at most [`FILL_ENTRIES`]; how many it was.
    fn fill_tables(&self, txn: &mut dyn Txn) -> Result<usize, BooksError> {
        let Some(rows) = txn.rows() else { return Ok(0) };
        let last = rows.last(ENTRIES)?;
        let size = rows::get::<Head>(txn, &self.keys.head())?.map_or(0, |head| head.size);
        let next = last.map_or(0, |last| last.saturating_add(1));
        if next > size {
            return Err(OTHERWISE);
        }
        if let Some(last) = last {
            let stored = self.stored(txn, last)?;
            if !otherwise(txn, last..=last, &[(last, stored)])?.is_empty() {
                return Err(OTHERWISE);
            }
        }
        let missing = self.stored_from(txn, next, FILL_ENTRIES)?;
        for (sequence, stored) in &missing {
            EntryRows::read(*sequence, stored)?.append(txn)?;
        }
        Ok(missing.len())
    }

    /// Whether the tables have as many entries as the books; true where there are none.
    pub(super) fn are_tables_as_long(&self, txn: &mut dyn Txn, size: u64) -> Result<bool, BooksError> {
        let Some(rows) = txn.rows() else { return Ok(true) };
        Ok(rows.last(ENTRIES)? == size.checked_sub(1))
    }
}

/// Where the tables say something else than these entries, which are to be all in a range of sequence numbers: the lowest
/// of them. None where there are no tables.
pub(super) fn otherwise(
    txn: &mut dyn Txn,
    range: RangeInclusive<u64>,
    entries: &[(u64, StoredEntry)],
) -> Result<BTreeSet<u64>, BooksError> {
    let Some(rows) = txn.rows() else { return Ok(BTreeSet::new()) };
    let (mut expected, mut postings) = (Vec::new(), Vec::new());
    for (sequence, stored) in entries {
        // One that cannot be read is one that differs.
        if let Ok(of_one) = EntryRows::read(*sequence, stored) {
            expected.push(of_one.entry);
            postings.extend(of_one.postings);
        }
    }
    let mut found: BTreeSet<u64> = rows.differing(ENTRIES, range.clone(), &expected)?.into_iter().collect();
    found.extend(rows.differing(POSTINGS, range, &postings)?);
    Ok(found)
}

impl Ledger {
    /// Writes to the tables what they do not have yet: for a store that was moved to a database a moment ago, or was
    /// there before there were tables. Before anything is booked.
    ///
    /// # Errors
    /// [`BooksError::Damaged`] if they have something else than the books; those of the store.
    pub async fn fill_tables(&self) -> Result<(), BooksError> {
        let mut filled: usize = 0;
        loop {
            let book = self.book.clone();
            let more = self.store.write(move |txn| book.fill_tables(txn)).await?;
            if filled == 0 && more == FILL_ENTRIES {
                tracing::info!("the books are written to their tables");
            }
            filled = filled.saturating_add(more);
            if more < FILL_ENTRIES {
                if filled > 0 {
                    tracing::info!(entries = filled, "the tables have all of the books");
                }
                return Ok(());
            }
        }
    }
}
