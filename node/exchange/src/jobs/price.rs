//! What a quote says of records: how many, which tests, and what they cost. A quote's lines are the tests that are sent;
//! where the schedule's basis is all tests, the others stand in it as one sum, and the source alone keeps which they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handover_core::artefact::federation::{FeeBasis, FeeSchedule};
use handover_core::artefact::patient::Scope;
use handover_core::artefact::transfer::{DepartmentCount, OtherTests, Payer, QuoteBody, QuoteLine};
use handover_core::codec::Extensions;
use handover_core::rules::Context;
use handover_core::{Amount, Code, Currency, Random, Timestamp, TransferId};
use handover_ingest::charges::Assessor;
use handover_ingest::exact::{self, ExactAmount};
use handover_records::{Origin, Permit, RecordVersionRef};
use handover_seal::{OsRandom, Remembered};

use crate::ExchangeError;
use crate::bodies::{self, Priced};
use crate::charged::{self, Account, Before};
use crate::context::Inner;
use crate::selection;

/// Resource types that a fee can be made of; others are not read for it.
const PRICED_TYPES: &[&str] = &["Claim", "DiagnosticReport", "Observation", "Procedure"];
/// The most bytes of one such resource that are read at once.
const PRICED_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The schedule that holds for this hospital.
pub(super) fn schedule(inner: &Arc<Inner>, now: Timestamp) -> Result<FeeSchedule, ExchangeError> {
    let federation = inner.federation()?;
    let jurisdiction = federation.member(inner.own())?.profile.jurisdiction.clone();
    Ok(federation.schedule(&jurisdiction, now).ok_or(Code::NoFeeSchedule)?.clone())
}

/// Counts and prices `records`. Prices can stand in Claims outside the scope, so everything is read for them; only
/// tests that no other transfer has charged to this account count.
pub(super) async fn price(
    inner: &Arc<Inner>,
    permit: &Permit,
    (everything, records): (&[RecordVersionRef], &[RecordVersionRef]),
    scope: Scope,
    (account, transfer): (&Account, TransferId),
    schedule: &FeeSchedule,
) -> Result<Priced, ExchangeError> {
    let mut assessor = Assessor::new(&inner.parts.catalogue, &inner.parts.prices);
    for record in everything {
        let is_own = record.origin == Origin::Local && is_chargeable(record);
        if !is_own || !PRICED_TYPES.contains(&record.resource_type.as_str()) {
            continue;
        }
        let (_, content) = inner.parts.records.read(permit, inner.now(), record.reference).await?;
        let content = content.bytes(PRICED_MAX_BYTES).await?;
        let json = std::str::from_utf8(&content).map_err(|_| Code::StoreDamaged)?;
        if assessor.add(json, None, true).is_err() {
            tracing::warn!(record = %record.reference, "a record cannot be read for pricing");
        }
    }
    let assessment = assessor.finish()?;
    let currency = assessment.currency.unwrap_or(inner.parts.currency);
    let mut lines: Vec<QuoteLine> = assessment
        .lines
        .into_iter()
        .map(|line| QuoteLine {
            record: line.reference,
            date: line.date,
            system: line.system.unwrap_or_default(),
            code: line.code,
            display: line.display.unwrap_or_default(),
            price: line.amount.map(|amount| amount.to_decimal_string(currency)),
            charged_by: None,
            extensions: Extensions::default(),
        })
        .collect();
    let before = charged_before(inner, account, transfer, &lines).await?;
    charged::mark(&mut lines, &before);
    let charge = Charge { payer: account.payer, rate_bps: schedule.rate_for(account.payer), currency };
    compose(records, scope, lines, schedule.basis, charge)
}

/// Which of these lines other transfers have charged.
pub(super) async fn charged_before(
    inner: &Arc<Inner>,
    account: &Account,
    transfer: TransferId,
    lines: &[QuoteLine],
) -> Result<Before, ExchangeError> {
    let (keys, account, lines) = (inner.keys(), account.clone(), lines.to_vec());
    let federation = inner.federation()?;
    let read = inner.parts.store.read(move |txn| {
        let context = Context { federation: &federation, verifier: &Remembered };
        charged::before(txn, &keys, &account, transfer, context, &lines)
    });
    Ok(read.await?)
}

/// What a quote says of less than it was about: its own tests and prices, so that nothing that was imported meanwhile
/// changes what was consented to; without those that were charged meanwhile.
pub(super) fn narrowed(
    quoted: &Priced,
    records: &[RecordVersionRef],
    scope: Scope,
    schedule: &FeeSchedule,
    before: &Before,
) -> Result<Priced, ExchangeError> {
    let mut lines: Vec<QuoteLine> = quoted.tests().cloned().collect();
    charged::mark(&mut lines, before);
    let QuoteBody { payer, rate_bps, fee, .. } = &quoted.body;
    let charge = Charge { payer: *payer, rate_bps: *rate_bps, currency: fee.currency() };
    compose(records, scope, lines, schedule.basis, charge)
}

/// How a record of this hospital stands in a quote's line; what others sent is no test done here.
pub(super) fn test_reference(record: &RecordVersionRef) -> Option<String> {
    (record.origin == Origin::Local).then(|| format!("{}/{}", record.resource_type, record.resource_id))
}

/// Whether a record may be charged: what was recalled for good is no test of this patient's.
fn is_chargeable(record: &RecordVersionRef) -> bool {
    record.mark.as_ref().is_none_or(|mark| mark.reason.keeps_fee())
}

/// Who owes how much of the prices, and in what.
struct Charge {
    payer: Payer,
    rate_bps: u32,
    currency: Currency,
}

/// A body from records and tests: those among the records are its lines.
fn compose(
    records: &[RecordVersionRef],
    scope: Scope,
    mut tests: Vec<QuoteLine>,
    basis: FeeBasis,
    Charge { payer, rate_bps, currency }: Charge,
) -> Result<Priced, ExchangeError> {
    let wrong: BTreeSet<String> =
        records.iter().filter(|record| !is_chargeable(record)).filter_map(test_reference).collect();
    tests.retain(|line| !wrong.contains(&line.record));
    let sent: BTreeSet<String> = records.iter().filter_map(test_reference).collect();
    let (lines, mut others): (Vec<_>, Vec<_>) =
        tests.into_iter().partition(|line| sent.contains(&line.record));
    if basis == FeeBasis::TestsInScope {
        others.clear();
    }
    let other_tests = bodies::summed(&others, currency)?;
    let (basis, unpriced) = total(&lines, other_tests.as_ref())?;
    let mut departments: BTreeMap<_, u64> = BTreeMap::new();
    for record in records {
        *departments.entry(record.department.clone()).or_default() += 1;
    }
    let body = QuoteBody {
        scope,
        departments: departments
            .into_iter()
            .map(|(department, records)| DepartmentCount {
                department,
                records,
                extensions: Extensions::default(),
            })
            .collect(),
        records: records.len() as u64,
        bytes: records.iter().map(|record| record.bytes).sum(),
        lines,
        unpriced,
        basis: basis.to_decimal_string(currency),
        rate_bps,
        fee: exact::fee(basis, rate_bps, currency).map_err(|_| Code::Internal)?,
        payer,
        versions: selection::versions_hash(records),
        salt: OsRandom.array(),
        other_tests,
        restricted: records.iter().filter(|record| record.is_restricted).count() as u64,
        extensions: Extensions::default(),
    };
    Ok(Priced { body, others, extensions: Extensions::default() })
}

/// The exact sum of all prices, and how many lines have none and were not charged before.
fn total(lines: &[QuoteLine], others: Option<&OtherTests>) -> Result<(ExactAmount, u32), ExchangeError> {
    let (basis, unpriced) = bodies::sum(lines)?;
    let others = others.map_or(Ok(ExactAmount::ZERO), |others| bodies::exactly(&others.basis))?;
    Ok((basis.checked_add(others).ok_or(Code::QuoteFalse)?, unpriced))
}

/// The fee as anybody computes it from a quote's lines.
///
/// # Errors
/// [`Code::QuoteFalse`] if sum or count do not follow from the lines.
pub(super) fn recomputed_fee(body: &QuoteBody) -> Result<Amount, ExchangeError> {
    let (basis, unpriced) = total(&body.lines, body.other_tests.as_ref())?;
    let currency = body.fee.currency();
    if unpriced != body.unpriced || basis.to_decimal_string(currency) != body.basis {
        return Err(Code::QuoteFalse.into());
    }
    Ok(exact::fee(basis, body.rate_bps, currency).map_err(|_| Code::QuoteFalse)?)
}
