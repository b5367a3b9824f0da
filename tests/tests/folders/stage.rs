//! How a package comes into a folder, and what the index tells of it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use handover_scenarios::world::World;
use serde_json::Value;

use crate::moves::{DESTINATION, Move, SOURCE, text, within};

/// The patient has said yes to the quote while the source was away, and then the destination goes: the source comes
/// back to a consent, and to nobody who takes the package.
pub(crate) fn agreed_while_apart(world: &mut World, it: &mut Move, more: &[&str]) -> Result<()> {
    all_agreed_while_apart(world, &mut [it], more)
}

/// The same for several.
pub(crate) fn all_agreed_while_apart(
    world: &mut World,
    moves: &mut [&mut Move],
    more: &[&str],
) -> Result<()> {
    for it in moves.iter_mut() {
        it.ask(world)?;
        it.request(world)?;
        it.quoted(world)?;
    }
    world.stop(SOURCE)?;
    for it in moves.iter() {
        it.wallet(world, "consent", more)?.done()?;
    }
    for it in moves.iter() {
        within("the index has what the destination owes it", || {
            Ok(it.show(world, DESTINATION)?["waiting"].as_u64() == Some(0))
        })?;
    }
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
    folder_of(world, DESTINATION)
}

/// The same of any hospital.
pub(crate) fn folder_of(world: &World, hospital: &str) -> Result<Value> {
    let listed = world.index(&["folders", "list"])?.json()?;
    let folders = listed["folders"].as_array().cloned().unwrap_or_default();
    Ok(folders.into_iter().find(|it| text(it, "hospital") == hospital).unwrap_or_default())
}

/// Waits until nothing is in the folder any more, and nothing on the index's disk.
pub(crate) fn emptied(world: &World) -> Result<()> {
    within("the folder is empty", || Ok(folder(world)?.is_null() && blobs(world).is_empty()))
}

/// The index's data folder.
pub(crate) fn folder_data(world: &World) -> PathBuf {
    world.folder().join("federation/index")
}

/// The blobs on the index's disk.
pub(crate) fn blobs(world: &World) -> Vec<PathBuf> {
    let fans = std::fs::read_dir(folder_data(world).join("blobs/content")).into_iter().flatten().flatten();
    let blobs = fans.filter_map(|fan| std::fs::read_dir(fan.path()).ok()).flatten().flatten();
    blobs.map(|blob| blob.path()).collect()
}

/// What the index has logged.
pub(crate) fn index_log(world: &World) -> Result<String> {
    std::fs::read_to_string(world.logs().join("index.log")).context("the index's log")
}
