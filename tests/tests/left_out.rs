//! An index that takes every artefact, and books nothing of it: both hospitals give it a day and then say so, with their
//! evidence beside it and no incident, because nobody signed for what it was told.
#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use anyhow::{Context, Result, ensure};
use handover_core::HospitalId;
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::kill;
use handover_scenarios::world::{Options, World};
use handover_tests::fixture;
use handover_tests::moves::{DESTINATION, Move, SOURCE, Victim, close, patients, same, text, within};
use handover_tests::rogue::books::FalseBooks;
use handover_tests::rogue::index::FalseIndex;
use handover_tests::rogue::{Rogue, set_ahead_ms};
use serde_json::Value;

/// A step of the clock after which the index still counts as heard.
const STEP_SECONDS: i64 = 110 * 60;

#[test]
fn a_fee_that_is_left_out_is_said_after_a_day() -> Result<()> {
    let options = Options { clock: true, index_patience: Some(1), ..Options::of(&[SOURCE, DESTINATION]) };
    let world = World::start(Programs::shared()?, &options)?;
    let outcome = play(&world);
    close(world, outcome)
}

fn play(world: &World) -> Result<()> {
    let mut moves = patients(world, &[0])?;
    let it = moves.first_mut().context("a patient")?;
    let net = serde_json::from_value(world.index_ready()["net"].clone())?;
    let rogue = Rogue::start(&fixture::World::shared().hillcrest, world.root().parse()?, net)?;
    rogue.refresh()?;
    let federation = rogue.federation()?;
    drop(rogue);
    kill(Victim::Index.pid(world)?)?;
    let hospitals: Vec<HospitalId> =
        [SOURCE, DESTINATION].iter().map(|it| it.parse()).collect::<Result<_, _>>()?;
    let hospitals: Vec<&HospitalId> = hospitals.iter().collect();
    let books = FalseBooks::of(world)?;
    let index = FalseIndex::start_saying(world, &federation, &hospitals, books)?;
    filed(world, it)?;
    for at in [SOURCE, DESTINATION] {
        reconciled(world, at, "in-flight")?;
    }
    // Every hour a letter, or the receipt at the index, may still come.
    for step in 1..=12 {
        to(world, step * STEP_SECONDS)?;
        for at in [SOURCE, DESTINATION] {
            reconciled(world, at, "in-flight")?;
        }
    }
    // It goes on as of an hour that is over: that is no day, and it is told.
    for step in [13, 17] {
        world.set_clock(step * STEP_SECONDS)?;
        for at in [SOURCE, DESTINATION] {
            let answer = world.node(at, &["fees", "reconcile"])?;
            same("what is said", &Some("clock-off".to_owned()), &answer.problem())?;
        }
    }
    for at in [SOURCE, DESTINATION] {
        within("status says so", || Ok(degraded(world, at)?.contains(&"books: ledger-stale".to_owned())))?;
    }
    for step in 17..=33 {
        to(world, step * STEP_SECONDS)?;
        for at in [SOURCE, DESTINATION] {
            world.node(at, &["fees", "reconcile"])?;
        }
    }
    for at in [SOURCE, DESTINATION] {
        reconciled(world, at, "fee-missing")?;
        within("status says so", || Ok(degraded(world, at)?.contains(&"books: fee-missing".to_owned())))?;
        let kept = world.node(at, &["incident", "list"])?.json()?;
        ensure!(kept["incidents"].as_array().is_some_and(Vec::is_empty), "{at}: {kept}");
    }
    index.end();
    Ok(())
}

/// Everybody's clock, the false index's among them.
fn to(world: &World, seconds: i64) -> Result<()> {
    set_ahead_ms(seconds * 1_000);
    world.set_clock(seconds)
}

fn filed(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()?;
    for at in [SOURCE, DESTINATION] {
        same("the state", &"filed", &text(&it.until(world, at, "filed")?, "state"))?;
    }
    Ok(())
}

/// The index is asked, and the one fee stands like this.
fn reconciled(world: &World, at: &str, wanted: &str) -> Result<()> {
    world.node(at, &["fees", "reconcile"])?;
    let listed = world.node(at, &["fees", "list"])?.json()?;
    let fees = listed["fees"].as_array().context("fees")?;
    ensure!(fees.len() == 1 && listed["whole"] == true, "{at}: {listed}");
    same(&format!("the fee at {at}"), &wanted, &text(&fees[0], "standing"))?;
    same("what is posted", &"0.00", &text(&fees[0], "posted"))?;
    ensure!(text(&fees[0], "evidence") != "0.00", "{at}: {listed}");
    Ok(())
}

fn degraded(world: &World, at: &str) -> Result<Vec<String>> {
    let status: Value = world.node(at, &["status"])?.json()?;
    let named = status["degraded"].as_array().into_iter().flatten();
    Ok(named.map(|it| format!("{}: {}", text(it, "component"), text(it, "code"))).collect())
}
