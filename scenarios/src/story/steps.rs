//! The steps that somebody takes: patients with their wallets, desks with their nodes, operators with their keys.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::aside;
use super::check::{answered, equal, listed};
use super::play::{PatientCast, Stage, TransferCast};
use super::{Change, Expect, Order, Records};
use crate::generator;
use crate::json::{self, counts, number, text};

/// How soon hospitals that run have confirmed a revocation.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a patient waits for a quote.
const QUOTE_WAIT_SECONDS: &str = "60";

/// What a refused command said, told as a fact.
fn refused(stage: &mut Stage<'_>, expect: Option<&Expect>) {
    let code = expect.and_then(|expect| expect.code.clone()).unwrap_or_default();
    let text = code.parse::<handover_core::Code>().map(handover_core::Code::text).unwrap_or_default();
    stage.fact(format!("Refused, as it has to be: {code}. {text}"));
}

pub(super) fn import(
    stage: &mut Stage<'_>,
    patient: &str,
    at: &str,
    records: &Records,
    expect: Option<&Expect>,
) -> Result<()> {
    let mut cast = PatientCast {
        wallet: stage.world.unique(patient),
        has_wallet: false,
        id: String::new(),
        file: None,
        expected: None,
    };
    let (path, name) = match records {
        Records::File(path) => {
            let name = path.file_name().context("a records file has no name")?.to_string_lossy().into_owned();
            cast.file = Some(name.clone());
            (path.clone(), name)
        }
        Records::Generated { seed, visits, scans, scan_bytes } => {
            let options = generator::Options {
                visits: *visits,
                scans: *scans,
                scan_bytes: *scan_bytes,
                hospital: stage.world.name(at)?.to_owned(),
                ..generator::Options::default()
            };
            let path = stage.world.records_folder().join(format!("{}.json", cast.wallet));
            let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
            let written = generator::write_patient(*seed, &options, &mut file)?;
            std::io::Write::flush(&mut file)?;
            let (name, expected) = (written.name, written.expected);
            (cast.id, cast.expected) = (written.id, Some(expected));
            (path, name)
        }
    };
    let answer = stage.world.node(at, &["import", path_text(&path)?])?;
    let kept_aside = aside::of(&answer);
    if !kept_aside.is_empty() {
        stage.reporter.kept_aside(&name, &kept_aside);
        if expect.is_none() && answer.exit != Some(0) {
            bail!("nothing in it could be read");
        }
    }
    let Some(imported) = answered(&answer, expect)? else {
        refused(stage, expect);
        return Ok(());
    };
    let patients: Vec<&str> = json::list(&imported, "patients").filter_map(Value::as_str).collect();
    match (patients.as_slice(), cast.id.as_str()) {
        ([only], "") => cast.id = (*only).to_owned(),
        ([only], known) if *only == known => {}
        ([], _) => bail!("no records of a patient in it"),
        ([_, _, ..], "") => bail!("records of {} patients in it, one is expected", patients.len()),
        _ => bail!(
            "import of {}\n  expected: the records of one patient {}\n  came: {patients:?}",
            path.display(),
            cast.id
        ),
    }
    if cast.expected.is_some() {
        equal("entries of generated records that were kept aside", &0, &number(&imported, "kept_aside"))?;
    }
    let departments = counts(&imported, "departments");
    let all: u64 = departments.values().sum();
    let bytes = std::fs::metadata(&path)?.len();
    stage.fact(format!("{name}: {all} records ({}), {}", megabytes(bytes), listed(&departments)));
    // A patient may come with more than one file.
    if let Some(known) = stage.patients.get_mut(patient) {
        if known.id != cast.id {
            bail!("\"{patient}\" is {} and now {}", known.id, cast.id);
        }
        known.expected = None;
        return Ok(());
    }
    stage.patients.insert(patient.to_owned(), cast);
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / 1_000_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))
}

pub(super) fn link(stage: &mut Stage<'_>, patient: &str, at: &str, expect: Option<&Expect>) -> Result<()> {
    let cast =
        stage.patients.get_mut(patient).with_context(|| format!("no patient \"{patient}\" until now"))?;
    let is_new = !std::mem::replace(&mut cast.has_wallet, true);
    let (wallet, id) = (cast.wallet.clone(), cast.id.clone());
    if is_new {
        let made = stage.world.new_wallet(&wallet)?;
        stage.fact(format!(
            "The patient's key is made on their own device; the federation knows them as {}",
            short(text(&made, "patient"))
        ));
    }
    let answer = stage.world.node(at, &["patient", "register", &id])?;
    let Some(registered) = answered(&answer, expect.filter(|_| answer.exit != Some(0)))? else {
        refused(stage, expect);
        return Ok(());
    };
    let code = text(&registered, "link_code").to_owned();
    let answer = stage.world.wallet_at(&wallet, at, &["link", "--code", &code])?;
    match answered(&answer, expect)? {
        Some(_) => stage.fact(format!("The desk hands out the code {code}; both sides sign the link")),
        None => refused(stage, expect),
    }
    Ok(())
}

pub(super) fn locate(
    stage: &mut Stage<'_>,
    patient: &str,
    at: &str,
    holders: &[String],
    expect: Option<&Expect>,
) -> Result<()> {
    let wallet = stage.patient(patient)?.wallet.clone();
    let answer = stage.world.wallet_at(&wallet, at, &["locate"])?;
    let Some(located) = answered(&answer, expect)? else {
        refused(stage, expect);
        return Ok(());
    };
    let hospitals = json::list(&located, "hospitals");
    let mut found: Vec<String> = hospitals.map(|it| text(it, "hospital").to_owned()).collect();
    found.sort();
    let mut expected = holders.to_vec();
    expected.sort();
    equal("hospitals that hold records", &expected, &found)?;
    stage.fact(format!("The index answers, sealed to the patient: {}", found.join(", ")));
    Ok(())
}

pub(super) fn refer(
    stage: &mut Stage<'_>,
    patient: &str,
    (from, to): (&str, &str),
    expect: Option<&Expect>,
) -> Result<()> {
    let id = stage.patient(patient)?.id.clone();
    let args = ["referral", "make", &id, "--to", to, "--doctor", "Dr. Amara Osei", "--reason", "cardiology"];
    let answer = stage.world.node(from, &args)?;
    match answered(&answer, expect)? {
        Some(made) => stage.fact(format!(
            "Signed by {from}; only {to} can read that {} refers. From now on {to} owes the fee",
            text(&made, "doctor")
        )),
        None => refused(stage, expect),
    }
    Ok(())
}

/// The hospital that owes a fee says whether it pays.
pub(super) fn answer_fee(
    stage: &mut Stage<'_>,
    transfer: &str,
    pays: bool,
    expect: Option<&Expect>,
) -> Result<()> {
    let cast = stage.transfer(transfer)?;
    let (id, to) = (cast.id.clone(), cast.to.clone());
    let word = if pays { "accept" } else { "refuse" };
    let answer = stage.world.node(&to, &["transfer", word, &id])?;
    let Some(shown) = answered(&answer, expect)? else {
        refused(stage, expect);
        return Ok(());
    };
    let referral = json::at(&shown, "referral");
    let (fee, currency) = (text(referral, "fee"), text(referral, "currency"));
    let doctor = text(referral, "doctor");
    let outcome = if pays { "signs that it pays" } else { "does not pay" };
    stage.fact(format!("Referred by {doctor}, {fee} {currency}: {to} {outcome}"));
    Ok(())
}

pub(super) fn ask(
    stage: &mut Stage<'_>,
    transfer: &str,
    patient: &str,
    (from, to): (&str, &str),
    expect: Option<&Expect>,
) -> Result<()> {
    let wallet = stage.patient(patient)?.wallet.clone();
    let asked_at = Instant::now();
    let answer = stage.world.wallet_at(&wallet, to, &["ask", "--source", from])?;
    let Some(asked) = answered(&answer, expect)? else {
        refused(stage, expect);
        return Ok(());
    };
    let id = text(&asked, "transfer").to_owned();
    stage.fact(format!("Signed by the patient: transfer {id}"));
    let cast = TransferCast {
        id,
        patient: patient.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        asked: asked_at,
        summary: None,
    };
    stage.transfers.push((transfer.to_owned(), cast));
    Ok(())
}

pub(super) fn request(
    stage: &mut Stage<'_>,
    transfer: &str,
    departments: Option<&[String]>,
    expect: Option<&Expect>,
) -> Result<()> {
    let cast = stage.transfer(transfer)?;
    let (id, from, to) = (cast.id.clone(), cast.from.clone(), cast.to.clone());
    let wanted = departments.map(|departments| departments.join(","));
    let mut args = vec!["transfer", "request", &id];
    if let Some(wanted) = &wanted {
        args.extend(["--departments", wanted]);
    }
    let answer = stage.world.node(&to, &args)?;
    match answered(&answer, expect)? {
        Some(_) => stage.fact(format!("Signed by {to} and on its way to {from}")),
        None => refused(stage, expect),
    }
    Ok(())
}

pub(super) fn quote(stage: &mut Stage<'_>, transfer: &str, expect: Option<&Expect>) -> Result<()> {
    let cast = stage.transfer(transfer)?;
    let (id, to, from) = (cast.id.clone(), cast.to.clone(), cast.from.clone());
    let wallet = stage.patient(&cast.patient)?.wallet.clone();
    let args = ["inbox", "--transfer", &id, "--until", "quoted", "--wait", QUOTE_WAIT_SECONDS];
    let answer = stage.world.wallet_at(&wallet, &to, &args)?;
    let Some(inbox) = answered(&answer, expect)? else {
        refused(stage, expect);
        return Ok(());
    };
    let item = json::list(&inbox, "transfers").next().context("an empty inbox")?;
    let quote = json::at(item, "quote");
    if quote.is_null() {
        bail!("expected: a quote for {id}\n  came: {} {}", text(item, "phase"), text(item, "reason"));
    }
    tell_quote(stage, &from, quote);
    Ok(())
}

/// What a quote says, for people.
pub(super) fn tell_quote(stage: &mut Stage<'_>, from: &str, quote: &Value) {
    stage.fact(format!(
        "{from} would send {} records: {}",
        number(quote, "records"),
        listed(&counts(quote, "departments"))
    ));
    let tests = json::list(quote, "tests");
    let mut priced: Vec<&Value> = tests.filter(|test| json::at(test, "price").is_string()).collect();
    priced.sort_by_key(|test| std::cmp::Reverse(text(test, "price").len()));
    for test in priced.iter().take(SHOWN_TESTS) {
        stage.fact(format!("  {:>10}  {}", text(test, "price"), text(test, "display")));
    }
    if let Some(more) = priced.len().checked_sub(SHOWN_TESTS).filter(|more| *more > 0) {
        stage.fact(format!("  {:>10}  more priced tests", format!("… {more}")));
    }
    stage.fact(format!(
        "{} tests with a price, {} without; together {} {currency}; fee 5 %: {} {currency}, paid by the {}",
        number(quote, "tests_priced"),
        number(quote, "tests_unpriced"),
        text(quote, "basis"),
        text(quote, "fee"),
        text(quote, "payer"),
        currency = text(quote, "currency"),
    ));
}

/// Tests of a quote that are shown one by one.
const SHOWN_TESTS: usize = 3;

pub(super) fn consent(
    stage: &mut Stage<'_>,
    transfer: &str,
    (departments, max_fee, release, continuous): (Option<&[String]>, Option<&str>, bool, bool),
    expect: Option<&Expect>,
) -> Result<()> {
    let cast = stage.transfer(transfer)?;
    let (id, to) = (cast.id.clone(), cast.to.clone());
    let wallet = stage.patient(&cast.patient)?.wallet.clone();
    let chosen = departments.map(|departments| departments.join(","));
    let mut args = vec!["consent", "--transfer", &id];
    if let Some(chosen) = &chosen {
        args.extend(["--departments", chosen]);
    }
    if let Some(max_fee) = max_fee {
        args.extend(["--max-fee", max_fee]);
    }
    if !release {
        args.push("--no-release");
    }
    if continuous {
        args.push("--continuous");
    }
    let answer = stage.world.wallet_at(&wallet, &to, &args)?;
    let Some(given) = answered(&answer, expect)? else {
        refused(stage, expect);
        return Ok(());
    };
    let scope = chosen.unwrap_or_else(|| "all departments".to_owned());
    let share =
        if release { "the patient's share is released with it" } else { "the patient keeps their share" };
    stage.fact(format!(
        "Signed: {scope}{}, at most {} {}; {share}",
        if continuous { ", and what is new of them later" } else { "" },
        text(&given, "fee_cap"),
        text(&given, "currency")
    ));
    Ok(())
}

/// The wallet's short answers: `release`, `refuse`, `revoke`.
pub(super) fn answer(
    stage: &mut Stage<'_>,
    transfer: &str,
    word: &str,
    expect: Option<&Expect>,
) -> Result<()> {
    let cast = stage.transfer(transfer)?;
    let (id, to) = (cast.id.clone(), cast.to.clone());
    let wallet = stage.patient(&cast.patient)?.wallet.clone();
    let answer = stage.world.wallet_at(&wallet, &to, &[word, "--transfer", &id])?;
    if answered(&answer, expect)?.is_none() {
        refused(stage, expect);
    }
    Ok(())
}

/// Waits until each of `by` has confirmed to the wallet that the consent is taken back, with this effect.
pub(super) fn confirmed(stage: &mut Stage<'_>, transfer: &str, by: &[String], effect: &str) -> Result<()> {
    let cast = stage.transfer(transfer)?;
    let (id, to) = (cast.id.clone(), cast.to.clone());
    let wallet = stage.patient(&cast.patient)?.wallet.clone();
    let end = Instant::now().checked_add(CONFIRMED_WITHIN);
    loop {
        let inbox = stage.world.wallet_at(&wallet, &to, &["inbox", "--transfer", &id])?.json()?;
        let item = json::list(&inbox, "transfers").next().context("an empty inbox")?;
        let came: Vec<_> =
            json::list(item, "confirmations").map(|it| (text(it, "by"), text(it, "effect"))).collect();
        if by.iter().all(|hospital| came.contains(&(hospital.as_str(), effect))) {
            stage.fact(format!("Confirmed to the patient by {}: {effect}", by.join(" and ")));
            return Ok(());
        }
        if end.is_none_or(|end| Instant::now() >= end) {
            bail!("transfer {id}\n  expected: {effect}, confirmed by {by:?}\n  came: {came:?}");
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

pub(super) fn order(stage: &mut Stage<'_>, hospital: &str, order: Order) -> Result<()> {
    let version = stage.world.order(hospital, order)?;
    stage.fact(format!("Signed by two operators; in force with directory {version}"));
    Ok(())
}

pub(super) fn process(stage: &mut Stage<'_>, hospital: &str, change: Change) -> Result<()> {
    match change {
        Change::Stop => stage.world.stop(hospital),
        Change::Kill => stage.world.kill(hospital),
        Change::Start => stage.world.restart(hospital),
    }
}

fn short(reference: &str) -> String {
    reference.chars().take(SHORT_CHARS).chain("…".chars()).collect()
}

/// Characters of a patient's reference that are shown.
const SHORT_CHARS: usize = 16;
