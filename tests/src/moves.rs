//! One patient's move from the source to the destination, step by step, on the command lines that people use; and
//! how a move must have ended, whatever was killed on its way.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use handover_scenarios::generator::{self, Expected};
use handover_scenarios::process::Answer;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{INDEX, Options, World, is_due};
use serde_json::{Value, json};

/// Who holds the records.
pub const SOURCE: &str = "lakeside";
/// Who gets them.
pub const DESTINATION: &str = "riverside";
/// The longest that anything here may take.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The same, as a command takes it.
pub const LIMIT_SECONDS: &str = "60";
/// The largest record that is shown and compared, in bytes.
const SHOWN_BYTES: u64 = 1_000_000;
/// Wallets that are made at the same time.
const AT_ONCE: usize = 4;

/// A process that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The source's node.
    Source,
    /// The destination's node.
    Destination,
    /// The index.
    Index,
}

impl Victim {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Source, Self::Destination, Self::Index];

    /// Whose clock and log are its.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.hospital().unwrap_or(INDEX)
    }

    /// Its hospital, if it is not the index.
    #[must_use]
    pub const fn hospital(self) -> Option<&'static str> {
        match self {
            Self::Source => Some(SOURCE),
            Self::Destination => Some(DESTINATION),
            Self::Index => None,
        }
    }

    /// Its process.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(self, world: &World) -> Result<u32> {
        match self.hospital() {
            Some(hospital) => world.pid(hospital),
            None => world.index_pid().context("the index does not run"),
        }
    }

    /// Starts it again on its data folder after it was killed.
    pub fn restart(self, world: &mut World) -> Result<()> {
        match self.hospital() {
            Some(hospital) => {
                // Fails if it had not died of the signal.
                world.kill(hospital)?;
                world.restart(hospital)
            }
            None => world.restart_index(true),
        }
    }
}

/// A world of two hospitals.
pub fn world() -> Result<World> {
    World::start(Programs::shared()?, &Options::of(&[SOURCE, DESTINATION]))
}

/// Hands a test's outcome on; after a failure the world's folder stays for people to look at.
pub fn close(world: World, outcome: Result<()>) -> Result<()> {
    outcome.map_err(|fault| {
        let folder = world.folder().display().to_string();
        world.leave_folder();
        fault.context(format!("data and logs are in {folder}"))
    })
}

/// A patient with a wallet, linked at both hospitals, and their one transfer.
#[derive(Clone, Debug)]
pub struct Move {
    /// The wallet's name.
    pub wallet: String,
    /// The patient's number, the same at both hospitals.
    pub patient: String,
    /// What is known of their records.
    pub expected: Expected,
    /// What was imported at the source.
    pub file: PathBuf,
    /// The transfer, once it was asked for.
    pub transfer: String,
}

/// Patients whose records lie at the source, one for each size of scan in bytes (0: none).
pub fn patients(world: &World, scans: &[usize]) -> Result<Vec<Move>> {
    let mut moves = Vec::new();
    for (seed, scan_bytes) in (1..).zip(scans) {
        let wallet = format!("p{seed}");
        let file = world.records_folder().join(format!("{wallet}.json"));
        let options = generator::Options {
            scans: usize::from(*scan_bytes > 0),
            scan_bytes: *scan_bytes,
            hospital: world.name(SOURCE)?.to_owned(),
            ..generator::Options::default()
        };
        let mut out = BufWriter::new(File::create(&file)?);
        let written = generator::write_patient(seed, &options, &mut out)?;
        out.flush()?;
        let (patient, expected) = (written.id, written.expected);
        moves.push(Move { wallet, patient, expected, file, transfer: String::new() });
    }
    let files: Vec<&str> = moves.iter().filter_map(|it| it.file.to_str()).collect();
    world.node(SOURCE, &[&["import"], files.as_slice()].concat())?.done()?;
    for some in moves.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let linked: Vec<_> = some.iter().map(|it| scope.spawn(|| it.link(world))).collect();
            linked.into_iter().try_for_each(joined)
        })?;
    }
    Ok(moves)
}

/// What a helping thread came to.
pub fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a helping thread panicked"))?
}

impl Move {
    /// Makes the wallet and links it at both hospitals.
    pub fn link(&self, world: &World) -> Result<()> {
        world.new_wallet(&self.wallet)?;
        for hospital in [SOURCE, DESTINATION] {
            let registered = world.node(hospital, &["patient", "register", &self.patient])?.json()?;
            let code = registered["link_code"].as_str().context("no link code")?;
            world.wallet_at(&self.wallet, hospital, &["link", "--code", code])?.done()?;
        }
        Ok(())
    }

    /// The patient's wallet at the destination's node, about this transfer.
    pub fn wallet(&self, world: &World, word: &str, more: &[&str]) -> Result<Answer> {
        let args = [&[word, "--transfer", &self.transfer], more].concat();
        world.wallet_at(&self.wallet, DESTINATION, &args)
    }

    /// The patient asks at the destination; the transfer has its identifier from now on.
    pub fn ask(&mut self, world: &World) -> Result<()> {
        self.ask_as(world, &[])
    }

    /// The same with more words, such as the transfer's identifier.
    pub fn ask_as(&mut self, world: &World, more: &[&str]) -> Result<()> {
        let args = [&["ask", "--source", SOURCE], more].concat();
        let asked = world.wallet_at(&self.wallet, DESTINATION, &args)?.json()?;
        asked["transfer"].as_str().context("no transfer")?.clone_into(&mut self.transfer);
        Ok(())
    }

    /// The destination's desk asks the source.
    pub fn request(&self, world: &World) -> Result<Value> {
        world.node(DESTINATION, &["transfer", "request", &self.transfer])?.json()
    }

    /// The transfer as a hospital shows it.
    pub fn show(&self, world: &World, at: &str) -> Result<Value> {
        world.node(at, &["transfer", "show", &self.transfer])?.json()
    }

    /// Waits until the transfer has reached a phase at a hospital.
    pub fn until(&self, world: &World, at: &str, phase: &str) -> Result<Value> {
        let args = ["transfer", "show", &self.transfer, "--wait", LIMIT_SECONDS, "--until", phase];
        world.node(at, &args)?.json().with_context(|| format!("{} was to be {phase} at {at}", self.transfer))
    }

    /// The patient waits for the quote.
    pub fn quoted(&self, world: &World) -> Result<()> {
        self.wallet(world, "inbox", &["--until", "quoted", "--wait", LIMIT_SECONDS])?.done()
    }

    /// Whatever is still to do is done, and everything about it is as it must be, once.
    pub fn ends_well(&self, world: &World) -> Result<()> {
        self.end(world).with_context(|| format!("transfer {} of {}", self.transfer, self.wallet))
    }

    fn end(&self, world: &World) -> Result<()> {
        let inbox = self.wallet(world, "inbox", &["--until", "filed", "--wait", LIMIT_SECONDS])?.json()?;
        same("what the patient is told", &"filed", &text(&inbox["transfers"][0], "phase"))?;
        let source = self.until(world, SOURCE, "filed")?;
        let destination = self.until(world, DESTINATION, "filed")?;
        for (at, shown) in [(SOURCE, &source), (DESTINATION, &destination)] {
            same(&format!("the state at {at}"), &"filed", &text(shown, "state"))?;
            same(&format!("dead letters at {at}"), &Some(0), &shown["dead_letters"].as_u64())?;
        }
        self.records_are_equal(world)?;
        let fee = self.expected.fee();
        same("the fee at the source", &fee.as_str(), &text(&source, "fee"))?;
        same("the fee at the destination", &fee.as_str(), &text(&destination, "fee"))?;
        world.posted(&self.transfer, LIMIT)?;
        self.nothing_waits(world)?;
        let entries = world.entries(&self.transfer)?;
        let due: Vec<&str> = entries.iter().filter(|it| is_due(it)).map(|it| text(it, "amount")).collect();
        same("fees in the ledger", &vec![fee.as_str()], &due)?;
        ensure!(entries.len() <= 2, "expected: at most a reservation and its fee, came: {entries:?}");
        Ok(())
    }

    /// Same records at both ends, each once and in its first version, and one Provenance.
    pub fn records_are_equal(&self, world: &World) -> Result<()> {
        let sent = self.records(world, SOURCE)?;
        let (own, filed): (Vec<Value>, Vec<Value>) = self
            .records(world, DESTINATION)?
            .into_iter()
            .partition(|it| it["type"] == "Provenance" && it["id"] == self.transfer.as_str());
        same("Provenance of this transfer", &1, &own.len())?;
        same("records sent", &(self.expected.total_resources() as usize), &sent.len())?;
        let lines = |records: &[Value]| -> BTreeSet<String> {
            let keys = ["type", "id", "department", "date", "bytes", "version"];
            records.iter().map(|it| keys.map(|key| it[key].to_string()).join(" ")).collect()
        };
        same("records filed", &sent.len(), &filed.len())?;
        same("records at both ends", &lines(&sent), &lines(&filed))?;
        let largest = |records: &[Value]| {
            let found = records.iter().max_by_key(|it| (it["bytes"].as_u64(), it["id"].to_string()));
            found.map(|it| text(it, "record").to_owned()).unwrap_or_default()
        };
        // What is larger is compared by its length here, and by its hash when it is filed.
        if sent.iter().filter_map(|it| it["bytes"].as_u64()).max() > Some(SHOWN_BYTES) {
            return Ok(());
        }
        let content = |at: &str, records: &[Value]| -> Result<Vec<u8>> {
            let answer =
                world.node(at, &["records", "show", "--patient", &self.patient, &largest(records)])?;
            answer.done()?;
            Ok(answer.stdout)
        };
        ensure!(content(SOURCE, &sent)? == content(DESTINATION, &filed)?, "the largest record differs");
        Ok(())
    }

    /// The patient's records at a hospital.
    pub fn records(&self, world: &World, at: &str) -> Result<Vec<Value>> {
        let answer = world.node(at, &["records", "list", "--patient", &self.patient])?;
        Ok(answer.json()?["records"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until neither hospital owes anybody anything of this transfer.
    fn nothing_waits(&self, world: &World) -> Result<()> {
        for at in [SOURCE, DESTINATION] {
            within(&format!("nothing of the transfer waits at {at}"), || {
                Ok(self.show(world, at)?["waiting"].as_u64() == Some(0))
            })?;
        }
        Ok(())
    }
}

/// Everything that is stored is whole, and the ledger balances with nothing pending.
pub fn all_is_whole(world: &World) -> Result<()> {
    for at in [SOURCE, DESTINATION] {
        let checked = world.node(at, &["check"])?.json()?;
        ensure!(checked["whole"] == true, "check at {at}: {checked}");
        let incidents = world.node(at, &["incident", "list"])?.json()?;
        ensure!(incidents["incidents"] == json!([]), "{at} accuses somebody who is honest: {incidents}");
    }
    let incidents = world.index(&["incident", "list"])?.json()?;
    ensure!(incidents["incidents"] == json!([]), "the index accuses somebody who is honest: {incidents}");
    let checked = world.index(&["check"])?.json()?;
    ensure!(checked["sound"] == true && checked["open_reservations"] == 0, "check at the index: {checked}");
    let balances = world.index(&["ledger", "balances"])?.json()?;
    ensure!(balances["balanced"] == true, "{balances}");
    for total in balances["totals"].as_array().into_iter().flatten() {
        ensure!(total["posted_debits"] == total["posted_credits"], "{balances}");
        ensure!(total["pending_debits"] == "0.00", "{balances}");
    }
    Ok(())
}

/// Where a process keeps what is on its way in, by its data folder.
pub fn incoming(data: &Path) -> Result<PathBuf> {
    let own = std::fs::read_dir(data.join("incoming"))?.next().context("nothing ever came in")??;
    Ok(own.path())
}

/// Looks until something holds.
pub fn within(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        if begun.elapsed() > LIMIT {
            bail!("expected within {} s: {what}", LIMIT.as_secs());
        }
        thread::yield_now();
    }
    Ok(())
}

/// Fails unless both are the same.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, came: &T) -> Result<()> {
    ensure!(expected == came, "{what}\n  expected: {expected:?}\n  came: {came:?}");
    Ok(())
}

/// A text in an answer; empty if it is not there.
pub fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
