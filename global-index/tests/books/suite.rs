//! What the books promise over every engine.

use futures::future::join_all;
use handover_core::ledger::{Command, EntryKind, Evidence, Reason, Terms};
use handover_core::{Code, PatientRef, TransferId};
use handover_index::ledger::{Booked, Booking, BooksError, Filter, Ledger, Listed};
use handover_store::{Store, StoreError};

use crate::steps::{Model, agreed, day, on, receipt, stories, terms};

pub(crate) async fn run(open: impl AsyncFn(&str) -> Store) {
    for (number, story) in stories(6).into_iter().enumerate() {
        let store = open(&format!("story_{number}")).await;
        let (ledger, mut model) = (Ledger::new(store.clone()), Model::default());
        for step in &story {
            let (today, expected) = model.step(step);
            let booked =
                book(&store, on(today, number as u8), terms(step.transfer).transfer, step.command()).await;
            match expected {
                Ok(entry) => assert_eq!(booked.unwrap().entry.entry, entry, "{step:?}"),
                Err(refused) => assert_eq!(booked.unwrap_err().code(), refused.code(), "{step:?}"),
            }
        }
        let (entries, _) = all(&ledger).await;
        assert_eq!(entries, model.entries);
        assert_eq!(ledger.balances().await.unwrap(), model.balances);
        is_sound(&ledger).await;
    }
    many_at_once_book_each_fee_once(open("at_once").await).await;
    what_fails_books_nothing(open("fails").await).await;
    what_stands_is_found(open("found").await).await;
}

pub(crate) async fn book(
    store: &Store,
    booking: Booking,
    transfer: TransferId,
    command: Command,
) -> Result<Booked, BooksError> {
    let book = Ledger::new(store.clone()).book().clone();
    store.write(move |txn| book.book(txn, &booking, &transfer, &command)).await
}

/// Every entry, and their sequence numbers.
async fn all(ledger: &Ledger) -> (Vec<handover_core::ledger::Entry>, Vec<u64>) {
    let (mut found, mut after) = (Vec::<Listed>::new(), None);
    loop {
        let page = ledger.list(Filter::default(), after, 7).await.unwrap();
        found.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return found.into_iter().map(|listed| (listed.entry, listed.sequence)).unzip();
        }
    }
}

pub(crate) async fn is_sound(ledger: &Ledger) {
    let report = ledger.check().await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// Of another patient for each number.
fn one_of_many(number: u8) -> Terms {
    let payer = handover_core::ledger::Holder::Patient(PatientRef::from_bytes([number; 32]));
    Terms { transfer: TransferId::new(day(0), [100 + number; 10]), payer, ..terms(0) }
}

async fn many_at_once_book_each_fee_once(store: Store) {
    const TASKS: u8 = 8;
    const FEES: u8 = 12;
    let tasks = (0..TASKS).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for step in 0..FEES {
                // Each begins elsewhere, so that all of them come from all sides.
                let terms = one_of_many((step + task * 5) % FEES);
                let transfer = terms.transfer;
                let commands = [
                    Command::Reserve { terms: terms.clone(), expires: day(40), evidence: agreed() },
                    Command::Post { terms, evidence: receipt() },
                    Command::Void { reason: Reason::ConsentRevoked, evidence: Evidence::default() },
                ];
                for at in 0..commands.len() {
                    let command = commands[(at + usize::from(task)) % commands.len()].clone();
                    match book(&store, on(1, task), transfer, command).await {
                        Ok(booked) => answers.push(booked.entry),
                        Err(refused) => assert_eq!(refused.code(), Code::OutOfOrder, "{refused}"),
                    }
                }
            }
            answers
        })
    });
    let answers = join_all(tasks).await.into_iter().flat_map(Result::unwrap);
    let ledger = Ledger::new(store);
    let (entries, sequences) = all(&ledger).await;
    assert!(sequences.iter().copied().eq(0..entries.len() as u64), "{sequences:?}");
    for answer in answers {
        assert_eq!(entries[answer.sequence as usize], answer.entry, "who was answered was told what stands");
    }
    let is_fee = |kind| matches!(kind, EntryKind::Post | EntryKind::PostDirect);
    for number in 0..FEES {
        let of = one_of_many(number).transfer;
        let fees = entries.iter().filter(|entry| entry.transfer == of && is_fee(entry.kind)).count();
        assert_eq!(fees, 1, "transfer {number}");
    }
    is_sound(&ledger).await;
}

async fn what_fails_books_nothing(store: Store) {
    let ledger = Ledger::new(store.clone());
    let book = ledger.book().clone();
    let (good, bad) = (terms(0), terms(2));
    let failing = store.write::<(), BooksError, _>(move |txn| {
        book.post(txn, &on(1, 1), &bad, &receipt())?;
        Err(StoreError::Busy.into())
    });
    // Together, so that an engine that groups has them in one group.
    let (failed, booked) = tokio::join!(failing, ledger.post(on(1, 2), good, receipt()));
    assert!(failed.is_err());
    assert_eq!(booked.unwrap().entry.sequence, 0);
    assert_eq!(all(&ledger).await.0.len(), 1);
    is_sound(&ledger).await;
}

async fn what_stands_is_found(store: Store) {
    let ledger = Ledger::new(store);
    for number in 0..9 {
        ledger.post(on(1, number), one_of_many(number), receipt()).await.unwrap();
    }
    let payer = one_of_many(4).payer;
    let page = ledger.list(Filter { payer: Some(payer), ..Filter::default() }, None, 1_000).await.unwrap();
    assert_eq!(page.entries.iter().map(|listed| listed.sequence).collect::<Vec<_>>(), [4]);
    let head = ledger.tree_head().await.unwrap();
    assert_eq!(head.size, 9);
    for sequence in 0..9 {
        let shown = ledger.inclusion(sequence).await.unwrap();
        assert_eq!((shown.tree, shown.sequence), (head, sequence));
        assert!((1..=4).contains(&shown.path.len()));
    }
    assert!(matches!(ledger.inclusion(9).await, Err(BooksError::UnknownEntry(9))));
}
