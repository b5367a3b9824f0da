//! A folder holds so much, and of one source a part of it. What does not fit is told by name, and loses nothing.

use anyhow::{Result, ensure};
use handover_scenarios::world::World;
use serde_json::Value;

use crate::moves::{DESTINATION, Move, SOURCE, same, text, within};
use crate::stage::{all_agreed_while_apart, emptied, folder};

/// For the index's configuration: 2 MiB for one source.
pub(crate) const SMALL: &str = "[folders]\nquota_mib = 4\nshare_percent = 50\nfree_mib = 1\n";
/// Scans in bytes: one above the share, and two of which it holds one.
pub(crate) const SCANS: [usize; 3] = [3_000_000, 1_300_000, 1_300_000];

pub(crate) fn is_bounded(world: &mut World, moves: &mut [Move]) -> Result<()> {
    let mut all: Vec<&mut Move> = moves.iter_mut().collect();
    all_agreed_while_apart(world, &mut all, &[])?;
    within("the folder takes one, and says why it takes no other", || {
        let shown = folders(world, moves)?;
        Ok(shown.iter().all(|it| it["until"].is_string() || it["problem"].is_string()))
    })?;
    let shown = folders(world, moves)?;
    same("what is too large", &"folder-too-large", &text(&shown[0], "problem"))?;
    same("packages that are kept", &1, &shown.iter().filter(|it| it["until"].is_string()).count())?;
    same("that do not fit", &1, &shown.iter().filter(|it| text(it, "problem") == "folder-full").count())?;
    ensure!(text(&shown[0], "text").contains("share"), "no next step: {}", shown[0]);
    let listed = folder(world)?;
    same("packages in the folder", &Some(1), &listed["packages"].as_u64())?;
    for it in moves.iter() {
        same("the state at the source", &"sealed", &text(&it.show(world, SOURCE)?, "state"))?;
    }
    world.restart(DESTINATION)?;
    for it in moves.iter() {
        it.ends_well(world)?;
    }
    emptied(world)
}

fn folders(world: &World, moves: &[Move]) -> Result<Vec<Value>> {
    moves.iter().map(|it| Ok(it.show(world, SOURCE)?["folder"].clone())).collect()
}
