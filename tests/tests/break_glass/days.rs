//! Hours and days pass on real processes, whose clocks are set: windows end, guesses are let go by the hour, and reviews
//! that nobody made throttle until they are made.

use anyhow::{Result, ensure};
use handover_scenarios::json;
use handover_scenarios::world::World;

use super::people::{
    ADA_BY_NAME, clinician, fill, open, opened, person, read, refused, shown, signed, types, within,
};
use super::{NEW, OLD, OTHER};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const AT: [&str; 2] = ["--at", OTHER];

pub(crate) fn pass(world: &mut World) -> Result<()> {
    fill(world)?;
    clinician(world, NEW, "mira")?;
    clinician(world, NEW, "noor")?;
    let id = a_window_ends(world)?;
    guesses_are_let_go_by_the_hour(world)?;
    overdue_reviews_throttle(world, &id)
}

fn a_window_ends(world: &World) -> Result<String> {
    let id = opened(world, "mira", &ADA_BY_NAME, &AT)?;
    world.set_clock(3 * HOUR)?;
    ensure!(types(&read(world, "mira", &id)?).contains(&"Condition"), "nothing to read after three hours");
    world.set_clock(4 * HOUR + MINUTE)?;
    within("the window is over after four hours", || Ok(shown(world, NEW, &id)?["state"] == "over"))?;
    refused(&signed(world, NEW, "mira", &["read", &id])?, "break-glass-over")?;
    refused(&signed(world, NEW, "noor", &["more", &id])?, "break-glass-over")?;
    ensure!(shown(world, OTHER, &id)?["scope"] == "subset", "the evidence is gone");
    Ok(id)
}

/// After five wrong names nobody is answered, and whoever asked rightly is, an hour later, without asking again.
fn guesses_are_let_go_by_the_hour(world: &World) -> Result<()> {
    let nobody = person("Quill-Reed", "Ada", "1980-02-28");
    for by in ["mira", "mira", "mira", "noor", "noor"] {
        refused(&open(world, by, &nobody, &AT)?, "break-glass-unmatched")?;
    }
    let first = throttled(world, "noor")?;
    world.set_clock(4 * HOUR + 50 * MINUTE)?;
    let second = throttled(world, "mira")?;
    world.set_clock(5 * HOUR + 10 * MINUTE)?;
    for id in [first, second] {
        within("what waited is given an hour later", || Ok(shown(world, NEW, &id)?["state"] == "given"))?;
    }
    Ok(())
}

/// Opens, and has to wait; the identifier.
fn throttled(world: &World, by: &str) -> Result<String> {
    let answer = open(world, by, &ADA_BY_NAME, &AT)?;
    refused(&answer, "break-glass-throttled")?;
    let waits: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    Ok(json::text(&waits["break_glasses"][0], "break_glass").to_owned())
}

/// A week without a review: one in an hour, until it is reviewed.
fn overdue_reviews_throttle(world: &World, reviewed_last: &str) -> Result<()> {
    world.set_clock(8 * DAY)?;
    for at in [OLD, OTHER, NEW] {
        within(&format!("{at} has a directory of that day"), || {
            let shown = world.node(at, &["status"])?.json()?;
            let named = shown["degraded"].as_array().into_iter().flatten();
            Ok(shown["index_connected"] == true
                && named.filter(|it| it["component"] == "directory").count() == 0)
        })?;
    }
    opened(world, "mira", &ADA_BY_NAME, &AT)?;
    let waiting = throttled(world, "noor")?;
    let listed = world.node(NEW, &["break-glass", "list", "--to-review"])?.json()?;
    let due: Vec<String> =
        json::list(&listed, "break_glasses").map(|it| json::text(it, "break_glass").to_owned()).collect();
    ensure!(due.iter().any(|it| it == reviewed_last), "the first stands in no queue: {listed}");
    for id in &due {
        let review = ["--staff", "officer", "break-glass", "review", id, "--verdict", "justified"];
        world.node(NEW, &review)?.done()?;
    }
    within("what waited is given once all is reviewed", || {
        Ok(shown(world, NEW, &waiting)?["state"] == "given")
    })
}
