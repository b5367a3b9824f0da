//! Which transfer charged a test: a test is charged once per payer and destination, ever.
//!
//! Invariants: what a transfer charges is noted in the transaction that seals it, so of two that were quoted at once
//! only the first to be sealed charges it; a note gives way once the fee of the transfer that it names cannot stand.
//! Notes are the patient's, under keyed hashes, and go when the patient is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use handover_core::artefact::transfer::{Payer, QuoteLine};
use handover_core::codec::Extensions;
use handover_core::rules::Context;
use handover_core::{HospitalId, PatientRef, Timestamp, TransferId, cbor_map};
use handover_dossier::{Dossier, DossierError, Row, Standing};
use handover_records::LocalPatient;
use handover_store::{KeyBuilder, KeyMaker, Store, StoreError, Txn, rows};

use crate::ExchangeError;
use crate::bodies::Priced;

const CHARGED: &str = "charged";
const UNTIL: &str = "charged-until";
/// A date in an RFC 3339 time, and in a FHIR dateTime that is whole.
const DATE_CHARS: usize = 10;
/// Notes that are removed in one transaction.
const PAGE: usize = 500;

cbor_map! {
    /// A test that was charged.
    struct ChargedRow {
        /// By this transfer.
        1 => by: TransferId,
    }
}

cbor_map! {
    /// A transfer that charged tests, of which nobody knows here any more which.
    struct UntilRow {
        /// The transfer.
        1 => by: TransferId,
        /// When it was sealed: what was done later it did not charge.
        2 => until: Timestamp,
    }
}

/// Whose tests, charged to whom.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) patient: LocalPatient,
    /// The same in the federation, in this transfer.
    pub(crate) reference: PatientRef,
    pub(crate) payer: Payer,
    pub(crate) destination: HospitalId,
}

/// Tests that were charged before, each with the transfer that did.
pub(crate) type Before = BTreeMap<String, TransferId>;

impl Account {
    fn key(&self, keys: &KeyMaker, test: &str) -> Vec<u8> {
        let of_payer =
            of_patient(keys, &self.patient).raw(self.payer.as_str()).raw(self.destination.as_str());
        of_payer.hashed(test.as_bytes()).build()
    }
}

fn of_patient(keys: &KeyMaker, patient: &LocalPatient) -> KeyBuilder {
    keys.space(CHARGED).hashed(patient.as_str().as_bytes())
}

fn of_reference(keys: &KeyMaker, patient: &PatientRef, payer: Payer, destination: &HospitalId) -> KeyBuilder {
    keys.space(UNTIL).hashed(patient.as_bytes()).raw(payer.as_str()).raw(destination.as_str())
}

/// Notes that a transfer charged its payer, and that nobody knows here any more for which tests: all that were done until
/// then count as charged. So nobody pays twice.
pub(crate) fn note_all_until(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    (row, payer): (&Row, Payer),
    until: Timestamp,
) -> Result<(), StoreError> {
    let key = of_reference(keys, &row.patient, payer, &row.destination).raw(row.transfer.as_bytes()).build();
    rows::put(txn, &key, &UntilRow { by: row.transfer, until, extensions: Extensions::default() })
}

/// Removes those notes of a patient who is being forgotten.
pub(crate) fn forget_until(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    patient: &PatientRef,
) -> Result<(), StoreError> {
    let notes = keys.space(UNTIL).hashed(patient.as_bytes()).build();
    let noted: Vec<_> = txn.scan(&notes, None, PAGE)?;
    noted.iter().try_for_each(|(key, _)| txn.remove(key))
}

/// Whether a test may have been done by then; one without a date may.
fn is_done_by(line: &QuoteLine, until: Timestamp) -> bool {
    let done = line.date.as_deref().filter(|date| date.len() >= DATE_CHARS);
    let until = until.to_string();
    done.is_none_or(|done| done.get(..DATE_CHARS) <= until.get(..DATE_CHARS))
}

/// Whether a line adds its price to the basis.
const fn counts(line: &QuoteLine) -> bool {
    line.price.is_some() && line.charged_by.is_none()
}

/// Which of these tests another transfer than `own` has charged to the same account, with a fee that stands or may.
pub(crate) fn before<'a>(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    account: &Account,
    own: TransferId,
    context: Context<'_>,
    tests: impl IntoIterator<Item = &'a QuoteLine>,
) -> Result<Before, DossierError> {
    let (mut before, mut known) = (Before::new(), BTreeMap::new());
    let of_account = of_reference(keys, &account.reference, account.payer, &account.destination);
    let until: Vec<UntilRow> = rows::all(txn, &of_account.build())?;
    for line in tests.into_iter().filter(|line| counts(line)) {
        let row = rows::get::<ChargedRow>(txn, &account.key(keys, &line.record))?.map(|row| row.by);
        let maybe = until.iter().filter(|it| is_done_by(line, it.until)).map(|it| it.by);
        for by in row.into_iter().chain(maybe).filter(|by| *by != own) {
            let stands = match known.get(&by) {
                Some(stands) => *stands,
                None => {
                    let stands = Dossier::of(txn, keys, by).standing(context)? == Standing::Stands;
                    known.insert(by, stands);
                    stands
                }
            };
            if stands {
                before.insert(line.record.clone(), by);
                break;
            }
        }
    }
    Ok(before)
}

/// Says of these lines that they were charged before: they have no price any more and count nothing.
pub(crate) fn mark(lines: &mut [QuoteLine], before: &Before) {
    for line in lines {
        if let Some(by) = before.get(&line.record) {
            (line.price, line.charged_by) = (None, Some(*by));
        }
    }
}

/// Notes what a transfer charges. A rate of nothing charges nothing.
pub(crate) fn note(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    account: &Account,
    transfer: TransferId,
    priced: &Priced,
) -> Result<(), StoreError> {
    if priced.body.rate_bps == 0 {
        return Ok(());
    }
    let row = ChargedRow { by: transfer, extensions: Extensions::default() };
    priced
        .tests()
        .filter(|line| counts(line))
        .try_for_each(|line| rows::put(txn, &account.key(keys, &line.record), &row))
}

/// A recall gave back what a transfer charged for these tests: should they be done again, they are charged again.
pub(crate) fn give_back(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    account: &Account,
    transfer: TransferId,
    tests: &BTreeSet<String>,
) -> Result<(), StoreError> {
    for test in tests {
        let key = account.key(keys, test);
        if rows::get::<ChargedRow>(txn, &key)?.is_some_and(|row| row.by == transfer) {
            txn.remove(&key)?;
        }
    }
    Ok(())
}

/// Removes what is noted of a patient who is being forgotten.
pub(crate) async fn forget(store: &Store, patient: &LocalPatient) -> Result<(), ExchangeError> {
    loop {
        let notes = of_patient(&store.keys(), patient).build();
        let removed = store
            .write(move |txn| -> Result<usize, StoreError> {
                let page = txn.scan(&notes, None, PAGE)?;
                page.iter().try_for_each(|(key, _)| txn.remove(key))?;
                Ok(page.len())
            })
            .await?;
        if removed < PAGE {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use handover_core::Timestamp;
    use handover_store::CellKey;

    use super::*;

    fn account(patient: &str, payer: Payer, destination: &str) -> Account {
        let destination = destination.parse().unwrap();
        Account {
            patient: patient.parse().unwrap(),
            reference: PatientRef::from_bytes([7; 32]),
            payer,
            destination,
        }
    }

    async fn noted(store: &Store, account: &Account, test: &str) -> bool {
        let (keys, account, test) = (store.keys(), account.clone(), test.to_owned());
        let read = store.read(move |txn| -> Result<_, StoreError> { txn.get(&account.key(&keys, &test)) });
        read.await.unwrap().is_some()
    }

    /// Who cannot tell any more what was charged charges nothing twice.
    #[test]
    fn what_may_have_been_done_by_then_counts_as_charged() {
        // 2026-03-05, noon.
        let until = Timestamp::from_millis(1_772_712_000_000);
        assert_eq!(until.to_string().get(..DATE_CHARS), Some("2026-03-05"));
        let line = |date: Option<&str>| QuoteLine {
            record: "DiagnosticReport/1".to_owned(),
            date: date.map(str::to_owned),
            system: String::new(),
            code: "1".to_owned(),
            display: String::new(),
            price: Some("1".to_owned()),
            charged_by: None,
            extensions: Extensions::default(),
        };
        for (date, is_charged) in [
            (None, true),
            (Some("2026"), true),
            (Some("2026-03"), true),
            (Some("2026-03-04"), true),
            (Some("2026-03-05"), true),
            (Some("2026-03-06"), false),
            (Some("2027-01-01"), false),
        ] {
            assert_eq!(is_done_by(&line(date), until), is_charged, "{date:?}");
        }
    }

    #[tokio::test]
    async fn what_is_noted_is_one_patients_for_one_payer_and_goes_with_the_patient() {
        let store = Store::memory(&CellKey::from_bytes([1; 32]));
        let anna = account("4711", Payer::Patient, "riverside");
        let ben = account("4712", Payer::Patient, "riverside");
        let tests = |number: usize| format!("DiagnosticReport/{number}");
        for whose in [&anna, &ben] {
            let (keys, whose) = (store.keys(), whose.clone());
            let by = TransferId::new(Timestamp::from_millis(1), [1; 10]);
            let noted = store.write(move |txn| -> Result<(), StoreError> {
                let row = ChargedRow { by, extensions: Extensions::default() };
                (0..=PAGE).try_for_each(|number| rows::put(txn, &whose.key(&keys, &tests(number)), &row))
            });
            noted.await.unwrap();
        }
        for (other, is_noted) in [
            (&anna, true),
            (&account("4711", Payer::Hospital, "riverside"), false),
            (&account("4711", Payer::Patient, "hillcrest"), false),
        ] {
            assert_eq!(noted(&store, other, &tests(PAGE)).await, is_noted);
        }
        forget(&store, &anna.patient).await.unwrap();
        for number in [0, PAGE] {
            assert!(!noted(&store, &anna, &tests(number)).await);
            assert!(noted(&store, &ben, &tests(number)).await);
        }
    }
}
