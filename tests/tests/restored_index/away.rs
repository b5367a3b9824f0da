//! A hospital is away that has a part of the log. The others hold what states that part, so the index waits.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::story::Order;
use handover_scenarios::world::{INDEX, World};
use serde_json::{Value, json};

use crate::moves::{DESTINATION, SOURCE, patients, within};
use crate::stage::{
    HOSPITALS, THIRD, all_agree, caught_up, copies, log, log_continues, moved, no_errors, on_a_world,
    rejoining, roll_back,
};

#[test]
fn what_one_has_is_waited_for() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[_; 2], _> = patients(world, &[0; 2])?.try_into();
    let [mut late, mut next] = moves.ok().context("two patients")?;
    let backup = world.back_up(INDEX)?;
    moved(world, &mut late)?;
    world.kill(SOURCE)?;
    copies(world, DESTINATION)?;
    let before = log(world)?;
    ensure!(copies(world, THIRD)? == before.len() as u64, "nobody else was told how large the log is");
    world.kill(DESTINATION)?;
    roll_back(world, &backup)?;
    world.restart(SOURCE)?;
    world.restart_index(false)?;

    let mut last = Value::Null;
    let waits = within("the index waits for one hospital alone", || {
        last = rejoining(world)?;
        Ok(last["found"].is_string() && last["waits_for"] == json!([DESTINATION]))
    });
    waits.with_context(|| format!("it says: {last}"))?;
    ensure!(last["speaks"] == false && last["done"].is_null(), "{last}");
    ensure!(world.order(THIRD, Order::Suspend).is_err(), "it takes orders");
    // What it has found out it knows after a kill, too.
    world.restart_index(true)?;
    within("it waits again", || Ok(rejoining(world)?["waits_for"] == json!([DESTINATION])))?;

    world.restart(DESTINATION)?;
    caught_up(world)?;
    log_continues(world, &before)?;
    late.ends_well(world)?;
    moved(world, &mut next)?;
    log_continues(world, &before)?;
    all_agree(world, &HOSPITALS)?;
    no_errors(world)
}
