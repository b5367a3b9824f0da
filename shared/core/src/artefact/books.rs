//! What the index states of its books to a hospital, so that its word can be held against it.
//!
//! The page lists commitments; the entries themselves travel beside it (`message::BooksAnswer`), each opened by its
//! salt. So a page can be shown to others with the entries of one transfer open, and the rest stay what they are.

use crate::id::{Digest, HospitalId, TransferId};
use crate::{Timestamp, cbor_enum, cbor_map};

use super::federation::Order;

cbor_map! {
    /// All entries of a part of the books that concern one hospital, as source or destination. Signed by the index.
    pub struct LedgerPage {
        /// The hospital.
        1 => hospital: HospitalId,
        /// How many entries the log had when the hospital was last told, by its question.
        2 => seen: u64,
        /// From this sequence number on.
        3 => from: u64,
        /// Up to this one (exclusive).
        4 => until: u64,
        /// Ascending; there are no others.
        5 => lines: Vec<PageLine>,
        /// Entries in the whole log at that moment.
        6 => size: u64,
        /// The log's root over them (RFC 6962).
        7 => root: Digest,
        /// When.
        8 => issued: Timestamp,
        /// [`LedgerPage::hashes`] of the proof that the log continues the one that was seen: what goes beside the page
        /// is the index's word, too.
        9 => consistency: Digest,
    }
}

impl LedgerPage {
    /// How the hashes of a proof are signed.
    #[must_use]
    pub fn hashes(proof: &[Digest]) -> Digest {
        let parts: Vec<&[u8]> = proof.iter().map(|it| it.as_bytes().as_slice()).collect();
        Digest::sha256(&parts)
    }
}

cbor_map! {
    /// An entry on a page.
    pub struct PageLine {
        /// Its sequence number, which is its leaf in the log.
        1 => sequence: u64,
        /// Salted hash of it: the leaf.
        2 => commitment: Digest,
        /// [`LedgerPage::hashes`] of the proof that it is a leaf.
        3 => path: Digest,
    }
}

cbor_enum! {
    /// For whom a hold is settled.
    pub enum Settled {
        /// The fee is due.
        ForSource = 1, "source";
        /// Nothing is owed.
        ForPayer = 2, "payer";
    }
}

/// The longest reason of a [`HoldOrder`], in bytes.
pub const HOLD_REASON_MAX_BYTES: usize = 1_024;
/// The most bytes of a [`HoldOrder`] with its signatures: it travels beside every entry that stands on it.
pub const HOLD_ORDER_MAX_BYTES: usize = 4 * 1_024;

cbor_map! {
    /// Two different operators settle a hold on a fee.
    pub struct HoldOrder {
        /// The transfer.
        1 => transfer: TransferId,
        /// The hold's entry.
        2 => hold: Digest,
        /// For whom.
        3 => settled: Settled,
        /// Why, for people, in [`HOLD_REASON_MAX_BYTES`]; no patient data.
        4 => reason: String,
        /// When the first operator signed.
        5 => issued: Timestamp,
    }
}

impl Order for HoldOrder {
    fn issued(&self) -> Timestamp {
        self.issued
    }
}

super::payload_types! {
    LedgerPage = "handover/ledger-page/1",
    HoldOrder = "handover/hold-order/1",
}
