//! Entries that the books had and lost are put back as they were: for a store that was restored from a backup.
//!
//! Invariants: nothing is put back but what leads to a root that was signed; nothing makes room for it but what nobody was
//! told of ([`super::unstated`]).

use std::collections::{BTreeMap, BTreeSet};

use handover_core::codec::{self, Bytes, Extensions};
use handover_core::ledger::merkle::{self, Position};
use handover_core::ledger::{Entry, MAX_ENTRY_BYTES};
use handover_core::{Digest, HospitalId, TransferId};
use handover_store::Txn;

use super::rows::{self, Head, StoredEntry};
use super::{Book, BooksError, TreeHead};

/// What putting entries back did.
#[derive(Debug, PartialEq, Eq)]
pub struct PutBack {
    /// The first sequence number that was put back.
    pub from: u64,
    /// How large the log is now.
    pub size: u64,
    /// Transfers of which entries made room for what was put back.
    pub made_room: BTreeSet<TransferId>,
}

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
    /// Puts back as many of these entries, in the order of their sequence numbers, as make the largest of these trees
    /// whole; nothing if they make none. What is here from the first of them on that is another one makes room, if nobody
    /// holds it: neither who has shown all logs that it holds, nor one of the `others`.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn put_back(
        &self,
        txn: &mut dyn Txn,
        entries: Vec<Back>,
        trees: &[TreeHead],
        others: &[HospitalId],
    ) -> Result<Option<PutBack>, BooksError> {
        let entries = self.news(txn, entries)?;
        let Some(reached) = self.reached(txn, &entries, trees)? else { return Ok(None) };
        let from = entries.first().map_or(reached, |first| first.sequence);
        let is_room_needed = from < self.size(txn)?;
        if is_room_needed && from < self.unstated_from(txn, others)? {
            return Ok(None);
        }
        let made_room = if is_room_needed { self.take_out(txn, from)? } else { BTreeSet::new() };
        for Back { sequence, stored, entry } in entries.into_iter().take_while(|it| it.sequence < reached) {
            self.append_stored(txn, sequence, &entry, &stored)?;
            self.keep_due(txn, &entry)?;
            let ledger = self.story(txn, &entry.transfer)?;
            self.keep_held(txn, &ledger)?;
            let size = sequence.saturating_add(1);
            let head = Head { size, cycle: entry.cycle, extensions: Extensions::default() };
            rows::put(txn, &self.keys.head(), &head)?;
        }
        Ok(Some(PutBack { from, size: reached, made_room }))
    }

    /// These entries, from the first on that is not here, up to a gap.
    fn news(&self, txn: &mut dyn Txn, entries: Vec<Back>) -> Result<Vec<Back>, BooksError> {
        let (size, mut news) = (self.size(txn)?, Vec::<Back>::new());
        for back in entries {
            let follows = match news.last() {
                Some(last) => back.sequence == last.sequence.saturating_add(1),
                None if back.sequence >= size => back.sequence == size,
                None if self.stored(txn, back.sequence)?.leaf() == back.stored.leaf() => continue,
                None => true,
            };
            if !follows {
                break;
            }
            news.push(back);
        }
        Ok(news)
    }

    /// The size of the largest of these trees that the entries would lead to, which follow one another.
    fn reached(
        &self,
        txn: &mut dyn Txn,
        entries: &[Back],
        trees: &[TreeHead],
    ) -> Result<Option<u64>, BooksError> {
        let mut added: BTreeMap<Position, Digest> = BTreeMap::new();
        let mut reached = None;
        for Back { sequence, stored, .. } in entries {
            let (leaf, size) = (stored.leaf(), *sequence);
            let mut read = |at| added.get(&at).map_or_else(|| self.node(txn, at), |hash| Ok(*hash));
            let nodes = merkle::append(size, leaf, &mut read)?;
            added.extend(nodes);
            let size = size.saturating_add(1);
            let mut read = |at| added.get(&at).map_or_else(|| self.node(txn, at), |hash| Ok(*hash));
            for tree in trees.iter().filter(|tree| tree.size == size) {
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
    use super::super::tests::{day, ledger, on, raw, receipt, terms};
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
                let put_back = book.put_back(txn, given.clone(), &trees, &[])?;
                assert_eq!(put_back.map(|it| (it.from, it.size)), reached.map(|it| (2, it)));
                Ok(())
            })
            .await;
        }
        assert_eq!(tree(&restored).await, third);
        let given = back(&whole, 3).await;
        raw(&restored, move |book, txn| {
            let put_back = PutBack { from: 3, size: 5, made_room: BTreeSet::new() };
            assert_eq!(book.put_back(txn, given.clone(), &[third, fifth], &[])?, Some(put_back));
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
    async fn what_does_not_follow_is_not_put_back() {
        let (whole, restored) = (with_entries(4).await, with_entries(2).await);
        let (given, fourth) = (back(&whole, 3).await, tree(&whole).await);
        raw(&restored, move |book, txn| {
            assert_eq!(book.put_back(txn, given.clone(), &[fourth], &[])?, None);
            Ok(())
        })
        .await;
    }

    /// Two that the books of others have, and three that they do not.
    async fn with_a_tail() -> Ledger {
        let ledger = with_entries(2).await;
        for number in 11..=13 {
            ledger.reserve(on(0, number), terms(number), day(9), receipt()).await.unwrap();
        }
        raw(&ledger, |book, txn| book.fold(txn).map(drop)).await;
        ledger
    }

    #[tokio::test]
    async fn what_nobody_was_told_of_makes_room() {
        let (whole, restored) = (with_entries(6).await, with_a_tail().await);
        let (given, fourth, sixth) =
            (back(&whole, 0).await, tree(&with_entries(4).await).await, tree(&whole).await);
        let all = given.clone();
        raw(&restored, move |book, txn| {
            let put_back = book.put_back(txn, all.clone(), &[fourth], &[])?.unwrap();
            assert_eq!((put_back.from, put_back.size), (2, 4));
            assert_eq!(put_back.made_room, (11..=13).map(|it| terms(it).transfer).collect());
            Ok(())
        })
        .await;
        assert_eq!(tree(&restored).await, fourth);
        assert!(restored.check().await.unwrap().is_sound());
        assert_eq!(restored.balances().await.unwrap(), with_entries(4).await.balances().await.unwrap());
        assert!(restored.due(day(99), 10).await.unwrap().is_empty());
        raw(&restored, move |book, txn| {
            book.put_back(txn, given.clone(), &[sixth], &[])?.unwrap();
            Ok(())
        })
        .await;
        assert_eq!(tree(&restored).await, sixth);
        assert!(restored.check().await.unwrap().is_sound());
    }

    /// It was told of it, and has not said that it does not hold it; or it has said so.
    #[tokio::test]
    async fn what_somebody_may_hold_stays() {
        let (whole, told) = (with_entries(6).await, terms(11).source);
        let (given, sixth) = (back(&whole, 0).await, tree(&whole).await);
        for size in 3..=5 {
            let restored = with_a_tail().await;
            let before = tree(&restored).await;
            let (given, told) = (given.clone(), told.clone());
            raw(&restored, move |book, txn| {
                book.put_told(txn, &told, size)?;
                let others = [told.clone()];
                assert_eq!(book.put_back(txn, given.clone(), &[sixth], &others)?, None);
                assert_eq!(book.tree_head(txn)?, before);
                assert_eq!(book.put_back(txn, given.clone(), &[sixth], &[])?.unwrap().size, 6);
                // It is told of the others.
                assert_eq!(book.stated_to(txn, &told)?, 2);
                Ok(())
            })
            .await;
        }
        let restored = with_a_tail().await;
        raw(&restored, move |book, txn| {
            book.put_stated(txn, 3)?;
            assert_eq!(book.put_back(txn, given.clone(), &[sixth], &[])?, None);
            Ok(())
        })
        .await;
    }
}
