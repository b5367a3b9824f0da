//! A package that waits comes to its destination once: without its source, beside it, after the index was killed while
//! it was left, and past damage on the index's disk.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::signals::kill;
use handover_scenarios::world::World;

use crate::moves::{DESTINATION, Move, SOURCE, Victim, incoming, same, text, within};
use crate::stage::{agreed_while_apart, blobs, emptied, folder, folder_data, index_log, left};

/// Bytes that lie at the index when it is killed.
const CUT_AT_BYTES: u64 = 1_000_000;

/// Source and destination never run at the same time until everything is filed.
pub(crate) fn without_its_source(world: &mut World, it: &mut Move) -> Result<()> {
    agreed_while_apart(world, it, &[])?;
    let shown = left(world, it)?;
    same("the state at the source", &"sealed", &text(&shown, "state"))?;
    let listed = folder(world)?;
    same("packages in the folder", &Some(1), &listed["packages"].as_u64())?;
    ensure!(listed["bytes"].as_u64() > Some(200_000), "{listed}");
    world.stop(SOURCE)?;
    world.restart(DESTINATION)?;
    it.until(world, DESTINATION, "filed")?;
    world.posted(&it.transfer, crate::moves::LIMIT)?;
    world.restart(SOURCE)?;
    it.ends_well(world)?;
    emptied(world)
}

/// The destination is back, and both the source and the index have something for it.
pub(crate) fn beside_its_source(world: &mut World, it: &mut Move) -> Result<()> {
    agreed_while_apart(world, it, &[])?;
    left(world, it)?;
    world.restart(DESTINATION)?;
    it.ends_well(world)?;
    emptied(world)
}

/// The index is killed in the middle of a package that is being left.
pub(crate) fn after_a_kill(world: &mut World, it: &mut Move) -> Result<()> {
    agreed_while_apart(world, it, &[])?;
    let begun = incoming(&folder_data(world))?.join(format!("{}.1", it.transfer));
    within("the package arrives at the index", || {
        let parts = fs::read_dir(&begun).into_iter().flatten().flatten();
        let lengths = parts.filter_map(|part| part.metadata().ok()).map(|meta| meta.len());
        Ok(lengths.max() > Some(CUT_AT_BYTES))
    })?;
    kill(Victim::Index.pid(world)?)?;
    ensure!(begun.exists(), "it was over before anybody could cut it");
    ensure!(it.show(world, SOURCE)?["folder"]["until"].is_null(), "said to be kept before it was");
    Victim::Index.restart(world)?;
    left(world, it)?;
    ensure!(index_log(world)?.contains("goes on where it was cut"), "it was sent from its beginning again");
    let after = incoming(&folder_data(world))?.join(format!("{}.1", it.transfer));
    ensure!(!after.exists(), "what arrived is left behind");
    world.stop(SOURCE)?;
    world.restart(DESTINATION)?;
    it.until(world, DESTINATION, "filed")?;
    world.restart(SOURCE)?;
    it.ends_well(world)?;
    emptied(world)
}

/// A byte turns on the index's disk: nothing damaged leaves it, and the source brings the package itself.
pub(crate) fn past_damage(world: &mut World, it: &mut Move) -> Result<()> {
    agreed_while_apart(world, it, &[])?;
    left(world, it)?;
    world.stop(SOURCE)?;
    let (mut largest, mut length) = (None, 0);
    for blob in blobs(world) {
        let bytes = fs::metadata(&blob)?.len();
        if bytes > length && blob.extension().is_none() {
            (largest, length) = (Some(blob), bytes);
        }
    }
    let path = largest.context("no blob at the index")?;
    let mut content = fs::read(&path)?;
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&path, content)?;
    world.restart(DESTINATION)?;
    emptied(world)?;
    ensure!(index_log(world)?.contains("a package is damaged here"), "the damage is not told");
    world.restart(SOURCE)?;
    it.ends_well(world)
}
