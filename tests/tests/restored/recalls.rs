//! Recalls of tests that were sent and paid.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;
use serde_json::Value;

use crate::moves::{DESTINATION, Move, SOURCE, text, within};
use crate::people::quote;

/// The resources of the tests that a transfer was charged for.
pub(crate) fn charged_tests(world: &World, it: &Move) -> Result<Vec<String>> {
    let quote = quote(world, it)?;
    let tests = quote["tests"].as_array().context("no tests")?;
    let charged = tests.iter().filter(|test| test["price"].is_string());
    let ids = charged.filter_map(|test| text(test, "record").split_once('/'));
    Ok(ids.map(|(_, id)| id.to_owned()).collect())
}

/// A clerk at the source says that a record is of another patient. The destination marks it and says so.
pub(crate) fn recall(world: &World, it: &Move, resource: &str, number: u64) -> Result<Value> {
    let records = it.records(world, SOURCE)?;
    let record = records.iter().find(|record| record["id"] == resource).context("no such record")?;
    let make = ["recall", "make", "--patient", &it.patient, "--record", text(record, "record")];
    world.node(SOURCE, &[&make[..], &["--reason", "wrong-patient"]].concat())?.done()?;
    is_marked(world, it, DESTINATION, number)?;
    let marked = is_marked(world, it, SOURCE, number)?;
    ensure!(text(&marked, "fee_back") != "0.00", "nothing is given back: {marked}");
    Ok(marked)
}

/// Waits until a hospital lists as many recalls of a transfer, numbered one after the other, all of them marked; the last.
pub(crate) fn is_marked(world: &World, it: &Move, at: &str, count: u64) -> Result<Value> {
    let mut all = Vec::new();
    let marked = within(&format!("{count} recalls are marked at {at}"), || {
        let listed = world.node(at, &["recall", "list"])?.json()?;
        let of_this = |recall: &&Value| text(recall, "transfer") == it.transfer;
        all = listed["recalls"].as_array().context("no recalls")?.iter().filter(of_this).cloned().collect();
        let numbers = all.iter().map(|recall| recall["number"].as_u64());
        Ok(numbers.eq((1..=count).map(Some)) && all.iter().all(|recall| recall["marked"].is_string()))
    });
    marked.with_context(|| format!("it lists: {all:?}"))?;
    all.pop().context("no recall")
}
