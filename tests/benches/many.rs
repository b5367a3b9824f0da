//! How many transfers hospitals send and receive: many patients say yes at once, and everything is waited for. With the
//! work that each process had with it, which depends less on what else the machine does, and how many cores that took:
//! one that comes near to one core, or to all that there are, could not have done more.
//!
//! `cargo bench --package handover-tests --bench many`; `-- --transfers N` for another number, `--sources N` and
//! `--destinations N` for more than one of them: several sources show what one hospital receives, several destinations
//! what one sends. It measures and prints; it never judges.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::Timestamp;
use handover_core::artefact::transfer::{Quote, TransferRequest};
use handover_core::artefact::{Payload, Verified, peek_type};
use handover_core::codec;
use handover_core::rules::{self, Context};
use handover_core::trust::Federation;
use handover_core::verify::TransferFile;
use handover_scenarios::generator::{self, Form};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use handover_seal::Ed25519;
use handover_tests::rogue::person::{Person, endpoint};

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
    at: String,
    consent: Vec<u8>,
    release: Vec<u8>,
}

/// Who sends to whom: patients take turns.
struct Sides {
    sources: Vec<String>,
    destinations: Vec<String>,
}

impl Sides {
    fn new(sources: u32, destinations: u32) -> Self {
        let named = |role: &str, count: u32| (1..=count).map(|it| format!("{role}-{it}")).collect();
        Self { sources: named("source", sources), destinations: named("destination", destinations) }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.sources.iter().chain(&self.destinations)
    }

    fn of(&self, number: u32) -> (&str, &str) {
        let (sources, destinations) = (self.sources.iter(), self.destinations.iter());
        let at = number as usize;
        let source = sources.cycle().nth(at).map_or("", String::as_str);
        // So that every source has to do with every destination.
        let turn = at + at / self.sources.len().max(1);
        (source, destinations.cycle().nth(turn).map_or("", String::as_str))
    }
}

/// A patient, where they go, and what they asked for.
struct Asked {
    person: Person,
    destination: String,
    transfer: String,
}

fn main() -> Result<()> {
    let count = option("--transfers").unwrap_or(200);
    let sides = &Sides::new(option("--sources").unwrap_or(1), option("--destinations").unwrap_or(1));
    let hospitals: Vec<&str> = sides.all().map(String::as_str).collect();
    let world = World::start(&Programs::build()?, &Options::of(&hospitals))?;
    let people =
        (0..count).map(|number| person(&world, number, sides.of(number))).collect::<Result<Vec<_>>>()?;
    let (began, work) = (Instant::now(), work(&world, sides)?);
    let asked = people
        .into_iter()
        .zip(0..)
        .map(|(person, number)| ask(&world, person, sides.of(number)))
        .collect::<Result<Vec<_>>>()?;
    all_are(&world, "quoted", count, sides)?;
    let (from, to) = (sides.sources.len(), sides.destinations.len());
    println!("{count} patients, {RECORDS_OF_A_TRANSFER} records each; sources: {from}, destinations: {to}\n");
    println!(
        "| | /s | ms of work at the sources | at the destinations | at the index | cores: sources | destinations | index |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    row("ask and request → quote (one command each)", count, began, work, self::work(&world, sides)?);

    let ready = asked.iter().map(|asked| ready(&world, asked)).collect::<Result<Vec<_>>>()?;
    let (began, work) = (Instant::now(), self::work(&world, sides)?);
    std::thread::scope(|scope| -> Result<()> {
        let speaking: Vec<_> = ready
            .chunks(ready.len().div_ceil(AT_ONCE))
            .map(|some| scope.spawn(|| say_yes(&world, some)))
            .collect();
        speaking.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a patient ended early"))?)
    })?;
    all_are(&world, "filed", count, sides)?;
    row("consent → filed, with receipt and fee", count, began, work, self::work(&world, sides)?);
    baseline(&world, count)
}

fn option(name: &str) -> Option<u32> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).and_then(|value| value.parse().ok())
}

fn ask(world: &World, person: Person, (source, destination): (&str, &str)) -> Result<Asked> {
    let ask = person.signed(person.asking(&source.parse()?, &destination.parse()?));
    let transfer = ask.transfer.context("an ask for a transfer")?.to_string();
    endpoint(world, destination)?.artefact(ask.envelope())?;
    world.node(destination, &["transfer", "request", &transfer])?.done()?;
    Ok(Asked { person, destination: destination.to_owned(), transfer })
}

/// A patient with records at the source, linked at both.
fn person(world: &World, number: u32, (source, destination): (&str, &str)) -> Result<Person> {
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
    world.node(source, &["import", path.to_str().context("a path that is no UTF-8")?])?.done()?;
    let person = Person::new(10_000 + number, &written.id);
    person.link(world, source)?;
    person.link(world, destination)?;
    Ok(person)
}

/// Everything that the patient will say, made before the time is taken.
fn ready(world: &World, Asked { person, destination, transfer }: &Asked) -> Result<Ready> {
    let path = world.folder().join("one.transfer");
    let out = path.to_str().context("a path that is no UTF-8")?;
    world.node(destination, &["transfer", "show", transfer, "--out", out])?.done()?;
    let file: TransferFile = codec::decode(&std::fs::read(&path)?, codec::MAX_MESSAGE_BYTES)
        .map_err(|fault| anyhow!("a transfer's file: {fault}"))?;
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let root = world.root().parse()?;
    let federation = Federation::verify_part(&file.directory, &root, now, &Ed25519)?;
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
    Ok(Ready { at: destination.clone(), consent: yes.consent.envelope().to_vec(), release })
}

fn say_yes(world: &World, ready: &[Ready]) -> Result<()> {
    for Ready { at, consent, release } in ready {
        let node = endpoint(world, at)?;
        node.artefact(consent)?;
        node.artefact(release)?;
    }
    Ok(())
}

/// Waits until all transfers are that far at both sides.
fn all_are(world: &World, state: &str, count: u32, sides: &Sides) -> Result<()> {
    let begun = Instant::now();
    for side in [&sides.destinations, &sides.sources] {
        loop {
            let mut all = 0;
            for hospital in side {
                let listed = world.node(hospital, &["transfer", "list"])?.json()?;
                let transfers = listed["transfers"].as_array().into_iter().flatten();
                all += transfers.filter(|it| it["state"] == state).count();
            }
            if all == count as usize {
                break;
            }
            ensure!(begun.elapsed() < LIMIT, "{all} of {count} are {state} at {side:?}");
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    Ok(())
}

/// Seconds that sources, destinations and the index have worked so far, on all cores.
fn work(world: &World, sides: &Sides) -> Result<[f64; 3]> {
    let of = |pid: u32| -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything; user and system time are fields 14 and 15.
        let (_, after_name) = stat.rsplit_once(')').context("no name")?;
        let ticks = after_name.split_whitespace().skip(11).take(2);
        Ok(ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND)
    };
    let of_all = |side: &[String]| side.iter().map(|hospital| of(world.pid(hospital)?)).sum::<Result<f64>>();
    let index = world.index_pid().context("the index does not run")?;
    Ok([of_all(&sides.sources)?, of_all(&sides.destinations)?, of(index)?])
}

fn row(what: &str, count: u32, began: Instant, before: [f64; 3], now: [f64; 3]) {
    let (count, time) = (f64::from(count), began.elapsed().as_secs_f64());
    let worked: Vec<f64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
    let ms: Vec<String> = worked.iter().map(|it| format!("{:.1}", it * 1_000.0 / count)).collect();
    let cores: Vec<String> = worked.iter().map(|it| format!("{:.2}", it / time)).collect();
    println!("| {what} | {:.1} | {} | {} |", count / time, ms.join(" | "), cores.join(" | "));
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
