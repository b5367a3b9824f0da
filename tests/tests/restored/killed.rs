//! A control: who was merely killed has everything that it signed, says so once it is compared, and asks for nothing.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;

use crate::ends::{all_agree, is_filed_once, no_errors};
use crate::moves::{DESTINATION, Move, SOURCE, patients};
use crate::people::{delivered, filed, quoted};
use crate::stage::{is_catching_up, on_a_world, rejoining};

#[test]
fn who_was_merely_killed_catches_up_with_nothing() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[Move; 3], _> = patients(world, &[0; 3])?.try_into();
    let [mut done, mut first, mut second] = moves.ok().context("three patients")?;
    quoted(world, &mut done)?;
    let fee = filed(world, &done)?;
    for (at, it) in [(SOURCE, &mut first), (DESTINATION, &mut second)] {
        quoted(world, it)?;
        delivered(world, it)?;
        world.kill(at)?;
        world.restart(at)?;
        it.wallet(world, "release", &[])?.done()?;
        // What goes on to its end was compared before.
        it.ends_well(world)?;
        nothing_is_missing(world, at).with_context(|| format!("{at} was killed"))?;
    }
    is_filed_once(world, &done, &fee)?;
    for at in [SOURCE, DESTINATION] {
        nothing_is_missing(world, at)?;
        no_errors(world, at)?;
    }
    all_agree(world)
}

fn nothing_is_missing(world: &World, at: &str) -> Result<()> {
    ensure!(!is_catching_up(world, at)?, "{at} catches up");
    let said = rejoining(world, at)?;
    ensure!(said.is_null(), "{at} says: {said}");
    Ok(())
}
