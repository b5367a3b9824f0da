//! An index that leaves a hospital out of who holds a patient's records: the wallet knows better, and says so.

use std::cell::RefCell;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use handover_scenarios::json::{list, text};
use handover_scenarios::world::World;
use handover_tests::rogue::index::FalseIndex;
use handover_tests::rogue::until;
use serde_json::Value;

use super::stage::{LAKESIDE, RIVERSIDE, Stage};

const WALLET: &str = "vera";
/// Her number at both hospitals.
const NUMBER: &str = "V-12";

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    stage.world.new_wallet(WALLET)?;
    link(&stage.world, RIVERSIDE)?;
    named(&stage.world, &[RIVERSIDE])?;
    link(&stage.world, LAKESIDE)?;
    // It takes the hospital a moment to tell the index: nobody is accused meanwhile.
    named(&stage.world, &[LAKESIDE, RIVERSIDE])?;

    let held = stage.rogue.federation()?;
    let pid = stage.world.index_pid().context("the index runs")?;
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
    ensure!(killed.success(), "{pid} cannot be killed");
    let index = FalseIndex::start(&stage.world, &held, &[&lakeside, &riverside])?;
    index.names(&[&riverside]);
    let told = located(&stage.world)?;
    ensure!(hospitals(&told, "hospitals") == [RIVERSIDE], "{told}");
    ensure!(hospitals(&told, "left_out") == [LAKESIDE], "nobody notices who is left out: {told}");
    ensure!(told["left_out"][0]["named"].is_string(), "it is not said that it was named before: {told}");
    index.names(&[]);
    ensure!(hospitals(&located(&stage.world)?, "left_out") == [LAKESIDE, RIVERSIDE], "not both are missed");
    // A link that began under it is no lie yet: the real one could not know of it either.
    stage.world.new_wallet("vito")?;
    let code = code(&stage.world, RIVERSIDE, "V-13")?;
    stage.world.wallet_at("vito", RIVERSIDE, &["link", "--code", &code])?.done()?;
    let told = stage.world.wallet_at("vito", RIVERSIDE, &["locate"])?.json()?;
    ensure!(hospitals(&told, "left_out").is_empty(), "a new link makes a false alarm: {told}");
    ensure!(hospitals(&told, "not_yet_named") == [RIVERSIDE], "{told}");
    // The index forgets no link, so one that its hospital has ended is missed like any other, and that is told with it.
    let wallet = stage.world.wallet(WALLET, &["show"])?.json()?;
    let unlink = ["patient", "unlink", NUMBER, "--wallet", text(&wallet, "patient")];
    stage.world.node(LAKESIDE, &unlink)?.done()?;
    let refused = stage.world.wallet_at(WALLET, LAKESIDE, &["inbox"])?.problem();
    ensure!(refused.as_deref() == Some("not-linked"), "the link goes on: {refused:?}");
    let told = located(&stage.world)?;
    ensure!(hospitals(&told, "left_out") == [LAKESIDE, RIVERSIDE], "who answers silences it: {told}");
    ensure!(told["left_out"][0]["ended"].is_string(), "{told}");
    ensure!(told["left_out"][1]["ended"].is_null(), "{told}");
    index.end();
    stage.world.restart_index(true)?;
    until("the index names the hospital again", || {
        located(&stage.world).is_ok_and(|told| hospitals(&told, "left_out").is_empty())
    })?;
    stage.rogue.meets_everybody()
}

fn code(world: &World, hospital: &str, number: &str) -> Result<String> {
    let registered = world.node(hospital, &["patient", "register", number])?.json()?;
    Ok(text(&registered, "link_code").to_owned())
}

fn link(world: &World, hospital: &str) -> Result<()> {
    let code = code(world, hospital, NUMBER)?;
    world.wallet_at(WALLET, hospital, &["link", "--code", &code])?.done()
}

fn located(world: &World) -> Result<Value> {
    world.wallet_at(WALLET, RIVERSIDE, &["locate"])?.json()
}

fn hospitals<'v>(told: &'v Value, key: &str) -> Vec<&'v str> {
    list(told, key).map(|it| text(it, "hospital")).collect()
}

/// Waits until the real index names all of these, and never is anybody said to be left out.
fn named(world: &World, all: &[&str]) -> Result<()> {
    let alarms = RefCell::new(Vec::new());
    until("the index names them all", || {
        let Ok(told) = located(world) else { return false };
        alarms.borrow_mut().extend(hospitals(&told, "left_out").into_iter().map(str::to_owned));
        hospitals(&told, "hospitals") == all
    })?;
    ensure!(alarms.borrow().is_empty(), "false alarms: {alarms:?}");
    Ok(())
}
