//! Every step is idempotent, and durable before it is acknowledged: on real moves processes are killed (`kill -9`) at
//! every step, commands are repeated, the index stays away, stored content is damaged, stores lie in a database. Each move ends filed, exactly
//! once, with one fee, and everything that is stored is whole.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod absence;
mod attempts;
mod away;
mod damage;
mod database;
mod files;
mod forgetting;
mod kills;
mod repeats;

use anyhow::{Context as _, Result};
use handover_scenarios::world::World;

use handover_tests::moves::{self, all_is_whole, close, patients, world};

/// Bytes of scans: the repeated move's, the two without the index, the one that is damaged, the one that is forgotten,
/// and the one that has files besides.
const SCANS: [usize; 6] = [200_000, 0, 0, 1_000_000, 150_000, 0];

#[test]
fn repetition_absence_and_damage_change_nothing() -> Result<()> {
    let mut world = world()?;
    let outcome = play(&mut world);
    close(world, outcome)
}

fn play(world: &mut World) -> Result<()> {
    let mut moves = patients(world, &SCANS)?;
    if let [repeated, begun, late, damaged, forgotten, with_files] = moves.as_mut_slice() {
        repeats::change_nothing(world, repeated).context("what is repeated")?;
        absence::is_made_up_for(world, begun, late).context("an index that is away")?;
        damage::does_not_leave(world, damaged).context("damaged content")?;
        files::come_along(world, with_files).context("files that resources name")?;
        forgetting::leaves_nothing(world, forgotten).context("a patient who is forgotten")?;
        absence::by_order_is_told(world, late).context("a hospital that is suspended")?;
    }
    all_is_whole(world)
}
