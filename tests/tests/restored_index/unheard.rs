//! An order that the first hospital to answer never heard of: the index goes on without it, and takes it back with the one
//! that has it.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::story::Order;
use handover_scenarios::world::{INDEX, World};

use crate::moves::{DESTINATION, SOURCE, patients, same, within};
use crate::stage::{
    THIRD, all_agree, caught_up, held_version, moved, no_errors, on_a_world, rejoining, roll_back, status,
    version,
};

#[test]
fn an_order_that_one_alone_has_comes_back_with_it() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[_; 1], _> = patients(world, &[0])?.try_into();
    let [mut next] = moves.ok().context("a patient")?;
    let backup = world.back_up(INDEX)?;
    world.kill(SOURCE)?;
    let ordered = world.order(THIRD, Order::Suspend)?;
    within("one hospital hears of it", || Ok(held_version(world, DESTINATION)? >= ordered))?;
    for at in [DESTINATION, THIRD] {
        world.kill(at)?;
    }
    roll_back(world, &backup)?;
    world.restart(SOURCE)?;
    world.restart_index(false)?;
    within("the index goes on with who is there", || Ok(rejoining(world)?["speaks"] == true))?;
    // It makes a directory that is newer than the one with the order.
    world.schedule("US", &["--silence-days", "14"])?;
    ensure!(version(world)? > ordered, "the directory is no newer");
    same("how the third one stands", &"active", &status(world, THIRD)?.as_str())?;
    ensure!(rejoining(world)?["found"].is_null(), "somebody told of the order");

    let opened = version(world)?;
    for at in [DESTINATION, THIRD] {
        world.restart(at)?;
    }
    caught_up(world)?;
    same("how the third one stands again", &"suspended", &status(world, THIRD)?.as_str())?;
    for at in [SOURCE, DESTINATION] {
        within(&format!("{at} takes what the index says now"), || Ok(held_version(world, at)? > opened))?;
    }
    moved(world, &mut next)?;
    all_agree(world, &[SOURCE, DESTINATION])?;
    no_errors(world)
}
