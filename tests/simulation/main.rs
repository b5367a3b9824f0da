//! The simulation: a whole federation in one process, on a clock that stands still while anybody works, a network that
//! is not there and disks in memory. Index and hospitals are the shipped rooms above store and network; patients,
//! clerks and who repeats what others said are played. While patients move, processes are killed at any of their
//! writes, lines break and are cut; then everything has to come to the end that a reference model says.
//!
//! `cargo test --package handover-tests --test simulation` plays every story that has a name and a few seeds;
//! `-- --seeds N` more of them, `-- --from N` others, `-- --only N` one, or the story of a name, which tells more (`HANDOVER_LOG` says what of the
//! rooms' log). With `--release` it is some times faster. A seed decides who moves, what
//! befalls whom and when, and every delay; keys and the order of what is ready at one moment are not its business.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it is for")]
#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod books;
mod clock;
mod corrections;
mod emergency;
mod forgetting;
mod ground;
mod lies;
mod model;
mod named;
mod network;
mod people;
mod places;
mod plot;
mod records;
mod restored;
mod story;
mod streams;
mod trying;

use std::cell::Cell;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tokio::runtime::{Builder, Runtime};

use ground::Ground;
use named::NAMED;
use plot::Plot;
use story::{Outcome, play};

/// Seeds of a short run.
const SHORT: u64 = 40;
/// Seeds that fail before it is over.
const FAILURES_MAX: usize = 5;
/// How often a long run says how far it is.
const SAID_EVERY: u64 = 500;

/// Whether anything has panicked, on whichever task: whoever waited for that may have tried again.
static PANICKED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The same of the story that this thread plays.
    static PANICKED_HERE: Cell<bool> = const { Cell::new(false) };
}

fn main() -> Result<()> {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICKED.store(true, Ordering::Relaxed);
        PANICKED_HERE.set(true);
        usual(info);
    }));
    // Asked by `cargo test` for what there is to run.
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    if let Some(which) = said("--only") {
        handover_cli::init_logging(false).map_err(|fault| anyhow!("{}", fault.detail))?;
        let plot = match NAMED.iter().find(|(name, _)| *name == which) {
            Some((_, plot)) => plot(),
            None => Plot::of(which.parse().context("--only needs a seed, or a story's name")?),
        };
        eprintln!("{plot:#?}");
        let outcome = once(&lay()?, &plot)?;
        println!("{outcome:#?}");
        return Ok(());
    }
    let ground = lay()?;
    for (name, plot) in NAMED {
        once(&ground, &plot()).with_context(|| format!("the story {name}"))?;
        println!("{name} ... ok");
    }
    let (first, count) = (option("--from")?.unwrap_or(1), option("--seeds")?.unwrap_or(SHORT));
    let run = Run {
        next: AtomicU64::new(first),
        end: first + count,
        sum: Mutex::default(),
        failed: Mutex::default(),
    };
    let begun = Instant::now();
    thread::scope(|scope| {
        let workers = thread::available_parallelism()?.get();
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| run.work())).collect();
        let ended = workers.into_iter().map(|it| it.join().map_err(|_| anyhow!("a thread panicked"))?);
        ended.collect::<Result<()>>()
    })?;
    let (took, sum) = (begun.elapsed(), run.sum.into_inner().unwrap_or_else(PoisonError::into_inner));
    let failed = run.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{count} seeds: {}, in {:.1} s", sum.said(), took.as_secs_f64());
    if failed.is_empty() {
        ensure!(!PANICKED.load(Ordering::Relaxed), "a thread panicked; it said so above");
        return Ok(());
    }
    for (seed, fault) in &failed {
        eprintln!("\n--only {seed}: {fault:#}");
    }
    bail!("{} seeds failed", failed.len())
}

/// Many seeds, on several threads.
struct Run {
    next: AtomicU64,
    end: u64,
    sum: Mutex<Outcome>,
    failed: Mutex<Vec<(u64, anyhow::Error)>>,
}

impl Run {
    fn work(&self) -> Result<()> {
        let ground = lay()?;
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                return Ok(());
            }
            let outcome = once(&ground, &Plot::of(seed));
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(outcome) => self.sum.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome),
                Err(fault) => failed.push((seed, fault)),
            }
            if failed.len() >= FAILURES_MAX {
                return Ok(());
            }
            if seed.is_multiple_of(SAID_EVERY) {
                eprintln!("{seed}: {} failed", failed.len());
            }
        }
    }
}

/// One thread, whose time stands still while it works.
fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().start_paused(true).build()?)
}

fn lay() -> Result<Ground> {
    runtime()?.block_on(Ground::lay()).context("what stories begin with")
}

fn once(ground: &Ground, plot: &Plot) -> Result<Outcome> {
    PANICKED_HERE.set(false);
    let outcome = runtime()?.block_on(play(ground, plot));
    ensure!(!PANICKED_HERE.take(), "something panicked; it said so above");
    outcome
}

fn said(option: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != option).nth(1)
}

fn option(name: &str) -> Result<Option<u64>> {
    said(name).map(|value| value.parse().with_context(|| format!("{name} needs a number"))).transpose()
}
