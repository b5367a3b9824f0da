//! Figures of large content on real processes: a study that is stored at one hospital until it is durably filed at
//! another, with its baselines in the same run: `scp` and sync, and a bare TCP copy and sync.
//!
//! `cargo bench --package handover-tests --bench large`; `-- --mib N` for another size, `--files N` for a study of many
//! small files as well, `--memory` for memory only, without baselines: that takes twice the size on the disk, else it is
//! five times. It measures and prints; it never judges.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod baselines;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use serde_json::Value;

const SOURCE: &str = "lakeside";
const DESTINATION: &str = "riverside";
const MIB: u64 = 1024 * 1024;
/// Goes first: what memory grows by from here on is the large one's.
const SMALL_MIB: u64 = 64;
/// Bytes of each of many files: too long for a row, so that each is a blob.
const OF_MANY_BYTES: u64 = 100_000;
/// How long a step is waited for.
const WAIT_SECONDS: &str = "900";

fn main() -> Result<()> {
    let mib = option("--mib").unwrap_or(1024);
    let programs = Programs::build()?;
    let world = World::start(&programs, &Options::of(&[SOURCE, DESTINATION]))?;
    println!("| | at {SOURCE} MB | at {DESTINATION} MB |\n| --- | --- | --- |");
    memory(&world, "peak memory before anything")?;
    let small = Study::make(&world, "small", 1, SMALL_MIB * MIB)?;
    small.import(&world)?;
    small.transfer(&world)?;
    memory(&world, &format!("after a study of {SMALL_MIB} MiB"))?;
    let study = Study::make(&world, "study", 1, mib * MIB)?;
    let imported = study.import(&world)?;
    memory(&world, &format!("after importing a study of {mib} MiB"))?;
    let is_memory_only = std::env::args().any(|argument| argument == "--memory");
    if is_memory_only {
        std::fs::remove_file(&study.file)?;
    }
    let moved = study.transfer(&world)?;
    memory(&world, &format!("after its transfer ({mib} MiB)"))?;
    if let Some(files) = option("--files") {
        let many = Study::make(&world, "many", files, OF_MANY_BYTES)?;
        let (imported, moved) = (many.import(&world)?, many.transfer(&world)?);
        memory(&world, &format!("after a study of {files} files of {OF_MANY_BYTES} bytes"))?;
        println!("(imported in {:.1} s, moved in {:.1} s)", imported.as_secs_f64(), moved.wall.as_secs_f64());
    }
    if is_memory_only { Ok(()) } else { report(&world, &study, imported, &moved) }
}

fn option(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).and_then(|value| value.parse().ok())
}

fn memory(world: &World, when: &str) -> Result<()> {
    let (source, destination) =
        (peak_memory_mb(world.pid(SOURCE)?)?, peak_memory_mb(world.pid(DESTINATION)?)?);
    println!("| {when} | {source:.0} | {destination:.0} |");
    Ok(())
}

/// Peak resident memory of a process so far, in MB.
fn peak_memory_mb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}

/// Seconds that a process has worked so far, on all cores.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; user and system time are fields 14 and 15.
    let (_, after_name) = stat.rsplit_once(')').context("no name")?;
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / 100.0)
}

/// A patient with a document that refers to files.
struct Study {
    patient: String,
    files: u64,
    bytes: u64,
    file: PathBuf,
    resources: PathBuf,
}

/// What a transfer took, in milliseconds: by the wall from the patient's yes, and by the artefacts' own times.
struct Moved {
    wall: Duration,
    /// Seconds of work at source and destination.
    cpu_s: [f64; 2],
    seal_ms: i64,
    deliver_ms: i64,
    release_ms: i64,
    file_ms: i64,
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    value[key].as_str().with_context(|| format!("no {key} in {value}"))
}

impl Study {
    fn make(world: &World, name: &str, files: u64, bytes: u64) -> Result<Self> {
        let folder = world.records_folder().join(name);
        std::fs::create_dir_all(&folder)?;
        let file_of = |number: u64| folder.join(format!("{number}.bin"));
        let mut attachments = Vec::new();
        for number in 0..files {
            let mut file = File::create(file_of(number))?;
            let written = std::io::copy(&mut File::open("/dev/urandom")?.take(bytes), &mut file)?;
            ensure!(written == bytes, "the study is shorter");
            // What is still to be written of it would slow down whatever comes next.
            file.sync_all()?;
            let attachment = r#"{"attachment":{"contentType":"application/dicom","url":"NUMBER.bin"}}"#;
            attachments.push(attachment.replace("NUMBER", &number.to_string()));
        }
        let (file, content) = (file_of(0), attachments.join(","));
        let resources = folder.join("study.ndjson");
        let lines = format!(
            r#"{{"resourceType":"Patient","id":"{name}"}}
{{"resourceType":"DocumentReference","id":"d-{name}","status":"current","subject":{{"reference":"Patient/{name}"}},"date":"2026-01-02T03:04:05Z","content":[{content}]}}
"#
        );
        std::fs::write(&resources, lines)?;
        Ok(Self { patient: name.to_owned(), files, bytes, file, resources })
    }

    /// The patient, the document and its files.
    const fn records(&self) -> u64 {
        self.files + 2
    }

    fn import(&self, world: &World) -> Result<Duration> {
        let started = Instant::now();
        let path = self.resources.to_str().context("a path that is no UTF-8")?;
        let imported = world.node(SOURCE, &["import", path])?.json()?;
        let time = started.elapsed();
        ensure!(imported["records"]["new"] == self.records(), "not all was imported: {imported}");
        Ok(time)
    }

    fn transfer(&self, world: &World) -> Result<Moved> {
        world.new_wallet(&self.patient)?;
        for hospital in [SOURCE, DESTINATION] {
            let registered = world.node(hospital, &["patient", "register", &self.patient])?.json()?;
            let code = text(&registered, "link_code")?;
            world.wallet_at(&self.patient, hospital, &["link", "--code", code])?.done()?;
        }
        let asked = world.wallet_at(&self.patient, DESTINATION, &["ask", "--source", SOURCE])?.json()?;
        let transfer = text(&asked, "transfer")?;
        world.node(DESTINATION, &["transfer", "request", transfer])?.done()?;
        let quoted = ["inbox", "--transfer", transfer, "--until", "quoted", "--wait", "60"];
        world.wallet_at(&self.patient, DESTINATION, &quoted)?.done()?;
        let cpu = || -> Result<[f64; 2]> {
            Ok([cpu_seconds(world.pid(SOURCE)?)?, cpu_seconds(world.pid(DESTINATION)?)?])
        };
        let before = cpu()?;
        let started = Instant::now();
        world.wallet_at(&self.patient, DESTINATION, &["consent", "--transfer", transfer])?.done()?;
        let out = world.folder().join(format!("{transfer}.transfer"));
        let path = out.to_str().context("a path that is no UTF-8")?;
        let wait = ["transfer", "show", transfer, "--wait", WAIT_SECONDS, "--until", "filed", "--out", path];
        let shown = world.node(DESTINATION, &wait)?.json()?;
        let (wall, after) = (started.elapsed(), cpu()?);
        ensure!(shown["records"] == self.records(), "another number of records: {shown}");
        let verified = world.verify(&out)?.json()?;
        let at = |artefact: &str| -> Result<i64> {
            let steps = verified["steps"].as_array().context("no steps")?;
            let step = steps.iter().find(|step| step["artefact"] == artefact);
            let issued = text(step.with_context(|| format!("no {artefact}"))?, "issued")?;
            Ok(issued.parse::<jiff::Timestamp>()?.as_millisecond())
        };
        let (consent, header) = (at("handover/consent/1")?, at("handover/package-header/1")?);
        let (delivered, release) = (at("handover/delivered/1")?, at("handover/key-release/1")?);
        Ok(Moved {
            wall,
            cpu_s: [after[0] - before[0], after[1] - before[1]],
            seal_ms: header - consent,
            deliver_ms: delivered - header,
            release_ms: release - delivered,
            file_ms: at("handover/receipt/1")? - release,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn report(world: &World, study: &Study, imported: Duration, moved: &Moved) -> Result<()> {
    let megabytes = study.bytes as f64 / 1e6;
    println!("\n| {megabytes:.0} MB | s | MB/s |\n| --- | --- | --- |");
    let row = |name: &str, time: Duration| {
        println!("| {name} | {:.2} | {:.0} |", time.as_secs_f64(), megabytes / time.as_secs_f64());
    };
    row("import: hash, seal, sync", imported);
    let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    row("consent → header", ms(moved.seal_ms));
    row("header → delivered (stream, verify, sync)", ms(moved.deliver_ms));
    row("delivered → key release", ms(moved.release_ms));
    row("key release → receipt (open, check, file)", ms(moved.file_ms));
    let artefacts = ms(moved.seal_ms + moved.deliver_ms + moved.release_ms + moved.file_ms);
    row("stored at the one → filed at the other, by the artefacts", artefacts);
    row("the same, by the wall", moved.wall);
    let [source, destination] = moved.cpu_s.map(Duration::from_secs_f64);
    row("work of the source's processor for it", source);
    row("work of the destination's", destination);
    let bare = baselines::bare_tcp(&study.file, &world.folder().join("bare"))?;
    row("baseline: bare TCP to a file, fdatasync", bare);
    match baselines::scp(&study.file, &world.folder().join("scp")) {
        Ok(scp) => {
            row("baseline: scp (aes256-gcm), then sync of the file", scp);
            let ratio = moved.wall.as_secs_f64() / scp.as_secs_f64();
            println!("\nratio to scp: {ratio:.2} times its time, by the wall");
        }
        Err(error) => println!("\nscp was not measured: {error:#}"),
    }
    Ok(())
}
