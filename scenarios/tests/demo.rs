//! `cargo demo --records` on a folder in which not every file is as it should be.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use handover_scenarios::generator::{self, Options};
use handover_scenarios::json::{at, list};
use serde_json::{Value, json};

fn patient(seed: u64) -> Result<Value> {
    let mut text = Vec::new();
    let options = Options { scans: 0, ..Options::default() };
    generator::write_patient(seed, &options, &mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn entries(bundle: &mut Value) -> Result<&mut Vec<Value>> {
    bundle.get_mut("entry").and_then(Value::as_array_mut).context("a bundle has entries")
}

/// Two entries are no FHIR resources.
fn broken(seed: u64) -> Result<Value> {
    let mut bundle = patient(seed)?;
    let entries = entries(&mut bundle)?;
    entries.push(json!({"resource": {"resourceType": "Organisation", "id": "x"}}));
    entries.push(json!({"resource": 7}));
    Ok(bundle)
}

/// Claims are in another currency than the price list.
fn mixed(seed: u64) -> Result<Value> {
    let mut bundle = patient(seed)?;
    for entry in entries(&mut bundle)? {
        let items = entry.pointer_mut("/resource/item").and_then(Value::as_array_mut);
        for net in items.into_iter().flatten().filter_map(|item| item.get_mut("net")) {
            net["currency"] = json!("EUR");
        }
    }
    Ok(bundle)
}

fn rows(out: &Path) -> Result<Vec<Value>> {
    let written: Value = serde_json::from_slice(&std::fs::read(out)?)?;
    ensure!(at(at(&written, "ledger"), "balanced") == true, "the books do not balance: {written}");
    Ok(list(&written, "transfers").cloned().collect())
}

#[test]
fn every_file_has_its_row_and_the_run_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (records, out) = (folder.path().join("records"), folder.path().join("out.json"));
    std::fs::create_dir(&records)?;
    let good = patient(71)?;
    let files = [
        ("a-good.json", good.to_string()),
        ("b-broken.json", broken(72)?.to_string()),
        ("c-mixed.json", mixed(73)?.to_string()),
        ("d-empty.json", String::new()),
        ("e-no-patient.json", json!({"resourceType": "Organization", "id": "o", "name": "O"}).to_string()),
        ("f-again.json", good.to_string()),
    ];
    for (name, text) in &files {
        std::fs::write(records.join(name), text)?;
    }
    let mut demo = Command::new(env!("CARGO_BIN_EXE_handover-demo"));
    // What stays after a failure stays here.
    demo.env("TMPDIR", folder.path()).arg("--records").arg(&records).arg("--json").arg(&out);
    let ended = demo.output()?;
    let (told, errors) = (String::from_utf8(ended.stdout)?, String::from_utf8(ended.stderr)?);
    ensure!(ended.status.code() == Some(1), "{told}\n{errors}");

    let rows = rows(&out)?;
    let came: Vec<_> =
        rows.iter().map(|row| (row["file"].as_str(), row["outcome"].as_str().unwrap_or_default())).collect();
    let outcomes = ["filed", "filed", "refused", "not-imported", "not-imported", "filed"];
    let expected: Vec<_> = files.iter().zip(outcomes).map(|((name, _), it)| (Some(*name), it)).collect();
    ensure!(came == expected, "expected: {expected:?}\n  came: {came:?}\n{told}\n{errors}");
    for row in rows.iter().filter(|row| row["outcome"] == "filed") {
        ensure!(row["records_sent"] == row["records_filed"] && row["records_filed"] != 0, "{row}");
    }
    // The patient who comes twice has as many records the second time.
    ensure!(rows.first().map(|it| &it["records_filed"]) == rows.last().map(|it| &it["records_filed"]));

    for said in [
        "b-broken.json: not readable, kept aside: 2",
        "c-mixed.json: refused: mixed-currencies",
        "6 files, 3 filed",
    ] {
        ensure!(told.contains(said), "{said} is not in:\n{told}");
    }
    let last = errors.trim_end().lines().last().unwrap_or_default();
    let left = folder.path().canonicalize()?;
    ensure!(
        last.contains("Left for looking into") && last.contains(left.to_str().context("UTF-8")?),
        "{last}"
    );
    Ok(())
}

#[test]
fn a_wrong_option_is_told_before_anything_is_started() -> Result<()> {
    for option in ["--records", "--catalogue", "--prices"] {
        let ended =
            Command::new(env!("CARGO_BIN_EXE_handover-demo")).args([option, "/nonexistent"]).output()?;
        let told = String::from_utf8(ended.stderr)?;
        ensure!(ended.status.code() == Some(2) && ended.stdout.is_empty() && told.contains(option), "{told}");
    }
    Ok(())
}
