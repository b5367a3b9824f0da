//! How many transfers hospitals send and receive: many patients say yes at once, and everything is waited for. With the
//! work that each process had with it, which depends less on what else the machine does.
//!
//! `cargo bench --package handover-tests --bench many`; `-- --transfers N` for another number. It measures and prints; it
//! never judges.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::artefact::transfer::{Quote, TransferRequest};
use handover_core::artefact::{Payload, Verified, peek_type};
use handover_core::codec;
use handover_core::rules::{self, Context};
use handover_core::trust::Federation;
use handover_core::verify::TransferFile;
use handover_core::{HospitalId, Timestamp};
use handover_scenarios::generator::{self, Form};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use handover_seal::Ed25519;
use handover_tests::rogue::person::{Person, endpoint};
use serde_json::Value;

const SOURCE: &str = "lakeside";
const DESTINATION: &str = "riverside";
const RECORDS_OF_A_TRANSFER: usize = 20;
const SEED: u64 = 50_000;
/// Patients who speak at the same moment.
const AT_ONCE: usize = 4;
const LIMIT: Duration = Duration::from_secs(900);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Linux counts a process's time in these.
const TICKS_PER_SECOND: f64 = 100.0;

/// A patient who has a quote and says yes when told to.
struct Ready {
    consent: Vec<u8>,
    release: Vec<u8>,
}

fn main() -> Result<()> {
    let count = transfers();
    let world = World::start(&Programs::build()?, &Options::of(&[SOURCE, DESTINATION]))?;
    let (source, destination): (HospitalId, HospitalId) = (SOURCE.parse()?, DESTINATION.parse()?);
    let people = (0..count).map(|number| person(&world, number)).collect::<Result<Vec<_>>>()?;
    let (began, work) = (Instant::now(), work(&world)?);
    let asked = people
        .iter()
        .map(|person| {
            let ask = person.signed(person.asking(&source, &destination));
            let transfer = ask.transfer.context("an ask for a transfer")?.to_string();
            endpoint(&world, DESTINATION)?.artefact(ask.envelope())?;
            world.node(DESTINATION, &["transfer", "request", &transfer])?.done()?;
            Ok(transfer)
        })
        .collect::<Result<Vec<_>>>()?;
    all_are(&world, "quoted", count)?;
    println!("{count} patients, {RECORDS_OF_A_TRANSFER} records each, from one hospital to one other\n");
    println!("| | /s | ms of work at {SOURCE} | at {DESTINATION} | at the index |");
    println!("| --- | --- | --- | --- | --- |");
    row("ask and request → quote (one command each)", &world, count, began, work)?;

    let ready = people
        .iter()
        .zip(&asked)
        .map(|(person, transfer)| ready(&world, person, transfer))
        .collect::<Result<Vec<_>>>()?;
    let (began, work) = (Instant::now(), self::work(&world)?);
    std::thread::scope(|scope| -> Result<()> {
        let speaking: Vec<_> = ready
            .chunks(ready.len().div_ceil(AT_ONCE))
            .map(|some| scope.spawn(|| say_yes(&world, some)))
            .collect();
        speaking.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a patient ended early"))?)
    })?;
    all_are(&world, "filed", count)?;
    row("consent → filed, with receipt and fee", &world, count, began, work)?;
    baseline(&world, count)
}

fn transfers() -> u32 {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--transfers");
    arguments.nth(1).and_then(|value| value.parse().ok()).unwrap_or(200)
}

/// A patient with records at the source, linked at both.
fn person(world: &World, number: u32) -> Result<Person> {
    let options =
        generator::Options { visits: 2, scans: 0, form: Form::Ndjson, ..generator::Options::default() };
    let mut whole = Vec::new();
    let written = generator::write_patient(SEED + u64::from(number), &options, &mut whole)?;
    let path = world.records_folder().join("one.ndjson");
    let mut out = BufWriter::new(File::create(&path)?);
    for line in whole.lines().take(RECORDS_OF_A_TRANSFER) {
        writeln!(out, "{}", line?)?;
    }
    out.flush()?;
    world.node(SOURCE, &["import", path.to_str().context("a path that is no UTF-8")?])?.done()?;
    let person = Person::new(10_000 + number, &written.id);
    person.link(world, SOURCE)?;
    person.link(world, DESTINATION)?;
    Ok(person)
}

/// Everything that the patient will say, made before the time is taken.
fn ready(world: &World, person: &Person, transfer: &str) -> Result<Ready> {
    let path = world.folder().join("one.transfer");
    let out = path.to_str().context("a path that is no UTF-8")?;
    world.node(DESTINATION, &["transfer", "show", transfer, "--out", out])?.done()?;
    let file: TransferFile = codec::decode(&std::fs::read(&path)?, codec::MAX_MESSAGE_BYTES)
        .map_err(|fault| anyhow!("a transfer's file: {fault}"))?;
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let root = world.root().parse()?;
    let federation = Federation::verify(file.directory.as_ref(), &root, now, &Ed25519)?;
    let context = Context { federation: &federation, verifier: &Ed25519 };
    let find = |label: &str| {
        let mut artefacts = file.artefacts.iter().map(AsRef::as_ref);
        artefacts
            .find(|it| peek_type(it).is_ok_and(|found| found == label))
            .with_context(|| format!("no {label}"))
    };
    let on = rules::request(find(TransferRequest::TYPE)?, context).map_err(|code| anyhow!("{code}"))?;
    let quote: Verified<Quote> =
        rules::quote(find(Quote::TYPE)?, &on, context).map_err(|code| anyhow!("{code}"))?;
    let yes = person.consent(&quote, &person.read(&quote)?, &federation, |_, _| {})?;
    let release = person.release(&yes, &quote)?.envelope().to_vec();
    Ok(Ready { consent: yes.consent.envelope().to_vec(), release })
}

fn say_yes(world: &World, ready: &[Ready]) -> Result<()> {
    let node = endpoint(world, DESTINATION)?;
    for Ready { consent, release } in ready {
        node.artefact(consent)?;
        node.artefact(release)?;
    }
    Ok(())
}

/// Waits until all transfers are that far at both hospitals.
fn all_are(world: &World, state: &str, count: u32) -> Result<()> {
    let begun = Instant::now();
    for hospital in [DESTINATION, SOURCE] {
        loop {
            let listed = world.node(hospital, &["transfer", "list"])?.json()?;
            let all = listed["transfers"].as_array().map_or(0, |all| {
                let is_there = |it: &&Value| it["state"] == state;
                all.iter().filter(is_there).count()
            });
            if all == count as usize {
                break;
            }
            ensure!(begun.elapsed() < LIMIT, "{all} of {count} are {state} at {hospital}");
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    Ok(())
}

/// Seconds that each process has worked so far, on all cores.
fn work(world: &World) -> Result<[f64; 3]> {
    let of = |pid: u32| -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything; user and system time are fields 14 and 15.
        let (_, after_name) = stat.rsplit_once(')').context("no name")?;
        let ticks = after_name.split_whitespace().skip(11).take(2);
        Ok(ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND)
    };
    let index = world.index_pid().context("the index does not run")?;
    Ok([of(world.pid(SOURCE)?)?, of(world.pid(DESTINATION)?)?, of(index)?])
}

fn row(what: &str, world: &World, count: u32, began: Instant, before: [f64; 3]) -> Result<()> {
    let (count, time) = (f64::from(count), began.elapsed().as_secs_f64());
    let [source, destination, index] = work(world)?;
    let ms = |now: f64, before: f64| (now - before) * 1_000.0 / count;
    println!(
        "| {what} | {:.1} | {:.1} | {:.1} | {:.1} |",
        count / time,
        ms(source, before[0]),
        ms(destination, before[1]),
        ms(index, before[2])
    );
    Ok(())
}

/// The least that three parties who store before they answer can do: one durable write each, one after another.
fn baseline(world: &World, count: u32) -> Result<()> {
    let mut file = File::create(world.folder().join("baseline"))?;
    let began = Instant::now();
    for _ in 0..3 * count {
        file.write_all(&[0x5a; 4_096])?;
        file.sync_data()?;
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    println!(
        "\nbaseline: three writes of 4 KiB and fdatasync for each transfer, one after another: {rate:.0}/s"
    );
    Ok(())
}
