//! Neither hospital of a transfer has copied its entries when the index is rolled back to where it knew no patient: a third
//! one has them, sealed.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::{INDEX, World};

use crate::moves::{DESTINATION, SOURCE, patients, same, within};
use crate::stage::{
    HOSPITALS, THIRD, all_agree, caught_up, copies, log, log_continues, moved, no_errors, on_a_world,
    roll_back,
};

#[test]
fn what_neither_party_has_comes_from_a_third() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let backup = world.back_up(INDEX)?;
    let moves: Result<[_; 2], _> = patients(world, &[0; 2])?.try_into();
    let [mut late, mut next] = moves.ok().context("two patients")?;
    moved(world, &mut late)?;
    for at in [SOURCE, DESTINATION] {
        world.kill(at)?;
    }
    let before = log(world)?;
    same("how large the third one's log is", &(before.len() as u64), &copies(world, THIRD)?)?;
    let known = world.node(THIRD, &["fees", "list"])?.json()?;
    ensure!(known["fees"].as_array().is_some_and(Vec::is_empty), "the third one reads others' fees: {known}");
    roll_back(world, &backup)?;
    for at in [SOURCE, DESTINATION] {
        world.restart(at)?;
    }
    world.restart_index(false)?;

    let said = caught_up(world)?;
    same("entries that came back", &Some(before.len() as u64), &said["entries"].as_u64())?;
    log_continues(world, &before)?;
    late.ends_well(world)?;
    within("the index knows again who holds records", || {
        let located = world.wallet_at(&next.wallet, DESTINATION, &["locate"])?.json()?;
        Ok(located["hospitals"].as_array().is_some_and(|all| all.len() == 2))
    })?;
    moved(world, &mut next)?;
    log_continues(world, &before)?;
    all_agree(world, &HOSPITALS)?;
    no_errors(world)
}
