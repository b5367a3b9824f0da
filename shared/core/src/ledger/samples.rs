//! Values for this room's tests.

use crate::codec::Extensions;
use crate::{Amount, Digest, PatientRef, Timestamp, TransferId};

use super::{
    Command, Context, Decision, Evidence, Holder, LedgerError, Reason, Terms, TransferLedger, apply,
};

/// Day by day from 2026-11-21T08:34:56.789Z.
pub(crate) fn day(number: i64) -> Timestamp {
    Timestamp::from_millis(1_795_250_096_789).plus_ms(number * crate::time::DAY_MS)
}

pub(crate) fn hash(text: &str) -> Digest {
    Digest::sha256(&[text.as_bytes()])
}

pub(crate) fn patient() -> Holder {
    Holder::Patient(PatientRef::from_bytes([7; 32]))
}

pub(crate) fn usd(minor: i64) -> Amount {
    Amount::from_minor(minor, "USD".parse().unwrap())
}

pub(crate) fn terms_with(number: u8, payer: Holder, amount: Amount) -> Terms {
    Terms {
        transfer: TransferId::new(day(0), [number; 10]),
        source: "lakeside".parse().unwrap(),
        destination: "hilltop".parse().unwrap(),
        payer,
        amount,
        cap: Amount::from_minor(20_000, amount.currency()),
    }
}

pub(crate) fn terms() -> Terms {
    terms_with(1, patient(), usd(10_989))
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

pub(crate) fn handed_over() -> Evidence {
    Evidence {
        delivered: Some(hash("delivered")),
        key_release: Some(hash("key release")),
        share_release: Some(hash("share release")),
        ..agreed()
    }
}

/// Reserves until day 40.
pub(crate) fn reserve(terms: Terms) -> Command {
    Command::Reserve { terms, expires: day(40), evidence: agreed() }
}

pub(crate) fn post(terms: Terms) -> Command {
    Command::Post { terms, evidence: receipt() }
}

pub(crate) fn void(reason: Reason) -> Command {
    Command::Void { reason, evidence: Evidence::default() }
}

pub(crate) fn reverse(sequence: u32, amount: Amount) -> Command {
    Command::Reverse { sequence, amount, reason: Reason::Corrected, evidence: Evidence::default() }
}

/// The destination's dispute: another fee in its receipt, or a refusal.
pub(crate) fn hold(stated: Option<Amount>) -> Command {
    let receipt = stated.map(|_| hash("another receipt"));
    let refusal = stated.is_none().then(|| hash("refusal"));
    Command::Hold { terms: terms(), stated, evidence: Evidence { receipt, refusal, ..agreed() } }
}

/// Two operators settle it.
pub(crate) fn settle(is_due: bool) -> Command {
    let order = Some(hash(if is_due { "for the source" } else { "for the payer" }));
    Command::Settle { terms: terms(), is_due, evidence: Evidence { order, ..agreed() } }
}

/// Decides at that day and appends.
pub(crate) fn step(
    ledger: &mut TransferLedger,
    on_day: i64,
    command: &Command,
) -> Result<Decision, LedgerError> {
    let open_cycle = ledger.entries().last().map(|entry| entry.cycle.clone());
    let decision = apply(ledger, &Context { now: day(on_day), open_cycle }, command)?;
    if let Decision::Append(entries) = &decision {
        for entry in entries {
            ledger.push(entry.clone())?;
        }
    }
    Ok(decision)
}

/// The kinds of its entries, in their order.
pub(crate) fn told(ledger: &TransferLedger) -> String {
    ledger.entries().iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>().join(" ")
}
