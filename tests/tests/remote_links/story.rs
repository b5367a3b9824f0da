//! The whole way of a patient whom the old hospital never linked, and who has records at two hospitals.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::json;
use handover_scenarios::world::World;
use serde_json::Value;

use super::{NEW, OLD, OTHER, ask_link, filed, link, link_by_letter, moved, records, refused, within};

/// The patient's number at the new hospital.
const HERE: &str = "R-1";

pub(crate) fn all(world: &mut World) -> Result<()> {
    let (number, at_old) = records(world, OLD, 11)?;
    let (other, at_other) = records(world, OTHER, 12)?;
    world.new_wallet("ada")?;
    link(world, "ada", OTHER, &other)?;
    let unlinked = world.wallet_at(
        "ada",
        NEW,
        &[
            "link-remote",
            "--hospital",
            OLD,
            "--record-number",
            &number,
            "--name",
            "A",
            "--birth-date",
            "1980-02-29",
        ],
    )?;
    refused(&unlinked, "not-linked")?;
    link(world, "ada", NEW, HERE)?;

    let asked = ask_link(world, "ada", &number)?;
    ensure!(asked["state"] == "waiting", "{asked}");
    let id = json::text(&asked, "remote_link").to_owned();
    ensure!(
        ask_link(world, "ada", &number)?["remote_link"] == id.as_str(),
        "the same again is another request"
    );
    ensure!(requests(world, OLD)?.is_empty(), "the old hospital hears of it before anybody vouched");
    // Nothing was confirmed yet: no code is right.
    refused(&link_by_letter(world, "ada", "AAAA-AAAA")?, "ask-mismatch")?;

    let shown = world.node(NEW, &["link-remote", "show", &id])?.json()?;
    ensure!(
        shown["role"] == "to-vouch" && shown["patient"] == HERE && shown["name"] == "Ada Quill-Reed",
        "{shown}"
    );
    world.node(NEW, &["link-remote", "vouch", &id])?.done()?;
    world.node(NEW, &["link-remote", "vouch", &id])?.done()?;
    within("the request reaches the old hospital by itself", || Ok(!requests(world, OLD)?.is_empty()))?;
    refused(&link_by_letter(world, "ada", "AAAA-AAAA")?, "link-code-wrong")?;

    let shown = world.node(OLD, &["link-remote", "show", &id])?.json()?;
    ensure!(
        shown["role"] == "to-link" && shown["new_hospital"] == NEW && shown["state"] == "asked",
        "{shown}"
    );
    ensure!(shown["record_number"] == number.as_str() && shown["birth_date"] == "1980-02-29", "{shown}");
    ensure!(json::number(&shown["here"], "records") > 0 && shown["here"]["names"][0].is_string(), "{shown}");
    ensure!(
        shown["here"]["birth_dates"][0].is_string() && shown["here"]["contacts"][0].is_string(),
        "{shown}"
    );
    let nobody = world.node(OLD, &["link-remote", "confirm", &id, "--patient", "nobody"])?;
    refused(&nobody, "unknown-patient")?;
    let confirm = ["link-remote", "confirm", &id, "--patient", &number];
    let confirmed = world.node(OLD, &confirm)?.json()?;
    let code = json::text(&confirmed, "link_code").to_owned();
    ensure!(code.len() == 9, "{confirmed}");
    ensure!(world.node(OLD, &confirm)?.json()? == confirmed, "confirming again gives another code");
    ensure!(ask_link(world, "ada", &number)?["state"] == "confirmed", "the patient is not told");

    // Everything survives the processes.
    world.restart(OLD)?;
    world.restart(NEW)?;
    refused(&link_by_letter(world, "ada", "AAAA-AAAA")?, "link-code-wrong")?;
    let linked = link_by_letter(world, "ada", &code)?.json()?;
    ensure!(linked["linked"] == true && linked["hospital"] == OLD, "{linked}");
    ensure!(link_by_letter(world, "ada", &code)?.json()? == linked, "the same link again has another answer");
    ensure!(ask_link(world, "ada", &number)?["state"] == "linked", "the patient is not told");
    for hospital in [OLD, NEW] {
        ensure!(requests(world, hospital)?[0]["state"] == "linked", "{hospital} does not know");
    }

    // Two hospitals hold records: the index names both, and one transfer from each fills one chart.
    within("the index knows all three", || {
        let located = world.wallet_at("ada", NEW, &["locate"])?.json()?;
        Ok(json::list(&located, "hospitals").count() == 3)
    })?;
    moved(world, "ada", OLD)?;
    moved(world, "ada", OTHER)?;
    ensure!(filed(world, HERE, OLD)? == at_old, "not all of the old hospital's records came");
    ensure!(filed(world, HERE, OTHER)? == at_other, "not all of the other hospital's records came");
    nothing_in_clear(world, &[&number, "Quill-Reed", &code])
}

/// Everything is carried in files instead of sent, and the desk says no to the first request.
pub(crate) fn by_files(world: &mut World) -> Result<()> {
    let (number, _) = records(world, OLD, 13)?;
    world.new_wallet("ben")?;
    link(world, "ben", NEW, "R-2")?;
    let folder = world.folder().to_path_buf();
    let path = |name: &str| folder.join(name).to_str().map(str::to_owned).context("UTF-8");
    let (info, out, answer) = (path("new.info")?, path("ben.request")?, path("ben.answer")?);
    world.node(NEW, &["patient", "info", "--out", &info])?.done()?;
    let ask = |name: &str, out: &str| {
        let mut words = vec!["link-remote", "--hospital", OLD, "--record-number", &number, "--name", name];
        words.extend(["--birth-date", "1980-02-29", "--out", out, "--hospital-info", &info]);
        world.wallet("ben", &words)?.json()
    };
    let carried = |file: &str| -> Result<Value> {
        world.node(NEW, &["patient", "take", "--file", file, "--out", &answer])?.done()?;
        world.wallet("ben", &["link-remote", "--hospital", OLD, "--answer", &answer])?.json()
    };
    ask("Ben", &out)?;
    let first = carried(&out)?;
    ensure!(first["state"] == "waiting", "{first}");
    world.node(NEW, &["link-remote", "refuse", json::text(&first, "remote_link")])?.done()?;
    let no = carried(&out)?;
    ensure!(no["state"] == "refused" && no["reason"] == "identity-unproven", "{no}");
    refused(&world.node(NEW, &["link-remote", "vouch", json::text(&first, "remote_link")])?, "out-of-order")?;

    let out = path("ben.second")?;
    ask("Ben Reed", &out)?;
    let second = carried(&out)?;
    let id = json::text(&second, "remote_link").to_owned();
    ensure!(first["remote_link"] != id.as_str() && second["state"] == "waiting", "{second}");
    world.node(NEW, &["link-remote", "vouch", &id])?.done()?;
    ensure!(carried(&out)?["state"] == "asked", "it is not at the old hospital's desk");
    let bad = world.node(OLD, &["link-remote", "refuse", &id, "--reason", "busy"])?;
    refused(&bad, "usage-invalid")?;
    let shown = world.node(OLD, &["link-remote", "confirm", &id, "--patient", &number])?.json()?;
    let code = json::text(&shown, "link_code").to_owned();

    let (link, signed) = (path("ben.link")?, path("ben.signed")?);
    let words = ["link", "--hospital", OLD, "--code", &code, "--out", &link, "--hospital-info", &info];
    world.wallet("ben", &words)?.done()?;
    world.node(NEW, &["patient", "link", "--file", &link, "--out", &signed])?.done()?;
    let linked = world.wallet("ben", &["link", "--answer", &signed])?.json()?;
    ensure!(linked["linked"] == true && linked["hospital"] == OLD, "{linked}");
    nothing_in_clear(world, &[&number, "Ben Reed", &code])
}

/// The requests at a desk, the newest first.
fn requests(world: &World, hospital: &str) -> Result<Vec<Value>> {
    let listed = world.node(hospital, &["link-remote", "list"])?.json()?;
    let mut all: Vec<Value> = json::list(&listed, "requests").cloned().collect();
    all.reverse();
    Ok(all)
}

/// No log names these, nor does anything that lies at the index.
fn nothing_in_clear(world: &World, words: &[&str]) -> Result<()> {
    let mut folders = vec![world.logs(), world.folder().join("federation")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(word) = named(&path, words)? {
                anyhow::bail!("{} names {word}", path.display());
            }
        }
    }
    Ok(())
}

fn named<'w>(file: &Path, words: &[&'w str]) -> Result<Option<&'w str>> {
    // A socket has no content.
    if !file.is_file() {
        return Ok(None);
    }
    let content = std::fs::read(file)?;
    let holds = |word: &&&str| content.windows(word.len()).any(|part| part == word.as_bytes());
    Ok(words.iter().find(holds).copied())
}
