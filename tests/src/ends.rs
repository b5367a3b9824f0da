//! How moves end at both hospitals: the state, the evidence, one fee, and books that agree.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::world::{World, is_due};
use serde_json::Value;

use crate::moves::{DESTINATION, LIMIT, Move, SOURCE, all_is_whole, same, text, within};

/// What a hospital has of a transfer that was signed: labels and hashes of the transfer's file, which verifies.
pub fn evidence(world: &World, at: &str, it: &Move) -> Result<BTreeSet<(String, String)>> {
    let file = world.records_folder().join(format!("{}-{at}.handover", it.transfer));
    let out = file.to_str().context("a file's name is no UTF-8")?;
    world.node(at, &["transfer", "show", &it.transfer, "--out", out])?.done()?;
    let verified = world.verify(&file)?.json().with_context(|| format!("{} at {at}", it.transfer))?;
    let steps = verified["steps"].as_array().context("no steps")?;
    Ok(steps.iter().map(|step| (text(step, "artefact").to_owned(), text(step, "hash").to_owned())).collect())
}

/// What hospitals had of transfers when it was looked at.
pub struct Kept<'m>(Vec<(&'m Move, BTreeSet<(String, String)>)>);

impl<'m> Kept<'m> {
    /// Looks, now.
    pub fn at(world: &World, at: &str, moves: &[&'m Move]) -> Result<Self> {
        let kept = moves.iter().map(|it| Ok((*it, evidence(world, at, it)?)));
        Ok(Self(kept.collect::<Result<_>>()?))
    }

    /// All of it is there again, and verifies.
    pub fn is_back(&self, world: &World, at: &str) -> Result<()> {
        for (it, before) in &self.0 {
            let now = evidence(world, at, it)?;
            let lost: Vec<_> = before.difference(&now).collect();
            ensure!(lost.is_empty(), "of {} of {} {at} lacks {lost:?}", it.transfer, it.wallet);
        }
        Ok(())
    }
}

/// Waits until a transfer's state at both hospitals is this one, for good.
pub fn is_at_both(world: &World, it: &Move, state: &str) -> Result<()> {
    for at in [SOURCE, DESTINATION] {
        same(&format!("the state at {at}"), &state, &text(&it.until(world, at, state)?, "state"))?;
    }
    Ok(())
}

/// The amounts that are due for a transfer by the ledger.
pub fn due(world: &World, it: &Move) -> Result<Vec<String>> {
    let entries = world.entries(&it.transfer)?;
    let due = entries.iter().filter(|entry| is_due(entry));
    Ok(due.map(|entry| text(entry, "amount").to_owned()).collect())
}

/// It is filed at both hospitals, nobody owes anybody anything of it, and its fee is due once.
pub fn is_filed_once(world: &World, it: &Move, fee: &str) -> Result<()> {
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
pub fn all_agree(world: &World) -> Result<()> {
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
pub fn no_errors(world: &World, at: &str) -> Result<()> {
    let log = fs::read_to_string(world.logs().join(format!("{at}.log")))?;
    for line in log.lines() {
        let said: Value = serde_json::from_str(line).unwrap_or_default();
        if said["level"] == "ERROR" || line.contains("panicked") {
            bail!("{at} says: {line}");
        }
    }
    Ok(())
}

/// No key to a package is known anywhere.
pub fn no_key_left(world: &World, it: &Move) -> Result<()> {
    [SOURCE, DESTINATION].into_iter().try_for_each(|at| no_key_left_at(world, at, it))
}

/// A hospital knows no key to a package.
pub fn no_key_left_at(world: &World, at: &str, it: &Move) -> Result<()> {
    let known = evidence(world, at, it)?;
    let is_key = |label: &str| label.contains("key-release");
    ensure!(!known.iter().any(|(label, _)| is_key(label)), "{at} has a key to {}", it.transfer);
    let shown = it.show(world, at)?;
    ensure!(!["released", "filed"].contains(&text(&shown, "state")), "{at}: {shown}");
    Ok(())
}
