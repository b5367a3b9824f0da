//! The federation's books over a store: entries in the order of their sequence numbers, each a leaf of the Merkle
//! tree, with what is derived from them.
//!
//! The rules are `handover_core::ledger`'s; this room asks them inside the transaction that appends, so that an
//! entry, its leaf, its sequence number and whatever the caller stores beside it stand together or not at all.
//! [`Book`] works inside a transaction, [`Ledger`] opens one for each call. Balances are a cache that can be thrown
//! away: entries are the truth, and [`Ledger::check`] replays all of them.
//!
//! Nothing here knows who asks, how artefacts are verified, or how anything is shown.

mod back;
mod balances;
mod book;
mod check;
mod copies;
mod due;
mod held;
mod pages;
mod proof;
mod rows;
mod tables;
mod unstated;

#[cfg(test)]
mod tests;

use handover_core::artefact::Signer;
use handover_core::ledger::checkpoint::{Checkpoint, NoteError};
use handover_core::ledger::{Balances, Evidence, LedgerError, Reason, Terms};
use handover_core::{Amount, Code, HospitalId, Timestamp, TransferId};
use handover_seal::SealError;
use handover_store::{Store, StoreError};

pub use back::{Back, Plan};
pub use book::{Book, Booked, Booking, Filter, Listed, Page};
pub use check::{CheckReport, Fault};
pub use held::Held;
pub use pages::{Kept, Part, Proven};
pub use proof::{Inclusion, TreeHead};
pub use tables::TABLES;

/// Why the books did not take or tell something.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// A rule says no.
    #[error(transparent)]
    Rule(#[from] LedgerError),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A checkpoint could not be written.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// An entry could not be sealed for others to keep.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// This index may not speak now.
    #[error("{0}")]
    Silent(Code),
    /// What is stored is not what was written.
    #[error("the books are damaged: {0}")]
    Damaged(&'static str),
    /// No entry has this sequence number.
    #[error("no entry has the sequence number {0}")]
    UnknownEntry(u64),
}

impl BooksError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Rule(rule) => rule.code(),
            Self::Store(store) => store.code(),
            Self::Note(note) => note.code(),
            Self::Seal(fault) => fault.code(),
            Self::Silent(code) => *code,
            Self::Damaged(_) => Code::StoreDamaged,
            Self::UnknownEntry(_) => Code::UnknownRecord,
        }
    }
}

/// Entries behind the cached balances before a reader brings the cache forward.
const FOLD_TAIL: u64 = 500;

/// The books with their store: one transaction for each call.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    book: Book,
}

impl Ledger {
    /// The books in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let book = Book::new(store.keys());
        Self { store, book }
    }

    /// For use inside a caller's own transaction on the same store.
    #[must_use]
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// As [`Book::reserve`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn reserve(
        &self,
        booking: Booking,
        terms: Terms,
        expires: Timestamp,
        evidence: Evidence,
    ) -> Result<Booked, BooksError> {
        let book = self.book.clone();
        self.store.write(move |txn| book.reserve(txn, &booking, &terms, expires, &evidence)).await
    }

    /// As [`Book::post`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn post(
        &self,
        booking: Booking,
        terms: Terms,
        evidence: Evidence,
    ) -> Result<Booked, BooksError> {
        let book = self.book.clone();
        self.store.write(move |txn| book.post(txn, &booking, &terms, &evidence)).await
    }

    /// As [`Book::void`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn void(
        &self,
        booking: Booking,
        transfer: TransferId,
        reason: Reason,
        evidence: Evidence,
    ) -> Result<Booked, BooksError> {
        let book = self.book.clone();
        self.store.write(move |txn| book.void(txn, &booking, &transfer, reason, &evidence)).await
    }

    /// As [`Book::reverse`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn reverse(
        &self,
        booking: Booking,
        transfer: TransferId,
        number: u32,
        amount: Amount,
        reason: Reason,
        evidence: Evidence,
    ) -> Result<Booked, BooksError> {
        let book = self.book.clone();
        self.store
            .write(move |txn| book.reverse(txn, &booking, &transfer, number, amount, reason, &evidence))
            .await
    }

    /// As [`Book::transfer`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn transfer(&self, transfer: TransferId) -> Result<Vec<Listed>, BooksError> {
        let book = self.book.clone();
        self.store.read(move |txn| book.transfer(txn, &transfer)).await
    }

    /// As [`Book::list`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn list(&self, filter: Filter, after: Option<u64>, limit: usize) -> Result<Page, BooksError> {
        let book = self.book.clone();
        self.store.read(move |txn| book.list(txn, &filter, after, limit)).await
    }

    /// As [`Book::due`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<TransferId>, BooksError> {
        let book = self.book.clone();
        self.store.read(move |txn| book.due(txn, now, limit)).await
    }

    /// Every account's balance; brings the cache forward first if many entries lie behind it.
    ///
    /// # Errors
    /// [`BooksError`]; [`LedgerError::Unbalanced`] if the books do not balance.
    pub async fn balances(&self) -> Result<Balances, BooksError> {
        loop {
            let book = self.book.clone();
            if self.store.read(move |txn| book.unfolded(txn)).await? <= FOLD_TAIL {
                break;
            }
            let book = self.book.clone();
            self.store.write(move |txn| book.fold(txn)).await?;
        }
        let book = self.book.clone();
        self.store.read(move |txn| book.balances(txn)).await
    }

    /// As [`Book::tree_head`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn tree_head(&self) -> Result<TreeHead, BooksError> {
        let book = self.book.clone();
        self.store.read(move |txn| book.tree_head(txn)).await
    }

    /// As [`Book::stated`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn stated(&self) -> Result<TreeHead, BooksError> {
        let book = self.book.clone();
        self.store.read(move |txn| book.stated(txn)).await
    }

    /// As [`Book::put_told`], if that is news.
    ///
    /// # Errors
    /// [`BooksError`].
    pub(crate) async fn note_told(&self, hospital: &HospitalId, size: u64) -> Result<(), BooksError> {
        let (book, to) = (self.book.clone(), hospital.clone());
        if !self.store.read(move |txn| book.is_told_new(txn, &to, size)).await? {
            return Ok(());
        }
        let (book, to) = (self.book.clone(), hospital.clone());
        self.store.write(move |txn| book.put_told(txn, &to, size)).await
    }

    /// As [`Book::inclusion`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn inclusion(&self, sequence: u64) -> Result<Inclusion, BooksError> {
        let book = self.book.clone();
        self.store.read(move |txn| book.inclusion(txn, sequence)).await
    }

    /// A signed note over the tree as it is now, remembered before it is signed and refused if it would not continue
    /// the one before.
    ///
    /// # Errors
    /// [`BooksError`].
    pub async fn checkpoint(
        &self,
        origin: &str,
        extensions: Vec<String>,
        signer: &(dyn Signer + Sync),
    ) -> Result<String, BooksError> {
        let book = self.book.clone();
        let TreeHead { size, root } = self.store.write(move |txn| book.advance_checkpoint(txn)).await?;
        Ok(Checkpoint { origin: origin.to_owned(), size, root, extensions }.sign(signer)?)
    }

    /// Replays every entry and recomputes everything that is derived from them.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read; what is wrong with the books stands in the report.
    pub async fn check(&self) -> Result<CheckReport, BooksError> {
        let book = self.book.clone();
        self.store.read(move |txn| check::run(&book, txn)).await
    }
}
