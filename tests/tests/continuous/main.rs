//! Tests are charged once, and what is new follows under a continuous consent: on real processes, which are killed too.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod charged;
mod deliveries;
mod pauses;
mod person;

use anyhow::Result;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};

use person::{DESTINATION, Person, SOURCE};

fn on_a_world(play: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    let options = Options { clock: true, ..Options::of(&[SOURCE, DESTINATION]) };
    let mut world = World::start(Programs::shared()?, &options)?;
    play(&mut world).map_err(|fault| {
        let folder = world.folder().display().to_string();
        world.leave_folder();
        fault.context(format!("data and logs are in {folder}"))
    })
}

#[test]
fn a_test_is_charged_once() -> Result<()> {
    on_a_world(|world| charged::play(&Person::settle(world)?))
}

#[test]
fn what_is_new_follows_under_a_continuous_consent() -> Result<()> {
    on_a_world(deliveries::play)
}

#[test]
fn nothing_follows_while_it_may_have_been_taken_back() -> Result<()> {
    on_a_world(pauses::play)
}
