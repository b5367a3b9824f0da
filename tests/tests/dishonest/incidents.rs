//! What is kept of all that: what the rogue signed and may not have signed, and nothing of anybody else, though it brought
//! much that others had signed; each with a file on which anybody's `verify` comes to the same refusal.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use handover_core::Code;
use handover_tests::fixture::World;
use serde_json::Value;

use super::stage::{LAKESIDE, RIVERSIDE, Stage, refused};

/// So many are kept of one hospital.
const KEPT_MAX: usize = 64;

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    // The last thing that it signs: for a transfer that nobody knows, in another's name.
    let (lakeside, riverside) = Stage::victims();
    let ask = stage.ada.signed(stage.ada.asking(&lakeside, stage.rogue.id()));
    let mut request = stage.rogue.request(&ask)?;
    request.destination = riverside;
    let lie = handover_core::artefact::Verified::sign(request, &stage.rogue.keys.signing);
    refused("a request in another's name", Code::WrongSigner, || {
        stage.rogue.bring(&lakeside, lie.envelope())
    })?;

    let lakeside = listed(&stage.world.node(LAKESIDE, &["incident", "list"])?.json()?)?;
    let riverside = listed(&stage.world.node(RIVERSIDE, &["incident", "list"])?.json()?)?;
    let index = listed(&stage.world.index(&["incident", "list"])?.json()?)?;
    let kinds = |incidents: &[Value]| -> BTreeSet<(String, String)> {
        incidents.iter().map(|it| (text(it, "artefact"), text(it, "code"))).collect()
    };
    for (incidents, wanted) in [
        (&lakeside, ("delivered", "delivered-mismatch")),
        (&riverside, ("package-header", "header-mismatch")),
        (&index, ("request", "wrong-signer")),
    ] {
        let is_there =
            kinds(incidents).iter().any(|(artefact, code)| artefact.contains(wanted.0) && code == wanted.1);
        ensure!(is_there, "{wanted:?} is not kept: {:?}", kinds(incidents));
    }
    for (at, incidents) in [(LAKESIDE, &lakeside), (RIVERSIDE, &riverside), ("index", &index)] {
        // Seaside lent it a key to lie with.
        let liars = [stage.rogue.id().as_str(), World::shared().seaside.id.as_str()];
        let of_rogue = incidents.iter().filter(|it| liars.iter().any(|liar| it["by"] == *liar)).count();
        // The index was broken into, and is itself again.
        let of_index = incidents.iter().filter(|it| it["by"] == "index").count();
        ensure!(of_rogue + of_index == incidents.len(), "{at} accuses somebody who is honest: {incidents:?}");
        ensure!(of_rogue <= liars.len() * KEPT_MAX, "{at} keeps {of_rogue}");
        ensure!(of_index == usize::from(at != "index"), "{at} keeps {of_index} of the index");
        for incident in incidents {
            shown(stage, at, incident).with_context(|| format!("at {at}: {incident}"))?;
        }
    }
    // There is room again for what comes next.
    let id = text(&riverside[riverside.len() - 1], "id");
    let left = stage.world.node(RIVERSIDE, &["incident", "remove", &id])?.json()?;
    ensure!(listed(&left)?.len() == riverside.len() - 1, "it is still there: {left}");
    let again = stage.world.node(RIVERSIDE, &["incident", "remove", &id])?;
    ensure!(again.problem().as_deref() == Some("unknown-incident"), "{}", again.ended());
    Ok(())
}

fn listed(answer: &Value) -> Result<Vec<Value>> {
    answer["incidents"].as_array().cloned().context("no list of incidents")
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// It is written for others, and they see it without believing who wrote it.
fn shown(stage: &Stage, at: &str, incident: &Value) -> Result<()> {
    let id = text(incident, "id");
    let path = stage.world.records_folder().join("incident.handover");
    let args = ["incident", "show", &id, "--out", path.to_str().context("UTF-8")?];
    let answer = if at == "index" { stage.world.index(&args)? } else { stage.world.node(at, &args)? };
    answer.done()?;
    if incident["by"] == "index" {
        let held = stage.world.records_folder().join("incident.handover.held");
        ensure!(std::fs::read(&path)? != std::fs::read(held)?, "two directories that are the same");
        return Ok(());
    }
    let verified = stage.world.verify(&path)?;
    let code = verified.problem().context("it verifies")?;
    ensure!(incident["code"] == code, "verify says: {}", verified.ended());
    Ok(())
}
