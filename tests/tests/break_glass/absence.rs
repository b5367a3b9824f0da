//! The index is away, a hospital is away or killed, and the window ends.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::json;
use handover_scenarios::signals::{self, Signal};
use handover_scenarios::world::World;

use super::people::{ADA_BY_NAME, open, opened, read, refused, shown, signed, types, within};
use super::{NEW, OTHER};

pub(crate) fn all(world: &mut World) -> Result<()> {
    without_the_index(world)?;
    killed(world)?;
    over(world)?;
    forgotten(world)
}

/// Named hospitals answer without the index; it hears of it later.
fn without_the_index(world: &mut World) -> Result<()> {
    let pid = world.index_pid().context("the index does not run")?;
    signals::send(pid, Signal::STOP)?;
    let id = opened(world, "mira", &ADA_BY_NAME, &["--at", OTHER]);
    let reference = "ab".repeat(32);
    let nobody_says = open(world, "mira", &["--patient", &reference], &[]);
    signals::send(pid, Signal::CONT)?;
    let (id, nobody_says) = (id?, nobody_says?);
    ensure!(
        matches!(nobody_says.problem().as_deref(), Some("unreachable" | "timed-out")),
        "{}",
        nobody_says.stderr
    );
    ensure!(nobody_says.stderr.contains("--at"), "no next step: {}", nobody_says.stderr);
    world.restart_index(true)?;
    within("the index hears of it once it is back", || {
        let listed = world.index(&["break-glass"])?.json()?;
        Ok(json::list(&listed, "notes").filter(|it| it["break_glass"] == id.as_str()).count() == 2)
    })?;
    world.node(NEW, &["--staff", "officer", "break-glass", "review", &id, "--verdict", "justified"])?.done()
}

/// The source is killed before it can answer, the one that asks before it can read: both go on.
fn killed(world: &mut World) -> Result<()> {
    world.kill(OTHER)?;
    let answer = open(world, "noor", &ADA_BY_NAME, &["--at", OTHER])?;
    ensure!(answer.exit == Some(4), "{}", answer.stderr);
    let waits: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    let glass = &waits["break_glasses"][0];
    ensure!(glass["state"] == "waiting", "{waits}");
    let id = json::text(glass, "break_glass").to_owned();
    refused(&signed(world, NEW, "noor", &["read", &id])?, "out-of-order")?;
    world.kill(NEW)?;
    world.restart(OTHER)?;
    world.restart(NEW)?;
    within("it is given once both are back", || Ok(shown(world, NEW, &id)?["state"] == "given"))?;
    // What is here stays readable with the source away, and over a restart.
    world.kill(OTHER)?;
    world.kill(NEW)?;
    world.restart(NEW)?;
    ensure!(types(&read(world, "noor", &id)?).contains(&"AllergyIntolerance"), "no allergies");
    world.restart(OTHER)?;
    let there = shown(world, OTHER, &id)?;
    ensure!(there["scope"] == "subset" && there["told"] == "wallet", "{there}");
    world.node(NEW, &["--staff", "officer", "break-glass", "review", &id, "--verdict", "justified"])?.done()
}

/// When the window ends, nothing opens any more, and what came is gone; the evidence stays.
fn over(world: &mut World) -> Result<()> {
    // Long enough for a slow machine to read it once.
    let id = opened(world, "mira", &ADA_BY_NAME, &["--at", OTHER, "--window", "12s"])?;
    ensure!(types(&read(world, "mira", &id)?).contains(&"Condition"), "no problems");
    within("the window ends", || Ok(shown(world, NEW, &id)?["state"] == "over"))?;
    refused(&signed(world, NEW, "mira", &["read", &id])?, "break-glass-over")?;
    refused(&signed(world, NEW, "noor", &["more", &id])?, "break-glass-over")?;
    let here = shown(world, NEW, &id)?;
    ensure!(here["state"] == "over" && here["reads"] == 1 && here["review_due"].is_string(), "{here}");
    ensure!(shown(world, OTHER, &id)?["scope"] == "subset", "the evidence is gone");
    let too_long = open(world, "mira", &ADA_BY_NAME, &["--at", OTHER, "--window", "25h"])?;
    ensure!(too_long.exit == Some(2), "a window of more than a day: {}", too_long.stderr);
    world.node(NEW, &["--staff", "officer", "break-glass", "review", &id, "--verdict", "justified"])?.done()
}

/// Who was forgotten is found by no name any more, and no break-glass names them; what was signed stays.
fn forgotten(world: &mut World) -> Result<()> {
    let id = opened(world, "noor", &ADA_BY_NAME, &["--at", OTHER])?;
    world
        .node(NEW, &["--staff", "officer", "break-glass", "review", &id, "--verdict", "justified"])?
        .done()?;
    ensure!(shown(world, OTHER, &id)?["local_patient"] == "N-1", "it names nobody");
    world.node(OTHER, &["patient", "forget", "N-1"])?.done()?;
    let there = shown(world, OTHER, &id)?;
    ensure!(there["local_patient"].is_null() && there["scope"] == "subset", "{there}");
    ensure!(there["person"].is_null() && there["reason"].is_null(), "it still says who, or why: {there}");
    refused(&open(world, "noor", &ADA_BY_NAME, &["--at", OTHER])?, "break-glass-unmatched")
}
