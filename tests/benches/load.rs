//! Figures on real processes: import, and whole transfers of 100 records. Each with a baseline in the same run.
//!
//! `cargo bench --package handover-tests --bench load`; `-- --patients N --transfers N` for other sizes. It measures and
//! prints; it never judges.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use handover_scenarios::generator::{self, Form};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use serde_json::Value;

const SOURCE: &str = "lakeside";
const DESTINATION: &str = "riverside";
const RECORDS_OF_A_TRANSFER: usize = 100;
/// Records that the product makes durable together; the baseline does the same.
const BATCH_RECORDS: usize = 100;
const FIRST_SEED: u64 = 1;
const TRANSFER_SEED: u64 = 10_000;

fn main() -> Result<()> {
    let patients = option("--patients").unwrap_or(200);
    let transfers = option("--transfers").unwrap_or(40);
    let programs = Programs::build()?;
    let world = World::start(&programs, &Options::of(&[SOURCE, DESTINATION]))?;
    import(&world, patients)?;
    let times = (0..transfers).map(|number| transfer(&world, number)).collect::<Result<Vec<_>>>()?;
    report(&world, &times)
}

fn option(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).and_then(|value| value.parse().ok())
}

/// Peak resident memory of a process so far, in MB.
fn peak_memory_mb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn import(world: &World, patients: u64) -> Result<()> {
    let folder = world.records_folder().join("load");
    let options = generator::Options { visits: 12, scans: 0, ..generator::Options::default() };
    let written = generator::generate_folder(&folder, FIRST_SEED, patients, &options, |_, _| {})?;
    let files: Vec<PathBuf> = written.iter().map(|(path, _)| path.clone()).collect();
    let resources: u64 = written.iter().map(|(_, patient)| patient.expected.total_resources()).sum();
    let bytes = files.iter().map(|path| Ok(std::fs::metadata(path)?.len())).sum::<Result<u64>>()?;
    let pid = world.pid(SOURCE)?;
    let before = peak_memory_mb(pid)?;
    let mut arguments = vec!["import"];
    arguments.extend(files.iter().filter_map(|path| path.to_str()));
    let started = Instant::now();
    let imported = world.node(SOURCE, &arguments)?.json()?;
    let time = started.elapsed();
    ensure!(
        imported["records"]["new"].as_u64() == Some(resources),
        "not everything was imported: {imported}"
    );
    let after = peak_memory_mb(pid)?;
    let baseline = durable_lines(&files, &folder.join("baseline"))?;
    println!("import of {patients} patients: {resources} resources, {:.1} MB", megabytes(bytes));
    println!("| | resources/s | MB/s |\n| --- | --- | --- |");
    let row = |name: &str, time: Duration| {
        println!("| {name} | {:.0} | {:.1} |", per_second(resources, time), per_second(bytes, time) / 1e6);
    };
    row("import, every record durable, by department, encrypted", time);
    row("baseline: parse, append, fdatasync every 100 records", baseline);
    println!("ratio: {:.2} times the baseline's time", time.as_secs_f64() / baseline.as_secs_f64());
    println!("node's peak memory: {before:.0} MB before, {after:.0} MB after\n");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The least that a durable import can do: parse each file, append each resource, sync every batch.
fn durable_lines(files: &[PathBuf], to: &Path) -> Result<Duration> {
    let started = Instant::now();
    let mut out = BufWriter::new(File::create(to)?);
    let mut pending = 0;
    for file in files {
        let bundle: Value = serde_json::from_reader(BufReader::new(File::open(file)?))?;
        for entry in bundle["entry"].as_array().into_iter().flatten() {
            serde_json::to_writer(&mut out, &entry["resource"])?;
            pending += 1;
            if pending == BATCH_RECORDS {
                out.flush()?;
                out.get_ref().sync_data()?;
                pending = 0;
            }
        }
    }
    out.flush()?;
    out.get_ref().sync_data()?;
    Ok(started.elapsed())
}

/// What a transfer took, in milliseconds, by the signed artefacts' own times; waiting for the patient is not in it.
struct Times {
    quote_ms: i64,
    seal_ms: i64,
    deliver_ms: i64,
    release_ms: i64,
    file_ms: i64,
    package_bytes: u64,
}

impl Times {
    const fn total_ms(&self) -> i64 {
        self.quote_ms + self.seal_ms + self.deliver_ms + self.release_ms + self.file_ms
    }
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    value[key].as_str().with_context(|| format!("no {key} in {value}"))
}

fn transfer(world: &World, number: u64) -> Result<Times> {
    let wallet = format!("bench-{number}");
    let (path, patient) = hundred_records(world, number)?;
    let path = path.to_str().context("a path that is no UTF-8")?;
    world.node(SOURCE, &["import", path])?.done()?;
    world.new_wallet(&wallet)?;
    for hospital in [SOURCE, DESTINATION] {
        let registered = world.node(hospital, &["patient", "register", &patient])?.json()?;
        world.wallet_at(&wallet, hospital, &["link", "--code", text(&registered, "link_code")?])?.done()?;
    }
    let asked = world.wallet_at(&wallet, DESTINATION, &["ask", "--source", SOURCE])?.json()?;
    let transfer = text(&asked, "transfer")?;
    world.node(DESTINATION, &["transfer", "request", transfer])?.done()?;
    world
        .wallet_at(
            &wallet,
            DESTINATION,
            &["inbox", "--transfer", transfer, "--until", "quoted", "--wait", "60"],
        )?
        .done()?;
    world.wallet_at(&wallet, DESTINATION, &["consent", "--transfer", transfer])?.done()?;
    let file = world.folder().join(format!("{transfer}.transfer"));
    let out = file.to_str().context("a path that is no UTF-8")?;
    let shown = world
        .node(DESTINATION, &["transfer", "show", transfer, "--wait", "60", "--until", "filed", "--out", out])?
        .json()?;
    ensure!(
        shown["records"].as_u64() == Some(RECORDS_OF_A_TRANSFER as u64),
        "another number of records: {shown}"
    );
    let verified = world.verify(&file)?.json()?;
    let at = |artefact: &str| -> Result<i64> {
        let steps = verified["steps"].as_array().context("no steps")?;
        let step = steps
            .iter()
            .find(|step| step["artefact"] == artefact)
            .with_context(|| format!("no {artefact}"))?;
        let issued: jiff::Timestamp = text(step, "issued")?.parse()?;
        Ok(issued.as_millisecond())
    };
    let (request, quote) = (at("handover/transfer-request/1")?, at("handover/quote/1")?);
    let (consent, header) = (at("handover/consent/1")?, at("handover/package-header/1")?);
    let (delivered, release) = (at("handover/delivered/1")?, at("handover/key-release/1")?);
    Ok(Times {
        quote_ms: quote - request,
        seal_ms: header - consent,
        deliver_ms: delivered - header,
        release_ms: release - delivered,
        file_ms: at("handover/receipt/1")? - release,
        package_bytes: shown["package_bytes"].as_u64().unwrap_or_default(),
    })
}

/// A patient of exactly a hundred records, one a line.
fn hundred_records(world: &World, number: u64) -> Result<(PathBuf, String)> {
    let options =
        generator::Options { visits: 6, scans: 0, form: Form::Ndjson, ..generator::Options::default() };
    let mut whole = Vec::new();
    let written = generator::write_patient(TRANSFER_SEED + number, &options, &mut whole)?;
    let path = world.records_folder().join(format!("bench-{number}.ndjson"));
    let mut out = BufWriter::new(File::create(&path)?);
    for line in whole.lines().take(RECORDS_OF_A_TRANSFER) {
        writeln!(out, "{}", line?)?;
    }
    out.flush()?;
    Ok((path, written.id))
}

fn report(world: &World, times: &[Times]) -> Result<()> {
    ensure!(!times.is_empty(), "no transfers");
    println!("{} transfers of {RECORDS_OF_A_TRANSFER} records, one after another", times.len());
    println!("| step | p50 ms | p99 ms |\n| --- | --- | --- |");
    let row = |name: &str, of: fn(&Times) -> i64| {
        println!("| {name} | {} | {} |", percentile(times, of, 50), percentile(times, of, 99));
    };
    row("request → quote (read and price everything)", |it| it.quote_ms);
    row("consent → header (seal the manifest)", |it| it.seal_ms);
    row("header → delivered (stream, verify, sync)", |it| it.deliver_ms);
    row("delivered → key release", |it| it.release_ms);
    row("key release → receipt (open, check, file)", |it| it.file_ms);
    row("all, without the patient", Times::total_ms);
    let bytes = times.iter().map(|it| it.package_bytes).max().unwrap_or_default();
    let baseline = copy_durably(world, usize::try_from(bytes)?)?;
    println!(
        "baseline: the same {bytes} bytes over bare TCP on loopback and fdatasync, p50 of 20: {baseline:.1} ms"
    );
    for hospital in [SOURCE, DESTINATION] {
        println!("peak memory of {hospital}: {:.0} MB", peak_memory_mb(world.pid(hospital)?)?);
    }
    Ok(())
}

fn percentile(times: &[Times], of: fn(&Times) -> i64, percent: usize) -> i64 {
    let mut sorted: Vec<i64> = times.iter().map(of).collect();
    sorted.sort_unstable();
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

/// Bytes from one process's hands to another file's disk, nothing else: the floor of any delivery.
fn copy_durably(world: &World, bytes: usize) -> Result<f64> {
    let path = world.folder().join("baseline");
    let mut took = Vec::new();
    for _ in 0..20 {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let started = Instant::now();
        let sender = std::thread::spawn(move || -> Result<()> {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(&vec![0x5a; bytes])?;
            Ok(())
        });
        let (mut stream, _) = listener.accept()?;
        let mut content = Vec::with_capacity(bytes);
        stream.read_to_end(&mut content)?;
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
        file.write_all(&content)?;
        file.sync_data()?;
        took.push(started.elapsed().as_secs_f64() * 1e3);
        sender.join().map_err(|_| anyhow::anyhow!("the sender ended early"))??;
    }
    took.sort_by(f64::total_cmp);
    Ok(took.get(took.len() / 2).copied().unwrap_or_default())
}
