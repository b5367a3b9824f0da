//! Commands to the books, made up, and what the rules make of them in memory.

use handover_core::codec::Extensions;
use handover_core::ledger::{
    Balances, Command, Context, Decision, Entry, Evidence, Holder, LedgerError, Reason, Terms,
    TransferLedger, apply,
};
use handover_core::{Amount, Digest, PatientRef, Timestamp, TransferId, time};
use handover_index::ledger::Booking;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// Transfers that take turns.
pub(crate) const TRANSFERS: usize = 4;

/// One command, and how many days after the one before it; the clock can be set back.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) transfer: usize,
    days: i64,
    what: u8,
}

/// As many stories as asked for, the same each time.
pub(crate) fn stories(count: usize) -> Vec<Vec<Step>> {
    let step =
        (0..TRANSFERS, -3_i64..15, 0_u8..20).prop_map(|(transfer, days, what)| Step { transfer, days, what });
    let (story, mut runner) = (prop::collection::vec(step, 20..60), TestRunner::deterministic());
    (0..count).map(|_| story.new_tree(&mut runner).unwrap().current()).collect()
}

pub(crate) fn day(number: i64) -> Timestamp {
    Timestamp::from_millis(1_795_250_096_789).plus_ms(number * time::DAY_MS)
}

pub(crate) fn on(number: i64, seed: u8) -> Booking {
    Booking { now: day(number), salt_seed: [seed; 32] }
}

fn hash(text: &str) -> Digest {
    Digest::sha256(&[text.as_bytes()])
}

/// The agreement on a transfer: one is paid by the hospital, one costs nothing, one is in another currency.
pub(crate) fn terms(number: usize) -> Terms {
    let payer = match number {
        1 => Holder::Hospital("hilltop".parse().unwrap()),
        _ => Holder::Patient(PatientRef::from_bytes([7; 32])),
    };
    let amount: Amount = match number {
        2 => "700 JPY".parse().unwrap(),
        3 => "0 USD".parse().unwrap(),
        _ => "109.89 USD".parse().unwrap(),
    };
    Terms {
        transfer: TransferId::new(day(0), [number as u8; 10]),
        source: "lakeside".parse().unwrap(),
        destination: "hilltop".parse().unwrap(),
        payer,
        amount,
        cap: Amount::from_minor(20_000, amount.currency()),
    }
}

pub(crate) fn agreed() -> Evidence {
    Evidence {
        quote: Some(hash("quote")),
        consent: Some(hash("consent")),
        acceptance: Some(hash("acceptance")),
        header: Some(hash("header")),
        extensions: Extensions::default(),
        ..Evidence::default()
    }
}

pub(crate) fn receipt() -> Evidence {
    Evidence { receipt: Some(hash("receipt")), ..agreed() }
}

fn handed_over() -> Evidence {
    Evidence {
        delivered: Some(hash("delivered")),
        key_release: Some(hash("key release")),
        share_release: Some(hash("share release")),
        ..agreed()
    }
}

impl Step {
    pub(crate) fn command(&self) -> Command {
        let terms = terms(self.transfer);
        let other = || Terms { amount: Amount::from_minor(1, terms.amount.currency()), ..terms.clone() };
        let reserve = |terms, expires| Command::Reserve { terms, expires, evidence: agreed() };
        let void = |reason| {
            let evidence = Evidence { revocation: Some(hash("revocation")), ..Evidence::default() };
            Command::Void { reason, evidence }
        };
        match self.what {
            0 => reserve(terms, day(40)),
            // As far as dates go.
            1 => reserve(terms, Timestamp::from_millis(i64::MAX)),
            2 | 3 => Command::Post { terms, evidence: receipt() },
            4 => Command::Post { terms, evidence: handed_over() },
            5 => void(Reason::ConsentRevoked),
            6 => void(Reason::ReservationExpired),
            7 => reserve(other(), day(40)),
            8 => Command::Post { terms: other(), evidence: receipt() },
            9 => reserve(terms, day(50)),
            10 => Command::Post { terms, evidence: agreed() },
            11 | 12 => {
                let stated = (self.what == 11).then(|| "3 EUR".parse().unwrap());
                let evidence =
                    Evidence { receipt: receipt().receipt, refusal: Some(hash("refusal")), ..agreed() };
                Command::Hold { terms, stated, evidence }
            }
            13 | 14 => {
                let evidence = Evidence { order: Some(hash("order")), ..agreed() };
                Command::Settle { terms, is_due: self.what == 13, evidence }
            }
            number => Command::Reverse {
                sequence: u32::from(number % 3),
                amount: Amount::from_minor(300 * i64::from(number), terms.amount.currency()),
                reason: Reason::Recalled,
                evidence: Evidence { recall: Some(hash("recall")), ..Evidence::default() },
            },
        }
    }
}

/// The books as the rules alone keep them.
#[derive(Default)]
pub(crate) struct Model {
    transfers: [TransferLedger; TRANSFERS],
    pub(crate) entries: Vec<Entry>,
    pub(crate) balances: Balances,
    today: i64,
}

impl Model {
    /// When the step is taken, and what answers it.
    pub(crate) fn step(&mut self, step: &Step) -> (i64, Result<Entry, LedgerError>) {
        self.today += step.days;
        (self.today, self.decide(step))
    }

    /// What it has of one transfer.
    pub(crate) fn story(&self, transfer: usize) -> &TransferLedger {
        &self.transfers[transfer]
    }

    fn decide(&mut self, step: &Step) -> Result<Entry, LedgerError> {
        let open_cycle = self.entries.last().map(|entry| entry.cycle.clone());
        let ledger = &mut self.transfers[step.transfer];
        let decision = apply(ledger, &Context { now: day(self.today), open_cycle }, &step.command())?;
        if let Decision::Append(entries) = &decision {
            for entry in entries {
                ledger.push(entry.clone()).unwrap();
                self.balances.fold(entry).unwrap();
                self.entries.push(entry.clone());
            }
        }
        Ok(decision.answer().unwrap().clone())
    }
}
