//! The hospitals that alone have a part of the log are left out by hand. When one is back, the index has that part again.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::{INDEX, World};
use serde_json::{Value, json};

use crate::moves::{DESTINATION, SOURCE, patients, within};
use crate::stage::{THIRD, copies, log, log_continues, moved, on_a_world, rejoining, roll_back};

#[test]
fn who_was_left_out_is_asked_when_it_is_back() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[_; 2], _> = patients(world, &[0; 2])?.try_into();
    let [mut late, mut next] = moves.ok().context("two patients")?;
    let backup = world.back_up(INDEX)?;
    moved(world, &mut late)?;
    // Where both of its hospitals have an entry, nobody else keeps it.
    for at in [SOURCE, DESTINATION] {
        copies(world, at)?;
    }
    let before = log(world)?;
    ensure!(copies(world, THIRD)? == before.len() as u64, "nobody else was told how large the log is");
    for at in [SOURCE, DESTINATION] {
        world.kill(at)?;
    }
    roll_back(world, &backup)?;
    world.restart_index(false)?;
    let mut last = Value::Null;
    let waits = within("the index waits for the two that are away", || {
        last = rejoining(world)?;
        Ok(last["found"].is_string() && last["waits_for"] == json!([SOURCE, DESTINATION]))
    });
    waits.with_context(|| format!("it says: {last}"))?;
    world.index(&["rejoin", "--without", SOURCE, "--without", DESTINATION])?.done()?;
    let gone_on = within("it goes on without them", || {
        last = rejoining(world)?;
        Ok(last["speaks"] == true && last["forked"] == json!(before.len()))
    });
    gone_on.with_context(|| format!("it says: {last}"))?;

    world.restart(DESTINATION)?;
    let whole = within("it has its log again", || {
        last = rejoining(world)?;
        Ok(last["speaks"] == true && last["forked"].is_null())
    });
    whole.with_context(|| format!("it says: {last}"))?;
    log_continues(world, &before)?;
    world.restart(SOURCE)?;
    late.ends_well(world)?;
    moved(world, &mut next)?;
    log_continues(world, &before)?;
    // Everybody is served, and it goes on for good.
    let said = rejoining(world)?;
    ensure!(said["speaks"] == true && said["forked"].is_null(), "{said}");
    Ok(())
}
