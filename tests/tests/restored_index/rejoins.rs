//! The index is restored from a backup from before it booked and ordered nearly everything.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::story::Order;
use handover_scenarios::world::{INDEX, World};

use crate::moves::{DESTINATION, SOURCE, patients, same, within};
use crate::stage::{
    THIRD, all_agree, caught_up, copies, log, log_continues, moved, no_errors, on_a_world, quoted, restore,
    status, version,
};

#[test]
fn an_index_gets_back_what_it_booked_and_ordered() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[_; 4], _> = patients(world, &[0; 4])?.try_into();
    let [mut early, mut late, mut open, mut next] = moves.ok().context("four patients")?;
    moved(world, &mut early)?;
    let backup = world.back_up(INDEX)?;
    moved(world, &mut late).context("after the backup")?;
    quoted(world, &mut open)?;
    open.wallet(world, "consent", &["--no-release"])?.done()?;
    for at in [SOURCE, DESTINATION] {
        open.until(world, at, "delivered")?;
    }
    world.order(THIRD, Order::Suspend)?;
    for at in [SOURCE, DESTINATION] {
        copies(world, at)?;
    }
    let (before, directory) = (log(world)?, version(world)?);
    ensure!(before.len() > 2, "nothing was booked since the backup");
    restore(world, &backup)?;

    let said = caught_up(world)?;
    ensure!(said["entries"].as_u64() > Some(0) && said["artefacts"].as_u64() > Some(0), "{said}");
    log_continues(world, &before)?;
    within("a newer directory is made", || Ok(version(world)? > directory))?;
    same("how a hospital stands that was suspended since", &"suspended", &status(world, THIRD)?.as_str())?;
    open.wallet(world, "release", &[])?.done()?;
    open.ends_well(world).context("under way when the index was restored")?;
    late.ends_well(world)?;
    moved(world, &mut next).context("after it was restored")?;
    log_continues(world, &before)?;
    all_agree(world, &[SOURCE, DESTINATION])?;
    no_errors(world)
}
