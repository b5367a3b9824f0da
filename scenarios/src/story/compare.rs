//! The steps that look: states, what lies at both ends, the transfer's file, the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Fee;
use super::check::{Difference, equal, listed};
use super::outcome::{DIFFERS, FILED, TransferSummary};
use super::play::{Stage, TransferCast, ledger};
use crate::generator::Expected;
use crate::json::{self, counts, number, text};
use crate::world::is_due;

/// How long both ends may take to be done.
const FILED_WAIT_SECONDS: u64 = 120;
/// How long the evidence may take to reach the ledger.
const LEDGER_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn wait(
    stage: &mut Stage<'_>,
    transfer: &str,
    at: &str,
    (phase, reason): (&str, Option<&str>),
    seconds: u64,
) -> Result<()> {
    let id = stage.transfer(transfer)?.id.clone();
    let shown = reached(stage, &id, at, phase, seconds)?;
    if let Some(reason) = reason {
        equal(&format!("why transfer {id} is {phase} at {at}"), &reason, &text(&shown, "reason"))?;
    }
    match text(&shown, "reason") {
        "" => stage.fact(format!("{at}: {}", text(&shown, "state"))),
        why => stage.fact(format!("{at}: {}, {why}", text(&shown, "state"))),
    }
    Ok(())
}

pub(super) fn unheard(stage: &mut Stage<'_>, transfer: &str, at: &str) -> Result<()> {
    let id = stage.transfer(transfer)?.id.clone();
    let answer = stage.world.node(at, &["transfer", "show", &id])?;
    equal(
        &format!("what {at} says of transfer {id}"),
        &Some("unknown-transfer".to_owned()),
        &answer.problem(),
    )?;
    stage.fact(format!("{at} has never heard of this transfer"));
    Ok(())
}

/// The transfer at `at` once it has reached `phase`, or gone past it.
fn reached(stage: &Stage<'_>, id: &str, at: &str, phase: &str, seconds: u64) -> Result<Value> {
    let seconds = seconds.to_string();
    let answer = stage.world.node(at, &["transfer", "show", id, "--wait", &seconds, "--until", phase])?;
    let shown = answer.json().with_context(|| format!("transfer {id} was to be {phase} at {at}"))?;
    let state = text(&shown, "state");
    let order = |word: &str| word.parse::<handover_core::transfer::Phase>().ok();
    let (wanted, is) = (order(phase), order(state));
    let is_there =
        is == wanted || is.zip(wanted).is_some_and(|(is, wanted)| is <= FILED_PHASE && is >= wanted);
    if is_there {
        return Ok(shown);
    }
    bail!("transfer {id} at {at}\n  expected: {phase}\n  came: {state} {}", text(&shown, "reason"))
}

/// The last phase of a transfer that goes well; those after it are exits.
const FILED_PHASE: handover_core::transfer::Phase = handover_core::transfer::Phase::Filed;

/// A patient's records at a hospital.
fn listed_at(stage: &Stage<'_>, patient: &str, at: &str) -> Result<Vec<Value>> {
    let answer = stage.world.node(at, &["records", "list", "--patient", patient])?;
    if answer.problem().as_deref() == Some("unknown-patient") {
        return Ok(Vec::new());
    }
    Ok(json::list(&answer.json()?, "records").cloned().collect())
}

fn by_department<'a>(records: impl Iterator<Item = &'a Value>) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for record in records {
        let count = counts.entry(text(record, "department").to_owned()).or_default();
        *count = count.saturating_add(1);
    }
    counts
}

/// Records at the destination that came with this transfer, by department. What else it holds of the patient, of its
/// own or from earlier transfers, is not counted: its Provenance of this transfer names what it filed.
fn filed_of(stage: &Stage<'_>, patient: &str, at: &str, transfer: &str) -> Result<BTreeMap<String, u64>> {
    let records = listed_at(stage, patient, at)?;
    let is_own = |it: &&Value| text(it, "type") == "Provenance" && text(it, "id") == transfer;
    let Some(own) = records.iter().find(is_own) else { return Ok(BTreeMap::new()) };
    let shown = stage.world.node(at, &["records", "show", "--patient", patient, text(own, "record")])?;
    Ok(by_department(named(&records, &shown.json()?)))
}

/// The records that a Provenance names.
fn named<'a>(records: &'a [Value], provenance: &Value) -> impl Iterator<Item = &'a Value> {
    let targets: BTreeSet<String> =
        json::list(provenance, "target").map(|target| text(target, "reference").to_owned()).collect();
    records.iter().filter(move |it| targets.contains(&format!("{}/{}", text(it, "type"), text(it, "id"))))
}

pub(super) fn compare(
    stage: &mut Stage<'_>,
    name: &str,
    departments: Option<&[String]>,
    fee: Option<&Fee>,
) -> Result<()> {
    let cast = stage.transfer(name)?;
    let (id, from, to) = (cast.id.clone(), cast.from.clone(), cast.to.clone());
    let (asked, patient) = (cast.asked, stage.patient(&cast.patient)?);
    let (patient_id, file, expected) = (patient.id.clone(), patient.file.clone(), patient.expected.clone());
    let destination = reached(stage, &id, &to, FILED, FILED_WAIT_SECONDS)?;
    let source = reached(stage, &id, &from, FILED, FILED_WAIT_SECONDS)?;
    let ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (sent, filed) = (counts(&source, "departments"), filed_of(stage, &patient_id, &to, &id)?);
    let mut summary = TransferSummary {
        file,
        patient: patient_id,
        kind: if text(&source, "payer") == "hospital" { "referral" } else { "self" },
        source: from,
        destination: to,
        records_sent: number(&source, "records"),
        records_filed: filed.values().sum(),
        departments: filed,
        tests_priced: number(&source, "tests_priced"),
        tests_unpriced: number(&source, "tests_unpriced"),
        basis: text(&source, "basis").to_owned(),
        fee: text(&source, "fee").to_owned(),
        currency: text(&source, "currency").to_owned(),
        payer: text(&source, "payer").to_owned(),
        outcome: FILED.to_owned(),
        reason: None,
        package_bytes: number(&source, "package_bytes"),
        ms,
    };
    let same_terms =
        ["fee", "currency", "basis"].iter().all(|key| json::at(&source, key) == json::at(&destination, key));
    let is_same = sent == summary.departments && summary.records_sent == summary.records_filed && same_terms;
    if !is_same {
        summary.outcome = DIFFERS.to_owned();
    }
    if let Some((_, cast)) = stage.transfers.iter_mut().find(|(known, _)| known == name) {
        cast.summary = Some(summary.clone());
    }
    stage.fact(format!("sent by {}:  {} records: {}", summary.source, summary.records_sent, listed(&sent)));
    stage.fact(format!(
        "filed by {}: {} records: {}",
        summary.destination,
        summary.records_filed,
        listed(&summary.departments)
    ));
    stage.fact(format!(
        "Package {} bytes; {} s from the patient's question to the receipt; fee {} {}",
        summary.package_bytes,
        tenths(ms),
        summary.fee,
        summary.currency
    ));
    if !is_same {
        let difference = format!(
            "transfer {id}\n  expected: what {} sent: {} records, {}, fee {}\n  came at {}: {} records, {}, fee {}",
            summary.source,
            summary.records_sent,
            listed(&sent),
            summary.fee,
            summary.destination,
            summary.records_filed,
            listed(&summary.departments),
            text(&destination, "fee"),
        );
        return Err(Difference(difference).into());
    }
    if let Some(departments) = departments {
        let (mut wanted, came): (Vec<String>, Vec<String>) =
            (departments.to_vec(), summary.departments.keys().cloned().collect());
        wanted.sort();
        equal("departments that arrived", &wanted, &came)?;
    }
    fee.map_or(Ok(()), |fee| check_fee(&summary, fee, expected.as_ref()))
}

fn tenths(ms: u64) -> String {
    format!("{}.{}", ms / 1_000, ms % 1_000 / 100)
}

/// Decimal texts of one currency, compared as numbers of its minor unit.
fn minor(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "00"));
    if part.len() != 2 {
        return None;
    }
    format!("{whole}{part}").parse().ok()
}

fn check_fee(summary: &TransferSummary, fee: &Fee, expected: Option<&Expected>) -> Result<()> {
    let generated = || expected.context("only a patient generated whole has an expected fee");
    match fee {
        Fee::Amount(amount) => equal("the fee", amount, &summary.fee),
        Fee::Generated => {
            let expected = generated()?;
            equal("the fee", &expected.fee(), &summary.fee)?;
            equal("the sum of the prices", &expected.basis(), &summary.basis)?;
            equal("tests with a price", &expected.tests_priced, &summary.tests_priced)?;
            equal("tests without a price", &expected.tests_unpriced, &summary.tests_unpriced)?;
            equal("records", &expected.total_resources(), &summary.records_filed)
        }
        Fee::Less => {
            let whole = generated()?.fee_minor();
            match minor(&summary.fee) {
                Some(fee) if fee > 0 && fee < whole => Ok(()),
                _ => bail!(
                    "the fee\n  expected: more than nothing, less than {}\n  came: {}",
                    generated()?.fee(),
                    summary.fee
                ),
            }
        }
    }
}

pub(super) fn holds(
    stage: &mut Stage<'_>,
    patient: &str,
    at: &str,
    records: Option<u64>,
    departments: Option<&BTreeMap<String, u64>>,
) -> Result<()> {
    let id = stage.patient(patient)?.id.clone();
    let held = by_department(listed_at(stage, &id, at)?.iter());
    let all: u64 = held.values().sum();
    if let Some(departments) = departments {
        equal(&format!("records of {id} at {at}"), departments, &held)?;
    }
    if let Some(records) = records {
        equal(&format!("records of {id} at {at}"), &records, &all)?;
    }
    stage.fact(if held.is_empty() {
        format!("{at} holds 0 records")
    } else {
        format!("{at} holds {all} records: {}", listed(&held))
    });
    Ok(())
}

/// Waits until so many deliveries have followed a transfer; the last is filed, so many records for this fee.
pub(super) fn follows(
    stage: &mut Stage<'_>,
    transfer: &str,
    deliveries: u64,
    (records, fee): (u64, &str),
) -> Result<()> {
    let cast = stage.transfer(transfer)?;
    let (id, to, count) = (cast.id.clone(), cast.to.clone(), deliveries.to_string());
    let args = ["transfer", "show", &id, "--wait", "60", "--deliveries", &count];
    let shown = stage.world.node(&to, &args)?.json()?;
    let last = json::list(&shown, "deliveries").last().context("no delivery")?;
    let last = stage.world.node(&to, &["transfer", "show", text(last, "transfer")])?.json()?;
    equal("the state of the delivery", &FILED, &text(&last, "state"))?;
    equal("records delivered", &records, &number(&last, "records"))?;
    equal("the fee of the delivery", &fee, &text(&last, "fee"))?;
    let entry = stage.world.posted(text(&last, "transfer"), LEDGER_LIMIT)?;
    equal("the fee in the ledger", &fee, &text(&entry, "amount"))?;
    stage.fact(format!("Filed by itself: {records} record, fee {fee} {}", text(&last, "currency")));
    Ok(())
}

pub(super) fn verify(stage: &mut Stage<'_>, transfer: &str, at: &str) -> Result<()> {
    let id = stage.transfer(transfer)?.id.clone();
    let file = stage.world.folder().join(format!("transfer-{id}.handover"));
    let path = file.to_str().context("the world's folder is no UTF-8")?;
    stage.world.node(at, &["transfer", "show", &id, "--out", path])?.done()?;
    let report = stage.world.verify(&file)?.json()?;
    let steps = json::list(&report, "steps").count();
    stage
        .fact(format!("{steps} signed artefacts verify offline, with nothing but the federation's root key"));
    Ok(())
}

pub(super) fn books(stage: &mut Stage<'_>, transfer: Option<&str>, is_charged: bool) -> Result<()> {
    if let Some(name) = transfer {
        let cast = stage.transfer(name)?;
        let (id, fee) = (cast.id.clone(), cast.summary.as_ref().map(|summary| summary.fee.clone()));
        if is_charged {
            let fee = fee.context("compare the transfer before its fee is looked for")?;
            let entry = stage.world.posted(&id, LEDGER_LIMIT)?;
            equal("the fee in the ledger", &fee.as_str(), &text(&entry, "amount"))?;
            stage.fact(format!(
                "Entry {}: {} owes {} {} {}",
                number(&entry, "sequence"),
                payer(&entry),
                text(&entry, "source"),
                text(&entry, "amount"),
                text(&entry, "currency")
            ));
        } else {
            let entries = stage.world.entries(&id)?;
            let due = entries.iter().filter(|entry| is_due(entry)).count();
            equal(&format!("entries that charge transfer {id}"), &0, &due)?;
            stage.fact("Nothing of it is due");
        }
    }
    let ledger = ledger(stage.world)?;
    stage.fact(format!("{} entries, debits {}, credits {}", ledger.entries, ledger.debits, ledger.credits));
    if !ledger.balanced || ledger.debits != ledger.credits {
        bail!("the ledger\n  expected: debits and credits are equal\n  came: {ledger:?}");
    }
    Ok(())
}

fn payer(entry: &Value) -> String {
    let payer = text(entry, "payer");
    if payer.starts_with("patient:") { "the patient".to_owned() } else { payer.to_owned() }
}

/// A transfer that was not compared: how it stands, and that nothing of it was filed by anybody's word.
pub(super) fn unfinished(stage: &Stage<'_>, cast: &TransferCast) -> Result<TransferSummary> {
    let patient = stage.patient(&cast.patient)?;
    let shown = stage.world.node(&cast.to, &["transfer", "show", &cast.id])?.json()?;
    let filed = if text(&shown, "state") == FILED {
        filed_of(stage, &patient.id, &cast.to, &cast.id)?
    } else {
        BTreeMap::new()
    };
    let is_referral = !json::at(&shown, "referral").is_null();
    Ok(TransferSummary {
        file: patient.file.clone(),
        patient: patient.id.clone(),
        kind: if is_referral { "referral" } else { "self" },
        source: cast.from.clone(),
        destination: cast.to.clone(),
        records_sent: if filed.is_empty() { 0 } else { number(&shown, "records") },
        records_filed: filed.values().sum(),
        departments: filed,
        tests_priced: 0,
        tests_unpriced: 0,
        basis: "0.00".to_owned(),
        fee: "0.00".to_owned(),
        currency: stage.world.currency().to_owned(),
        payer: if is_referral { "hospital" } else { "patient" }.to_owned(),
        outcome: text(&shown, "state").to_owned(),
        reason: why(&shown),
        package_bytes: 0,
        ms: 0,
    })
}

/// Why a transfer ended or waits, for people.
fn why(shown: &Value) -> Option<String> {
    let wait = || json::list(shown, "waits").next().map(|wait| text(wait, "code"));
    let code = Some(text(shown, "reason")).filter(|code| !code.is_empty()).or_else(wait)?;
    let meaning = code.parse::<handover_core::Code>().map(handover_core::Code::text).unwrap_or_default();
    Some(format!("{code}. {meaning}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_provenance_names_is_filed_of_its_transfer() {
        let record = |kind: &str, id: &str, department: &str| json!({"type": kind, "id": id, "department": department});
        let records = [
            record("Patient", "p", "administration"),
            record("Observation", "o", "laboratory"),
            record("Observation", "of-this-hospital", "laboratory"),
            record("Provenance", "earlier", "administration"),
            record("Provenance", "this", "administration"),
        ];
        let provenance = json!({"target": [
            {"reference": "Patient/p"}, {"reference": "Observation/o"}, {"reference": "Observation/lost"},
        ]});
        let filed = by_department(named(&records, &provenance));
        let expected = [("administration".to_owned(), 1), ("laboratory".to_owned(), 1)];
        assert_eq!(filed, BTreeMap::from(expected));
    }

    #[test]
    fn a_reason_is_told_with_its_meaning() {
        let refused = why(&json!({"state": "refused", "reason": "mixed-currencies", "waits": []})).unwrap();
        assert!(refused.starts_with("mixed-currencies. ") && refused.len() > 20, "{refused}");
        let waits = json!({"reason": null, "waits": [{"code": "busy"}]});
        assert!(why(&waits).unwrap().starts_with("busy"));
        assert_eq!(why(&json!({"reason": null, "waits": []})), None);
    }
}
