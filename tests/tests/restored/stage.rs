//! Restoring a hospital's node, and what is looked at before and after.

use std::path::Path;

use anyhow::{Context as _, Result};
use handover_scenarios::process::Answer;
use handover_scenarios::world::World;
use serde_json::{Value, json};

use crate::moves::{close, within, world};

/// The code of what says that a node catches up.
const CATCHING_UP: &str = "catching-up";

/// Plays a scene on a world of two hospitals.
pub(crate) fn on_a_world(play: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    let mut world = world()?;
    let outcome = play(&mut world);
    close(world, outcome)
}

/// Kills a hospital's node and puts a backup in the place of its data; it does not run then.
pub(crate) fn roll_back(world: &mut World, at: &str, backup: &Path) -> Result<()> {
    world.kill(at)?;
    world.put_back(at, backup)
}

/// The same, and starts it.
pub(crate) fn restore(world: &mut World, at: &str, backup: &Path) -> Result<()> {
    roll_back(world, at, backup)?;
    world.restart(at)
}

/// What a node's status says of a store that was restored; null if it never was.
pub(crate) fn rejoining(world: &World, at: &str) -> Result<Value> {
    Ok(world.node(at, &["status"])?.json()?["rejoin"].clone())
}

/// Somebody says that it was restored.
pub(crate) fn declare(world: &World, at: &str) -> Result<Value> {
    world.node(at, &["rejoin"])?.json()
}

/// Whether its status names that it catches up.
pub(crate) fn is_catching_up(world: &World, at: &str) -> Result<bool> {
    let status = world.node(at, &["status"])?.json()?;
    let named = status["degraded"].as_array().context("no status")?;
    Ok(named.iter().any(|it| it["code"] == CATCHING_UP))
}

/// Whether something was done, or refused because the node catches up.
pub(crate) fn is_answered(answer: &Answer) -> bool {
    answer.exit == Some(0) || answer.problem().as_deref() == Some(CATCHING_UP)
}

/// Waits until a node has found out that it was restored, and has caught up; how it says so.
pub(crate) fn caught_up(world: &World, at: &str) -> Result<Value> {
    let mut last = Value::Null;
    let caught_up = within(&format!("{at} catches up"), || {
        last = rejoining(world, at)?;
        let is_over = last["done"].is_string() && last["waits_for"] == json!([]);
        Ok(is_over && !is_catching_up(world, at)?)
    });
    caught_up.with_context(|| format!("it says: {last}"))?;
    Ok(last)
}
