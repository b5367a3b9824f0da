//! A part of the books as it can be shown and proven: entries with the salts that open them, and their proofs.

use handover_core::artefact::books::HOLD_ORDER_MAX_BYTES;
use handover_core::ledger::Entry;
use handover_core::{Digest, HospitalId};
use handover_store::{SCAN_MAX_CELLS, Txn};

use super::book::read_entry;
use super::{Book, BooksError, Inclusion, TreeHead};

/// Entries of one part.
const MAX_ENTRIES: usize = 64;
/// Bytes of their encodings with what travels beside them ([`shown_bytes`]): all of it has to fit a message.
const MAX_BYTES: usize = 256 * 1024;
/// The least that an entry of others counts.
const KEPT_MIN_BYTES: usize = 1_200;

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

/// What concerns one hospital in a part of the books, and what it is to keep of the rest.
#[derive(Clone)]
pub struct Part {
    /// The tree, as far as it is with others or in this part.
    pub tree: TreeHead,
    /// All that concerns it below this sequence number is there.
    pub until: u64,
    /// Ascending.
    pub entries: Vec<Proven>,
    /// That the tree continues the one that was seen; empty if it does not.
    pub consistency: Vec<Digest>,
    /// Each entry below this sequence number is with its source and its destination.
    pub held: u64,
    /// Others' entries from there on, for the index alone to read.
    pub others: Vec<Kept>,
}

/// An entry that somebody keeps whose matter it is not.
#[derive(Clone)]
pub struct Kept {
    /// Its sequence number.
    pub sequence: u64,
    /// What it says.
    pub entry: Entry,
    /// Opens its commitment.
    pub salt: [u8; 32],
    /// How it is encoded.
    pub bytes: Vec<u8>,
}

/// What is shown of an entry: itself, its path, and the order that it stands on, if it stands on one.
pub(super) fn shown_bytes(it: &Kept, size: u64) -> usize {
    let levels = usize::try_from(u64::BITS.saturating_sub(size.leading_zeros())).unwrap_or(usize::MAX);
    let path = levels.saturating_mul(size_of::<Digest>());
    it.bytes.len().saturating_add(path).saturating_add(order_bytes(&it.entry))
}

/// What a hospital is given to keep of an entry of others: sealed, with its padding.
fn kept_bytes(it: &Kept) -> usize {
    let bytes = it.bytes.len().saturating_add(order_bytes(&it.entry));
    bytes.saturating_add(bytes / 4).max(KEPT_MIN_BYTES)
}

fn order_bytes(entry: &Entry) -> usize {
    if entry.evidence.order.is_some() { HOLD_ORDER_MAX_BYTES } else { 0 }
}

/// What goes into one part.
#[derive(Default)]
struct Taken {
    own: Vec<Kept>,
    others: Vec<Kept>,
    bytes: usize,
    until: u64,
}

impl Taken {
    /// Takes one more, unless there is no room for it; whether it did.
    fn add(&mut self, it: Kept, hospital: &HospitalId, (size, held): (u64, u64)) -> bool {
        let is_own = [&it.entry.source, &it.entry.destination].contains(&hospital);
        let is_kept = !is_own && it.sequence >= held;
        let next = it.sequence.saturating_add(1);
        let more = match (is_own, is_kept) {
            (true, _) => shown_bytes(&it, size),
            (_, true) => kept_bytes(&it),
            _ => 0,
        };
        let bytes = self.bytes.saturating_add(more);
        if more > 0 && bytes > MAX_BYTES || is_own && self.own.len() == MAX_ENTRIES {
            return false;
        }
        self.bytes = bytes;
        self.until = next;
        if is_own {
            self.own.push(it);
        } else if is_kept {
            self.others.push(it);
        }
        true
    }
}

impl Book {
    /// The entries from `from` on in which the hospital is source or destination, and that the tree continues the one of
    /// `seen` leaves; and others' entries that are not with both of their hospitals. Looks at no more than a page of the
    /// books. What is stated is in the part, or with others, or was stated to this hospital before ([`Self::put_told`]):
    /// whatever it asks for.
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
        let (size, held) = (self.size(txn)?, self.copied(txn)?.held);
        let told = self.stated_to(txn, hospital)?;
        let from = from.min(told);
        let mut taken = Taken { until: from, ..Taken::default() };
        for (sequence, stored) in self.stored_from(txn, from, SCAN_MAX_CELLS)? {
            let entry = read_entry(&stored)?;
            let kept = Kept { sequence, entry, salt: stored.salt, bytes: stored.entry.0 };
            if !taken.add(kept, hospital, (size, held)) {
                break;
            }
        }
        let Taken { own, others, until, .. } = taken;
        // Never less than was stated to this hospital before.
        let tree = self.stated_with(txn, until.max(told))?;
        self.check_continues(txn, &tree)?;
        let is_seen = (1..=tree.size).contains(&seen);
        let consistency = if is_seen { self.consistency(txn, seen, tree.size)? } else { Vec::new() };
        let mut entries = Vec::with_capacity(own.len());
        for Kept { sequence, entry, salt, bytes } in own {
            let proof = self.inclusion_of(txn, &tree, sequence, (&salt, &bytes))?;
            entries.push(Proven { entry, bytes, proof });
        }
        Ok(Part { tree, until, entries, consistency, held, others })
    }
}
