//! Both hospitals are restored from backups from before they signed nearly everything: the index knows it, and each
//! answers the other while it catches up itself.

use anyhow::{Result, bail};
use handover_scenarios::world::World;
use serde_json::json;

use crate::ends::{Kept, all_agree, is_at_both, is_filed_once, no_errors, no_key_left};
use crate::moves::{DESTINATION, Move, SOURCE, patients, same};
use crate::people::{costs_nothing_again, delivered, ends_once, filed, quoted, taken_back};
use crate::stage::{caught_up, on_a_world, roll_back};

#[test]
fn two_hospitals_get_back_what_they_signed() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[Move; 3], _> = patients(world, &[0; 3])?.try_into();
    let Ok([mut done, mut begun, mut revoked]) = moves else { bail!("three patients") };
    quoted(world, &mut begun)?;
    quoted(world, &mut revoked)?;
    let backups = [world.back_up(SOURCE)?, world.back_up(DESTINATION)?];
    quoted(world, &mut done)?;
    let fee = filed(world, &done)?;
    delivered(world, &begun)?;
    delivered(world, &revoked)?;
    taken_back(world, &revoked)?;
    let all = [&done, &begun, &revoked];
    let kept = [Kept::at(world, SOURCE, &all)?, Kept::at(world, DESTINATION, &all)?];
    for (at, backup) in [SOURCE, DESTINATION].into_iter().zip(&backups) {
        roll_back(world, at, backup)?;
    }
    for at in [SOURCE, DESTINATION] {
        world.restart(at)?;
    }

    caught_up(world, SOURCE)?;
    let said = caught_up(world, DESTINATION)?;
    same("transfers whose records are missing", &json!([done.transfer]), &said["unfiled"])?;
    for (at, kept) in [SOURCE, DESTINATION].into_iter().zip(&kept) {
        kept.is_back(world, at)?;
    }
    is_filed_once(world, &done, &fee)?;
    is_at_both(world, &revoked, "revoked")?;
    no_key_left(world, &revoked)?;
    same("what was quoted before ends", &"filed", &ends_once(world, &begun)?.as_str())?;
    costs_nothing_again(world, &done)?.records_are_equal(world)?;
    all_agree(world)?;
    no_errors(world, SOURCE)?;
    no_errors(world, DESTINATION)
}
