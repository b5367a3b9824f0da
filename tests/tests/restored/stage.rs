//! Restoring a hospital's node, and what is looked at before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::process::Answer;
use handover_scenarios::world::{World, is_due};
use serde_json::{Value, json};

use crate::moves::{DESTINATION, LIMIT, Move, SOURCE, all_is_whole, close, same, text, within, world};

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

/// What a hospital has of a transfer that was signed: labels and hashes of the transfer's file, which verifies.
pub(crate) fn evidence(world: &World, at: &str, it: &Move) -> Result<BTreeSet<(String, String)>> {
    let file = world.records_folder().join(format!("{}-{at}.handover", it.transfer));
    let out = file.to_str().context("a file's name is no UTF-8")?;
    world.node(at, &["transfer", "show", &it.transfer, "--out", out])?.done()?;
    let verified = world.verify(&file)?.json().with_context(|| format!("{} at {at}", it.transfer))?;
    let steps = verified["steps"].as_array().context("no steps")?;
    Ok(steps.iter().map(|step| (text(step, "artefact").to_owned(), text(step, "hash").to_owned())).collect())
}

/// What hospitals had of transfers when it was looked at.
pub(crate) struct Kept<'m>(Vec<(&'m Move, BTreeSet<(String, String)>)>);

impl<'m> Kept<'m> {
    pub(crate) fn at(world: &World, at: &str, moves: &[&'m Move]) -> Result<Self> {
        let kept = moves.iter().map(|it| Ok((*it, evidence(world, at, it)?)));
        Ok(Self(kept.collect::<Result<_>>()?))
    }

    /// All of it is there again, and verifies.
    pub(crate) fn is_back(&self, world: &World, at: &str) -> Result<()> {
        for (it, before) in &self.0 {
            let now = evidence(world, at, it)?;
            let lost: Vec<_> = before.difference(&now).collect();
            ensure!(lost.is_empty(), "of {} of {} {at} lacks {lost:?}", it.transfer, it.wallet);
        }
        Ok(())
    }
}

/// No key to a package is known anywhere.
pub(crate) fn no_key_left(world: &World, it: &Move) -> Result<()> {
    [SOURCE, DESTINATION].into_iter().try_for_each(|at| no_key_left_at(world, at, it))
}

/// A hospital knows no key to a package.
pub(crate) fn no_key_left_at(world: &World, at: &str, it: &Move) -> Result<()> {
    let known = evidence(world, at, it)?;
    let is_key = |label: &str| label.contains("key-release");
    ensure!(!known.iter().any(|(label, _)| is_key(label)), "{at} has a key to {}", it.transfer);
    let shown = it.show(world, at)?;
    ensure!(!["released", "filed"].contains(&text(&shown, "state")), "{at}: {shown}");
    Ok(())
}

/// Waits until a transfer's state at both hospitals is this one, for good.
pub(crate) fn is_at_both(world: &World, it: &Move, state: &str) -> Result<()> {
    for at in [SOURCE, DESTINATION] {
        same(&format!("the state at {at}"), &state, &text(&it.until(world, at, state)?, "state"))?;
    }
    Ok(())
}

/// The amounts that are due for a transfer by the ledger.
pub(crate) fn due(world: &World, it: &Move) -> Result<Vec<String>> {
    let entries = world.entries(&it.transfer)?;
    let due = entries.iter().filter(|entry| is_due(entry));
    Ok(due.map(|entry| text(entry, "amount").to_owned()).collect())
}

/// It is filed at both hospitals, nobody owes anybody anything of it, and its fee is due once.
pub(crate) fn is_filed_once(world: &World, it: &Move, fee: &str) -> Result<()> {
    is_at_both(world, it, "filed")?;
    world.posted(&it.transfer, LIMIT)?;
    same("what is due", &vec![fee.to_owned()], &due(world, it)?)?;
    for at in [SOURCE, DESTINATION] {
        within(&format!("nothing of the transfer waits at {at}"), || {
            Ok(it.show(world, at)?["waiting"].as_u64() == Some(0))
        })?;
        same(&format!("dead letters at {at}"), &Some(0), &it.show(world, at)?["dead_letters"].as_u64())?;
    }
    Ok(())
}

/// Both hospitals find the index's books as their own evidence says, with nothing in flight, and everything is whole.
pub(crate) fn all_agree(world: &World) -> Result<()> {
    for at in [SOURCE, DESTINATION] {
        let mut last = Value::Null;
        let agreed = within(&format!("the books agree at {at}"), || {
            last = world.node(at, &["fees", "reconcile"])?.json()?;
            let fees = last["fees"].as_array().context("no fees")?;
            let is_settled = fees.iter().all(|fee| fee["standing"] == "agrees");
            Ok(last["agrees"] == true && last["whole"] == true && is_settled)
        });
        agreed.with_context(|| format!("it says: {last}"))?;
    }
    all_is_whole(world)
}

/// A node's log says nothing of an error.
pub(crate) fn no_errors(world: &World, at: &str) -> Result<()> {
    let log = fs::read_to_string(world.logs().join(format!("{at}.log")))?;
    for line in log.lines() {
        let said: Value = serde_json::from_str(line).unwrap_or_default();
        if said["level"] == "ERROR" || line.contains("panicked") {
            bail!("{at} says: {line}");
        }
    }
    Ok(())
}
