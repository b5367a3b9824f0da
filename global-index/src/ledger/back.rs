//! Entries that the books had and lost are put back as they were: for a store that was restored from a backup.
//!
//! Invariants: nothing is put back but what leads to a root that was signed; nothing makes room for it but what nobody
//! holds ([`super::unstated`]).

use std::collections::BTreeMap;

use handover_core::codec::{self, Bytes, Extensions};
use handover_core::ledger::merkle::{self, Position};
use handover_core::ledger::{Entry, MAX_ENTRY_BYTES};
use handover_core::{Digest, HospitalId};
use handover_store::Txn;

use super::rows::{self, Head, StoredEntry};
use super::{Book, BooksError, TreeHead};

/// What goes back into the books.
#[derive(Debug)]
pub struct Plan {
    /// The first sequence number that is not here as it was signed.
    pub from: u64,
    /// What goes there, up to a log that was signed.
    pub entries: Vec<Back>,
}

/// An entry as others kept it.
#[derive(Clone, Debug)]
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
    /// As many of these entries, in the order of their sequence numbers, as make the largest of these trees whole; none if
    /// they make none. What is here from the first of them on that is another one has to make room, which nothing does that
    /// somebody holds: neither who has shown all logs that it holds, nor one of the `others`.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn plan(
        &self,
        txn: &mut dyn Txn,
        entries: Vec<Back>,
        trees: &[TreeHead],
        others: &[HospitalId],
    ) -> Result<Option<Plan>, BooksError> {
        let mut entries = self.news(txn, entries)?;
        let Some(reached) = self.reached(txn, &entries, trees)? else { return Ok(None) };
        entries.retain(|it| it.sequence < reached);
        let from = entries.first().map_or(reached, |first| first.sequence);
        let has_room = from >= self.size(txn)? || from >= self.unstated_from(txn, others)?;
        Ok(has_room.then_some(Plan { from, entries }))
    }

    /// Puts a part of a plan back, which follows on what is here.
    ///
    /// # Errors
    /// [`BooksError`]; nothing was written then.
    pub fn put_back(&self, txn: &mut dyn Txn, entries: &[Back]) -> Result<(), BooksError> {
        for Back { sequence, stored, entry } in entries {
            if *sequence != self.size(txn)? {
                return Err(BooksError::Damaged("an entry that was given back does not follow"));
            }
            self.append_stored(txn, *sequence, entry, stored)?;
            self.keep_due(txn, entry)?;
            let ledger = self.story(txn, &entry.transfer)?;
            self.keep_held(txn, &ledger)?;
            let size = sequence.saturating_add(1);
            let head = Head { size, cycle: entry.cycle.clone(), extensions: Extensions::default() };
            rows::put(txn, &self.keys.head(), &head)?;
        }
        Ok(())
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
    use handover_core::ledger::{Command, Evidence, Reason};

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

    /// Does what is planned; from where, and how large the log is then, if there is anything.
    fn carry_out(
        book: &Book,
        txn: &mut dyn Txn,
        given: &[Back],
        trees: &[TreeHead],
        others: &[HospitalId],
    ) -> Result<Option<(u64, u64)>, BooksError> {
        let Some(plan) = book.plan(txn, given.to_vec(), trees, others)? else { return Ok(None) };
        // Two at a time.
        while book.make_room(txn, plan.from, others, 2)? > 0 {}
        plan.entries.chunks(2).try_for_each(|part| book.put_back(txn, part))?;
        Ok(Some((plan.from, book.size(txn)?)))
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
            (vec![third, forged], Some((2, 3))),
        ] {
            let given = given.clone();
            raw(&restored, move |book, txn| {
                assert_eq!(carry_out(book, txn, &given, &trees, &[])?, reached);
                Ok(())
            })
            .await;
        }
        assert_eq!(tree(&restored).await, third);
        let given = back(&whole, 3).await;
        raw(&restored, move |book, txn| {
            assert_eq!(carry_out(book, txn, &given, &[third, fifth], &[])?, Some((3, 5)));
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
            assert_eq!(carry_out(book, txn, &given, &[fourth], &[])?, None);
            assert!(matches!(book.put_back(txn, &given), Err(BooksError::Damaged(_))));
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
    async fn what_nobody_holds_makes_room() {
        let (whole, restored) = (with_entries(6).await, with_a_tail().await);
        let (given, fourth, sixth) =
            (back(&whole, 0).await, tree(&with_entries(4).await).await, tree(&whole).await);
        let all = given.clone();
        raw(&restored, move |book, txn| {
            assert_eq!(carry_out(book, txn, &all, &[fourth], &[])?, Some((2, 4)));
            Ok(())
        })
        .await;
        assert_eq!(tree(&restored).await, fourth);
        assert!(restored.check().await.unwrap().is_sound());
        assert_eq!(restored.balances().await.unwrap(), with_entries(4).await.balances().await.unwrap());
        assert!(restored.due(day(99), 10).await.unwrap().is_empty());
        raw(&restored, move |book, txn| {
            assert_eq!(carry_out(book, txn, &given, &[sixth], &[])?, Some((4, 6)));
            Ok(())
        })
        .await;
        assert_eq!(tree(&restored).await, sixth);
        // The first of them is booked again, and makes room once more: it stays the first.
        raw(&restored, |book, txn| {
            assert_eq!(book.book_again(txn, [8; 32], 1)?, [terms(11).transfer]);
            assert_eq!(book.make_room(txn, 6, &[], 9)?, 1);
            Ok(())
        })
        .await;
        // It is booked again behind, once.
        raw(&restored, |book, txn| {
            let mut again = Vec::new();
            while let more = book.book_again(txn, [9; 32], 2)?
                && !more.is_empty()
            {
                again.extend(more);
            }
            assert_eq!(again, (11..=13).map(|it| terms(it).transfer).collect::<Vec<_>>());
            assert_eq!((book.size(txn)?, book.due(txn, day(9), 10)?.len()), (9, 3));
            Ok(())
        })
        .await;
        assert!(restored.check().await.unwrap().is_sound());
    }

    /// Others were told of a dispute about a fee that had been posted for silence, or let go because nothing came: that stays
    /// open. A receipt ends it, a consent that was taken back, and a source that forgoes its fee.
    #[tokio::test]
    async fn time_settles_no_dispute_that_was_stated() {
        let [delivered, key_release, share_release] = [receipt().receipt; 3];
        let silence = Evidence { delivered, key_release, share_release, receipt: None, ..receipt() };
        let refused = Evidence { refusal: receipt().receipt, ..Evidence::default() };
        let revoked = Evidence { revocation: receipt().receipt, ..Evidence::default() };
        let post = |evidence: &Evidence| Command::Post { terms: terms(11), evidence: evidence.clone() };
        let void = |reason: Reason, evidence: &Evidence| Command::Void { reason, evidence: evidence.clone() };
        for (command, is_held) in [
            (post(&silence), true),
            (post(&receipt()), false),
            (void(Reason::NotDelivered, &Evidence::default()), true),
            (void(Reason::ConsentExpired, &Evidence::default()), true),
            (void(Reason::NotDelivered, &refused), false),
            (void(Reason::ConsentRevoked, &revoked), false),
        ] {
            let [whole, restored] = [with_entries(2).await, with_entries(2).await];
            for ledger in [&whole, &restored] {
                ledger.reserve(on(0, 20), terms(11), day(40), receipt()).await.unwrap();
            }
            raw(&whole, |book, txn| {
                let refused = Evidence { refusal: receipt().receipt, receipt: None, ..receipt() };
                book.hold(txn, &on(0, 21), &terms(11), None, &refused).map(drop)
            })
            .await;
            let (of, name) = (terms(11).transfer, format!("{command:?}"));
            raw(&restored, move |book, txn| book.book(txn, &on(0, 22), &of, &command).map(drop)).await;
            let (given, fourth) = (back(&whole, 2).await, tree(&whole).await);
            raw(&restored, move |book, txn| {
                assert_eq!(carry_out(book, txn, &given, &[fourth], &[])?, Some((3, 4)));
                assert_eq!(book.book_again(txn, [9; 32], 9)?, [of]);
                let story = book.story(txn, &of)?;
                assert_eq!(story.open_hold().is_some(), is_held, "{name}");
                assert_eq!(story.open_reservation().is_some(), is_held, "{name}");
                Ok(())
            })
            .await;
            assert!(restored.check().await.unwrap().is_sound());
        }
    }

    /// It was told of it, and has not said that it does not hold it; or it has said so.
    #[tokio::test]
    async fn what_somebody_may_hold_stays() {
        let (whole, told) = (with_entries(6).await, terms(11).source);
        let (given, sixth) = (back(&whole, 0).await, tree(&whole).await);
        for size in 3..=5 {
            let restored = with_a_tail().await;
            let (given, told) = (given.clone(), told.clone());
            raw(&restored, move |book, txn| {
                book.put_told(txn, &told, size)?;
                let before = book.tree_head(txn)?;
                assert_eq!(carry_out(book, txn, &given, &[sixth], std::slice::from_ref(&told))?, None);
                assert_eq!(book.tree_head(txn)?, before);
                assert_eq!(carry_out(book, txn, &given, &[sixth], &[])?, Some((2, 6)));
                // It is told of the others.
                assert_eq!(book.stated_to(txn, &told)?, 2);
                Ok(())
            })
            .await;
        }
        let restored = with_a_tail().await;
        raw(&restored, move |book, txn| {
            book.put_stated(txn, 3)?;
            assert_eq!(carry_out(book, txn, &given, &[sixth], &[])?, None);
            Ok(())
        })
        .await;
    }
}
