//! How a package comes into a folder, and what the index tells of it.

use anyhow::Result;
use handover_scenarios::world::World;
use serde_json::Value;

use crate::moves::{DESTINATION, Move, SOURCE, text, within};

/// The patient has said yes to the quote while the source was away, and then the destination goes: the source comes
/// back to a consent, and to nobody who takes the package.
pub(crate) fn agreed_while_apart(world: &mut World, it: &mut Move, more: &[&str]) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    world.stop(SOURCE)?;
    it.wallet(world, "consent", more)?.done()?;
    within("the index has what the destination owes it", || {
        Ok(it.show(world, DESTINATION)?["waiting"].as_u64() == Some(0))
    })?;
    world.stop(DESTINATION)?;
    world.restart(SOURCE)
}

/// Waits until the source says that the package lies in the folder; what it shows.
pub(crate) fn left(world: &World, it: &Move) -> Result<Value> {
    let mut shown = Value::Null;
    within("the package is left in the folder", || {
        shown = it.show(world, SOURCE)?;
        Ok(shown["folder"]["until"].is_string())
    })?;
    Ok(shown)
}

/// The destination's folder as the index lists it; null if there is nothing in it.
pub(crate) fn folder(world: &World) -> Result<Value> {
    let listed = world.index(&["folders", "list"])?.json()?;
    let folders = listed["folders"].as_array().cloned().unwrap_or_default();
    Ok(folders.into_iter().find(|it| text(it, "hospital") == DESTINATION).unwrap_or_default())
}

/// Waits until nothing is in the folder any more, and nothing on the index's disk.
pub(crate) fn emptied(world: &World) -> Result<()> {
    within("the folder is empty", || Ok(folder(world)?.is_null() && blobs(world) == 0))
}

/// The blobs on the index's disk.
pub(crate) fn blobs(world: &World) -> usize {
    let content = world.folder().join("federation/index/blobs/content");
    let fans = std::fs::read_dir(content).into_iter().flatten().flatten();
    fans.filter_map(|fan| std::fs::read_dir(fan.path()).ok()).map(Iterator::count).sum()
}
