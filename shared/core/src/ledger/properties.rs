//! Whatever comes, in whatever order, the invariants hold.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::{Digest, Timestamp};

use super::samples::{agreed, day, handed_over, patient, receipt, reverse, terms_with, usd, void};
use super::{
    Balances, Command, Context, Cycle, Decision, Entry, EntryKind, Evidence, Holder, LedgerError, Reason,
    Terms, TransferLedger, apply,
};

/// Transfers that take turns.
const TRANSFERS: usize = 3;

fn terms(number: usize) -> Terms {
    let payer = if number == 1 { Holder::Hospital("hilltop".parse().unwrap()) } else { patient() };
    let amount = if number == 2 { "700 JPY".parse().unwrap() } else { usd(10_989) };
    terms_with(number as u8, payer, amount)
}

#[derive(Clone, Debug)]
struct Step {
    transfer: usize,
    /// How many days pass before it; the clock can be set back.
    days: i64,
    what: u8,
}

fn command(step: &Step) -> Command {
    let terms = terms(step.transfer);
    let other = || Terms { amount: crate::Amount::zero(terms.amount.currency()), ..terms.clone() };
    let reserve = |terms, expires| Command::Reserve { terms, expires, evidence: agreed() };
    match step.what {
        0 | 1 => reserve(terms, day(40)),
        2 | 3 => Command::Post { terms, evidence: receipt() },
        4 => Command::Post { terms, evidence: handed_over() },
        5 => void(Reason::ConsentRevoked),
        6 => void(Reason::ReservationExpired),
        7 => reserve(other(), day(40)),
        8 => Command::Post { terms: other(), evidence: receipt() },
        9 => reserve(terms, day(50)),
        10 => Command::Post { terms, evidence: agreed() },
        11 => Command::Post { terms, evidence: Evidence::default() },
        16 | 17 => {
            let stated = (step.what == 16).then(|| crate::Amount::zero(terms.amount.currency()));
            let evidence = Evidence { receipt: receipt().receipt, refusal: receipt().receipt, ..agreed() };
            Command::Hold { terms, stated, evidence }
        }
        18 | 19 => {
            let evidence = Evidence { order: handed_over().delivered, ..agreed() };
            Command::Settle { terms, is_due: step.what == 18, evidence }
        }
        number => {
            let amount = crate::Amount::from_minor(300 * i64::from(number), terms.amount.currency());
            reverse(u32::from(number % 3), amount)
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step =
        (0..TRANSFERS, -3_i64..15, 0_u8..20).prop_map(|(transfer, days, what)| Step { transfer, days, what });
    prop::collection::vec(step, 1..60)
}

#[derive(Default)]
struct Books {
    transfers: [TransferLedger; TRANSFERS],
    entries: Vec<Entry>,
    ids: BTreeSet<Digest>,
    balances: Balances,
}

impl Books {
    fn step(&mut self, now: Timestamp, step: &Step) -> Result<Decision, LedgerError> {
        let open_cycle = self.entries.last().map(|entry| entry.cycle.clone());
        let ledger = &mut self.transfers[step.transfer];
        let decision = apply(ledger, &Context { now, open_cycle }, &command(step))?;
        if let Decision::Append(entries) = &decision {
            for entry in entries {
                ledger.push(entry.clone()).unwrap();
                self.balances.fold(entry).unwrap();
                assert!(self.ids.insert(entry.id), "an identifier stands twice");
                self.entries.push(entry.clone());
            }
        }
        Ok(decision)
    }

    fn check(&self) {
        // 1: per currency debits equal credits; one currency in an entry.
        self.balances.trial_balance().unwrap();
        // 8: no entry in an earlier cycle than one before it.
        let cycles: Vec<&Cycle> = self.entries.iter().map(|entry| &entry.cycle).collect();
        assert!(cycles.is_sorted());
        for ledger in &self.transfers {
            let of = |kind| ledger.entries().iter().filter(move |entry| entry.kind == kind);
            // 3: reversals name the fee and stay within it.
            let posted = ledger.posted().map_or(0, |entry| entry.amount.minor());
            assert!(ledger.reversed_minor().unwrap() <= posted);
            assert!(of(EntryKind::Reverse).all(|entry| entry.about == ledger.posted().map(|entry| entry.id)));
            // 4: resolved at most once, after the expiry by a void only.
            let resolved = of(EntryKind::Post).chain(of(EntryKind::Void)).count();
            assert!(resolved <= of(EntryKind::Reserve).count());
            assert!(of(EntryKind::Post).all(|entry| Some(entry.at) < ledger.reservation().unwrap().expires));
            // 5: within the cap. 6: at most one fee.
            assert!(ledger.entries().iter().all(|entry| entry.amount.minor() <= entry.cap.minor()));
            assert!(of(EntryKind::Post).chain(of(EntryKind::PostDirect)).count() <= 1);
            // A hold is settled at most once, and moves nothing by itself.
            assert!(of(EntryKind::Release).count() <= of(EntryKind::Hold).count());
            assert!(of(EntryKind::Hold).count() <= 1);
            assert!(of(EntryKind::Hold).chain(of(EntryKind::Release)).all(|entry| entry.postings.is_empty()));
            // What was settled for the payer is owed by nobody, and pending with nobody.
            if ledger.let_go().is_some() {
                assert_eq!(ledger.reversed_minor().unwrap(), posted);
                assert!(ledger.open_reservation().is_none() && ledger.open_hold().is_none());
            }
            // Everything is read back as it was written.
            assert_eq!(TransferLedger::from_entries(ledger.entries().to_vec()).as_ref(), Ok(ledger));
        }
    }
}

proptest! {
    #[test]
    fn invariants_hold_after_every_step(steps in steps()) {
        let mut books = Books::default();
        let mut today = 0;
        for step in &steps {
            today += step.days;
            let before = books.entries.clone();
            let is_let_go = books.transfers[step.transfer].let_go().is_some();
            let first = books.step(day(today), step);
            // Two operators' word for the payer is the last one.
            prop_assert!(!is_let_go || books.entries.len() == before.len());
            // 3: append only.
            prop_assert_eq!(&books.entries[..before.len()], before.as_slice());
            books.check();
            // 2: repeated, the first answer, and nothing new.
            let count = books.entries.len();
            if let Ok(first) = first {
                let again = books.step(day(today), step).unwrap();
                prop_assert_eq!(again.answer(), first.answer());
            } else {
                prop_assert_eq!(count, before.len());
            }
            prop_assert_eq!(books.entries.len(), count);
        }
    }

    #[test]
    fn evidence_in_any_order_gives_one_fee(order in Just(vec![0_u8, 1, 2, 3, 4, 5, 6]).prop_shuffle(), days in prop::collection::vec(0_i64..12, 7)) {
        let mut books = Books::default();
        let mut today = 0;
        for (what, days) in order.into_iter().zip(days) {
            today += days;
            let _ = books.step(day(today), &Step { transfer: 0, days, what });
        }
        books.check();
        let fees = books.transfers[0].entries().iter().filter(|entry| matches!(entry.kind, EntryKind::Post | EntryKind::PostDirect));
        prop_assert_eq!(fees.count(), 1);
        prop_assert!(books.transfers[0].open_reservation().is_none());
        let total = &books.balances.trial_balance().unwrap()[0].total;
        prop_assert_eq!((total.pending.debits_minor, total.posted.debits_minor), (0, 10_989));
    }

    #[test]
    fn a_dispute_in_any_order_is_settled_for_good(
        order in Just(vec![0_u8, 2, 4, 5, 6, 12, 13, 16, 17, 18, 19]).prop_shuffle(),
        days in prop::collection::vec(0_i64..12, 11),
    ) {
        let mut books = Books::default();
        let mut today = 0;
        let mut settled = None;
        for (what, days) in order.into_iter().zip(days) {
            today += days;
            let _ = books.step(day(today), &Step { transfer: 0, days, what });
            books.check();
            let release = books.transfers[0].release().map(|release| release.reason);
            prop_assert!(settled.is_none() || settled == release);
            settled = release;
        }
        // The receipt came in this story, so the fee is posted, if nobody let it go.
        let ledger = &books.transfers[0];
        prop_assert!(ledger.posted().is_some() || ledger.let_go().is_some());
        if ledger.let_go().is_some() {
            let total = books.balances.trial_balance().unwrap();
            let owed = books.balances.iter().map(|(_, it)| it.net_posted_minor().unwrap());
            prop_assert!(owed.into_iter().all(|minor| minor == 0));
            prop_assert!(total.iter().all(|row| row.total.pending.debits_minor == 0));
        }
    }
}
