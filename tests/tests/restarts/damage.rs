//! A byte of a stored scan flips at the source: it is named, it does not leave, and once it is repaired it does.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;
use jiff::Timestamp;
use serde_json::Value;

use crate::moves::{DESTINATION, Move, SOURCE, same, text, within};

/// The times that the source tries to send, before it is looked at how they lie.
const TRIES: usize = 3;
/// The shortest pause before the second try, in milliseconds; each further one is twice that.
const FIRST_PAUSE_MS: i64 = 400;

/// The largest blob of the source.
fn largest_blob(world: &World) -> Result<PathBuf> {
    let content = world.folder().join("hospitals").join(SOURCE).join("data/blobs/content");
    let mut blobs = Vec::new();
    for fan in fs::read_dir(content)? {
        for blob in fs::read_dir(fan?.path())? {
            let blob = blob?;
            blobs.push((blob.metadata()?.len(), blob.path()));
        }
    }
    Ok(blobs.into_iter().max().context("no blob")?.1)
}

pub(crate) fn flip(blob: &Path) -> Result<()> {
    let mut bytes = fs::read(blob)?;
    let middle = bytes.len() / 2;
    let byte = bytes.get_mut(middle).context("an empty blob")?;
    *byte ^= 1;
    Ok(fs::write(blob, bytes)?)
}

/// When the source said that the transfer waits for damaged content to be repaired.
fn tries(world: &World, it: &Move) -> Result<Vec<Timestamp>> {
    let log = fs::read_to_string(world.logs().join(format!("{SOURCE}.log")))?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_this = |line: &Value| {
        line["fields"]["transfer"] == it.transfer.as_str() && line["fields"]["code"] == "store-damaged"
    };
    lines
        .filter(of_this)
        .map(|line| text(&line, "timestamp").parse().context("a log line has no time"))
        .collect()
}

/// The patient has the largest scan of the world.
pub(crate) fn does_not_leave(world: &World, it: &mut Move) -> Result<()> {
    let blob = largest_blob(world)?;
    flip(&blob)?;
    let checked = world.node(SOURCE, &["check"])?;
    same("the code of a check that finds damage", &Some("store-damaged".to_owned()), &checked.problem())?;
    let report: Value = serde_json::from_slice(&checked.stdout)?;
    same("faults that the check found", &Some(1), &report["faults"].as_u64())?;
    let records = it.records(world, SOURCE)?;
    let scan = records.iter().max_by_key(|it| it["bytes"].as_u64()).context("no record")?;
    let named = report["faulty"][0].as_str().unwrap_or_default();
    ensure!(
        named.starts_with(text(scan, "record")) && named.ends_with("store-damaged"),
        "the scan is not named: {report}"
    );

    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()?;
    within("the source tries to send", || Ok(tries(world, it)?.len() >= TRIES))?;
    let times = tries(world, it)?;
    let pauses: Vec<i64> =
        times.windows(2).map(|pair| pair[1].as_millisecond() - pair[0].as_millisecond()).collect();
    // How much longer they are is the machine's doing.
    let shortest = (0..).map(|times: u32| FIRST_PAUSE_MS << times);
    ensure!(
        pauses.iter().zip(shortest).all(|(pause, least)| *pause >= least),
        "pauses in ms between tries: {pauses:?}"
    );
    let shown = it.show(world, SOURCE)?;
    same("the source's state", &"sealed", &text(&shown, "state"))?;
    let wait = &shown["waits"][0];
    same("what waits, and why", &("send", "store-damaged"), &(text(wait, "step"), text(wait, "code")))?;
    let next: Timestamp = text(wait, "next").parse().context("no next try")?;
    ensure!(times.last().is_some_and(|last| next > *last), "the next try lies before the last: {shown}");
    let in_vain = world.node(SOURCE, &["transfer", "show", &it.transfer, "--wait", "0"])?;
    same("the code of a wait in vain", &Some("timed-out".to_owned()), &in_vain.problem())?;
    ensure!(in_vain.stderr.contains("send waits: store-damaged"), "{}", in_vain.stderr);
    same("the destination's state", &"sealed", &text(&it.show(world, DESTINATION)?, "state"))?;
    same("records that arrived", &0, &it.records(world, DESTINATION)?.len())?;

    flip(&blob)?;
    it.ends_well(world)?;
    same("what waits in the end", &0, &it.show(world, SOURCE)?["waits"].as_array().map_or(1, Vec::len))
}
