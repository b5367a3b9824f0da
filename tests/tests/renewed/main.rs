//! A hospital's keys are replaced, because they were stolen or have served long enough: what was under way ends well, what
//! was signed stays evidence, and who has the keys of before is nobody. On real processes.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod burned;
mod source;
mod stolen;

use anyhow::Result;
use handover_scenarios::world::World;
use handover_tests::{ends, moves, people};

use moves::{close, world};

/// Plays a scene on a world of two hospitals.
fn on_a_world(play: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    let mut world = world()?;
    let outcome = play(&mut world);
    close(world, outcome)
}
