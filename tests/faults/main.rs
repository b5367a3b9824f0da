//! The fault run: patients move between two hospitals on real processes while these are killed, frozen, cut off from each
//! other, robbed of power, set to other times, damaged, and lied to; their disks fill and slow down. After each fault
//! it is looked whether everything that was acknowledged is there, once, and the same; in the end every move has ended
//! once, with the same records at both ends and one fee, and everything that is stored is whole and tells nobody else.
//!
//! `cargo test --package handover-tests --test faults` plays a short run, with each kind of fault; `-- --faults N` a
//! longer one, `-- --seed N` other faults at other moments, `-- --patients N` with more or less to do, `-- --only KIND` one kind of them. What falls
//! when is decided by the seed; what it hits, by the processes' own pace. It prints a certificate, for people to keep,
//! and fails if anything is lost, or there twice.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it is for")]
#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod blows;
mod checks;
mod clocks;
mod cuts;
mod damage;
mod desk;
mod disks;
mod load;
mod processes;
mod replay;
mod stage;
mod wires;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use handover_tests::moves::{Victim, all_is_whole, close, joined, patients};

use blows::Blows;
use handover_tests::dice::Dice;
use load::Load;
use replay::Replayer;
use stage::Stage;

/// Faults of a short run: each kind.
const SHORT: u64 = 17;
/// Patients of a short run; of a longer one, one for each fault.
const FEW: u64 = 10;
/// Bytes of a scan in every third patient's records, so that packages are cut as well.
const SCAN_BYTES: usize = 1_500_000;
/// Patients who move at the same time.
const AT_ONCE: usize = 4;
/// Moves of which everything is looked at in the end as people would.
const AS_PEOPLE: usize = 3;

fn main() -> Result<()> {
    // Asked by `cargo test` for what there is to run.
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let (faults, seed) = (option("--faults")?.unwrap_or(SHORT), option("--seed")?.unwrap_or(1));
    let count = option("--patients")?.unwrap_or(if faults > SHORT { faults } else { FEW }).max(1);
    let begun = Instant::now();
    let stage = Stage::set()?;
    let outcome = play(&stage, count, faults, seed, begun);
    let world = stage.leave(outcome.is_err())?;
    close(world, outcome.with_context(|| format!("--seed {seed} --faults {faults} --patients {count}")))
}

fn words(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn option(name: &str) -> Result<Option<u64>> {
    words(name).map(|value| value.parse().with_context(|| format!("{name} needs a number"))).transpose()
}

fn play(stage: &Stage, patients_count: u64, faults: u64, seed: u64, begun: Instant) -> Result<()> {
    let replayer = Replayer::join(stage)?;
    let scans: Vec<usize> =
        (0..patients_count).map(|number| if number.is_multiple_of(3) { SCAN_BYTES } else { 0 }).collect();
    let moves = patients(&stage.world(), &scans)?;
    eprintln!("set up in {} s", begun.elapsed().as_secs());
    let only = words("--only");
    let (count, load, is_over) = (moves.len(), Load::of(moves), AtomicBool::new(false));
    let mut blows = thread::scope(|scope| {
        let (load, is_over) = (&load, &is_over);
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(move || load.work(stage, is_over))).collect();
        let mut blows = Blows::new(stage, load, replayer, Dice::new(seed));
        let fallen = blows.fall(faults, only.as_deref());
        // Without it, who is at work waits for what nobody starts again.
        is_over.store(fallen.is_err(), Ordering::Relaxed);
        let worked: Result<Vec<()>> = workers.into_iter().map(joined).collect();
        fallen?;
        worked?;
        Ok::<_, anyhow::Error>(blows)
    })?;
    stage.set_clocks(stage.ahead())?;
    let done = load.done();
    ensure!(done.len() == count, "{} of {count} moves were made", done.len());
    let struck = begun.elapsed();
    eprintln!("all moves made after {} s", struck.as_secs());
    let mut dice = Dice::new(seed + 1);
    blows.checks.settle(stage, &load, &mut dice)?;
    for it in done.iter().take(AS_PEOPLE) {
        it.ends_well(&stage.world())?;
    }
    all_is_whole(&stage.world())?;
    let folders = Victim::ALL.iter().map(|victim| stage.data(*victim)).collect::<Result<Vec<_>>>()?;
    let logs = stage.world().logs();
    let folders: Vec<_> = folders.iter().chain([&logs]).map(AsRef::as_ref).collect();
    let (bytes, words) = checks::nothing_is_readable(&folders, &done)?;
    certificate(&blows, &load, (seed, faults), (bytes, words));
    println!(
        "\n({:.0} s, {:.0} s of them until the last move was made)",
        begun.elapsed().as_secs_f64(),
        struck.as_secs_f64()
    );
    Ok(())
}

fn certificate(blows: &Blows<'_>, load: &Load, (seed, faults): (u64, u64), (bytes, words): (u64, usize)) {
    let checks = &blows.checks;
    println!("\n| seed {seed}, {faults} faults | |\n| --- | --- |");
    let row = |words: &str, count: String| println!("| {words} | {count} |");
    blows.rows().into_iter().for_each(|(words, count)| row(&words, count));
    row(
        "transfers asked for; filed, with one fee each; ended otherwise",
        format!("{0}; {0}; 0", load.count()),
    );
    row(
        "commands that people gave again, to see how far it is or because it failed",
        load.repeated().to_string(),
    );
    row("times that everything was looked at", checks.looks.to_string());
    row(
        "records found the same at both ends; of these byte for byte",
        format!("{}; {}", checks.records, checks.contents),
    );
    row("wallets that asked for another's transfer, in vain", checks.strangers.to_string());
    row(
        "MB of data and logs in which nothing of so many texts of records stands",
        format!("{}; {words}", bytes / 1_000_000),
    );
    row("lost, there twice, or readable by others", "0".to_owned());
}
