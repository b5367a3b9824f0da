//! What a store keeps of itself, so that nothing can be missing unseen: how many transactions' groups it has committed,
//! and a sum over all of its cells, in all and by kind. Both are cells of its own, written in the same batch as what
//! they speak of, each with a keyed hash of its own. The other cells of its own (format, marks) are under the sums as
//! any, as one kind.
//!
//! The sum is modulo 2¹²⁸ of a keyed hash (BLAKE3) of each key and stored value: a cell that is written over goes out
//! and the new one comes in, whatever the order. A reading of everything that comes to another sum has something
//! missing, altered or too much. A kind is what stands readable in a key, its space's label.

use std::collections::BTreeMap;

use handover_core::Timestamp;
use handover_seal::Secret32;

use crate::StoreError;
use crate::meta::MOVE_KEY;
use crate::txn::{Cell, View, Writes};

/// The number, the time and the sum over everything.
pub(crate) const COMMIT_KEY: &[u8] = b"\0commit";
/// The sums by kind.
const KIND_START: &[u8] = b"\0kind-";
/// The version of both.
const VERSION: u8 = 1;
/// The kind of the store's own cells; no label of a space looks so.
pub(crate) const OWN_KIND: &[u8] = b"(store)";
const CHECK_BYTES: usize = 16;

/// Cells and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) cells: u64,
    hash: u128,
}

impl Sum {
    fn add(&mut self, hash: u128) {
        self.cells = self.cells.wrapping_add(1);
        self.hash = self.hash.wrapping_add(hash);
    }

    fn subtract(&mut self, hash: u128) {
        self.cells = self.cells.wrapping_sub(1);
        self.hash = self.hash.wrapping_sub(hash);
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend(self.cells.to_be_bytes());
        out.extend(self.hash.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (cells, hash) = bytes.split_first_chunk::<8>()?;
        let hash = <[u8; 16]>::try_from(hash).ok()?;
        Some(Self { cells: u64::from_be_bytes(*cells), hash: u128::from_be_bytes(hash) })
    }
}

/// A commit: its number, when it was, and whether the store has a mark since that keeps it from opening. The first,
/// number 1, makes the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Commit {
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) is_marked: bool,
}

impl Default for Commit {
    fn default() -> Self {
        Self { number: 0, at: Timestamp::from_millis(0), is_marked: false }
    }
}

/// As it is written, here and in the note.
pub(crate) const COMMIT_BYTES: usize = 17;

impl Commit {
    pub(crate) fn to_bytes(self) -> [u8; COMMIT_BYTES] {
        let mut bytes = [0; COMMIT_BYTES];
        let fields = self.number.to_be_bytes().into_iter().chain(self.at.as_millis().to_be_bytes());
        let fields = fields.chain([u8::from(self.is_marked)]);
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; COMMIT_BYTES]) -> Self {
        let [n0, n1, n2, n3, n4, n5, n6, n7, at @ .., is_marked] = bytes;
        Self {
            number: u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
            at: Timestamp::from_millis(i64::from_be_bytes(at)),
            is_marked: is_marked == 1,
        }
    }
}

/// What a store says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) commit: Commit,
    pub(crate) all: Sum,
    pub(crate) kinds: BTreeMap<Vec<u8>, Sum>,
}

/// Whether a cell holds number or sums: those are in no sum, for they speak of the others.
pub(crate) fn is_of_sums(key: &[u8]) -> bool {
    key == COMMIT_KEY || key.starts_with(KIND_START)
}

/// The kind of a key: its space's label.
pub(crate) fn kind_of(key: &[u8]) -> &[u8] {
    let label = match key.split_first() {
        Some((0, _)) => Some(OWN_KIND),
        Some((&length, rest)) => rest.get(..usize::from(length)),
        None => None,
    };
    label.unwrap_or(b"?")
}

fn kind_key(kind: &[u8]) -> Vec<u8> {
    [KIND_START, kind].concat()
}

/// Hashes cells.
#[derive(Clone)]
pub(crate) struct Summing(blake3::Hasher);

impl Summing {
    pub(crate) fn new(key: &Secret32) -> Self {
        Self(blake3::Hasher::new_keyed(key.expose()))
    }

    fn hash(&self, key: &[u8], stored: &[u8]) -> u128 {
        let mut hasher = self.0.clone();
        // The length separates key from value.
        hasher.update(&(key.len() as u64).to_be_bytes()).update(key).update(stored);
        let mut half = [0; 16];
        half.iter_mut().zip(hasher.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
        u128::from_be_bytes(half)
    }

    /// A value of the sums' own cells, with what shows that it was written so.
    fn seal(&self, key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
        let check = self.hash(key, &value);
        value.extend(check.to_be_bytes());
        value
    }

    fn unseal<'a>(&self, key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
        let (value, check) = stored.split_at_checked(stored.len().checked_sub(CHECK_BYTES)?)?;
        (self.hash(key, value).to_be_bytes() == *check).then_some(value)
    }

    /// Counts a cell in.
    pub(crate) fn count(&self, sums: &mut Sums, key: &[u8], stored: &[u8]) {
        let hash = self.hash(key, stored);
        sums.all.add(hash);
        sums.kinds.entry(kind_of(key).to_vec()).or_default().add(hash);
    }

    /// The sums after `writes` over what `below` holds, as commit `at`; and the cells of the store's own that say so.
    /// The difference holds the kinds that change only.
    pub(crate) fn change(
        &self,
        before: &Sums,
        below: &dyn View,
        writes: &Writes,
        at: Timestamp,
    ) -> Result<(Sums, Vec<Cell>), StoreError> {
        let number = before.commit.number.saturating_add(1);
        let is_marked = writes.get(MOVE_KEY).map_or(before.commit.is_marked, Option::is_some);
        let commit = Commit { number, at, is_marked };
        let mut after = Sums { commit, all: before.all, kinds: BTreeMap::new() };
        for (key, value) in writes.iter().filter(|(key, _)| !is_of_sums(key)) {
            let old = below.get(key)?.map(|stored| self.hash(key, &stored));
            let new = value.as_ref().map(|stored| self.hash(key, stored));
            let kind = kind_of(key);
            let held = before.kinds.get(kind).copied().unwrap_or_default();
            let sum = after.kinds.entry(kind.to_vec()).or_insert(held);
            if let Some(old) = old {
                after.all.subtract(old);
                sum.subtract(old);
            }
            if let Some(new) = new {
                after.all.add(new);
                sum.add(new);
            }
        }
        let mut cells = vec![(COMMIT_KEY.to_vec(), self.seal(COMMIT_KEY, after.commit_value()))];
        for (kind, sum) in &after.kinds {
            let mut value = vec![VERSION];
            sum.put(&mut value);
            let key = kind_key(kind);
            let value = self.seal(&key, value);
            cells.push((key, value));
        }
        Ok((after, cells))
    }

    /// What a store keeps; nothing where it cannot be read.
    pub(crate) fn kept(&self, view: &dyn View) -> Result<Option<Sums>, StoreError> {
        let commit = view.get(COMMIT_KEY)?;
        let commit = commit.as_ref().and_then(|stored| self.unseal(COMMIT_KEY, stored));
        let Some(mut kept) = commit.and_then(Sums::read_commit) else { return Ok(None) };
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = view.scan(KIND_START, after.as_deref(), crate::SCAN_MAX_CELLS)?;
            let Some((last, _)) = page.last() else { return Ok(Some(kept)) };
            after = Some(last.clone());
            for (key, stored) in &page {
                let sum = self.unseal(key, stored).and_then(<[u8]>::split_first);
                let sum = sum.filter(|(version, _)| **version == VERSION);
                let Some(sum) = sum.and_then(|(_, sum)| Sum::read(sum)) else { return Ok(None) };
                kept.kinds.insert(key.get(KIND_START.len()..).unwrap_or_default().to_vec(), sum);
            }
        }
    }
}

impl Sums {
    fn commit_value(&self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend(self.commit.to_bytes());
        self.all.put(&mut value);
        value
    }

    /// Takes over what a commit changed.
    pub(crate) fn take(&mut self, changed: Self) {
        self.commit = changed.commit;
        self.all = changed.all;
        self.kinds.extend(changed.kinds);
    }

    fn read_commit(value: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = value.split_first()? else { return None };
        let (commit, rest) = rest.split_first_chunk::<COMMIT_BYTES>()?;
        Some(Self { commit: Commit::from_bytes(*commit), all: Sum::read(rest)?, kinds: BTreeMap::new() })
    }

    /// What differs between what a store keeps and what it was `found` to hold, kind by kind; empty if nothing does.
    pub(crate) fn differences(&self, found: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let kinds =
            self.kinds.keys().chain(found.kinds.keys().filter(|kind| !self.kinds.contains_key(*kind)));
        for kind in kinds {
            let kept = self.kinds.get(kind).copied().unwrap_or_default();
            let there = found.kinds.get(kind).copied().unwrap_or_default();
            if kept != there {
                let name = String::from_utf8_lossy(kind);
                differences.push(if kept.cells == there.cells {
                    format!("of {} values of `{name}` some are not what was written", kept.cells)
                } else {
                    format!("of {} values of `{name}` {} are there", kept.cells, there.cells)
                });
            }
        }
        if differences.is_empty() && self.all != found.all {
            differences.push(format!("of {} values {} are there", self.all.cells, found.all.cells));
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::txn::tests::{Model, writes};

    proptest! {
        #[test]
        fn sums_that_are_kept_are_those_of_what_is_there(
            groups in proptest::collection::vec(writes(), 0..8), pick in any::<proptest::sample::Index>(),
        ) {
            let summing = Summing::new(&Secret32::from_bytes([1; 32]));
            let (mut model, mut kept) = (Model::default(), Sums::default());
            for group in &groups {
                let (changed, cells) = summing.change(&kept, &model, group, Timestamp::from_millis(7)).unwrap();
                kept.take(changed);
                for (key, value) in group.clone().into_iter().chain(cells.into_iter().map(|(key, value)| (key, Some(value)))) {
                    match value {
                        Some(value) => model.0.insert(key, value),
                        None => model.0.remove(&key),
                    };
                }
            }
            if groups.is_empty() {
                return Ok(());
            }
            prop_assert_eq!(summing.kept(&model).unwrap().unwrap(), kept.clone());
            let found = |model: &Model| {
                let mut found = Sums::default();
                let cells = model.0.iter().filter(|(key, _)| !is_of_sums(key));
                cells.for_each(|(key, value)| summing.count(&mut found, key, value));
                found
            };
            prop_assert!(kept.differences(&found(&model)).is_empty());
            let keys: Vec<_> = model.0.keys().filter(|key| !is_of_sums(key)).cloned().collect();
            if !keys.is_empty() {
                model.0.remove(pick.get(&keys));
                prop_assert!(!kept.differences(&found(&model)).is_empty());
            }
        }
    }
}
