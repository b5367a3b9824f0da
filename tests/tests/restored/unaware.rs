//! What the source signed while the index was away, the index does not know. The source, restored, meets the index first:
//! it gives no key to the other hospital before it has heard from that one.

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::world::World;

use crate::ends::{Kept, all_agree, is_at_both, no_errors, no_key_left, no_key_left_at};
use crate::moves::{DESTINATION, Move, SOURCE, patients};
use crate::people::{delivered, quoted, release_in_a_file, taken_back};
use crate::stage::{caught_up, is_answered, on_a_world, roll_back};

#[test]
fn an_index_that_knows_nothing_is_not_enough() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[Move; 2], _> = patients(world, &[0; 2])?.try_into();
    let Ok([mut revoked, mut agreed]) = moves else { bail!("two patients") };
    quoted(world, &mut revoked)?;
    delivered(world, &revoked)?;
    let carried = release_in_a_file(world, &revoked)?;
    quoted(world, &mut agreed)?;
    let backup = world.back_up(SOURCE)?;
    world.stop_index()?;
    taken_back(world, &revoked)?;
    let kept = Kept::at(world, SOURCE, &[&revoked])?;
    roll_back(world, SOURCE, &backup)?;
    world.stop(DESTINATION)?;
    world.restart_index(false)?;
    world.restart(SOURCE)?;

    let brought = world.node(SOURCE, &["patient", "take", "--file", &carried])?;
    ensure!(is_answered(&brought), "{brought:?}");
    let consent = ["consent", "--transfer", &agreed.transfer];
    world.wallet_at(&agreed.wallet, SOURCE, &consent)?.done()?;
    // By then the index was asked, and knew nothing.
    agreed.until(world, SOURCE, "sealed")?;
    no_key_left_at(world, SOURCE, &revoked)?;
    world.restart(DESTINATION)?;
    caught_up(world, SOURCE)?;
    is_at_both(world, &revoked, "revoked")?;
    no_key_left(world, &revoked)?;
    kept.is_back(world, SOURCE).context("nothing was signed a second time")?;
    agreed.ends_well(world)?;
    all_agree(world)?;
    no_errors(world, SOURCE)
}
