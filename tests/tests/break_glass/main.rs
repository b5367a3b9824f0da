//! Break-glass on real processes: an emergency doctor reads a patient's allergies, medication and problems from another
//! hospital, and everything once a colleague has signed; everybody is told; nobody gets anything by lying, guessing or
//! after the window. One world serves all, in sequence, because starting one takes seconds.

#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "JSON values: an absent key is null")]
#![expect(clippy::unwrap_used, reason = "the helpers of tests")]

mod absence;
mod clock;
mod days;
mod hostile;
mod people;
mod refused;
mod rules;
mod story;

use std::time::Instant;

use anyhow::Result;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};

/// Holds records.
pub(crate) const OLD: &str = "lakeside";
/// Holds records, too, and is suspended in the end.
pub(crate) const OTHER: &str = "northside";
/// Where the emergency is.
pub(crate) const NEW: &str = "riverside";

/// What a group tries.
type Group = fn(&mut World) -> Result<()>;

const GROUPS: [(&str, Group); 5] = [
    ("an emergency, from the key to the review", story::all),
    ("who is refused", refused::all),
    ("hostile hospitals", hostile::all),
    ("somebody is away, or killed, or the window is over", absence::all),
    ("a suspended hospital", refused::suspended),
];

#[test]
fn an_emergency_opens_what_it_needs_and_nothing_else() -> Result<()> {
    let mut world = World::start(Programs::shared()?, &Options::of(&[OLD, OTHER, NEW]))?;
    people::fill(&world)?;
    for (name, group) in GROUPS {
        let begun = Instant::now();
        let played = group(&mut world);
        // Only a test that fails or runs with --nocapture shows this.
        println!("{name}: {} ms", begun.elapsed().as_millis());
        if let Err(fault) = played {
            let folder = world.folder().display().to_string();
            world.leave_folder();
            return Err(fault.context(format!("{name}; data and logs are in {folder}")));
        }
    }
    Ok(())
}

#[test]
fn windows_guesses_and_reviews_go_by_the_clock() -> Result<()> {
    let options = Options { clock: true, ..Options::of(&[OLD, OTHER, NEW]) };
    let mut world = World::start(Programs::shared()?, &options)?;
    let played = days::pass(&mut world);
    if played.is_err() {
        println!("data and logs are in {}", world.folder().display());
        world.leave_folder();
    }
    played
}
