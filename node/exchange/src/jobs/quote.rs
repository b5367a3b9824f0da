//! The source quotes: what is in the scope, the tests in it, the fee; sealed to the patient.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handover_core::artefact::Verified;
use handover_core::artefact::federation::{FeeBasis, FeeSchedule};
use handover_core::artefact::patient::Scope;
use handover_core::artefact::transfer::{
    CARRIED_MAX_BYTES, DepartmentCount, PACKAGE_MAX_RECORDS, Payer, QUOTE_LIFE_MS, Quote, QuoteBody,
    QuoteLine,
};
use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{QUOTE_INFO, REQUEST_SCOPE_LABEL, part_binding};
use handover_core::rules::{Context, RequestEvidence};
use handover_core::{Amount, Code, Currency, Digest, Random};
use handover_dossier::{Dossier, DossierError, Row};
use handover_ingest::charges::Assessor;
use handover_ingest::exact::{self, ExactAmount};
use handover_records::{Action, Filter, LocalPatient, Origin, Permit, RecordVersionRef};
use handover_seal::part::open_part;
use handover_seal::{Ed25519, OsRandom, RsaPublicKey, hpke_seal_padded};

use crate::ExchangeError;
use crate::context::{Came, Inner};
use crate::{fees, referrals, selection};

/// Resource types that a fee can be made of; others are not read for it.
const PRICED_TYPES: &[&str] = &["Claim", "DiagnosticReport", "Observation", "Procedure"];
/// The most bytes of one such resource that are read at once.
const PRICED_MAX_BYTES: u64 = 64 * 1024 * 1024;

pub(super) async fn quote(inner: &Arc<Inner>, row: &Row) -> Result<(), ExchangeError> {
    let on = request(inner, row).await?;
    let aad = part_binding(REQUEST_SCOPE_LABEL, &row.transfer);
    let scope = open_part(&inner.parts.identity.ring, &aad, on.request.sealed.as_ref())?;
    let scope: Scope = codec::decode(&scope, MAX_MESSAGE_BYTES)?;
    let (permit, patient) = super::permit(inner, row, Action::Export).await?;
    let everything = snapshot(inner, &permit, &patient).await?;
    let records: Vec<_> =
        everything.iter().filter(|record| scope.contains(&record.department, record.date)).cloned().collect();
    if records.is_empty() {
        return Err(Code::NothingInScope.into());
    }
    if records.len() as u64 > PACKAGE_MAX_RECORDS {
        return Err(Code::TooLarge.into());
    }
    let referral = referral(inner, &on).await?;
    let payer = if referral.is_some() { Payer::Hospital } else { Payer::Patient };
    let body = price(inner, &permit, (&everything, &records), scope, payer).await?;
    let quote = sign(inner, &on, &body, referral, None)?;
    let references: Vec<_> = records.iter().map(|record| record.reference).collect();
    store(inner, row, quote.envelope().to_vec(), body, references).await
}

/// The request and its ask.
pub(super) async fn request(inner: &Arc<Inner>, row: &Row) -> Result<RequestEvidence, ExchangeError> {
    let (keys, transfer, federation) = (inner.keys(), row.transfer, inner.federation()?);
    Ok(inner
        .parts
        .store
        .read(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Ed25519 };
            Dossier::of(txn, &keys, transfer).request(context)
        })
        .await?)
}

/// This hospital's referral of the patient to the one that asks, if one stands.
async fn referral(inner: &Arc<Inner>, on: &RequestEvidence) -> Result<Option<Bytes>, ExchangeError> {
    let (keys, now) = (inner.keys(), inner.now());
    let (patient, destination) = (on.ask.patient, on.request.destination.clone());
    Ok(inner
        .parts
        .store
        .read(move |txn| referrals::standing(txn, &keys, &patient, &destination, now))
        .await?)
}

/// Everything current of a patient.
pub(super) async fn snapshot(
    inner: &Arc<Inner>,
    permit: &Permit,
    patient: &LocalPatient,
) -> Result<Vec<RecordVersionRef>, ExchangeError> {
    Ok(inner.parts.records.snapshot(permit, inner.now(), patient, &Filter::default()).await?)
}

/// Counts and prices `records`. Prices can stand in Claims outside the scope, so everything is read for them; only
/// tests inside are charged.
async fn price(
    inner: &Arc<Inner>,
    permit: &Permit,
    (everything, records): (&[RecordVersionRef], &[RecordVersionRef]),
    scope: Scope,
    payer: Payer,
) -> Result<QuoteBody, ExchangeError> {
    let schedule = schedule(inner)?;
    let mut assessor = Assessor::new(&inner.parts.catalogue, &inner.parts.prices);
    for record in everything {
        if record.origin != Origin::Local || !PRICED_TYPES.contains(&record.resource_type.as_str()) {
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
    let chosen: BTreeSet<String> = match schedule.basis {
        FeeBasis::TestsInScope => records,
        FeeBasis::AllTests => everything,
    }
    .iter()
    .filter_map(test_reference)
    .collect();
    let currency = assessment.currency.unwrap_or(inner.parts.currency);
    let lines: Vec<QuoteLine> = assessment
        .lines
        .into_iter()
        .filter(|line| chosen.contains(&line.reference))
        .map(|line| QuoteLine {
            record: line.reference,
            date: line.date,
            system: line.system.unwrap_or_default(),
            code: line.code,
            display: line.display.unwrap_or_default(),
            price: line.amount.map(|amount| amount.to_decimal_string(currency)),
            extensions: Extensions::default(),
        })
        .collect();
    compose(records, scope, lines, Charge { payer, rate_bps: schedule.rate_for(payer), currency })
}

fn schedule(inner: &Arc<Inner>) -> Result<FeeSchedule, ExchangeError> {
    let federation = inner.federation()?;
    let jurisdiction = federation.member(inner.own())?.profile.jurisdiction.clone();
    Ok(federation.schedule(&jurisdiction, inner.now()).ok_or(Code::DirectoryExpired)?.clone())
}

/// How a record of this hospital stands in a quote's line; what others sent is no test done here, and what was recalled
/// is none of this patient's.
fn test_reference(record: &RecordVersionRef) -> Option<String> {
    let is_charged = record.mark.as_ref().is_none_or(|mark| mark.reason.keeps_fee());
    (record.origin == Origin::Local && is_charged)
        .then(|| format!("{}/{}", record.resource_type, record.resource_id))
}

/// What a quote's body says of less than it was about: its own lines and prices, so that nothing that was imported
/// meanwhile changes what was consented to.
pub(super) fn narrowed(
    inner: &Arc<Inner>,
    body: &QuoteBody,
    records: &[RecordVersionRef],
    scope: Scope,
) -> Result<QuoteBody, ExchangeError> {
    let chosen: BTreeSet<String> = records.iter().filter_map(test_reference).collect();
    let keeps_all = schedule(inner)?.basis == FeeBasis::AllTests;
    let lines: Vec<QuoteLine> =
        body.lines.iter().filter(|line| keeps_all || chosen.contains(&line.record)).cloned().collect();
    let charge = Charge { payer: body.payer, rate_bps: body.rate_bps, currency: body.fee.currency() };
    compose(records, scope, lines, charge)
}

/// Who owes how much of the prices, and in what.
struct Charge {
    payer: Payer,
    rate_bps: u32,
    currency: Currency,
}

/// A body from records and priced lines.
fn compose(
    records: &[RecordVersionRef],
    scope: Scope,
    lines: Vec<QuoteLine>,
    Charge { payer, rate_bps, currency }: Charge,
) -> Result<QuoteBody, ExchangeError> {
    let (basis, unpriced) = sum(&lines)?;
    let mut departments: BTreeMap<_, u64> = BTreeMap::new();
    for record in records {
        *departments.entry(record.department.clone()).or_default() += 1;
    }
    Ok(QuoteBody {
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
        extensions: Extensions::default(),
    })
}

/// The exact sum of the lines' prices, and how many have none.
fn sum(lines: &[QuoteLine]) -> Result<(ExactAmount, u32), ExchangeError> {
    let (mut basis, mut unpriced) = (ExactAmount::ZERO, 0_u32);
    for line in lines {
        match &line.price {
            None => unpriced = unpriced.saturating_add(1),
            Some(price) => {
                let price: ExactAmount = price.parse().map_err(|_| Code::QuoteMismatch)?;
                basis = basis.checked_add(price).ok_or(Code::QuoteMismatch)?;
            }
        }
    }
    Ok((basis, unpriced))
}

/// The fee as anybody computes it from a quote's lines.
///
/// # Errors
/// [`Code::QuoteMismatch`] if sum or count do not follow from the lines.
pub(super) fn recomputed_fee(body: &QuoteBody) -> Result<Amount, ExchangeError> {
    let (basis, unpriced) = sum(&body.lines)?;
    let currency = body.fee.currency();
    if unpriced != body.unpriced || basis.to_decimal_string(currency) != body.basis {
        return Err(Code::QuoteMismatch.into());
    }
    Ok(exact::fee(basis, body.rate_bps, currency).map_err(|_| Code::QuoteMismatch)?)
}

/// Seals a body to the patient, and with a referral the fee to the destination, and signs the quote around it.
pub(super) fn sign(
    inner: &Arc<Inner>,
    on: &RequestEvidence,
    body: &QuoteBody,
    referral: Option<Bytes>,
    narrows: Option<Digest>,
) -> Result<Verified<Quote>, ExchangeError> {
    let (plain, now) = (codec::encode(body), inner.now());
    let transfer = on.request.transfer;
    let sealed_to_payer = match &referral {
        None => None,
        Some(_) => {
            let federation = inner.federation()?;
            let payer = &federation.active(&on.request.destination, now)?.profile.rsa_key;
            let payer = RsaPublicKey::from_spki_der(payer.as_ref())?;
            Some(fees::seal_offer(body.fee, &transfer, &payer)?.into())
        }
    };
    let quote = Quote {
        transfer,
        patient: on.ask.patient,
        source: on.request.source.clone(),
        destination: on.request.destination.clone(),
        request: on.request.hash(),
        commitment: Digest::sha256(&[&plain]),
        sealed: hpke_seal_padded(
            &on.keys.newest().sealing_key,
            QUOTE_INFO,
            transfer.as_bytes(),
            &plain,
            &mut OsRandom,
        )?
        .into(),
        narrows,
        request_key: on.request.request_key,
        issued: now,
        expires: now.plus_ms(QUOTE_LIFE_MS),
        referral,
        sealed_to_payer,
        extensions: Extensions::default(),
    };
    let quote = Verified::sign(quote, &inner.parts.identity.signing);
    if quote.envelope().len() > CARRIED_MAX_BYTES {
        return Err(Code::TooLarge.into());
    }
    Ok(quote)
}

/// Keeps quote, body and selection in one transaction.
pub(super) async fn store(
    inner: &Arc<Inner>,
    row: &Row,
    envelope: Vec<u8>,
    body: QuoteBody,
    references: Vec<handover_records::RecordRef>,
) -> Result<(), ExchangeError> {
    let (work, keys, transfer) = (Arc::clone(inner), inner.keys(), row.transfer);
    let (federation, now) = (inner.federation()?, inner.now());
    let taken = inner
        .parts
        .store
        .write(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Ed25519 };
            selection::put(txn, &keys, transfer, &references)?;
            crate::bodies::put(txn, &work.parts.keyring, &keys, transfer, &body)?;
            work.take_in(txn, &keys, transfer, &envelope, Came::Own, context, now)
        })
        .await?;
    inner.wake(&taken);
    Ok(())
}
