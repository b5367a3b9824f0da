//! Every other door, flooded while honest people go on: QUIC, by packets from made-up addresses and by connections that
//! are held for nothing; a package stream on which a member's package trickles.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use handover_core::Code;
use handover_tests::rogue::deposit::Trickle;
use handover_tests::rogue::sale::travelling;
use handover_tests::rogue::stranger::{
    Footprint, Stranger, addresses, openings, place, send_from_everywhere,
};
use handover_tests::rogue::wire::Done;
use handover_tests::rogue::within;
use serde_json::Value;

use super::stage::{LAKESIDE, RIVERSIDE, Stage, hospital};

/// First packets of connections: more than are answered in the time that each half-open one lives.
const OPENINGS: usize = 2_500;
/// Of these, how many go to each process at a time, and how soon the next ones follow.
const AT_A_TIME: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Strangers who hold connections: more than one address may have.
const HELD: u8 = 40;
/// Longer than whoever trickles is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// What floods of half-open connections may make of a process's memory, however many: those that live, and the packets
/// that wait. What the system has given is not all given back.
const FLOODED_BYTES: u64 = 320 * 1024 * 1024;
/// And what held ones may.
const HELD_BYTES: u64 = 64 * 1024 * 1024;
const STAYS_FILES: usize = 8;

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let package = stage.rogue.sealed(&sale, &stage.rogue.goods(&sale)?, |_| {})?;
    let (stream, have) = stage.rogue.offer(&hospital(RIVERSIDE), &package.offer)?;
    ensure!(have.problem.is_none(), "the offer is refused: {have:?}");
    let trickle: Trickle<Done> = Trickle::of(stream, travelling(&package.parts[0], 0)?);

    half_open(stage).context("half-open QUIC connections")?;
    held_over_quic(stage).context("QUIC connections that are held")?;

    // Others have sent and received meanwhile.
    within(PATIENCE, "a package that trickles is cut", || trickle.was_cut())?;
    let done = trickle.word().context("a package that trickles")?;
    ensure!(done.problem == Some(Code::Unreachable), "a package that trickles: {done:?}");
    let done = stage.rogue.deliver(&hospital(RIVERSIDE), &package, |_| {})?;
    ensure!(done.delivered.is_some(), "its place is not free for the whole package: {done:?}");
    Ok(())
}

/// What the processes said when they were ready, and the processes.
fn doors(stage: &Stage) -> Result<[(&'static str, Value, u32); 3]> {
    let world = &stage.world;
    let node =
        |name: &'static str| Ok::<_, anyhow::Error>((name, world.ready(name)?.clone(), world.pid(name)?));
    let index = world.index_pid().context("the index does not run")?;
    Ok([("the index", world.index_ready().clone(), index), node(LAKESIDE)?, node(RIVERSIDE)?])
}

/// First packets from addresses that nobody has: each has to be answered, and the answers reach nobody.
fn half_open(stage: &mut Stage) -> Result<()> {
    let packets = Arc::new(openings(OPENINGS)?);
    let before = footprints(stage)?;
    for round in ["the first", "a second"] {
        let places = doors(stage)?.map(|(_, ready, _)| place(&addresses(&ready, "udp")?[0]));
        let places = places.into_iter().collect::<Result<Vec<_>>>()?;
        let stop = Arc::<AtomicBool>::default();
        let flood = {
            let (stop, packets) = (Arc::clone(&stop), Arc::clone(&packets));
            thread::spawn(move || floods(&packets, &places, &stop))
        };
        // It comes back from nowhere, and finds everybody, and everybody it.
        let played = stage.world.restart(LAKESIDE).and_then(|()| newcomers(stage, 1, "tcp"));
        let played = played.and_then(|()| stage.honest());
        stop.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow!("the flood panicked"))??;
        played.with_context(|| format!("in {round} flood"))?;
        // What they hold ends by itself, and then a newcomer has room over QUIC, too.
        within(PATIENCE, "a newcomer is answered over QUIC", || newcomers(stage, 2, "udp").is_ok())?;
        is_back(stage, &before, FLOODED_BYTES).with_context(|| format!("after {round} flood"))?;
    }
    Ok(())
}

fn floods(packets: &[Vec<u8>], places: &[SocketAddr], stop: &AtomicBool) -> Result<()> {
    for some in packets.chunks(AT_A_TIME).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        places.iter().try_for_each(|to| send_from_everywhere(some, *to))?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn footprints(stage: &Stage) -> Result<Vec<Footprint>> {
    doors(stage)?.iter().map(|(.., pid)| Footprint::of(*pid)).collect()
}

fn is_back(stage: &Stage, before: &[Footprint], more_bytes: u64) -> Result<()> {
    for ((name, _, pid), before) in doors(stage)?.iter().zip(before) {
        before.is_back(*pid, more_bytes, STAYS_FILES).with_context(|| (*name).to_owned())?;
    }
    Ok(())
}

/// Strangers whom nobody knows are told so at every process.
fn newcomers(stage: &Stage, seed: u8, kind: &str) -> Result<()> {
    doors(stage)?.iter().try_for_each(|(name, ready, _)| {
        Stranger::new(seed)?.is_answered(&addresses(ready, kind)?).with_context(|| format!("{name}, {kind}"))
    })
}

/// Strangers come by QUIC, are told that they are nobody, and stay.
fn held_over_quic(stage: &mut Stage) -> Result<()> {
    let before = footprints(stage)?;
    let strangers = (100..100 + HELD).map(Stranger::new).collect::<Result<Vec<_>>>()?;
    for (name, ready, _) in doors(stage)? {
        let to = addresses(&ready, "udp")?;
        strangers.iter().try_for_each(|one| one.is_answered(&to)).with_context(|| name.to_owned())?;
    }
    newcomers(stage, 3, "udp")?;
    stage.honest()?;
    drop(strangers);
    is_back(stage, &before, HELD_BYTES)
}
