//! Folders at the index, on real processes: a package that was left for a hospital that is away reaches it without its
//! source, once; what does not fit, has run out or was taken back never does; and the index opens nothing.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

#[path = "../restarts/moves.rs"]
#[expect(dead_code, reason = "shared with the restarts, which need more of it")]
mod moves;
mod stage;
mod waits;

use anyhow::{Context as _, Result};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};

use moves::{DESTINATION, SOURCE, close, patients};

#[test]
fn a_package_waits_for_a_hospital_that_is_away() -> Result<()> {
    let mut world = World::start(Programs::shared()?, &Options::of(&[SOURCE, DESTINATION]))?;
    let outcome = play(&mut world);
    close(world, outcome)
}

fn play(world: &mut World) -> Result<()> {
    let mut moves = patients(world, &[200_000])?;
    if let [away] = moves.as_mut_slice() {
        waits::source_and_destination_never_meet(world, away).context("a source that is gone by then")?;
    }
    moves::all_is_whole(world)
}
