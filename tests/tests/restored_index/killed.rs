//! A control: an index that was merely killed asks, misses nothing, and goes on at once; and one of which people say that it
//! was restored asks for everything.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;
use serde_json::json;

use crate::moves::patients;
use crate::stage::{
    HOSPITALS, all_agree, caught_up, log, log_continues, moved, no_errors, on_a_world, rejoining,
};

#[test]
fn an_index_that_was_merely_killed_catches_up_with_nothing() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[_; 3], _> = patients(world, &[0; 3])?.try_into();
    let [mut first, mut second, mut third] = moves.ok().context("three patients")?;
    moved(world, &mut first)?;
    world.restart_index(true)?;
    moved(world, &mut second).context("after it was killed")?;
    let said = rejoining(world)?;
    ensure!(said["found"].is_null() && said["speaks"] == true, "{said}");

    let before = log(world)?;
    let said = world.index(&["rejoin"])?.json()?;
    ensure!(said["found"].is_string(), "it is not declared: {said}");
    let said = caught_up(world)?;
    ensure!(said["entries"] == json!(0) && said["artefacts"] == json!(0), "{said}");
    moved(world, &mut third).context("after it was declared")?;
    log_continues(world, &before)?;
    all_agree(world, &HOSPITALS)?;
    no_errors(world)
}
