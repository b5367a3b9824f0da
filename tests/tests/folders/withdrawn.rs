//! A consent that is taken back while the package waits: the source says what came of it only when it knows.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::signals::kill;
use handover_scenarios::world::World;
use serde_json::Value;

use crate::moves::{DESTINATION, Move, SOURCE, Victim, same, text, within};
use crate::stage::{agreed_while_apart, emptied, left};

/// Nothing was handed out, and nothing ever is: the destination comes back to nothing.
pub(crate) fn in_time(world: &mut World, it: &mut Move) -> Result<()> {
    agreed_while_apart(world, it, &[])?;
    left(world, it)?;
    revoke(world, it)?;
    same("what the source says", &"in-time".to_owned(), &confirmed(world, it)?)?;
    nothing_came(world, it)
}

/// As long as the index cannot be asked, the source promises nothing.
pub(crate) fn while_the_index_is_away(world: &mut World, it: &mut Move) -> Result<()> {
    agreed_while_apart(world, it, &[])?;
    left(world, it)?;
    kill(Victim::Index.pid(world)?)?;
    revoke(world, it)?;
    within("it has asked the index in vain", || {
        let shown = it.show(world, SOURCE)?;
        let waits = shown["waits"].as_array().cloned().unwrap_or_default();
        Ok(waits.iter().any(|wait| wait["party"].is_null() && wait["code"] == "unreachable"))
    })?;
    same("the state at the source", &"sealed", &text(&it.show(world, SOURCE)?, "state"))?;
    ensure!(said(world, it)?.is_none(), "the source says what it cannot know");
    Victim::Index.restart(world)?;
    same("what the source says", &"in-time".to_owned(), &confirmed(world, it)?)?;
    nothing_came(world, it)
}

/// The release was handed out while the source was away: it says so, and the transfer goes on.
pub(crate) fn too_late(world: &mut World, it: &mut Move) -> Result<()> {
    agreed_while_apart(world, it, &[])?;
    left(world, it)?;
    world.stop(SOURCE)?;
    world.restart(DESTINATION)?;
    it.until(world, DESTINATION, "filed")?;
    world.posted(&it.transfer, crate::moves::LIMIT)?;
    world.stop(DESTINATION)?;
    kill(Victim::Index.pid(world)?)?;
    world.restart(SOURCE)?;
    revoke(world, it)?;
    same("the state at the source", &"sealed", &text(&it.show(world, SOURCE)?, "state"))?;
    ensure!(said(world, it)?.is_none(), "the source says what it cannot know");
    Victim::Index.restart(world)?;
    same("what the source says", &"too-late".to_owned(), &confirmed(world, it)?)?;
    world.restart(DESTINATION)?;
    it.ends_well(world)?;
    emptied(world)
}

/// The destination is away: the patient goes to the source.
fn revoke(world: &World, it: &Move) -> Result<()> {
    world.wallet_at(&it.wallet, SOURCE, &["revoke", "--transfer", &it.transfer])?.done()
}

/// What the source has told the patient of the revocation, if anything.
fn said(world: &World, it: &Move) -> Result<Option<String>> {
    let inbox = world.wallet_at(&it.wallet, SOURCE, &["inbox", "--transfer", &it.transfer])?.json()?;
    let confirmations = inbox["transfers"][0]["confirmations"].as_array().cloned().unwrap_or_default();
    let by_source = confirmations.iter().find(|it| text(it, "by") == SOURCE);
    Ok(by_source.map(|it: &Value| text(it, "effect").to_owned()))
}

fn confirmed(world: &World, it: &Move) -> Result<String> {
    let mut came = None;
    within("the source confirms", || {
        came = said(world, it)?;
        Ok(came.is_some())
    })?;
    came.context("confirmed")
}

/// The folder is empty, and the destination, which is back, knows and has nothing.
fn nothing_came(world: &mut World, it: &Move) -> Result<()> {
    same("the state at the source", &"revoked", &text(&it.show(world, SOURCE)?, "state"))?;
    emptied(world)?;
    world.restart(DESTINATION)?;
    let shown = it.until(world, DESTINATION, "revoked")?;
    same("the state at the destination", &"revoked", &text(&shown, "state"))?;
    ensure!(it.records(world, DESTINATION)?.is_empty(), "records of a consent that was taken back");
    within("the fee is let go", || {
        let entries = world.entries(&it.transfer)?;
        Ok(entries.iter().any(|entry| text(entry, "kind") == "void"))
    })
}
