//! The fault run: patients move between two hospitals on real processes while these are killed, frozen and set to other
//! times. Afterwards every move has ended once, with the same records at both ends and one fee, and everything that is
//! stored is whole.
//!
//! `cargo test --package handover-tests --test faults` plays a short run; `-- --faults N` a longer one, `-- --seed N`
//! other faults at other moments. What falls when is decided by the seed; what it hits, by the processes' own pace. It
//! prints what it did, for people to keep, and fails if anything is lost, or there twice.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

mod blows;
mod dice;
mod load;

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use handover_tests::moves::{DESTINATION, Move, SOURCE, all_is_whole, close, joined, patients};

use blows::Blows;
use dice::Dice;
use load::Load;

/// Faults of a short run.
const SHORT: u64 = 12;
/// Patients who move for each fault, so that it falls on work.
const PATIENTS_PER_FAULT: u64 = 3;
/// Bytes of a scan in every third patient's records, so that packages are cut as well.
const SCAN_BYTES: usize = 1_500_000;
/// Patients who move at the same time.
const AT_ONCE: usize = 4;

fn main() -> Result<()> {
    // Asked by `cargo test` for what there is to run.
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let (faults, seed) = (option("--faults")?.unwrap_or(SHORT), option("--seed")?.unwrap_or(1));
    let begun = Instant::now();
    let options = Options { clock: true, ..Options::of(&[SOURCE, DESTINATION]) };
    let world = World::start(Programs::shared()?, &options)?;
    let scans: Vec<usize> = (0..faults.max(1) * PATIENTS_PER_FAULT)
        .map(|number| if number.is_multiple_of(3) { SCAN_BYTES } else { 0 })
        .collect();
    let moves = patients(&world, &scans)?;
    let world = RwLock::new(world);
    let outcome = play(&world, moves, faults, seed);
    let world = world.into_inner().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    close(world, outcome.with_context(|| format!("--seed {seed} --faults {faults}")))?;
    println!("\n(in {:.0} s)", begun.elapsed().as_secs_f64());
    Ok(())
}

fn option(name: &str) -> Result<Option<u64>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map(|value| value.parse().with_context(|| format!("{name} needs a number"))).transpose()
}

fn play(world: &RwLock<World>, moves: Vec<Move>, faults: u64, seed: u64) -> Result<()> {
    let (count, load, is_over) = (moves.len(), Load::of(moves), AtomicBool::new(false));
    let blows = thread::scope(|scope| {
        let (load, is_over) = (&load, &is_over);
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(move || load.work(world, is_over))).collect();
        let mut blows = Blows::new(Dice::new(seed));
        let fallen = blows.fall(world, load, faults);
        // Without it, who is at work waits for what nobody starts again.
        is_over.store(fallen.is_err(), Ordering::Relaxed);
        let worked: Result<Vec<()>> = workers.into_iter().map(joined).collect();
        fallen?;
        worked?;
        Ok::<_, anyhow::Error>(blows)
    })?;
    let world = world.read().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    world.set_clock(0)?;
    let (repeated, done) = (load.repeated(), load.done());
    ensure!(done.len() == count, "{} of {count} moves were made", done.len());
    for some in done.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let world = &*world;
            let ended: Vec<_> = some.iter().map(|it| scope.spawn(|| it.ends_well(world))).collect();
            ended.into_iter().try_for_each(joined)
        })?;
    }
    let records: u64 = done.iter().map(|it| it.expected.total_resources()).sum();
    all_is_whole(&world)?;

    println!("\n| seed {seed} | |\n| --- | --- |");
    blows.report();
    println!("| transfers, each filed once, with one fee | {count} |");
    println!("| records, the same at both ends | {records} |");
    println!("| commands that people gave again, to see how far it is or because it failed | {repeated} |");
    println!("| lost, or there twice | 0 |");
    Ok(())
}
