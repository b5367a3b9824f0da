//! An emergency doctor who does it right, a colleague, an officer who reviews, and the patient who reads of it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::json;
use handover_scenarios::world::World;

use super::people::{
    ADA, ADA_BY_NAME, audit, clinician, link, open, opened, read, refused, shown, signed, told, types, within,
};
use super::{NEW, OLD, OTHER};

pub(crate) fn all(world: &mut World) -> Result<()> {
    clinician(world, NEW, "mira")?;
    clinician(world, NEW, "noor")?;
    // Twice the same is one certificate.
    let listed = world.node(NEW, &["clinician", "list"])?.json()?;
    ensure!(json::list(&listed, "clinicians").count() == 2, "{listed}");
    by_name(world)?;
    by_reference(world)
}

/// By name and date of birth at a hospital; no wallet is linked anywhere.
fn by_name(world: &mut World) -> Result<()> {
    let id = opened(world, "mira", &ADA_BY_NAME, &["--at", OLD, "--purpose", "BTG"])?;
    let bundle = read(world, "mira", &id)?;
    let mut found = types(&bundle);
    ensure!(
        found.starts_with(&["Patient", "AllergyIntolerance"]),
        "what matters most is not first: {found:?}"
    );
    found.sort_unstable();
    let subset = [
        "AllergyIntolerance",
        "Condition",
        "Medication",
        "MedicationRequest",
        "MedicationStatement",
        "Patient",
    ];
    // The restricted one is among them: an interaction kills.
    ensure!(found == subset, "{found:?}");
    ensure!(bundle["meta"]["security"][0]["code"] == "BTG", "{bundle}");

    refused(&signed(world, NEW, "mira", &["more", &id])?, "same-person")?;
    let more = signed(world, NEW, "noor", &["more", &id])?.json()?;
    ensure!(more["scope"] == "everything" && more["second"]["name"] == "Dr. noor", "{more}");
    let out = world.folder().join("everything.json");
    let path = out.to_str().context("UTF-8")?;
    signed(world, NEW, "noor", &["read", &id, "--out", path])?.done()?;
    let everything: serde_json::Value = serde_json::from_slice(&std::fs::read(&out)?)?;
    let found = types(&everything);
    ensure!(found.contains(&"Observation") && !found.contains(&"DocumentReference"), "{found:?}");
    let left_out = everything["entry"].as_array().and_then(|all| all.last()).context("no entries")?;
    let text = json::text(&left_out["resource"]["issue"][0], "diagnostics");
    ensure!(
        text.contains("DocumentReference") && text.contains("bytes"),
        "what is left out is not named: {left_out}"
    );
    let again = signed(world, NEW, "noor", &["read", &id, "--out", path])?;
    refused(&again, "usage-invalid")?;

    let (here, there) = (shown(world, NEW, &id)?, shown(world, OLD, &id)?);
    ensure!(here["local_patient"].is_null() && there["local_patient"] == ADA, "{here}\n{there}");
    ensure!(
        there["reason"] == "unconscious after a fall" && there["clinician"]["name"] == "Dr. mira",
        "{there}"
    );
    let lines = audit(&here);
    for wanted in
        ["staff Dr. mira break-glass", "staff Dr. noor break-glass", "staff Dr. noor read-emergency"]
    {
        ensure!(lines.iter().any(|it| it == wanted), "no audit line {wanted}: {lines:?}");
    }
    let exports = audit(&there).into_iter().filter(|it| it == "hospital riverside export").count();
    ensure!(exports == 2, "each of the two times needs its audit line: {there}");

    ensure!(there["told"] == "letter-due", "nobody would tell the patient: {there}");
    world.node(OLD, &["break-glass", "told", &id])?.done()?;
    ensure!(shown(world, OLD, &id)?["told"] == "letter", "the letter is not noted");
    refused(&world.node(NEW, &["break-glass", "told", &id])?, "unknown-break-glass")?;

    let queue = |world: &World| -> Result<usize> {
        let listed = world.node(NEW, &["break-glass", "list", "--to-review"])?.json()?;
        Ok(json::list(&listed, "break_glasses").count())
    };
    ensure!(queue(world)? == 1, "it does not stand in the queue");
    let review = ["break-glass", "review", &id, "--verdict", "justified", "--note", "fall, warfarin"];
    for own in ["Dr. mira", "dr.  MIRA", "Dr. noor"] {
        let own = [&["--staff", own], &review[..]].concat();
        refused(&world.node(NEW, &own)?, "same-person")?;
    }
    let officer = [&["--staff", "officer"], &review[..]].concat();
    world.node(NEW, &officer)?.done()?;
    world.node(NEW, &officer)?.done()?;
    let otherwise = ["--staff", "officer", "break-glass", "review", &id, "--verdict", "not-justified"];
    refused(&world.node(NEW, &otherwise)?, "conflict")?;
    ensure!(queue(world)? == 0, "it still stands in the queue");
    within("the review reaches the other hospital", || {
        let review = shown(world, OLD, &id)?["review"].clone();
        Ok(review["verdict"] == "justified"
            && review["by"] == "officer"
            && review["note"] == "fall, warfarin")
    })?;
    verified(world, &id)
}

/// The file of it verifies offline, and not with a byte changed.
fn verified(world: &World, id: &str) -> Result<()> {
    for hospital in [NEW, OLD] {
        let file = world.folder().join(format!("{hospital}.break-glass"));
        let path = file.to_str().context("UTF-8")?;
        world.node(hospital, &["break-glass", "show", id, "--out", path])?.done()?;
        let report = world.verify(&file)?.json()?;
        ensure!(report["break_glass"] == id && report["verdict"] == "justified", "{report}");
        ensure!(json::list(&report, "steps").count() == 5, "{report}");
        let mut bytes = std::fs::read(&file)?;
        let last = bytes.len() - 10;
        bytes[last] ^= 1;
        std::fs::write(&file, bytes)?;
        ensure!(world.verify(&file)?.exit != Some(0), "a changed file verifies");
    }
    Ok(())
}

/// By the reference that a card shows; wallets are linked at three hospitals, and the index knows.
fn by_reference(world: &mut World) -> Result<()> {
    let made = world.new_wallet("ada")?;
    let reference = json::text(&made, "patient").to_owned();
    link(world, "ada", OLD, ADA)?;
    link(world, "ada", OTHER, "N-1")?;
    link(world, "ada", NEW, "R-1")?;
    within("the index knows all three", || {
        let located = world.wallet_at("ada", NEW, &["locate"])?.json()?;
        Ok(json::list(&located, "hospitals").count() == 3)
    })?;
    let answer = open(world, "mira", &["--patient", &reference], &[])?.json()?;
    let glasses: Vec<_> = json::list(&answer, "break_glasses").cloned().collect();
    ensure!(glasses.len() == 2 && glasses.iter().all(|it| it["state"] == "given"), "{answer}");
    let of = |hospital: &str| {
        let glass = glasses.iter().find(|it| it["hospital"] == hospital);
        glass.map(|it| json::text(it, "break_glass").to_owned()).context("one is missing")
    };
    let id = of(OLD)?;
    ensure!(types(&read(world, "mira", &id)?).contains(&"AllergyIntolerance"), "no allergies");

    // Told at once, at the source and where they are now; the one before by name, too, now that they have a wallet.
    let at_old = told(world, "ada", OLD)?;
    ensure!(at_old.len() == 2, "{at_old:?}");
    let notice = at_old.iter().find(|it| it["break_glass"] == id.as_str()).context("it is not told")?;
    ensure!(notice["hospital"] == NEW && notice["clinician"]["name"] == "Dr. mira", "{notice}");
    ensure!(
        notice["purpose"] == "ETREAT" && notice["scope"] == "subset" && notice["review"].is_null(),
        "{notice}"
    );
    let before = at_old.iter().find(|it| it["purpose"] == "BTG").context("the first one is not told")?;
    ensure!(before["scope"] == "everything" && before["second"]["name"] == "Dr. noor", "{before}");
    ensure!(before["review"]["verdict"] == "justified", "{before}");
    ensure!(told(world, "ada", NEW)?.len() == 2, "not told where the patient is");
    ensure!(told(world, "ada", OTHER)?.len() == 1, "not told by the third");

    let review = ["--staff", "officer", "break-glass", "review", &id, "--verdict", "not-justified"];
    world.node(NEW, &review)?.done()?;
    world
        .node(NEW, &["--staff", "officer", "break-glass", "review", &of(OTHER)?, "--verdict", "justified"])?
        .done()?;
    within("the patient hears how it was reviewed", || {
        let notices = told(world, "ada", OLD)?;
        Ok(notices
            .iter()
            .any(|it| it["break_glass"] == id.as_str() && it["review"]["verdict"] == "not-justified"))
    })?;
    evidence(world, &id, &reference)
}

/// The index has a note of both hospitals, and neither reason nor names nor anything sealed.
fn evidence(world: &World, id: &str, reference: &str) -> Result<()> {
    within("the index has both hospitals' notes", || {
        let listed = world.index(&["break-glass"])?.json()?;
        let notes: Vec<_> = json::list(&listed, "notes").filter(|it| it["break_glass"] == id).collect();
        let fits = notes
            .iter()
            .all(|it| it["requesting"] == NEW && it["source"] == OLD && it["patient"] == reference);
        Ok(notes.len() == 2 && fits)
    })?;
    ensure!(world.entries(id)?.is_empty(), "an emergency is free of charge");
    no_words(&world.logs(), &["Quill", "unconscious", "warfarin", "Dr. mira"])
}

/// No log names these.
fn no_words(folder: &Path, words: &[&str]) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let text = std::fs::read(&path)?;
        let text = String::from_utf8_lossy(&text).to_lowercase();
        if let Some(word) = words.iter().find(|word| text.contains(&word.to_lowercase())) {
            anyhow::bail!("{} names {word}", path.display());
        }
    }
    Ok(())
}
