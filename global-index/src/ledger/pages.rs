//! A part of the books as it can be shown and proven: entries with the salts that open them, and their proofs.

use handover_core::artefact::books::HOLD_ORDER_MAX_BYTES;
use handover_core::ledger::Entry;
use handover_core::{Digest, HospitalId};
use handover_store::{SCAN_MAX_CELLS, Txn};

use super::book::read_entry;
use super::rows::{self, StoredEntry};
use super::{Book, BooksError, Inclusion, TreeHead};

/// Entries of one part.
const MAX_ENTRIES: usize = 64;
/// Bytes of their encodings with what travels beside them ([`shown_bytes`]): all of it has to fit a message.
const MAX_BYTES: usize = 256 * 1024;

/// An entry with its bytes and its proof.
#[derive(Clone)]
pub struct Proven {
    /// What it says.
    pub entry: Entry,
    /// How it is encoded.
    pub bytes: Vec<u8>,
    /// That it is in the tree.
    pub proof: Inclusion,
}

/// What concerns one hospital in a part of the books.
#[derive(Clone)]
pub struct Part {
    /// The tree.
    pub tree: TreeHead,
    /// All that concerns it below this sequence number is there.
    pub until: u64,
    /// Ascending.
    pub entries: Vec<Proven>,
    /// That the tree continues the one that was seen; empty if it does not.
    pub consistency: Vec<Digest>,
}

/// What is shown of an entry: itself, its path, and the order that it stands on, if it stands on one.
pub(super) fn shown_bytes(it: &Proven) -> usize {
    let order = if it.entry.evidence.order.is_some() { HOLD_ORDER_MAX_BYTES } else { 0 };
    let path = it.proof.path.len().saturating_mul(size_of::<Digest>());
    it.bytes.len().saturating_add(path).saturating_add(order)
}

impl Book {
    /// The entries from `from` on in which the hospital is source or destination; and that the tree continues the one
    /// of `seen` leaves. Looks at no more than a page of the books.
    ///
    /// # Errors
    /// [`BooksError`]; [`BooksError::Damaged`] if the tree does not continue what was signed last.
    pub fn part(
        &self,
        txn: &mut dyn Txn,
        hospital: &HospitalId,
        from: u64,
        seen: u64,
    ) -> Result<Part, BooksError> {
        let tree = self.tree_head(txn)?;
        self.check_continues(txn, &tree)?;
        let consistency =
            if (1..=tree.size).contains(&seen) { self.consistency(txn, seen)? } else { Vec::new() };
        let (mut entries, mut bytes) = (Vec::new(), 0_usize);
        let mut until = from.min(tree.size);
        for (sequence, stored) in self.stored_from(txn, from)? {
            let entry = read_entry(&stored)?;
            if [&entry.source, &entry.destination].contains(&hospital) {
                if entries.len() == MAX_ENTRIES {
                    return Ok(Part { tree, until, entries, consistency });
                }
                let proof = self.inclusion_of(txn, &tree, sequence, &stored)?;
                let shown = Proven { entry, bytes: stored.entry.0, proof };
                bytes = bytes.saturating_add(shown_bytes(&shown));
                if bytes > MAX_BYTES {
                    return Ok(Part { tree, until, entries, consistency });
                }
                entries.push(shown);
            }
            until = sequence.saturating_add(1);
        }
        Ok(Part { tree, until, entries, consistency })
    }

    fn stored_from(&self, txn: &mut dyn Txn, from: u64) -> Result<Vec<(u64, StoredEntry)>, BooksError> {
        let after = from.checked_sub(1).map(|before| self.keys.entry(before));
        txn.scan(&self.keys.entries().build(), after.as_deref(), SCAN_MAX_CELLS)?
            .iter()
            .map(|(key, row)| Ok((rows::sequence_of(key)?, rows::decode(row)?)))
            .collect()
    }
}
