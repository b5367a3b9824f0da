//! What patients and desks do in the scenes.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;
use serde_json::{Value, json};

use crate::ends::{due, evidence, is_at_both, is_filed_once};
use crate::moves::{DESTINATION, LIMIT, Move, SOURCE, same, text, within};

/// The states that nothing follows on.
const OVER: [&str; 5] = ["filed", "refused", "expired", "revoked", "failed"];

/// Asked for and quoted.
pub fn quoted(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)
}

/// The quote as the patient reads it.
pub fn quote(world: &World, it: &Move) -> Result<Value> {
    Ok(it.wallet(world, "inbox", &[])?.json()?["transfers"][0]["quote"].clone())
}

/// The patient says yes to the quote and keeps their share back; the package lies at the destination.
pub fn delivered(world: &World, it: &Move) -> Result<()> {
    it.wallet(world, "consent", &["--no-release"])?.done()?;
    is_at_both(world, it, "delivered")
}

/// The patient says yes to the quote; filed, and paid. The fee.
pub fn filed(world: &World, it: &Move) -> Result<String> {
    let fee = text(&quote(world, it)?, "fee").to_owned();
    it.wallet(world, "consent", &[])?.done()?;
    is_filed_once(world, it, &fee)?;
    Ok(fee)
}

/// The patient takes their consent back before anything is released, and both hospitals have each other's confirmation
/// of that.
pub fn taken_back(world: &World, it: &Move) -> Result<()> {
    it.wallet(world, "revoke", &[])?.done()?;
    is_at_both(world, it, "revoked")?;
    for at in [SOURCE, DESTINATION] {
        within(&format!("{at} has both confirmations"), || {
            let known = evidence(world, at, it)?;
            Ok(known.iter().filter(|(label, _)| label.contains("revocation-confirmed")).count() == 2)
        })?;
    }
    Ok(())
}

/// The patient writes their release into a file, and hands it in nowhere.
pub fn release_in_a_file(world: &World, it: &Move) -> Result<String> {
    let file = world.records_folder().join(format!("{}.release", it.transfer));
    let file = file.to_str().context("a path is no UTF-8")?.to_owned();
    world.wallet(&it.wallet, &["release", "--transfer", &it.transfer, "--out", &file])?.done()?;
    Ok(file)
}

/// The same patient, with no transfer yet.
pub fn once_more(it: &Move) -> Move {
    Move { transfer: String::new(), ..it.clone() }
}

/// A further transfer of a patient whose tests were charged before: it is filed, and costs nothing.
pub fn costs_nothing_again(world: &World, it: &Move) -> Result<Move> {
    let mut again = once_more(it);
    quoted(world, &mut again)?;
    let quote = quote(world, &again)?;
    ensure!(text(&quote, "fee") == "0.00", "charged a second time: {quote}");
    same("the fee", &"0.00", &filed(world, &again)?.as_str())?;
    Ok(again)
}

/// The patient releases whenever they are asked to, until a transfer is over: filed with one fee, or ended by name
/// without one, in the same way at both hospitals.
pub fn ends_once(world: &World, it: &Move) -> Result<String> {
    let mut last = Value::Null;
    let ended = within(&format!("the transfer {} is over", it.transfer), || {
        last = it.show(world, DESTINATION)?;
        if last["awaits_release"] == true {
            it.wallet(world, "release", &[])?;
        }
        Ok(OVER.contains(&text(&last, "state")))
    });
    ended.with_context(|| format!("it is: {last}"))?;
    let state = text(&last, "state").to_owned();
    is_at_both(world, it, &state)?;
    if state == "filed" {
        it.records_are_equal(world)?;
        world.posted(&it.transfer, LIMIT)?;
        same("what is due", &1, &due(world, it)?.len())?;
    } else {
        ensure!(last["reason"].is_string(), "it ended without a reason: {last}");
        same("records that were filed", &0, &it.records(world, DESTINATION)?.len())?;
        same("what is due", &0, &due(world, it)?.len())?;
    }
    Ok(state)
}

/// Imports a report of a test with a price, made years ago, at the source. The same again changes nothing.
pub fn import_report(world: &World, it: &Move, id: &str) -> Result<()> {
    let report = json!({
        "resourceType": "DiagnosticReport", "id": id, "status": "final", "conclusion": "normal",
        "subject": {"reference": format!("Patient/{}", it.patient)}, "effectiveDateTime": "2024-05-01",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "57698-3"}]},
    });
    let file = world.records_folder().join(format!("{id}.json"));
    std::fs::write(&file, report.to_string())?;
    world.node(SOURCE, &["import", file.to_str().context("a path is no UTF-8")?])?.done()
}
