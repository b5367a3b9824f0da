//! The books as tables with constraints, where the store lies in a database: each entry is appended there in the
//! transaction that books it, and whatever contradicts a constraint is not booked.
//!
//! The books are the sealed entries; the tables are for who asks the database. [`Ledger::check`] compares both.

use handover_core::codec;
use handover_core::ledger::{Entry, MAX_ENTRY_BYTES};
use handover_core::{Digest, Timestamp};
use handover_store::{Tables, Txn};
use serde_json::{Value, json};

use super::rows::{self, Head, StoredEntry};
use super::{Book, BooksError, Ledger};

/// What a database keeps beside the index's store.
pub static TABLES: Tables = Tables { name: "ledger", steps: &[include_str!("tables/1.sql")] };

const ENTRIES: &str = "ledger_entry";
const POSTINGS: &str = "ledger_posting";
/// Entries that are appended to tables in one go, when these are made or made anew.
const FILL_ENTRIES: usize = 500;
const OTHERWISE: BooksError = BooksError::Damaged(
    "the tables beside them say something else; to have them made anew, DROP TABLE ledger_posting, ledger_entry, \
     ledger_version CASCADE and start again",
);

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
            row.to_string()
        });
        Self { entry: row.to_string(), postings: postings.collect() }
    }

    fn read(sequence: u64, stored: &StoredEntry) -> Result<Self, BooksError> {
        let entry: Entry = codec::decode(stored.entry.as_ref(), MAX_ENTRY_BYTES)
            .map_err(|_| BooksError::Damaged("an entry cannot be read"))?;
        Ok(Self::new(sequence, stored.leaf(), &entry))
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

fn time(at: Timestamp) -> String {
    at.to_string()
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

impl Book {
    /// Appends to the tables what they do not have yet, at most [`FILL_ENTRIES`]; whether they have all of it then.
    fn fill_tables(&self, txn: &mut dyn Txn) -> Result<bool, BooksError> {
        let Some(rows) = txn.rows() else { return Ok(true) };
        let last = rows.last(ENTRIES)?;
        let size = rows::get::<Head>(txn, &self.keys.head())?.map_or(0, |head| head.size);
        let next = last.map_or(0, |last| last.saturating_add(1));
        if next > size {
            return Err(OTHERWISE);
        }
        if let Some(last) = last {
            let stored = self.stored(txn, last)?;
            if !are(txn, last, &[EntryRows::read(last, &stored)?])? {
                return Err(OTHERWISE);
            }
        }
        let missing = self.stored_from(txn, next, FILL_ENTRIES)?;
        if !missing.is_empty() {
            tracing::info!(from = next, of = size, "the books are written to their tables");
        }
        let is_all = missing.len() < FILL_ENTRIES;
        for (sequence, stored) in missing {
            EntryRows::read(sequence, &stored)?.append(txn)?;
        }
        Ok(is_all)
    }

    /// Whether the tables have as many entries as the books; true where there are none.
    pub(super) fn are_tables_as_long(&self, txn: &mut dyn Txn, size: u64) -> Result<bool, BooksError> {
        let Some(rows) = txn.rows() else { return Ok(true) };
        Ok(rows.last(ENTRIES)? == size.checked_sub(1))
    }
}

/// Those of these entries, which follow each other, that stand otherwise in the tables; none where there are no tables.
pub(super) fn otherwise(txn: &mut dyn Txn, entries: &[(u64, StoredEntry)]) -> Result<Vec<u64>, BooksError> {
    let Some((first, _)) = entries.first().filter(|_| txn.rows().is_some()) else { return Ok(Vec::new()) };
    // What cannot be read is named by whoever reads it.
    let readable: Result<Vec<_>, _> =
        entries.iter().map(|(sequence, stored)| EntryRows::read(*sequence, stored)).collect();
    let Ok(expected) = readable else { return Ok(Vec::new()) };
    if are(txn, *first, &expected)? {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for ((sequence, _), expected) in entries.iter().zip(expected) {
        if !are(txn, *sequence, &[expected])? {
            found.push(*sequence);
        }
    }
    Ok(found)
}

/// Whether the tables have exactly these entries from this sequence number on.
fn are(txn: &mut dyn Txn, from: u64, expected: &[EntryRows]) -> Result<bool, BooksError> {
    let Some(rows) = txn.rows() else { return Ok(true) };
    let until = from.saturating_add(expected.len() as u64);
    let entries: Vec<String> = expected.iter().map(|it| it.entry.clone()).collect();
    let postings: Vec<String> = expected.iter().flat_map(|it| it.postings.clone()).collect();
    Ok(rows.are(ENTRIES, from..until, &entries)? && rows.are(POSTINGS, from..until, &postings)?)
}

impl Ledger {
    /// Writes to the tables what they do not have yet: for a store that was moved to a database a moment ago, or was
    /// there before there were tables. Before anything is booked.
    ///
    /// # Errors
    /// [`BooksError::Damaged`] if they have something else than the books; those of the store.
    pub async fn fill_tables(&self) -> Result<(), BooksError> {
        loop {
            let book = self.book.clone();
            if self.store.write(move |txn| book.fill_tables(txn)).await? {
                return Ok(());
            }
        }
    }
}
