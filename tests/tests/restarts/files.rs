//! Files that a resource names come with it, whatever their size, and are the same at the other hospital; one that is
//! not there or lies elsewhere is told and stops nothing.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;
use serde_json::{Value, json};

use crate::moves::{DESTINATION, LIMIT, Move, SOURCE, same, text};

/// Too long for a row; and short enough.
const FILES: [(&str, usize); 2] = [("study/ct.dcm", 5_000_000), ("note.txt", 100)];

pub(crate) fn come_along(world: &World, it: &mut Move) -> Result<()> {
    let folder = world.records_folder().join("files");
    fs::create_dir_all(folder.join("study"))?;
    for (name, bytes) in FILES {
        fs::write(folder.join(name), content(bytes))?;
    }
    fs::write(world.records_folder().join("elsewhere"), "not for this patient")?;
    symlink("../elsewhere", folder.join("leads-out"))?;
    let names = FILES.map(|(name, _)| name).into_iter().chain(["missing", "leads-out", "../elsewhere"]);
    let attachments: Vec<Value> = names.map(|name| json!({ "attachment": { "url": name } })).collect();
    let document = json!({
        "resourceType": "DocumentReference", "id": "scan", "status": "current",
        "subject": { "reference": format!("Patient/{}", it.patient) }, "content": attachments,
    });
    let path = folder.join("document.json");
    fs::write(&path, document.to_string())?;
    let import = ["import", path.to_str().context("UTF-8")?];
    let imported = world.node(SOURCE, &import)?.json()?;
    same("records of a document and its files", &Some(3), &imported["records"]["new"].as_u64())?;
    same("files that are told of", &Some(2), &imported["kept_aside"].as_u64())?;
    let again = world.node(SOURCE, &import)?.json()?;
    same("records that are as they were", &Some(3), &again["records"]["unchanged"].as_u64())?;

    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()?;
    it.until(world, DESTINATION, "filed")?;
    world.posted(&it.transfer, LIMIT)?;
    for at in [SOURCE, DESTINATION] {
        let records = it.records(world, at)?;
        for (name, bytes) in FILES {
            let file = records.iter().find(|record| record["file_name"] == name);
            let file = file.with_context(|| format!("{name} is not at {at}"))?;
            same("its type", &"Binary", &text(file, "type"))?;
            let show = ["records", "show", "--patient", &it.patient, text(file, "record")];
            let shown = world.node(at, &show)?;
            shown.done()?;
            ensure!(shown.stdout == content(bytes), "{name} is another at {at}");
        }
        same("files", &FILES.len(), &records.iter().filter(|record| record["type"] == "Binary").count())?;
    }
    Ok(())
}

/// Bytes that are no text.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8 ^ (at / 65_521) as u8).collect()
}
