//! The simulation: a whole federation in one process, on a clock that stands still while anybody works, a network that
//! is not there and disks in memory. Index and hospitals are the shipped rooms above store and network; patients,
//! clerks and who repeats what others said are played. While patients move, processes are killed at any of their
//! writes, lines break and are cut; then everything has to come to the end that a reference model says.
//!
//! `cargo test --package handover-tests --test simulation` plays every story that has a name (a bug that was found once)
//! and a few seeds; `-- --seeds N` more of them, `-- --from N` others, `-- --only N` one, which tells more. With
//! `--release` it is some times faster. A seed decides who moves, what befalls whom and when, and every delay; keys and
//! the order of what is ready at one moment are not its business.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it is for")]
#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod clock;
mod ground;
mod model;
mod network;
mod people;
mod places;
mod story;

use std::time::Instant;

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};

use ground::Ground;
use story::{Plot, play};

/// Seeds of a short run.
const SHORT: u64 = 40;

fn main() -> Result<()> {
    // Asked by `cargo test` for what there is to run.
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let only = option("--only")?;
    let (first, count) = match only {
        Some(seed) => (seed, 1),
        None => (option("--from")?.unwrap_or(1), option("--seeds")?.unwrap_or(SHORT)),
    };
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    }
    let ground = runtime()?.block_on(Ground::lay())?;
    let (begun, mut filed, mut moves, mut faults, mut carried) = (Instant::now(), 0, 0, 0, 0);
    let mut passed = std::time::Duration::ZERO;
    for seed in first..first + count {
        let plot = Plot::of(seed);
        if only.is_some() {
            eprintln!("{plot:#?}");
        }
        let outcome = runtime()?.block_on(play(&ground, &plot)).with_context(|| format!("--only {seed}"))?;
        filed += outcome.filed;
        moves += outcome.moves;
        faults += outcome.faults;
        carried += outcome.carried;
        passed += outcome.passed;
    }
    let took = begun.elapsed();
    println!(
        "{count} seeds: {moves} moves, {filed} of them filed, {faults} faults, {carried} requests, {} hours in {:.1} s: {:.0} seeds a minute",
        passed.as_secs() / 3_600,
        took.as_secs_f64(),
        60.0 * count as f64 / took.as_secs_f64()
    );
    Ok(())
}

/// One thread, whose time stands still while it works.
fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().start_paused(true).build()?)
}

fn option(name: &str) -> Result<Option<u64>> {
    let value = std::env::args().skip_while(|argument| argument != name).nth(1);
    value.map(|value| value.parse().with_context(|| format!("{name} needs a number"))).transpose()
}
