//! Hospitals, a patient and their transfers on real processes, for recalls: own small records with three priced tests.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use serde_json::{Value, json};

/// Where the records are made.
pub(crate) const FIRST: &str = "lakeside";
/// Where they are sent.
pub(crate) const SECOND: &str = "riverside";
/// Where those send them on.
pub(crate) const THIRD: &str = "hillcrest";
pub(crate) const PATIENT: &str = "anna";
/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(crate) fn world() -> Result<World> {
    let world = World::start(Programs::shared()?, &Options::of(&[FIRST, SECOND, THIRD]))?;
    import(&world, &[lipid("4.1"), liver("final"), thyroid(), pulse("71"), allergy("confirmed"), person()])?;
    world.new_wallet(PATIENT)?;
    for hospital in [FIRST, SECOND, THIRD] {
        let registered = world.node(hospital, &["patient", "register", PATIENT])?.json()?;
        let code = text(&registered, "link_code").to_owned();
        world.wallet_at(PATIENT, hospital, &["link", "--code", &code])?.done()?;
    }
    Ok(world)
}

/// Imports resources at the first hospital.
pub(crate) fn import(world: &World, resources: &[Value]) -> Result<Value> {
    let file = world.records_folder().join("anna.ndjson");
    let lines: Vec<String> = resources.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n"))?;
    world.node(FIRST, &["import", file.to_str().context("a path is no UTF-8")?])?.json()
}

fn person() -> Value {
    json!({"resourceType": "Patient", "id": PATIENT})
}

pub(crate) fn report(id: &str, code: &str, status: &str, value: &str) -> Value {
    json!({
        "resourceType": "DiagnosticReport", "id": id, "status": status, "conclusion": value,
        "subject": {"reference": "Patient/anna"}, "effectiveDateTime": "2024-05-01",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
    })
}

/// 58.75 USD.
pub(crate) fn lipid(value: &str) -> Value {
    report("lipid", "57698-3", "final", value)
}

/// 51.35 USD.
pub(crate) fn liver(status: &str) -> Value {
    report("liver", "24325-3", status, "normal")
}

/// 87.60 USD.
pub(crate) fn thyroid() -> Value {
    report("thyroid", "24348-5", "final", "normal")
}

pub(crate) fn pulse(value: &str) -> Value {
    json!({
        "resourceType": "Observation", "id": "pulse", "status": "final", "valueString": value,
        "subject": {"reference": "Patient/anna"}, "effectiveDateTime": "2024-05-01",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
    })
}

pub(crate) fn allergy(verification: &str) -> Value {
    json!({
        "resourceType": "AllergyIntolerance", "id": "nuts", "patient": {"reference": "Patient/anna"},
        "verificationStatus": {"coding": [{"code": verification}]},
    })
}

/// The patient asks, and has the quote; the transfer.
pub(crate) fn quoted(world: &World, from: &str, to: &str) -> Result<String> {
    let asked = world.wallet_at(PATIENT, to, &["ask", "--source", from])?.json()?;
    let transfer = text(&asked, "transfer").to_owned();
    world.node(to, &["transfer", "request", &transfer])?.done()?;
    answered(world, to, &transfer, "inbox", &["--until", "quoted", "--wait", "60"])?;
    Ok(transfer)
}

/// The patient's wallet at the destination does something about a transfer.
pub(crate) fn answered(world: &World, at: &str, transfer: &str, word: &str, more: &[&str]) -> Result<()> {
    world.wallet_at(PATIENT, at, &[&[word, "--transfer", transfer], more].concat())?.done()
}

/// Waits until both have it filed.
pub(crate) fn filed(world: &World, from: &str, to: &str, transfer: &str) -> Result<()> {
    for at in [from, to] {
        let shown = world.node(at, &["transfer", "show", transfer, "--wait", "60"])?.json()?;
        ensure!(text(&shown, "state") == "filed", "{shown}");
    }
    Ok(())
}

/// Moves everything from one hospital to another; the transfer.
pub(crate) fn moved(world: &World, from: &str, to: &str) -> Result<String> {
    let transfer = quoted(world, from, to)?;
    answered(world, to, &transfer, "consent", &[])?;
    filed(world, from, to, &transfer)?;
    Ok(transfer)
}

/// A transfer's recalls as a hospital lists them.
pub(crate) fn recalls(world: &World, at: &str, transfer: &str) -> Result<Vec<Value>> {
    let listed = world.node(at, &["recall", "list"])?.json()?;
    let all = listed["recalls"].as_array().context("no recalls")?;
    Ok(all.iter().filter(|it| text(it, "transfer") == transfer).cloned().collect())
}

/// Waits until a hospital lists so many recalls of a transfer, all of them confirmed; the last.
pub(crate) fn confirmed(world: &World, at: &str, transfer: &str, count: usize) -> Result<Value> {
    let mut last = Value::Null;
    within(&format!("{count} confirmed recalls at {at}"), || {
        let all = recalls(world, at, transfer)?;
        ensure!(all.len() <= count, "more than {count} recalls at {at}: {all:?}");
        last = all.last().cloned().unwrap_or_default();
        Ok(all.len() == count && all.iter().all(|it| it["marked"].is_string()))
    })?;
    Ok(last)
}

/// What is said against a record, and by whom, as `records list` shows it; empty if nothing is.
pub(crate) fn mark(world: &World, at: &str, origin: &str, id: &str) -> Result<(String, String)> {
    let listed = world.node(at, &["records", "list", "--patient", PATIENT])?.json()?;
    let all = listed["records"].as_array().context("no records")?;
    let found: Vec<_> = all.iter().filter(|it| it["origin"] == origin && it["id"] == id).collect();
    ensure!(!found.is_empty(), "no {id} of {origin} at {at}: {listed}");
    // What came by way of another hospital is a record of its own.
    let marked = found.iter().find(|it| it["recalled"].is_object()).unwrap_or(&found[0]);
    Ok((text(&marked["recalled"], "reason").to_owned(), text(&marked["recalled"], "by").to_owned()))
}

/// What a record is called at a hospital.
pub(crate) fn record(world: &World, at: &str, origin: &str, id: &str) -> Result<String> {
    let listed = world.node(at, &["records", "list", "--patient", PATIENT])?.json()?;
    let all = listed["records"].as_array().context("no records")?;
    let found = all.iter().find(|it| it["origin"] == origin && it["id"] == id);
    Ok(text(found.context("no such record")?, "record").to_owned())
}

/// Waits until something holds.
pub(crate) fn within(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        ensure!(begun.elapsed() < LIMIT, "not within {} s: {what}", LIMIT.as_secs());
        thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

pub(crate) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
