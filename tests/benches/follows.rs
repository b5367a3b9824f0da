//! How long it takes until what is new at the source can be read at a continuous destination: from when the import is
//! acknowledged, so that the command itself is not counted, to the receipt, which is signed once all is filed.
//!
//! `cargo bench --package handover-tests --bench follows`; `-- --changes N` for another number. It measures and prints;
//! it never judges.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use anyhow::{Context as _, Result};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use handover_tests::moves::{DESTINATION, LIMIT_SECONDS, Move, SOURCE, patients, text};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What the steps are called, and the artefact with which each ends.
const STEPS: [(&str, &str); 5] = [
    ("gathered and priced", "handover/quote/1"),
    ("sealed", "handover/package-header/1"),
    ("delivered", "handover/delivered/1"),
    ("released", "handover/key-release/1"),
    ("opened and filed", "handover/receipt/1"),
];

fn main() -> Result<()> {
    let changes = changes();
    let world = World::start(&Programs::build()?, &Options::of(&[SOURCE, DESTINATION]))?;
    let mut moves = patients(&world, &[0])?;
    let it = moves.first_mut().context("a patient")?;
    it.ask(&world)?;
    it.request(&world)?;
    it.quoted(&world)?;
    it.wallet(&world, "consent", &["--continuous", "--max-fee", "1000.00 USD"])?.done()?;
    it.until(&world, DESTINATION, "filed")?;
    let mut spans: Vec<Vec<i64>> = vec![Vec::new(); STEPS.len()];
    let mut whole = Vec::new();
    for number in 1..=changes {
        let acknowledged = change(&world, it, number)?;
        let mut before = acknowledged;
        let issued = delivery(&world, it, number)?;
        for (issued, spans) in issued.iter().zip(&mut spans) {
            spans.push(issued - before);
            before = *issued;
        }
        whole.push(before - acknowledged);
    }
    println!(
        "{changes} changes of one record, one after another\n\n| | p50 ms | p99 ms |\n| --- | --- | --- |"
    );
    for ((name, _), spans) in STEPS.iter().zip(&mut spans) {
        row(name, spans);
    }
    row("import acknowledged → filed at the destination", &mut whole);
    Ok(())
}

fn changes() -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--changes");
    arguments.nth(1).and_then(|value| value.parse().ok()).unwrap_or(20)
}

/// One more record at the source; when that was acknowledged.
fn change(world: &World, it: &Move, number: u64) -> Result<i64> {
    let resource = json!({
        "resourceType": "Observation", "id": format!("weight-{number}"), "status": "final",
        "subject": { "reference": format!("Patient/{}", it.patient) },
        "effectiveDateTime": "2026-10-02",
        "category": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"
        }]}],
        "code": { "coding": [{ "system": "http://loinc.org", "code": "29463-7", "display": "Body weight" }]},
        "valueQuantity": { "value": 68, "unit": "kg" },
    });
    let file = world.records_folder().join("change.json");
    std::fs::write(&file, resource.to_string())?;
    world.node(SOURCE, &["import", file.to_str().context("a path that is no UTF-8")?])?.done()?;
    Ok(Timestamp::now().as_millisecond())
}

/// Waits for the delivery of this number; when each step ended.
fn delivery(world: &World, it: &Move, number: u64) -> Result<Vec<i64>> {
    let count = number.to_string();
    let wait = ["transfer", "show", &it.transfer, "--wait", LIMIT_SECONDS, "--deliveries", &count];
    let listed = world.node(DESTINATION, &wait)?.json()?;
    let last = listed["deliveries"].as_array().and_then(|all| all.last()).context("no delivery")?;
    let out = world.folder().join("delivery.transfer");
    let path = out.to_str().context("a path that is no UTF-8")?;
    let show = [
        "transfer",
        "show",
        text(last, "transfer"),
        "--wait",
        LIMIT_SECONDS,
        "--until",
        "filed",
        "--out",
        path,
    ];
    world.node(DESTINATION, &show)?.done()?;
    let verified = world.verify(&out)?.json()?;
    std::fs::remove_file(&out)?;
    let steps: Vec<Value> = verified["steps"].as_array().cloned().unwrap_or_default();
    let issued = |artefact: &str| -> Result<i64> {
        // The delivery's own: what it continues comes before it.
        let step = steps.iter().rev().find(|step| step["artefact"] == artefact);
        let step = step.with_context(|| format!("no {artefact} in {verified}"))?;
        Ok(text(step, "issued").parse::<Timestamp>()?.as_millisecond())
    };
    STEPS.iter().map(|(_, artefact)| issued(artefact)).collect()
}

fn row(name: &str, spans: &mut [i64]) {
    spans.sort_unstable();
    let at = |percent: usize| spans.get((spans.len() * percent / 100).min(spans.len().saturating_sub(1)));
    let at = |percent: usize| at(percent).copied().unwrap_or_default();
    println!("| {name} | {} | {} |", at(50), at(99));
}
