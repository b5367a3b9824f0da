//! What is imported at the source is filed at the destination within seconds, each time only what is new, for what is
//! new; until the cap is reached, a newer consent takes over, or the patient takes it back.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;
use serde_json::{Value, json};

use crate::person::{DESTINATION, LIMIT, LIMIT_SECONDS, Person, SOURCE};

/// 5 % of 79.90, the price of a comprehensive metabolic panel.
const FEE: &str = "4.00";
const FEE_MINOR: i64 = 400;

/// A person whose continuous consent is live, and the transfer that it was given for.
pub(crate) struct Stage<'p, 'w> {
    pub(crate) anna: &'p Person<'w>,
    pub(crate) origin: String,
}

impl Stage<'_, '_> {
    /// Imports a report at the source: a test with a price.
    fn report(&self, id: &str, status: &str) -> Result<()> {
        self.import(
            id,
            &json!({
                "resourceType": "DiagnosticReport", "id": id, "status": status,
                "subject": { "reference": format!("Patient/{}", self.anna.id) },
                "effectiveDateTime": "2026-10-01",
                "code": { "coding": [{
                    "system": "http://loinc.org", "code": "24323-8", "display": "Comprehensive metabolic panel"
                }]},
            }),
        )
    }

    /// Imports what is no test.
    pub(crate) fn weight(&self, id: &str) -> Result<()> {
        self.import(id, &json!({
            "resourceType": "Observation", "id": id, "status": "final",
            "subject": { "reference": format!("Patient/{}", self.anna.id) },
            "effectiveDateTime": "2026-10-02",
            "category": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"
            }]}],
            "code": { "coding": [{ "system": "http://loinc.org", "code": "29463-7", "display": "Body weight" }]},
            "valueQuantity": { "value": 68, "unit": "kg" },
        }))
    }

    fn import(&self, id: &str, resource: &Value) -> Result<()> {
        let world = self.anna.world;
        let file = world.records_folder().join(format!("{id}.json"));
        std::fs::write(&file, resource.to_string())?;
        world.node(SOURCE, &["import", file.to_str().context("a file's name is no UTF-8")?])?.done()
    }

    /// Waits until so many deliveries are over at a hospital; the transfer that they continue.
    fn after(&self, at: &str, count: u64) -> Result<Value> {
        let count = count.to_string();
        let args = ["transfer", "show", &self.origin, "--wait", LIMIT_SECONDS, "--deliveries", &count];
        self.anna.world.node(at, &args)?.json()
    }

    /// Waits for the delivery of this number, which ends filed, for this fee and so many records.
    pub(crate) fn delivered(&self, number: u64, fee: &str, records: u64) -> Result<String> {
        let listed = self.after(DESTINATION, number)?;
        ensure!(listed["deliveries_count"] == number, "{listed}");
        let last = listed["deliveries"].as_array().and_then(|all| all.last()).context("no delivery")?;
        let transfer = last["transfer"].as_str().context("no transfer")?.to_owned();
        ensure!(last["state"] == "filed", "{listed}");
        self.anna.ends(&transfer, fee)?;
        let shown = self.anna.until(DESTINATION, &transfer, "filed")?;
        ensure!(shown["records"] == records, "expected {records} records, came: {shown}");
        ensure!(shown["continues"] == self.origin.as_str(), "{shown}");
        Ok(transfer)
    }

    /// A record as the destination has it.
    pub(crate) fn is_filed(&self, id: &str, version: u64) -> Result<()> {
        let listed =
            self.anna.world.node(DESTINATION, &["records", "list", "--patient", &self.anna.id])?.json()?;
        let mut records = listed["records"].as_array().into_iter().flatten();
        ensure!(
            records.any(|it| it["id"] == id && it["version"] == version),
            "{id} is not at the destination"
        );
        Ok(())
    }
}

fn usd(minor: i64) -> String {
    format!("{}.{:02} USD", minor / 100, minor % 100)
}

pub(crate) fn play(world: &mut World) -> Result<()> {
    let anna = Person::settle(world)?;
    // Room for two more tests.
    let cap = usd(anna.expected.fee_minor() + 2 * FEE_MINOR + 100);
    let origin = continuous(&anna, &cap, &anna.expected.fee())?;
    let stage = Stage { anna: &anna, origin };
    only_what_is_new_travels(&stage)?;
    let (origin, expected, id) = (stage.origin, anna.expected.clone(), anna.id.clone());
    killed(world, (&origin, &id))?;
    let anna = Person { world, expected, id };
    let stage = Stage { anna: &anna, origin };
    stage.delivered(5, FEE, 1)?;
    stage.is_filed("after-the-kill", 1)?;
    the_cap_holds(&stage)
}

/// A transfer under a continuous consent, filed.
pub(crate) fn continuous(anna: &Person<'_>, cap: &str, fee: &str) -> Result<String> {
    let (origin, _) = anna.quoted()?;
    anna.consent(&origin, &["--continuous", "--max-fee", cap])?;
    anna.ends(&origin, fee)?;
    Ok(origin)
}

fn only_what_is_new_travels(stage: &Stage<'_, '_>) -> Result<()> {
    let anna = stage.anna;
    stage.report("panel-1", "final")?;
    let first = stage.delivered(1, FEE, 1)?;
    stage.is_filed("panel-1", 1)?;
    // What was amended is the same test.
    stage.report("panel-1", "amended")?;
    stage.delivered(2, "0.00", 1)?;
    stage.is_filed("panel-1", 2)?;
    stage.weight("weight-1")?;
    let last = stage.delivered(3, "0.00", 1)?;
    // Imported again, nothing has changed; with what is new it is not sent.
    stage.report("panel-1", "amended")?;
    stage.weight("weight-2")?;
    stage.delivered(4, "0.00", 1)?;

    let inbox = anna.wallet(&["inbox", "--transfer", &first])?;
    let item = &inbox["transfers"][0];
    ensure!(item["continues"] == stage.origin.as_str() && item["quote"]["fee"] == FEE, "{inbox}");
    ensure!(item["consent"]["mode"] == "continuous" && item["needs_answer"] == false, "{inbox}");
    for (transfer, at) in [(&first, SOURCE), (&last, DESTINATION), (&stage.origin, SOURCE)] {
        let file = anna.world.records_folder().join(format!("{transfer}-{at}.handover"));
        let out = file.to_str().context("a file's name is no UTF-8")?;
        anna.world.node(at, &["transfer", "show", transfer, "--out", out])?.done()?;
        anna.world.verify(&file)?.done()?;
    }
    Ok(())
}

/// The source is killed when it has acknowledged an import, and again while the delivery waits for the destination.
fn killed(world: &mut World, (origin, id): (&str, &str)) -> Result<()> {
    let file = world.records_folder().join("after-the-kill.json");
    let report = json!({
        "resourceType": "DiagnosticReport", "id": "after-the-kill", "status": "final",
        "subject": { "reference": format!("Patient/{id}") }, "effectiveDateTime": "2026-10-03",
        "code": { "coding": [{ "system": "http://loinc.org", "code": "24323-8" }]},
    });
    std::fs::write(&file, report.to_string())?;
    world.stop(DESTINATION)?;
    world.node(SOURCE, &["import", file.to_str().context("a file's name is no UTF-8")?])?.done()?;
    world.kill(SOURCE)?;
    world.restart(SOURCE)?;
    let begun = std::time::Instant::now();
    let sealed = loop {
        let shown = world.node(SOURCE, &["transfer", "show", origin])?.json()?;
        let last = shown["deliveries"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
        if last["state"] == "sealed" {
            break last;
        }
        ensure!(begun.elapsed() < LIMIT, "no delivery is sealed after the kill: {shown}");
        std::thread::yield_now();
    };
    world.kill(SOURCE)?;
    world.restart(SOURCE)?;
    world.restart(DESTINATION)?;
    ensure!(sealed["transfer"].is_string(), "{sealed}");
    Ok(())
}

fn the_cap_holds(stage: &Stage<'_, '_>) -> Result<()> {
    let anna = stage.anna;
    stage.report("panel-3", "final")?;
    for at in [SOURCE, DESTINATION] {
        let listed = stage.after(at, 6)?;
        let last = listed["deliveries"].as_array().and_then(|all| all.last()).context("no delivery")?;
        ensure!(last["state"] == "refused" && last["reason"] == "cap-reached", "at {at}: {listed}");
    }
    let shown = anna.world.node(SOURCE, &["transfer", "show", &stage.origin])?.json()?;
    ensure!(shown["waits"][0]["step"] == "continue" && shown["waits"][0]["code"] == "cap-reached", "{shown}");
    let refused = shown["deliveries"].as_array().and_then(|all| all.last()).context("no delivery")?;
    let refused = refused["transfer"].as_str().context("no transfer")?;
    let inbox = anna.wallet(&["inbox", "--transfer", refused])?;
    ensure!(inbox["transfers"][0]["reason"] == "cap-reached", "{inbox}");
    ensure!(inbox["transfers"][0]["quote"]["fee"] == FEE, "{inbox}");

    // A new consent with room for two brings it, charged once, and goes on in the place of the old one.
    let origin = continuous(anna, &usd(2 * FEE_MINOR), FEE)?;
    let next = Stage { anna, origin };
    next.is_filed("panel-3", 1)?;
    next.report("panel-4", "final")?;
    next.delivered(1, FEE, 1)?;
    let old = stage.after(DESTINATION, 6)?;
    ensure!(old["deliveries_count"] == 6, "the old consent has brought more: {old}");

    // Taken back: what came stays, nothing follows, and the key that opened it is gone.
    anna.wallet(&["revoke", "--transfer", &next.origin])?;
    let begun = std::time::Instant::now();
    loop {
        let inbox = anna.wallet(&["inbox", "--transfer", &next.origin])?;
        let confirmed = inbox["transfers"][0]["confirmations"].as_array().cloned().unwrap_or_default();
        if confirmed.len() == 2 {
            ensure!(confirmed.iter().all(|it| it["effect"] == "ended"), "{inbox}");
            break;
        }
        ensure!(begun.elapsed() < LIMIT, "not confirmed by both: {inbox}");
    }
    next.report("panel-5", "final")?;
    let (last, quote) = anna.quoted()?;
    ensure!(quote["tests_priced"] == 1 && quote["fee"] == FEE, "panel-5 was charged before: {quote}");
    let shown = anna.world.node(SOURCE, &["transfer", "show", &next.origin])?.json()?;
    ensure!(shown["deliveries_count"] == 1 && shown["state"] == "filed", "{shown}");
    anna.wallet(&["refuse", "--transfer", &last])?;
    for at in [SOURCE, DESTINATION] {
        let checked = anna.world.node(at, &["check"])?.json()?;
        ensure!(checked["whole"] == true, "check at {at}: {checked}");
    }
    let checked = anna.world.index(&["check"])?.json()?;
    ensure!(checked["sound"] == true && checked["open_reservations"] == 0, "check at the index: {checked}");
    Ok(())
}
