//! Folders at the index, on real processes: a package that was left for a hospital that is away reaches it without its
//! source, once; what does not fit or was taken back never does; and the index opens nothing.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod denied;
mod expiry;
mod flood;
mod opens;
mod room;
mod stage;
mod waits;
mod withdrawn;

use anyhow::{Context as _, Result};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};

use handover_tests::moves::{self, DESTINATION, Move, SOURCE, close, patients};

fn world(more: &str) -> Result<World> {
    let options = Options { index_more: more.to_owned(), ..Options::of(&[SOURCE, DESTINATION]) };
    World::start(Programs::shared()?, &options)
}

/// Plays parts with a patient each, one after another.
fn play(world: &mut World, scans: &[usize], parts: &[Part]) -> Result<()> {
    let mut moves = patients(world, scans)?;
    for (it, (name, part)) in moves.iter_mut().zip(parts) {
        part(world, it).context(*name)?;
    }
    moves::all_is_whole(world)
}

type Part = (&'static str, fn(&mut World, &mut Move) -> Result<()>);

#[test]
fn a_package_waits_for_a_hospital_that_is_away() -> Result<()> {
    let mut world = world("")?;
    let parts: [Part; 4] = [
        ("a source that is gone by then", waits::without_its_source),
        ("a source that is there, too", waits::beside_its_source),
        ("an index that was killed meanwhile", waits::after_a_kill),
        ("damage at the index", waits::past_damage),
    ];
    let outcome = play(&mut world, &[200_000, 200_000, 24_000_000, 200_000], &parts);
    close(world, outcome)
}

#[test]
fn a_package_that_waits_is_taken_back() -> Result<()> {
    let mut world = world("")?;
    let parts: [Part; 3] = [
        ("in time", withdrawn::in_time),
        ("while the index is away", withdrawn::while_the_index_is_away),
        ("too late", withdrawn::too_late),
    ];
    let outcome = play(&mut world, &[0, 0, 0], &parts);
    close(world, outcome)
}

#[test]
fn a_no_of_the_destination_ends_nothing_before_the_index_has_spoken() -> Result<()> {
    let mut world = world("")?;
    let outcome = denied::ends_nothing_by_itself(&mut world);
    close(world, outcome)
}

#[test]
fn a_folder_is_bounded_and_what_does_not_fit_comes_by_itself() -> Result<()> {
    let mut world = world(room::SMALL)?;
    let outcome = patients(&world, &room::SCANS).and_then(|mut moves| {
        room::is_bounded(&mut world, &mut moves)?;
        moves::all_is_whole(&world)
    });
    close(world, outcome)
}

#[test]
fn a_member_that_takes_all_its_streams_keeps_nobody_out() -> Result<()> {
    let mut world = world("")?;
    let parts: [Part; 1] = [("a flood of deposits", flood::keeps_nobody_out)];
    let outcome = play(&mut world, &[200_000], &parts);
    close(world, outcome)
}

#[test]
fn what_waits_too_long_is_gone_and_nobody_pays() -> Result<()> {
    let options = Options { clock: true, ..Options::of(&[SOURCE, DESTINATION]) };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = patients(&world, &[200_000, 0]).and_then(|mut moves| expiry::ends(&mut world, &mut moves));
    close(world, outcome)
}

#[test]
fn the_index_with_all_it_has_opens_nothing() -> Result<()> {
    opens::nothing()
}
