//! A member that takes all the streams it can get at the index, says nothing on them and lets a deposit trickle: others
//! leave their packages meanwhile, it is cut, and then it has its places again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use handover_core::Code;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::World;
use handover_tests::fixture;
use handover_tests::rogue::deposit::Trickle;
use handover_tests::rogue::person::Person;
use handover_tests::rogue::sale::travelling;
use handover_tests::rogue::stranger::Footprint;
use handover_tests::rogue::wire::Kept;
use handover_tests::rogue::{Rogue, within as soon};

use crate::moves::{DESTINATION, Move};
use crate::stage::{agreed_while_apart, emptied, left};

/// More streams than one hospital has at once.
const MANY: usize = 20;
/// Longer than whoever trickles or is silent is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// What may stay of it in the index's memory.
const STAYS_BYTES: u64 = 32 * 1024 * 1024;
const STAYS_FILES: usize = 8;

pub(crate) fn keeps_nobody_out(world: &mut World, it: &mut Move) -> Result<()> {
    let index: Vec<String> = serde_json::from_value(world.index_ready()["net"].clone())?;
    let mut rogue = Rogue::start(&fixture::World::shared().hillcrest, world.root().parse()?, index)?;
    rogue.refresh()?;
    rogue.join(world, Programs::shared()?)?;
    let pat = Person::new(902, "pat-9");
    pat.link(world, DESTINATION)?;
    let sale = rogue.agreed(world, &pat, DESTINATION)?;
    let package = rogue.sealed(&sale, &rogue.goods(&sale)?, |_| {})?;
    let offer = rogue.to_leave(&package);
    let pid = world.index_pid().context("the index does not run")?;
    let before = Footprint::of(pid)?;

    let (stream, have) = rogue.leave(&offer)?;
    ensure!(have.problem.is_none(), "the deposit is refused: {have:?}");
    let trickle: Trickle<Kept> = Trickle::of(stream, travelling(&package.parts[0], 0)?);
    let (_, again) = rogue.leave(&offer)?;
    ensure!(again.problem == Some(Code::Busy), "two streams write one package: {again:?}");
    let mut silent = Vec::new();
    while let Ok(stream) = rogue.open_at_index() {
        silent.push(stream);
        ensure!(silent.len() < MANY, "one hospital has {MANY} streams");
    }
    ensure!(rogue.open_at_index().is_err(), "it has another stream");

    agreed_while_apart(world, it, &[])?;
    left(world, it).context("another hospital's package, while all of its places are taken")?;

    soon(PATIENCE, "a deposit that trickles is cut", || trickle.was_cut())?;
    let kept = trickle.word().context("a deposit that trickles")?;
    ensure!(kept.problem == Some(Code::Unreachable), "a deposit that trickles: {kept:?}");
    // Each is cut for itself, though nobody has closed it here.
    soon(PATIENCE, "silent streams are cut", || rogue.open_at_index().is_ok())?;
    let (mut stream, have) = rogue.leave(&offer)?;
    ensure!(have.problem.is_none(), "it has no place any more: {have:?}");
    for (part, from) in package.parts.iter().zip(have.groups) {
        stream.write(&travelling(part, from)?)?;
    }
    let kept: Kept = stream.get()?;
    ensure!(kept.kept_until.is_some(), "an honest deposit is not kept: {kept:?}");
    drop((silent, stream));
    before.is_back(pid, STAYS_BYTES, STAYS_FILES)?;

    world.restart(DESTINATION)?;
    it.ends_well(world)?;
    emptied(world)
}
