//! The books over a store in memory.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use handover_core::artefact::Signer;
use handover_core::artefact::books::HOLD_ORDER_MAX_BYTES;
use handover_core::id::SigningPublic;
use handover_core::ledger::{Entry, EntryKind, Holder, merkle};
use handover_core::{Digest, HospitalId, PatientRef, time};
use handover_store::{CellKey, Txn};
use proptest::prelude::*;

use super::*;

pub(super) fn ledger() -> Ledger {
    Ledger::new(Store::memory(&CellKey::from_bytes([3; 32])))
}

pub(super) fn day(number: i64) -> Timestamp {
    Timestamp::from_millis(1_795_250_096_789).plus_ms(number * time::DAY_MS)
}

/// Each test's seeds differ by a counter of its own.
pub(super) fn on(number: i64, seed: u8) -> Booking {
    Booking { now: day(number), salt_seed: [seed; 32] }
}

fn hash(text: &str) -> Digest {
    Digest::sha256(&[text.as_bytes()])
}

pub(super) fn terms(number: u8) -> Terms {
    let currency = if number.is_multiple_of(2) { "USD" } else { "JPY" }.parse().unwrap();
    Terms {
        transfer: TransferId::new(day(0), [number; 10]),
        source: if number.is_multiple_of(3) { "lakeside" } else { "seaside" }.parse().unwrap(),
        destination: "hilltop".parse().unwrap(),
        payer: Holder::Patient(PatientRef::from_bytes([number % 4; 32])),
        amount: Amount::from_minor(100 * i64::from(number), currency),
        cap: Amount::from_minor(30_000, currency),
    }
}

pub(super) fn receipt() -> Evidence {
    Evidence {
        quote: Some(hash("quote")),
        consent: Some(hash("consent")),
        receipt: Some(hash("receipt")),
        ..Evidence::default()
    }
}

/// A hospital is told of all entries, and has them.
fn copied(book: &Book, txn: &mut dyn Txn, hospital: &HospitalId) -> Result<(), BooksError> {
    book.put_told(txn, hospital, u64::MAX)?;
    book.put_copy(txn, hospital, u64::MAX)
}

struct Echo;

impl Signer for Echo {
    fn public(&self) -> SigningPublic {
        SigningPublic::from_bytes([1; 32])
    }

    fn sign(&self, _: &[u8]) -> [u8; 64] {
        [2; 64]
    }
}

pub(super) async fn raw<F>(ledger: &Ledger, mut change: F)
where
    F: FnMut(&Book, &mut dyn Txn) -> Result<(), BooksError> + Send + 'static,
{
    let book = ledger.book().clone();
    ledger.store.write(move |txn| change(&book, txn)).await.unwrap();
}

/// Transfer 1 posted, 2 voided and then posted, 3 open.
async fn three_transfers() -> Ledger {
    let ledger = ledger();
    for number in 1..=3 {
        ledger.reserve(on(0, number), terms(number), day(40), receipt()).await.unwrap();
    }
    ledger.post(on(1, 4), terms(1), receipt()).await.unwrap();
    ledger.void(on(1, 5), terms(2).transfer, Reason::ConsentRevoked, Evidence::default()).await.unwrap();
    ledger.post(on(2, 6), terms(2), receipt()).await.unwrap();
    ledger
}

fn kinds<'a>(entries: impl IntoIterator<Item = &'a Listed>) -> Vec<&'static str> {
    entries.into_iter().map(|listed| listed.entry.kind.as_str()).collect()
}

#[tokio::test]
async fn books_and_tells() {
    let ledger = three_transfers().await;
    let all = ledger.list(Filter::default(), None, 1_000).await.unwrap();
    assert_eq!(kinds(&all.entries), ["reserve", "reserve", "reserve", "post", "void", "post-direct"]);
    assert!(all.entries.iter().map(|listed| listed.sequence).eq(0..6));
    assert_eq!(kinds(&ledger.transfer(terms(2).transfer).await.unwrap()), ["reserve", "void", "post-direct"]);
    let filter = Filter { hospital: Some("lakeside".parse().unwrap()), ..Filter::default() };
    assert_eq!(kinds(&ledger.list(filter, None, 1_000).await.unwrap().entries), ["reserve"]);
    let filter = Filter { kind: Some(EntryKind::Reserve), ..Filter::default() };
    let (mut pages, mut after, mut found) = (0, None, 0);
    loop {
        let page = ledger.list(filter.clone(), after, 4).await.unwrap();
        (pages, found, after) = (pages + 1, found + page.entries.len(), page.next);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, found), (2, 3));

    let balances = ledger.balances().await.unwrap();
    let sums: Vec<(String, i64, i64)> = balances
        .trial_balance()
        .unwrap()
        .iter()
        .map(|row| (row.currency.to_string(), row.total.pending.debits_minor, row.total.posted.credits_minor))
        .collect();
    assert_eq!(sums, [("JPY".into(), 300, 100), ("USD".into(), 0, 200)]);

    let report = ledger.check().await.unwrap();
    assert_eq!((report.faults.as_slice(), report.entries, report.transfers), ([].as_slice(), 6, 3));
    assert_eq!(report.open_reservations, 1);
}

#[tokio::test]
async fn repeats_the_first_answer() {
    let ledger = three_transfers().await;
    let size = ledger.tree_head().await.unwrap().size;
    let again = ledger.reserve(on(5, 9), terms(1), day(40), receipt()).await.unwrap();
    assert_eq!((again.is_repeated, again.entry.sequence, again.entry.entry.at), (true, 0, day(0)));
    let again = ledger.post(on(5, 9), terms(2), receipt()).await.unwrap();
    assert_eq!((again.is_repeated, again.entry.sequence), (true, 5));
    let other = Terms { amount: Amount::zero(terms(1).amount.currency()), ..terms(1) };
    let refused = ledger.post(on(5, 9), other, receipt()).await.unwrap_err();
    assert_eq!(refused.code(), Code::LedgerConflict);
    assert!(matches!(refused, BooksError::Rule(LedgerError::Conflict { field: "amount" })));
    assert_eq!(ledger.tree_head().await.unwrap().size, size);
}

#[tokio::test]
async fn one_fee_however_many_ask_at_once() {
    let ledger = ledger();
    let posts = (0..20).map(|seed| ledger.post(on(0, seed), terms(1), receipt()));
    let booked = futures::future::join_all(posts).await;
    let fresh = booked.iter().filter(|booked| !booked.as_ref().unwrap().is_repeated).count();
    assert_eq!((fresh, ledger.tree_head().await.unwrap().size), (1, 1));
}

/// Once it was found that the store was rolled back, nothing is booked but what comes back to it.
#[tokio::test]
async fn nothing_new_is_booked_while_the_store_catches_up() {
    let ledger = ledger();
    let keys = ledger.store.keys();
    raw(&ledger, move |_, txn| Ok(crate::voice::declare(txn, &keys, (day(1), day(0)))?)).await;
    let refused = ledger.post(on(0, 1), terms(1), receipt()).await.unwrap_err();
    assert_eq!(refused.code(), Code::CatchingUp);
    assert_eq!(ledger.tree_head().await.unwrap().size, 0);
    raw(&ledger, |book, txn| book.for_the_way_back().post(txn, &on(0, 1), &terms(1), &receipt()).map(drop))
        .await;
    assert_eq!(ledger.tree_head().await.unwrap().size, 1);
}

#[tokio::test]
async fn stands_or_falls_with_the_callers_transaction() {
    let ledger = ledger();
    let book = ledger.book().clone();
    let fallen: Result<(), BooksError> = ledger
        .store
        .write(move |txn| {
            book.reserve(txn, &on(0, 1), &terms(1), day(40), &receipt())?;
            Err(BooksError::Damaged("the caller's own trouble"))
        })
        .await;
    assert!(fallen.is_err());
    assert_eq!(ledger.tree_head().await.unwrap().size, 0);
    assert!(ledger.check().await.unwrap().is_sound());
}

#[tokio::test]
async fn fees_are_looked_at_in_their_order_until_they_are_settled() {
    let ledger = ledger();
    for (number, expires) in [(1, 40), (2, 20), (3, 60), (4, 10)] {
        ledger.reserve(on(0, number), terms(number), day(expires), receipt()).await.unwrap();
    }
    ledger.post(on(1, 9), terms(4), receipt()).await.unwrap();
    assert_eq!(ledger.due(day(9), 10).await.unwrap(), []);
    let due = ledger.due(day(40), 10).await.unwrap();
    assert_eq!(due, [terms(2).transfer, terms(1).transfer]);
    for transfer in due {
        ledger.void(on(40, 10), transfer, Reason::ReservationExpired, Evidence::default()).await.unwrap();
    }
    assert_eq!(ledger.due(day(40), 10).await.unwrap(), []);
    // Looked at earlier, and later again: one time stands.
    for at in [30, 50] {
        raw(&ledger, move |book, txn| book.look_at(txn, &terms(3).transfer, day(at))).await;
    }
    assert_eq!(ledger.due(day(49), 10).await.unwrap(), []);
    assert_eq!(ledger.due(day(50), 10).await.unwrap(), [terms(3).transfer]);
    // A proof after the expiry voids and posts in one booking.
    ledger.post(on(61, 11), terms(3), receipt()).await.unwrap();
    assert_eq!(kinds(&ledger.transfer(terms(3).transfer).await.unwrap()), ["reserve", "void", "post-direct"]);
    assert_eq!(ledger.due(day(99), 10).await.unwrap(), []);
    assert!(ledger.check().await.unwrap().is_sound());
}

#[tokio::test]
async fn every_entry_is_proved_to_be_in_the_tree() {
    let ledger = three_transfers().await;
    let mut reference = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
    for listed in ledger.list(Filter::default(), None, 1_000).await.unwrap().entries {
        let proof = ledger.inclusion(listed.sequence).await.unwrap();
        let bytes = handover_core::codec::encode::<Entry>(&listed.entry);
        assert_eq!(merkle::commitment(&proof.salt, &bytes), proof.commitment);
        let tree = proof.tree;
        merkle::verify_inclusion(&tree.root, tree.size, listed.sequence, &proof.commitment, &proof.path)
            .unwrap();
        reference.push(proof.commitment.as_bytes().to_vec());
    }
    let root = ledger.tree_head().await.unwrap().root;
    assert_eq!(root.as_bytes().as_slice(), reference.root().as_bytes().as_slice());
    assert!(matches!(ledger.inclusion(6).await, Err(BooksError::UnknownEntry(6))));
}

#[tokio::test]
async fn checkpoints_continue_each_other() {
    let ledger = ledger();
    let mut sizes = Vec::new();
    for number in 0..4 {
        let note =
            ledger.checkpoint("index.example/ledger", vec!["directory 7".into()], &Echo).await.unwrap();
        sizes.push(note.lines().nth(1).unwrap().to_owned());
        ledger.post(on(0, number), terms(number), receipt()).await.unwrap();
        // What is with nobody else is not stated.
        if number != 1 {
            raw(&ledger, move |book, txn| copied(book, txn, &terms(number).source)).await;
        }
    }
    assert_eq!(sizes, ["0", "1", "1", "3"]);
    let tree = ledger.tree_head().await.unwrap();
    raw(&ledger, move |book, txn| {
        let forked =
            rows::StoredTreeHead { size: tree.size, root: hash("fork"), extensions: Default::default() };
        rows::put(txn, &book.keys.checkpoint(), &forked)
    })
    .await;
    let refused = ledger.checkpoint("index.example/ledger", vec![], &Echo).await.unwrap_err();
    assert_eq!(refused.code(), Code::StoreDamaged);
    assert!(!ledger.check().await.unwrap().is_sound());
}

#[tokio::test]
async fn check_finds_what_was_altered() {
    type Change = fn(&Book, &mut dyn Txn) -> Result<(), BooksError>;
    let changes: [(&str, Change); 10] = [
        ("an entry taken out", |book, txn| Ok(txn.remove(&book.keys.entry(1))?)),
        ("the newest entry taken out", |book, txn| Ok(txn.remove(&book.keys.entry(5))?)),
        ("an entry altered", |book, txn| {
            let mut stored = book.stored(txn, 3)?;
            let mut entry = book::read_entry(&stored)?;
            entry.at = entry.at.plus_ms(1);
            stored.entry = handover_core::codec::encode(&entry).into();
            rows::put(txn, &book.keys.entry(3), &stored)
        }),
        ("another salt", |book, txn| {
            let mut stored = book.stored(txn, 0)?;
            stored.salt = [0; 32];
            rows::put(txn, &book.keys.entry(0), &stored)
        }),
        ("a node altered", |book, txn| Ok(txn.put(&book.keys.node(1, 0), vec![0; 32])?)),
        ("a transfer's entry hidden", |book, txn| {
            Ok(txn.remove(&book.keys.transfer(&terms(2).transfer).u64(4).build())?)
        }),
        ("a reservation hidden", |book, txn| book.look_no_more(txn, &terms(3).transfer)),
        ("a look left out", |book, txn| Ok(txn.remove(&book.keys.due(day(40), &terms(3).transfer))?)),
        ("a look added", |book, txn| {
            let transfer = terms(1).transfer;
            Ok(txn.put(&book.keys.due(day(7), &transfer), transfer.as_bytes().to_vec())?)
        }),
        ("a balance altered", |book, txn| {
            let account = book.transfer(txn, &terms(1).transfer)?.remove(0).entry.postings.remove(0).debit;
            let mut row: rows::StoredBalance = rows::get(txn, &book.keys.balance(&account))?.unwrap();
            row.balance.posted.debits_minor += 1;
            rows::put(txn, &book.keys.balance(&account), &row)
        }),
    ];
    for (name, change) in changes {
        let ledger = three_transfers().await;
        raw(&ledger, |book, txn| book.fold(txn).map(drop)).await;
        assert!(ledger.check().await.unwrap().is_sound(), "{name}");
        raw(&ledger, change).await;
        assert!(!ledger.check().await.unwrap().is_sound(), "{name}");
    }
}

/// Path and order are bytes of a page, too: both travel beside the entry.
#[tokio::test]
async fn a_page_counts_all_that_is_shown() {
    let ledger = three_transfers().await;
    raw(&ledger, |book, txn| {
        let refused = Evidence { refusal: Some(hash("refusal")), ..receipt() };
        book.hold(txn, &on(3, 7), &terms(3), None, &refused)?;
        let ordered = Evidence { order: Some(hash("order")), receipt: None, ..receipt() };
        book.settle(txn, &on(4, 8), &terms(3), false, &ordered).map(drop)
    })
    .await;
    raw(&ledger, |book, txn| {
        let part = book.part(txn, &terms(3).source, 0, 0)?;
        let of_it: Vec<_> = part.entries.iter().filter(|it| it.entry.transfer == terms(3).transfer).collect();
        let orders = [0, 0, HOLD_ORDER_MAX_BYTES, HOLD_ORDER_MAX_BYTES];
        assert_eq!(of_it.len(), orders.len());
        for (it, order) in of_it.into_iter().zip(orders) {
            let proof = &it.proof;
            let kept = Kept {
                sequence: proof.sequence,
                entry: it.entry.clone(),
                salt: proof.salt,
                bytes: it.bytes.clone(),
            };
            let shown = pages::shown_bytes(&kept, part.tree.size);
            assert!(shown >= it.bytes.len() + proof.path.len() * 32 + order, "{shown}");
        }
        Ok(())
    })
    .await;
}

/// Whose entries they are, whoever copies them: what is stated to somebody is in what they were given, or with others.
#[tokio::test]
async fn nothing_is_stated_that_is_with_nobody_else() {
    let ledger = ledger();
    let [own, other] = [terms(1), terms(3)].map(|it| it.source);
    let (third, destination): (HospitalId, _) = ("third".parse().unwrap(), terms(1).destination);
    for number in [1, 3] {
        ledger.post(on(0, number), terms(number), receipt()).await.unwrap();
    }
    raw(&ledger, move |book, txn| {
        assert_eq!(book.stated(txn)?.size, 0);
        // Whatever it says that it has: nothing was stated to it.
        let part = book.part(txn, &third, u64::MAX, u64::MAX)?;
        assert_eq!((part.tree.size, part.until, part.others.len()), (2, 2, 2));
        book.put_copy(txn, &third, 2)?;
        assert_eq!(book.stated(txn)?.size, 0);
        // A third one keeps both for the index.
        let part = book.part(txn, &third, 0, 0)?;
        assert_eq!((part.tree.size, part.until, part.entries.len()), (2, 2, 0));
        assert_eq!(part.others.iter().map(|it| it.sequence).collect::<Vec<_>>(), [0, 1]);
        assert!(book.is_told_new(txn, &third, 2)?);
        book.put_told(txn, &third, 2)?;
        assert!(!book.is_told_new(txn, &third, u64::MAX)?);
        assert_eq!(book.stated(txn)?.size, 0);
        assert!(book.is_copy_new(txn, &third, 2)?);
        book.put_copy(txn, &third, 2)?;
        assert!(!book.is_copy_new(txn, &third, 2)?);
        assert_eq!((book.stated(txn)?.size, book.copied(txn)?.held), (2, 0));
        // As long as their own hospitals do not have them, both, whoever asks keeps them, too.
        let part = book.part(txn, &own, 0, 0)?;
        assert_eq!((part.entries.len(), part.others.len()), (1, 1));
        copied(book, txn, &own)?;
        copied(book, txn, &other)?;
        assert_eq!(book.copied(txn)?.held, 0);
        assert_eq!(book.part(txn, &third, 0, 0)?.others.len(), 2);
        copied(book, txn, &destination)?;
        assert_eq!(book.copied(txn)?.held, 2);
        assert!(book.part(txn, &third, 0, 0)?.others.is_empty());
        // Nobody holds more than there is, and a copy that begins anew takes nothing back.
        book.put_copy(txn, &third, u64::MAX)?;
        book.put_copy(txn, &third, 0)?;
        assert_eq!((book.copied(txn)?.copied, book.copied(txn)?.held), (2, 2));
        Ok(())
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn stays_sound_and_balances_are_the_fold(
        steps in prop::collection::vec((0_u8..5, 0_i64..9, 0_u8..11), 1..50),
        cuts: [prop::sample::Index; 2],
        part in 1_usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ledger = ledger();
            let mut today = 0;
            for (seed, (number, days, what)) in (0_u8..).zip(steps) {
                today += days;
                let booking = on(today, seed);
                let transfer = terms(number).transfer;
                // Refusals are part of the game.
                let _ = match what {
                    0 | 1 => ledger.reserve(booking, terms(number), day(40), receipt()).await,
                    2 | 3 => ledger.post(booking, terms(number), receipt()).await,
                    4 => {
                        let refused = Evidence { refusal: Some(hash("of the source")), ..Evidence::default() };
                        ledger.void(booking, transfer, Reason::NotDelivered, refused).await
                    }
                    5 => ledger.void(booking, transfer, Reason::ReservationExpired, Evidence::default()).await,
                    6 => {
                        raw(&ledger, |book, txn| book.fold(txn).map(drop)).await;
                        continue;
                    }
                    8 => {
                        let (book, of) = (ledger.book().clone(), terms(number));
                        let refused = Evidence { refusal: Some(hash("refusal")), ..receipt() };
                        ledger.store.write(move |txn| book.hold(txn, &booking, &of, None, &refused)).await
                    }
                    9 | 10 => {
                        let (book, of) = (ledger.book().clone(), terms(number));
                        let ordered = Evidence { order: Some(hash("order")), receipt: None, ..receipt() };
                        ledger.store.write(move |txn| book.settle(txn, &booking, &of, what == 9, &ordered)).await
                    }
                    _ => {
                        let amount = Amount::from_minor(70, terms(number).amount.currency());
                        let number = u32::from(seed % 2);
                        ledger.reverse(booking, transfer, number, amount, Reason::Corrected, Evidence::default()).await
                    }
                };
            }
            stands(&ledger).await;
            // Nobody was told of any: those behind any of them can make room, once more before all are booked again.
            let before = comes_to(&ledger).await;
            for (cut, part) in cuts.into_iter().zip([part, 1_000]) {
                let size = ledger.tree_head().await.unwrap().size;
                let from = u64::try_from(cut.index(usize::try_from(size).unwrap() + 1)).unwrap();
                let book = ledger.book().clone();
                let root = ledger.store.read(move |txn| book.root_at(txn, from)).await.unwrap();
                raw(&ledger, move |book, txn| book.make_room(txn, from, &[], size).map(drop)).await;
                assert_eq!(ledger.tree_head().await.unwrap(), TreeHead { size: from, root });
                stands(&ledger).await;
                raw(&ledger, move |book, txn| book.book_again(txn, [99; 32], part).map(drop)).await;
            }
            assert_eq!(comes_to(&ledger).await, before);
            stands(&ledger).await;
        });
    }
}

/// What is owed of each fee, whether operators let it go, and whether it is held.
async fn comes_to(ledger: &Ledger) -> Vec<(Option<Amount>, i64, bool, bool)> {
    let mut all = Vec::new();
    for number in 0..5 {
        let book = ledger.book().clone();
        let of = ledger.store.read(move |txn| book.story(txn, &terms(number).transfer)).await.unwrap();
        let posted = of.posted().map(|posted| posted.amount);
        all.push((posted, of.reversed_minor().unwrap(), of.let_go().is_some(), of.open_hold().is_some()));
    }
    all
}

/// Everything that is derived from the entries is what they say.
async fn stands(ledger: &Ledger) {
    let report = ledger.check().await.unwrap();
    assert_eq!(report.faults, []);
    let held = ledger.held().await.unwrap();
    assert_eq!((held.count as u64, held.since), (report.open_holds, report.held_since));
    let mut folded = Balances::default();
    for listed in ledger.list(Filter::default(), None, 1_000).await.unwrap().entries {
        folded.fold(&listed.entry).unwrap();
    }
    assert_eq!(ledger.balances().await.unwrap(), folded);
    assert_eq!(report.trial_balance, folded.trial_balance().unwrap());
    assert_eq!(report.root, Some(ledger.tree_head().await.unwrap().root));
}
