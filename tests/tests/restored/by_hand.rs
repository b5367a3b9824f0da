//! A store from before that nobody can tell from the real one, because nothing was signed since: somebody says so.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;

use crate::ends::{Kept, all_agree, is_filed_once, no_errors};
use crate::moves::{Move, SOURCE, patients, same, within};
use crate::people::{filed, quoted};
use crate::stage::{caught_up, declare, is_catching_up, on_a_world, rejoining, restore};

#[test]
fn what_nobody_can_find_out_is_declared() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[Move; 2], _> = patients(world, &[0; 2])?.try_into();
    let [mut done, mut begun] = moves.ok().context("two patients")?;
    quoted(world, &mut done)?;
    let fee = filed(world, &done)?;
    quoted(world, &mut begun)?;
    let backup = world.back_up(SOURCE)?;
    let kept = Kept::at(world, SOURCE, &[&done, &begun])?;
    restore(world, SOURCE, &backup)?;

    // A transfer that goes on shows that it was compared.
    within("the index is there", || Ok(world.node(SOURCE, &["status"])?.json()?["index_connected"] == true))?;
    ensure!(rejoining(world, SOURCE)?.is_null(), "something was found");
    ensure!(!is_catching_up(world, SOURCE)?, "it catches up with nothing");
    let declared = declare(world, SOURCE)?;
    ensure!(declared["found"].is_string(), "it is not declared: {declared}");
    let said = caught_up(world, SOURCE)?;
    same("when it was found", &declared["found"], &said["found"])?;
    kept.is_back(world, SOURCE)?;
    is_filed_once(world, &done, &fee)?;
    begun.wallet(world, "consent", &[])?.done()?;
    begun.ends_well(world)?;
    all_agree(world)?;
    no_errors(world, SOURCE)
}
