//! Keeps the house tidy: who may import whom, which crate stays in which room, sizes and habits.
//!
//! The tables are not here: they are read from `ARCHITECTURE.md`, so that the map cannot become untrue. Every test
//! collects all faults before it fails, and each fault says what to do.

mod habits;
mod map;
mod packages;
mod rooms;
mod tree;

use std::fmt;

/// What a test fails with: words only, no backtrace.
struct Untidy(String);

impl fmt::Debug for Untidy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<anyhow::Error> for Untidy {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

type Result = std::result::Result<(), Untidy>;

/// Fails with all faults, one a line.
fn settle(faults: Vec<String>) -> Result {
    if faults.is_empty() { Ok(()) } else { Err(Untidy(format!("untidy:\n  {}", faults.join("\n  ")))) }
}

#[test]
fn the_map_names_every_package() -> Result {
    settle(packages::missing_from_map()?)
}

#[test]
fn packages_import_what_the_map_allows() -> Result {
    settle(packages::imports()?)
}

#[test]
fn pure_packages_bring_no_runtime_network_database_or_c() -> Result {
    settle(packages::impure()?)
}

#[test]
fn manifests_follow_the_workspace() -> Result {
    settle(packages::manifests()?)
}

#[test]
fn crates_stay_in_their_rooms() -> Result {
    settle(rooms::fences()?)
}

#[test]
fn rooms_import_downwards() -> Result {
    settle(rooms::tiers()?)
}

#[test]
fn files_say_what_they_are_and_stay_small() -> Result {
    settle(habits::heads_and_sizes()?)
}

#[test]
fn nothing_is_left_for_later() -> Result {
    settle(habits::left_overs()?)
}

#[test]
fn nothing_names_the_machine_it_was_written_on() -> Result {
    settle(habits::machine_paths()?)
}

#[test]
fn every_threat_has_its_test() -> Result {
    settle(habits::untested_threats()?)
}

#[test]
fn the_top_level_holds_what_belongs_there() -> Result {
    settle(habits::top_level()?)
}

#[test]
fn what_the_readme_promises_is_there() -> Result {
    settle(habits::promised()?)
}
