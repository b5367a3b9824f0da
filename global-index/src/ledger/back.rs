//! Entries that the books had and lost are put back as they were: for a store that was restored from a backup.
//!
//! Invariant: nothing is put back but what leads to a root that was signed.

use std::collections::BTreeMap;

use handover_core::Digest;
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::ledger::merkle::{self, Position};
use handover_core::ledger::{Entry, MAX_ENTRY_BYTES};
use handover_store::Txn;

use super::rows::{self, Head, StoredEntry};
use super::{Book, BooksError, TreeHead};

/// An entry as others kept it.
#[derive(Clone)]
pub struct Back {
    sequence: u64,
    stored: StoredEntry,
    /// What it says.
    pub entry: Entry,
}

impl Back {
    /// Reads one.
    ///
    /// # Errors
    /// [`BooksError::Damaged`] if it is none.
    pub fn read(sequence: u64, salt: [u8; 32], entry: Bytes) -> Result<Self, BooksError> {
        let read = codec::decode(entry.as_ref(), MAX_ENTRY_BYTES)
            .map_err(|_| BooksError::Damaged("an entry that was given back cannot be read"))?;
        Ok(Self {
            sequence,
            stored: StoredEntry { salt, entry, extensions: Extensions::default() },
            entry: read,
        })
    }
}

impl Book {
    /// Puts back as many of these entries, which follow on what is here, as make the largest of these trees whole; up to
    /// where, or nothing if they make none.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn put_back(
        &self,
        txn: &mut dyn Txn,
        entries: Vec<Back>,
        trees: &[TreeHead],
    ) -> Result<Option<u64>, BooksError> {
        let Some(reached) = self.reached(txn, &entries, trees)? else { return Ok(None) };
        for Back { sequence, stored, entry } in entries.into_iter().take_while(|it| it.sequence < reached) {
            self.append_stored(txn, sequence, &entry, &stored)?;
            self.keep_due(txn, &entry)?;
            let ledger = self.story(txn, &entry.transfer)?;
            self.keep_held(txn, &ledger)?;
            let size = sequence.saturating_add(1);
            let head = Head { size, cycle: entry.cycle, extensions: Extensions::default() };
            rows::put(txn, &self.keys.head(), &head)?;
        }
        Ok(Some(reached))
    }

    /// The size of the largest of these trees that the entries would lead to.
    fn reached(
        &self,
        txn: &mut dyn Txn,
        entries: &[Back],
        trees: &[TreeHead],
    ) -> Result<Option<u64>, BooksError> {
        let mut added: BTreeMap<Position, Digest> = BTreeMap::new();
        let mut size = self.size(txn)?;
        let (from, mut reached) = (size, None);
        for Back { sequence, stored, .. } in entries {
            if *sequence != size {
                return Err(BooksError::Damaged("an entry that was given back does not follow"));
            }
            let leaf = stored.leaf();
            let mut read = |at| added.get(&at).map_or_else(|| self.node(txn, at), |hash| Ok(*hash));
            let nodes = merkle::append(size, leaf, &mut read)?;
            added.extend(nodes);
            size = size.saturating_add(1);
            let mut read = |at| added.get(&at).map_or_else(|| self.node(txn, at), |hash| Ok(*hash));
            for tree in trees.iter().filter(|tree| tree.size == size && tree.size > from) {
                if merkle::root(size, &mut read)? == tree.root {
                    reached = Some(size);
                }
            }
        }
        Ok(reached)
    }

    /// Whether these books have grown out of that tree, or are no larger.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn continues(&self, txn: &mut dyn Txn, tree: &TreeHead) -> Result<bool, BooksError> {
        Ok(tree.size > self.size(txn)? || self.root_at(txn, tree.size)? == tree.root)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ledger;
    use super::super::tests::{ledger, on, raw, receipt, terms};
    use super::*;

    async fn with_entries(count: u8) -> Ledger {
        let ledger = ledger();
        for number in 1..=count {
            ledger.post(on(0, number), terms(number), receipt()).await.unwrap();
        }
        ledger
    }

    async fn tree(of: &Ledger) -> TreeHead {
        of.tree_head().await.unwrap()
    }

    async fn back(whole: &Ledger, from: u64) -> Vec<Back> {
        let book = whole.book().clone();
        let kept = whole.store.read(move |txn| book.stored_from(txn, from, 1_000)).await.unwrap();
        kept.into_iter().map(|(sequence, it)| Back::read(sequence, it.salt, it.entry).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_was_lost_is_put_back_as_it_was_up_to_a_root_that_was_signed() {
        let (whole, restored) = (with_entries(5).await, with_entries(2).await);
        let (third, fifth) = (tree(&with_entries(3).await).await, tree(&whole).await);
        let forged = TreeHead { root: third.root, ..fifth };
        let given = back(&whole, 2).await;
        for (trees, reached) in [
            (vec![], None),
            (vec![forged], None),
            (vec![tree(&restored).await, forged], None),
            (vec![third, forged], Some(3)),
        ] {
            let given = given.clone();
            raw(&restored, move |book, txn| {
                assert_eq!(book.put_back(txn, given.clone(), &trees)?, reached);
                Ok(())
            })
            .await;
        }
        assert_eq!(tree(&restored).await, third);
        let given = back(&whole, 3).await;
        raw(&restored, move |book, txn| {
            assert_eq!(book.put_back(txn, given.clone(), &[third, fifth])?, Some(5));
            assert!(book.continues(txn, &third)? && !book.continues(txn, &forged)?);
            // What was stated is not stated smaller again.
            assert_eq!(book.stated(txn)?.size, 0);
            book.put_stated(txn, 5)?;
            book.put_stated(txn, 3)?;
            book.put_stated(txn, 9)?;
            assert_eq!(book.stated(txn)?, fifth);
            Ok(())
        })
        .await;
        assert!(restored.check().await.unwrap().is_sound());
        assert_eq!(tree(&restored).await, tree(&whole).await);
    }

    #[tokio::test]
    async fn what_does_not_follow_is_refused() {
        let (whole, restored) = (with_entries(4).await, with_entries(2).await);
        let (given, fourth) = (back(&whole, 3).await, tree(&whole).await);
        raw(&restored, move |book, txn| {
            let refused = book.put_back(txn, given.clone(), &[fourth]).unwrap_err();
            assert!(matches!(refused, BooksError::Damaged(_)), "{refused}");
            Ok(())
        })
        .await;
    }
}
