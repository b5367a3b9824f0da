//! Deliveries wait while nobody can know whether the patient took the consent back, and while the hospital that they go
//! to is suspended; `transfer show` says for what they wait.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::story::Order;
use handover_scenarios::world::World;
use serde_json::Value;

use crate::deliveries::{Stage, continuous};
use crate::person::{DESTINATION, LIMIT, Person, SOURCE};

const HOUR_SECONDS: i64 = 60 * 60;

pub(crate) fn play(world: &mut World) -> Result<()> {
    let anna = Person::settle(world)?;
    let origin = continuous(&anna, "500.00 USD", &anna.expected.fee())?;
    let Person { expected, id, .. } = anna;

    world.stop_index()?;
    world.set_clock(23 * HOUR_SECONDS)?;
    let anna = Person { world, expected, id };
    let stage = Stage { anna: &anna, origin };
    stage.weight("weight-1")?;
    arrives(&stage, "weight-1").context("what is known of revocations is of yesterday")?;
    world.set_clock(25 * HOUR_SECONDS)?;
    stage.weight("weight-2")?;
    waits(&stage, "revocations-stale", 1)?;

    let Stage { origin, .. } = stage;
    let Person { expected, id, .. } = anna;
    world.restart_index(false)?;
    let anna = Person { world, expected, id };
    let stage = Stage { anna: &anna, origin };
    stage.delivered(2, "0.00", 1).context("the index is back")?;
    stage.is_filed("weight-2", 1)?;
    let version = world.order(DESTINATION, Order::Suspend)?;
    let begun = Instant::now();
    while world.node(SOURCE, &["status"])?.json()?["directory"]["version"].as_u64() < Some(version) {
        ensure!(begun.elapsed() < LIMIT, "the suspension has not reached {SOURCE}");
        std::thread::yield_now();
    }
    stage.weight("weight-3")?;
    waits(&stage, "hospital-suspended", 2)
}

fn shown(stage: &Stage<'_, '_>) -> Result<Value> {
    stage.anna.world.node(SOURCE, &["transfer", "show", &stage.origin])?.json()
}

/// Filed at the destination; its fee cannot be posted while the index is away.
fn arrives(stage: &Stage<'_, '_>, id: &str) -> Result<()> {
    let begun = Instant::now();
    while stage.is_filed(id, 1).is_err() {
        ensure!(begun.elapsed() < LIMIT, "{id} was not delivered: {}", shown(stage)?);
        std::thread::yield_now();
    }
    Ok(())
}

/// The next delivery waits for this, and has not begun.
fn waits(stage: &Stage<'_, '_>, code: &str, delivered: u64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let shown = shown(stage)?;
        let mut waits = shown["waits"].as_array().into_iter().flatten();
        if waits.any(|it| it["step"] == "continue" && it["code"] == code) {
            ensure!(shown["deliveries_count"] == delivered, "{shown}");
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "it does not wait for {code}: {shown}");
        std::thread::yield_now();
    }
}
