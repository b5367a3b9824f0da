//! Restoring the index, and what is looked at before and after.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{INDEX, Options, World};
use serde_json::{Value, json};

use crate::moves::{DESTINATION, Move, SOURCE, all_is_whole, close, same, text, within};

/// A hospital that takes no part in the transfers.
pub(crate) const THIRD: &str = "hillside";
/// All of them.
pub(crate) const HOSPITALS: [&str; 3] = [SOURCE, DESTINATION, THIRD];

/// Plays a scene on a world of three hospitals.
pub(crate) fn on_a_world(play: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    let mut world = World::start(Programs::shared()?, &Options::of(&HOSPITALS))?;
    let outcome = play(&mut world);
    close(world, outcome)
}

/// Kills the index and puts a backup in the place of its data; it does not run then.
pub(crate) fn roll_back(world: &mut World, backup: &Path) -> Result<()> {
    world.kill_index()?;
    world.put_back(INDEX, backup)
}

/// The same, and starts it.
pub(crate) fn restore(world: &mut World, backup: &Path) -> Result<()> {
    roll_back(world, backup)?;
    world.restart_index(false)
}

/// What the index says of a store that was restored.
pub(crate) fn rejoining(world: &World) -> Result<Value> {
    world.index(&["rejoin", "--status"])?.json()
}

/// Waits until the index has found out that it was restored, and has caught up; how it says so.
pub(crate) fn caught_up(world: &World) -> Result<Value> {
    let mut last = Value::Null;
    let caught_up = within("the index catches up", || {
        last = rejoining(world)?;
        Ok(last["done"].is_string() && last["speaks"] == true)
    });
    caught_up.with_context(|| format!("it says: {last}"))?;
    ensure!(last["waits_for"] == json!([]) && last["forked"].is_null(), "{last}");
    Ok(last)
}

/// Asked for and quoted.
pub(crate) fn quoted(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)
}

/// From the first question to the receipt.
pub(crate) fn moved(world: &World, it: &mut Move) -> Result<()> {
    quoted(world, it)?;
    it.wallet(world, "consent", &[])?.done()?;
    it.ends_well(world)
}

/// All entries of the log, with when each was booked.
pub(crate) fn log(world: &World) -> Result<Vec<Value>> {
    let listed = world.index(&["ledger", "entries"])?.json()?;
    Ok(listed["entries"].as_array().context("no entries")?.clone())
}

/// The log is what it was, entry by entry, and whatever came since follows.
pub(crate) fn log_continues(world: &World, before: &[Value]) -> Result<()> {
    let now = log(world)?;
    ensure!(now.len() >= before.len(), "{} entries are left of {}", now.len(), before.len());
    for (was, is) in before.iter().zip(&now) {
        same("an entry", was, is)?;
    }
    Ok(())
}

/// A hospital asks for the books, so often that the index knows that it has them.
pub(crate) fn copies(world: &World, at: &str) -> Result<u64> {
    let mut size = None;
    within(&format!("{at} copies the books"), || {
        let listed = world.node(at, &["fees", "reconcile"])?.json()?;
        size = listed["log_size"].as_u64();
        Ok(listed["whole"] == true)
    })?;
    size.context("no size of the log")
}

/// Every hospital finds the index's books as its own evidence says, and accuses nobody; everything is whole.
pub(crate) fn all_agree(world: &World, hospitals: &[&str]) -> Result<()> {
    for at in hospitals {
        let mut last = Value::Null;
        let agreed = within(&format!("the books agree at {at}"), || {
            last = world.node(at, &["fees", "reconcile"])?.json()?;
            let fees = last["fees"].as_array().context("no fees")?;
            let is_settled = fees.iter().all(|fee| fee["standing"] == "agrees");
            Ok(last["agrees"] == true && last["whole"] == true && is_settled)
        });
        agreed.with_context(|| format!("it says: {last}"))?;
        let incidents = world.node(at, &["incident", "list"])?.json()?;
        ensure!(incidents["incidents"] == json!([]), "{at} accuses somebody who is honest: {incidents}");
    }
    all_is_whole(world)
}

/// The directory's version at the index.
pub(crate) fn version(world: &World) -> Result<u64> {
    let shown = world.index(&["directory", "show"])?.json()?;
    shown["version"].as_u64().context("no version")
}

/// The version of the directory that a hospital holds.
pub(crate) fn held_version(world: &World, at: &str) -> Result<u64> {
    let shown = world.node(at, &["status"])?.json()?;
    shown["directory"]["version"].as_u64().context("no version")
}

/// How a hospital stands in the directory.
pub(crate) fn status(world: &World, hospital: &str) -> Result<String> {
    let shown = world.index(&["directory", "show"])?.json()?;
    let all = shown["hospitals"].as_array().context("no hospitals")?;
    let it = all.iter().find(|it| it["hospital"] == hospital).context("not in the directory")?;
    Ok(text(it, "status").to_owned())
}

/// The index's log says nothing of an error.
pub(crate) fn no_errors(world: &World) -> Result<()> {
    let log = fs::read_to_string(world.logs().join("index.log"))?;
    for line in log.lines() {
        let said: Value = serde_json::from_str(line).unwrap_or_default();
        if said["level"] == "ERROR" || line.contains("panicked") {
            bail!("the index says: {line}");
        }
    }
    Ok(())
}
