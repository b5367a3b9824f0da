//! How long until the next step is acknowledged: after the process that serves was killed or froze, at the index and at
//! a hospital, and after the database's primary was killed and its standby promoted.
//!
//! `cargo bench --package handover-tests --bench failover`; `-- --rounds N` for another number; `--profile dev` for the
//! debug build. It measures and prints; it never judges.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handover_cluster::Cluster;
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::{self, Signal};
use handover_scenarios::world::{Options, Place, World};

const SOURCE: &str = "lakeside";
const DESTINATION: &str = "riverside";
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(120);

/// From the blow to where another process said that it is ready, and to the next step that was acknowledged.
type Times = (Duration, Duration);

fn main() -> Result<()> {
    let rounds = rounds();
    let mut primary = Cluster::start()?;
    let standby = primary.start_standby()?;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    let url = primary.file("url", &primary.url_at(&hosts))?;
    let on = |schema: &str| {
        format!("\n[store]\nengine = \"postgres\"\nurl_file = {url:?}\nschema = \"{schema}\"\n")
    };
    let destination = Place { more: on(DESTINATION), standbys: 1, ..Place::named(DESTINATION) };
    let options = Options {
        hospitals: vec![Place::named(SOURCE), destination],
        index_more: on("index"),
        index_standbys: 2,
        ..Options::default()
    };
    let mut world = World::start(&Programs::build()?, &options)?;
    world.stand_by_for(DESTINATION)?;
    let (mut killed, mut frozen, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        killed.push(index(&mut world, Signal::KILL)?);
        frozen.push(index(&mut world, Signal::STOP)?);
        nodes.push(node(&mut world, round)?);
    }
    println!("| | another one is ready | the next step is acknowledged |\n|---|---|---|");
    shown("the index is killed (a hospital's enrolment is asked anew, until it is taken)", &mut killed);
    shown("the index freezes", &mut frozen);
    shown("a node is killed (a patient is registered)", &mut nodes);
    let begun = Instant::now();
    primary.kill()?;
    standby.promote()?;
    let promoted = begun.elapsed();
    acknowledged(|| Ok(world.node(SOURCE, &["enrol"])?.exit == Some(0)))?;
    shown("the primary is killed, its standby promoted at once", &mut [(promoted, begun.elapsed())]);
    Ok(())
}

fn rounds() -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--rounds").skip(1);
    arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

fn acknowledged(mut step: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !step()? {
        ensure!(begun.elapsed() < LIMIT, "nothing is acknowledged within {LIMIT:?}");
    }
    Ok(())
}

fn index(world: &mut World, blow: Signal) -> Result<Times> {
    let serving = world.index_pid().context("the index does not run")?;
    let begun = Instant::now();
    signals::send(serving, blow)?;
    let before = world.index_taken_over()?;
    let ready = begun.elapsed();
    acknowledged(|| Ok(world.node(SOURCE, &["enrol"])?.exit == Some(0)))?;
    let done = begun.elapsed();
    if blow == Signal::STOP {
        signals::send(serving, Signal::CONT)?;
        before.context("it was not killed")?.ends()?;
    }
    world.stand_by_for_index()?;
    Ok((ready, done))
}

fn node(world: &mut World, round: usize) -> Result<Times> {
    let begun = Instant::now();
    signals::send(world.pid(DESTINATION)?, Signal::KILL)?;
    world.taken_over(DESTINATION)?;
    let ready = begun.elapsed();
    let patient = format!("p{round}");
    acknowledged(|| Ok(world.node(DESTINATION, &["patient", "register", &patient])?.exit == Some(0)))?;
    let done = begun.elapsed();
    world.stand_by_for(DESTINATION)?;
    Ok((ready, done))
}

fn shown(what: &str, times: &mut [Times]) {
    times.sort_unstable_by_key(|(_, done)| *done);
    let seconds = |of: fn(&Times) -> Duration| {
        let all = times.iter().map(|times| format!("{:.1}", of(times).as_secs_f64()));
        all.collect::<Vec<_>>().join(", ")
    };
    println!("| {what} | {} s | {} s |", seconds(|times| times.0), seconds(|times| times.1));
}
