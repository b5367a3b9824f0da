//! Source and destination never run at the same time.

use anyhow::{Result, ensure};
use handover_scenarios::world::World;

use crate::moves::{DESTINATION, Move, SOURCE, same, text};
use crate::stage::{agreed_while_apart, emptied, folder, left};

pub(crate) fn source_and_destination_never_meet(world: &mut World, it: &mut Move) -> Result<()> {
    agreed_while_apart(world, it, &[])?;
    let shown = left(world, it)?;
    same("the state at the source", &"sealed", &text(&shown, "state"))?;
    let listed = folder(world)?;
    same("packages in the folder", &Some(1), &listed["packages"].as_u64())?;
    ensure!(listed["bytes"].as_u64() > Some(200_000), "{listed}");
    world.stop(SOURCE)?;
    world.restart(DESTINATION)?;
    it.until(world, DESTINATION, "filed")?;
    world.restart(SOURCE)?;
    it.ends_well(world)?;
    emptied(world)
}
