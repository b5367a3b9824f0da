//! Appending to the books and reading from them, inside a transaction.

use handover_core::codec::{self, Bytes, Extensions};
use handover_core::ledger::merkle;
use handover_core::ledger::{
    Command, Context, Cycle, Decision, Entry, EntryKind, Evidence, Holder, MAX_ENTRY_BYTES, Reason, Terms,
    TransferLedger, apply,
};
use handover_core::{Amount, Code, Digest, HospitalId, Timestamp, TransferId};
use handover_store::{KeyMaker, SCAN_MAX_CELLS, Txn};

use super::rows::{self, Head, Keys, StoredEntry};
use super::{BooksError, tables};
use crate::voice;

/// The books, for use inside a transaction.
#[derive(Clone)]
pub struct Book {
    pub(super) keys: Keys,
    /// Whether it takes what comes back to a store that was rolled back.
    is_for_the_way_back: bool,
}

/// When something is booked, and fresh randomness for the commitments. Both come from the edge, so that a
/// transaction that is run again writes the same.
#[derive(Clone)]
pub struct Booking {
    /// Now.
    pub now: Timestamp,
    /// 32 random bytes, never used twice.
    pub salt_seed: [u8; 32],
}

/// The answer to a booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The entry that answers it and its sequence number.
    pub entry: Listed,
    /// Whether it stood before; nothing was written then.
    pub is_repeated: bool,
}

/// An entry with its place in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Sequence number and leaf index, from 0.
    pub sequence: u64,
    /// The entry.
    pub entry: Entry,
}

/// Which entries to list; what is `None` does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one transfer.
    pub transfer: Option<TransferId>,
    /// In which this hospital is source or destination.
    pub hospital: Option<HospitalId>,
    /// In which this party pays.
    pub payer: Option<Holder>,
    /// In one settlement cycle.
    pub cycle: Option<Cycle>,
    /// Of one kind.
    pub kind: Option<EntryKind>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What matches, in the order of sequence numbers.
    pub entries: Vec<Listed>,
    /// Give this as `after` for the next page; `None` at the end. A page can be empty and not the last.
    pub next: Option<u64>,
}

impl Filter {
    fn matches(&self, entry: &Entry) -> bool {
        self.transfer.is_none_or(|transfer| entry.transfer == transfer)
            && self.hospital.as_ref().is_none_or(|id| [&entry.source, &entry.destination].contains(&id))
            && self.payer.as_ref().is_none_or(|payer| entry.payer == *payer)
            && self.cycle.as_ref().is_none_or(|cycle| entry.cycle == *cycle)
            && self.kind.is_none_or(|kind| entry.kind == kind)
    }
}

/// Sets a commitment's salt apart from other hashes of the seed.
const SALT_LABEL: &[u8] = b"handover/ledger-salt/1";

impl Book {
    /// The books under these keys.
    #[must_use]
    pub const fn new(keys: KeyMaker) -> Self {
        Self { keys: Keys(keys), is_for_the_way_back: false }
    }

    /// The same for what comes back to a store that was rolled back, and books nothing else.
    #[must_use]
    pub(crate) fn for_the_way_back(&self) -> Self {
        Self { is_for_the_way_back: true, ..self.clone() }
    }

    /// The source stored `Sealed`: the fee becomes pending until `expires`.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn reserve(
        &self,
        txn: &mut dyn Txn,
        booking: &Booking,
        terms: &Terms,
        expires: Timestamp,
        evidence: &Evidence,
    ) -> Result<Booked, BooksError> {
        let command = Command::Reserve { terms: terms.clone(), expires, evidence: evidence.clone() };
        self.book(txn, booking, &terms.transfer, &command)
    }

    /// Delivery is proved: the fee becomes due, whatever went before.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn post(
        &self,
        txn: &mut dyn Txn,
        booking: &Booking,
        terms: &Terms,
        evidence: &Evidence,
    ) -> Result<Booked, BooksError> {
        let command = Command::Post { terms: terms.clone(), evidence: evidence.clone() };
        self.book(txn, booking, &terms.transfer, &command)
    }

    /// Lets a reservation go.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn void(
        &self,
        txn: &mut dyn Txn,
        booking: &Booking,
        transfer: &TransferId,
        reason: Reason,
        evidence: &Evidence,
    ) -> Result<Booked, BooksError> {
        self.book(txn, booking, transfer, &Command::Void { reason, evidence: evidence.clone() })
    }

    /// Takes back a posted fee or a part of it, once for each `number`.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    #[expect(clippy::too_many_arguments, reason = "one field of the entry each, all of different types")]
    pub fn reverse(
        &self,
        txn: &mut dyn Txn,
        booking: &Booking,
        transfer: &TransferId,
        number: u32,
        amount: Amount,
        reason: Reason,
        evidence: &Evidence,
    ) -> Result<Booked, BooksError> {
        let command = Command::Reverse { sequence: number, amount, reason, evidence: evidence.clone() };
        self.book(txn, booking, transfer, &command)
    }

    /// The destination disputes the fee: nothing more is booked by itself until people have looked.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn hold(
        &self,
        txn: &mut dyn Txn,
        booking: &Booking,
        terms: &Terms,
        stated: Option<Amount>,
        evidence: &Evidence,
    ) -> Result<Booked, BooksError> {
        let command = Command::Hold { terms: terms.clone(), stated, evidence: evidence.clone() };
        self.book(txn, booking, &terms.transfer, &command)
    }

    /// Two operators settle a hold, once.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn settle(
        &self,
        txn: &mut dyn Txn,
        booking: &Booking,
        terms: &Terms,
        is_due: bool,
        evidence: &Evidence,
    ) -> Result<Booked, BooksError> {
        let command = Command::Settle { terms: terms.clone(), is_due, evidence: evidence.clone() };
        self.book(txn, booking, &terms.transfer, &command)
    }

    /// What the books say of a transfer.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn story(&self, txn: &mut dyn Txn, transfer: &TransferId) -> Result<TransferLedger, BooksError> {
        let listed = self.transfer(txn, transfer)?;
        Ok(TransferLedger::from_entries(listed.into_iter().map(|listed| listed.entry))?)
    }

    /// What the rules decide on a command about a transfer.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn book(
        &self,
        txn: &mut dyn Txn,
        booking: &Booking,
        transfer: &TransferId,
        command: &Command,
    ) -> Result<Booked, BooksError> {
        if !self.is_for_the_way_back && voice::is_catching_up(txn, &self.keys.0)? {
            return Err(BooksError::Silent(Code::CatchingUp));
        }
        let listed = self.transfer(txn, transfer)?;
        let mut ledger = TransferLedger::from_entries(listed.iter().map(|listed| listed.entry.clone()))?;
        let head: Option<Head> = rows::get(txn, &self.keys.head())?;
        let context = Context { now: booking.now, open_cycle: head.as_ref().map(|head| head.cycle.clone()) };
        match apply(&ledger, &context, command)? {
            Decision::AlreadyDone(standing) => listed
                .into_iter()
                .find(|listed| listed.entry.id == standing.id)
                .map(|entry| Booked { entry, is_repeated: true })
                .ok_or(BooksError::Damaged("an entry without its place")),
            Decision::Append(entries) => {
                let mut size = head.map_or(0, |head| head.size);
                let mut booked = None;
                for entry in entries {
                    self.append(txn, size, &entry, &booking.salt_seed)?;
                    self.keep_due(txn, &entry)?;
                    ledger.push(entry.clone())?;
                    booked = Some(Listed { sequence: size, entry });
                    size = size.checked_add(1).ok_or(BooksError::Damaged("the sequence number"))?;
                }
                self.keep_held(txn, &ledger)?;
                let entry = booked.ok_or(BooksError::Damaged("a decision without entries"))?;
                let cycle = entry.entry.cycle.clone();
                let head = Head { size, cycle, extensions: Extensions::default() };
                rows::put(txn, &self.keys.head(), &head)?;
                Ok(Booked { entry, is_repeated: false })
            }
        }
    }

    /// Writes the entry, its place in the transfer, its leaf and the nodes that the leaf completes.
    fn append(
        &self,
        txn: &mut dyn Txn,
        sequence: u64,
        entry: &Entry,
        salt_seed: &[u8; 32],
    ) -> Result<(), BooksError> {
        let bytes = codec::encode(entry);
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(BooksError::Damaged("an entry is too large"));
        }
        // Two entries of one booking differ in their identifiers, so each has a salt of its own.
        let salt = *Digest::sha256(&[SALT_LABEL, salt_seed, entry.id.as_bytes()]).as_bytes();
        let stored = StoredEntry { salt, entry: Bytes(bytes), extensions: Extensions::default() };
        self.append_stored(txn, sequence, entry, &stored)
    }

    /// The same with its salt and its bytes.
    pub(super) fn append_stored(
        &self,
        txn: &mut dyn Txn,
        sequence: u64,
        entry: &Entry,
        stored: &StoredEntry,
    ) -> Result<(), BooksError> {
        let leaf = stored.leaf();
        tables::append(txn, sequence, leaf, entry)?;
        for (position, hash) in merkle::append(sequence, leaf, &mut |position| self.node(txn, position))? {
            txn.put(&self.keys.node(position.level, position.index), hash.as_bytes().to_vec())?;
        }
        rows::put(txn, &self.keys.entry(sequence), stored)?;
        let place = self.keys.transfer(&entry.transfer).u64(sequence).build();
        Ok(txn.put(&place, Vec::new())?)
    }

    /// The entry with this sequence number and the salt of its commitment.
    pub(super) fn stored(&self, txn: &mut dyn Txn, sequence: u64) -> Result<StoredEntry, BooksError> {
        rows::get(txn, &self.keys.entry(sequence))?.ok_or(BooksError::UnknownEntry(sequence))
    }

    /// A transfer's entries, oldest first; none for a transfer that the books do not know.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn transfer(&self, txn: &mut dyn Txn, transfer: &TransferId) -> Result<Vec<Listed>, BooksError> {
        let prefix = self.keys.transfer(transfer).build();
        let mut listed = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let places = txn.scan(&prefix, after.as_deref(), SCAN_MAX_CELLS)?;
            for (key, _) in &places {
                let sequence = rows::sequence_of(key)?;
                let entry = read_entry(&self.stored(txn, sequence)?)?;
                if entry.transfer != *transfer {
                    return Err(BooksError::Damaged("an entry stands under another transfer"));
                }
                listed.push(Listed { sequence, entry });
            }
            if places.len() < SCAN_MAX_CELLS {
                return Ok(listed);
            }
            after = places.into_iter().next_back().map(|(key, _)| key);
        }
    }

    /// Entries with sequence numbers above `after` that match, looking at no more than `limit` (up to 1,000) of them.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn list(
        &self,
        txn: &mut dyn Txn,
        filter: &Filter,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page, BooksError> {
        if let Some(transfer) = &filter.transfer {
            let mut entries = self.transfer(txn, transfer)?;
            entries.retain(|listed| {
                after.is_none_or(|after| listed.sequence > after) && filter.matches(&listed.entry)
            });
            return Ok(Page { entries, next: None });
        }
        let limit = limit.clamp(1, SCAN_MAX_CELLS);
        let mut entries = self.page(txn, after, limit)?;
        let next = entries.last().filter(|_| entries.len() == limit).map(|listed| listed.sequence);
        entries.retain(|listed| filter.matches(&listed.entry));
        Ok(Page { entries, next })
    }

    /// Entries with sequence numbers above `after`, at most `limit`.
    pub(super) fn page(
        &self,
        txn: &mut dyn Txn,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Listed>, BooksError> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let page = self.stored_from(txn, from, limit)?;
        page.iter()
            .map(|(sequence, stored)| Ok(Listed { sequence: *sequence, entry: read_entry(stored)? }))
            .collect()
    }

    /// Entries as they are stored, from a sequence number on, at most `limit`.
    pub(super) fn stored_from(
        &self,
        txn: &mut dyn Txn,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, StoredEntry)>, BooksError> {
        let after = from.checked_sub(1).map(|before| self.keys.entry(before));
        txn.scan(&self.keys.entries().build(), after.as_deref(), limit)?
            .iter()
            .map(|(key, row)| Ok((rows::sequence_of(key)?, rows::decode(row)?)))
            .collect()
    }
}

pub(super) fn read_entry(stored: &StoredEntry) -> Result<Entry, BooksError> {
    codec::decode(stored.entry.as_ref(), MAX_ENTRY_BYTES)
        .map_err(|_| BooksError::Damaged("an entry cannot be read"))
}
