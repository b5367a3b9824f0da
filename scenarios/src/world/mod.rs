//! A world: real processes on fresh keys in a fresh folder. One index, its root and two operators; hospitals that are
//! enrolled, certified and approved; patients' wallets.
//!
//! Invariants: everything listens on a port that the system chose; nothing is waited for by time; no process and no
//! folder is left behind, unless it was asked for. Must not know stories.

mod backups;
mod federation;
mod files;
mod hospital;
mod options;
mod succession;
mod team;
mod upgrades;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{process, thread};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::generator::{PRICE_LIST_CSV, TEST_CATALOGUE_CSV};
use crate::json;
use crate::process::{Answer, call, pasted};
use crate::programs::{Clock, Programs};
use crate::story::Order;
use federation::Federation;
use files::Folder;
pub use files::{check_folder, remove_temporary_folders};
use hospital::Hospital;
pub use options::{Door, Options, Place, Site};

/// ISO 4217 of hospitals that say nothing else.
const CURRENCY: &str = "USD";
/// Whose clock is the index's.
pub const INDEX: &str = "index";
/// Pause between two looks at what no command waits for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Worlds that this process has made.
static WORLDS: AtomicU32 = AtomicU32::new(0);
/// The kinds of entries that make a fee due.
const POSTED: [&str; 2] = ["post", "post-direct"];

/// A world. Dropping it kills its processes and removes a temporary folder.
#[derive(Debug)]
pub struct World {
    // Processes first: they go before the folder they work in.
    hospitals: BTreeMap<String, Hospital>,
    federation: Federation,
    programs: Programs,
    /// Whose programs are of the next version.
    upgraded: BTreeSet<String>,
    clock: Option<Clock>,
    folder: Folder,
    names: u32,
}

impl World {
    /// Starts a world: when this returns, every hospital is active and knows it.
    ///
    /// # Errors
    /// A process that does not do what it has to; what it said, and where its log is.
    pub fn start(programs: &Programs, options: &Options) -> Result<Self> {
        ensure!(!options.hospitals.is_empty(), "a world needs a hospital");
        let options = &options.at(if options.apart { Ipv4Addr::LOCALHOST } else { own_host() });
        let folder = Folder::make(options.folder.as_deref())?;
        let clock = options.clock.then(|| Clock::make(folder.path().join("clock"))).transpose()?;
        let whose = options.hospitals.iter().map(|place| place.id.as_str()).chain([INDEX]);
        clock.iter().try_for_each(|clock| whose.clone().try_for_each(|name| clock.of(name).set_ahead(0)))?;
        let programs = &clock.clone().map_or_else(|| programs.clone(), |clock| programs.at(clock));
        let own = |given: &Option<PathBuf>, name: &str, csv: &str| match given {
            Some(path) => std::fs::canonicalize(path).with_context(|| path.display().to_string()),
            None => folder.write(name, csv),
        };
        let catalogue = own(&options.catalogue, "test-catalogue.csv", TEST_CATALOGUE_CSV)?;
        let prices = own(&options.prices, "price-list.csv", PRICE_LIST_CSV)?;
        let root = federation::make_root(programs, &folder)?;
        let patience = options.index_patience;
        let made =
            |place: &Place| Hospital::init(programs, &folder, place, &root, &catalogue, &prices, patience);
        // Keys take long to make: everybody makes theirs at once.
        let (federation, hospitals) = thread::scope(|scope| {
            let hospitals: Vec<_> =
                options.hospitals.iter().map(|place| scope.spawn(move || made(place))).collect();
            let federation = Federation::start(programs, &folder, &root, options);
            (federation, hospitals.into_iter().map(joined).collect::<Result<Vec<_>>>())
        });
        let (federation, mut hospitals) = (federation?, hospitals?);
        let admitted: Result<Vec<()>> = thread::scope(|scope| {
            let federation = &federation;
            let admit = |hospital| scope.spawn(move || federation.admit(programs, hospital, options.apart));
            let admissions: Vec<_> = hospitals.iter_mut().map(admit).collect();
            admissions.into_iter().map(joined).collect()
        });
        admitted?;
        let hospitals = hospitals.into_iter().map(|hospital| (hospital.place.id.clone(), hospital)).collect();
        let (programs, upgraded) = (programs.clone(), BTreeSet::new());
        Ok(Self { hospitals, federation, programs, upgraded, clock, folder, names: 0 })
    }

    /// The folder with everything in it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the processes' logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folder.logs()
    }

    /// The folder for generated records.
    #[must_use]
    pub fn records_folder(&self) -> PathBuf {
        self.folder.records()
    }

    /// The federation's root key, hexadecimal digits.
    #[must_use]
    pub fn root(&self) -> &str {
        self.federation.root()
    }

    /// The currency of every hospital of a story.
    #[must_use]
    pub const fn currency(&self) -> &'static str {
        CURRENCY
    }

    /// The hospitals' identifiers.
    pub fn hospitals(&self) -> impl Iterator<Item = &str> {
        self.hospitals.keys().map(String::as_str)
    }

    /// A hospital's name for people.
    ///
    /// # Errors
    /// There is no such hospital.
    pub fn name(&self, hospital: &str) -> Result<&str> {
        Ok(&self.hospital(hospital)?.place.name)
    }

    /// Where a hospital's node said that it listens, and its control socket: its ready line.
    ///
    /// # Errors
    /// There is no such hospital, or it does not run.
    pub fn ready(&self, hospital: &str) -> Result<&Value> {
        self.hospital(hospital)?.ready()
    }

    /// What the index said when it was ready.
    #[must_use]
    pub const fn index_ready(&self) -> &Value {
        self.federation.ready()
    }

    fn hospital(&self, id: &str) -> Result<&Hospital> {
        self.hospitals.get(id).with_context(|| format!("this world has no hospital \"{id}\""))
    }

    fn hospital_mut(&mut self, id: &str) -> Result<&mut Hospital> {
        self.hospitals.get_mut(id).with_context(|| format!("this world has no hospital \"{id}\""))
    }

    /// Runs `handover-node` for a hospital, with `--json`.
    ///
    /// # Errors
    /// There is no such hospital, or the command cannot be run to its end. Its own refusal is in the answer.
    pub fn node(&self, hospital: &str, args: &[&str]) -> Result<Answer> {
        self.hospital(hospital)?.run(&self.programs_of(hospital), args)
    }

    /// Runs `handover-index`, with `--json`.
    ///
    /// # Errors
    /// The command cannot be run to its end.
    pub fn index(&self, args: &[&str]) -> Result<Answer> {
        self.federation.run(&self.programs_of(INDEX), args)
    }

    /// Runs `handover-patient` with the wallet of that name, with `--json`.
    ///
    /// # Errors
    /// The command cannot be run to its end.
    pub fn wallet(&self, name: &str, args: &[&str]) -> Result<Answer> {
        call(self.wallet_command(name, args)?)
    }

    fn wallet_command(&self, name: &str, args: &[&str]) -> Result<Command> {
        let mut command = self.programs_of(name).command(&self.programs.patient);
        command.args(["--json", "--wallet"]).arg(self.wallet_path(name));
        command.arg("--passphrase-file").arg(self.folder.secret(name)?).args(args);
        Ok(command)
    }

    /// The same at a hospital's node: its address and certificate are added.
    ///
    /// # Errors
    /// As [`World::wallet`]; there is no such hospital, or it does not run.
    pub fn wallet_at(&self, name: &str, hospital: &str, args: &[&str]) -> Result<Answer> {
        let ready = self.ready(hospital)?;
        let value = |key: &str| {
            json::at(ready, key).as_str().with_context(|| format!("no {key} in the ready line of {hospital}"))
        };
        let site = &self.hospital(hospital)?.place.site;
        let web = match site.web {
            Some(door) => format!("https://{}:{}/", site.host(), door.told),
            None => value("web")?.to_owned(),
        };
        let mut all = args.to_vec();
        all.extend(["--node", &web, "--node-certificate", value("certificate")?]);
        call(site.start(self.wallet_command(name, &all)?))
    }

    /// Makes a wallet; what it says.
    ///
    /// # Errors
    /// There is one of that name, or it cannot be made.
    pub fn new_wallet(&self, name: &str) -> Result<Value> {
        let recovery = self.folder.path().join("wallets").join(format!("{name}.recovery"));
        let recovery = recovery.to_str().context("the world's folder is no UTF-8")?;
        self.wallet(name, &["new", "--root", self.root(), "--recovery-file", recovery])?.json()
    }

    /// A wallet's file.
    #[must_use]
    pub fn wallet_path(&self, name: &str) -> PathBuf {
        self.folder.path().join("wallets").join(format!("{name}.wallet"))
    }

    /// `name` with a number that nobody else in this world has.
    pub fn unique(&mut self, name: &str) -> String {
        self.names = self.names.saturating_add(1);
        format!("{}-{name}", self.names)
    }

    /// Verifies a transfer's file offline: no process, no key, only the root. Whoever does has the newest program.
    ///
    /// # Errors
    /// The command cannot be run to its end.
    pub fn verify(&self, file: &Path) -> Result<Answer> {
        self.verify_with(file, !self.upgraded.is_empty())
    }

    /// The same, with a program of the next version or of this one.
    ///
    /// # Errors
    /// As [`World::verify`].
    pub fn verify_with(&self, file: &Path, next: bool) -> Result<Answer> {
        let any = self.hospitals.values().next().context("a world has a hospital")?;
        let mut command = self.programs.of_version(next).command(&self.programs.node);
        command.arg("--json").arg("--config").arg(any.config_path()).arg("verify").arg(file);
        call(command)
    }

    /// Two operators sign an order about a hospital; the directory version that carries it.
    ///
    /// # Errors
    /// It is not in force afterwards.
    pub fn order(&self, hospital: &str, order: Order) -> Result<u64> {
        let word = match order {
            Order::Suspend => "suspend",
            Order::Revoke => "revoke",
        };
        self.federation.order(&self.programs, hospital, word)
    }

    /// Two operators sign a fee schedule that follows another one, with these words of the command; returns when it
    /// holds.
    ///
    /// # Errors
    /// They cannot.
    pub fn schedule(&self, jurisdiction: &str, words: &[&str]) -> Result<()> {
        self.federation.schedule(&self.programs, jurisdiction, words)
    }

    /// The first (0) or the second operator (1) settles a fee that is held, with these words of the command.
    ///
    /// # Errors
    /// The command cannot be given.
    pub fn settle(&self, operator: usize, words: &[&str]) -> Result<Answer> {
        self.federation.settle(&self.programs, operator, words)
    }

    /// The ledger's entries of a transfer.
    ///
    /// # Errors
    /// The index does not answer.
    pub fn entries(&self, transfer: &str) -> Result<Vec<Value>> {
        let listed = self.index(&["ledger", "entries"])?.json()?;
        let entries = json::list(&listed, "entries");
        Ok(entries.filter(|entry| json::text(entry, "transfer") == transfer).cloned().collect())
    }

    /// The entry that makes a transfer's fee due, as soon as the evidence has reached the ledger.
    ///
    /// # Errors
    /// It does not come within `limit`.
    pub fn posted(&self, transfer: &str, limit: Duration) -> Result<Value> {
        let end = Instant::now().checked_add(limit);
        loop {
            let entries = self.entries(transfer)?;
            if let Some(entry) = entries.iter().find(|entry| is_due(entry)) {
                return Ok(entry.clone());
            }
            if end.is_none_or(|end| Instant::now() >= end) {
                bail!(
                    "transfer {transfer}\n  expected: its fee is posted within {} s\n  came: {entries:?}",
                    limit.as_secs()
                );
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// The process of a hospital's node.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self, hospital: &str) -> Result<u32> {
        self.hospital(hospital)?.pid.with_context(|| format!("{hospital} does not run"))
    }

    /// The index's process, if it runs.
    #[must_use]
    pub fn index_pid(&self) -> Option<u32> {
        self.federation.pid()
    }

    /// Stops a hospital's process: it drains.
    ///
    /// # Errors
    /// It does not end well.
    pub fn stop(&mut self, hospital: &str) -> Result<()> {
        self.hospital_mut(hospital)?.stop()
    }

    /// Kills a hospital's process.
    ///
    /// # Errors
    /// It had ended by itself.
    pub fn kill(&mut self, hospital: &str) -> Result<()> {
        self.hospital_mut(hospital)?.kill()
    }

    /// Starts a hospital's process on its data folder, where it listened before; stops it first if it runs.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self, hospital: &str) -> Result<()> {
        let programs = self.programs_of(hospital);
        self.hospital_mut(hospital)?.restart(&programs)
    }

    /// Stops the index: it drains. [`World::restart_index`] starts it again.
    ///
    /// # Errors
    /// It does not end well.
    pub fn stop_index(&mut self) -> Result<()> {
        self.federation.stop()
    }

    /// Changes what stands in a hospital's configuration besides; commands have it at once, its process from its next
    /// start on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&mut self, hospital: &str, more: &str) -> Result<()> {
        self.hospital_mut(hospital)?.configure(more)
    }

    /// Names the relays through which a hospital behind address translation is reached, for its next start.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub fn reach_through(&mut self, hospital: &str, relays: &[String]) -> Result<()> {
        self.hospital_mut(hospital)?.reach_through(relays)
    }

    /// The same of the index's.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure_index(&mut self, more: &str) -> Result<()> {
        self.federation.configure(more)
    }

    /// Stops the index, or kills it, and starts it on its data folder, where it listened before.
    ///
    /// # Errors
    /// It does not stop or start.
    pub fn restart_index(&mut self, kill: bool) -> Result<()> {
        let programs = self.programs_of(INDEX);
        self.federation.restart(&programs, kill)
    }

    /// Sets everybody's clock so many seconds ahead of the true time, also those of processes that run.
    ///
    /// # Errors
    /// The world was not started with [`Options::clock`].
    pub fn set_clock(&self, seconds_ahead: i64) -> Result<()> {
        self.clock()?.set_ahead(seconds_ahead)?;
        self.hospitals().chain([INDEX]).try_for_each(|whose| self.set_clock_of(whose, seconds_ahead))
    }

    /// The same for one hospital's process, or the one of the [`INDEX`], alone; not for commands that are given there.
    ///
    /// # Errors
    /// As [`World::set_clock`].
    pub fn set_clock_of(&self, whose: &str, seconds_ahead: i64) -> Result<()> {
        self.clock()?.of(whose).set_ahead(seconds_ahead)
    }

    fn clock(&self) -> Result<&Clock> {
        self.clock.as_ref().context("this world's clocks cannot be set")
    }

    /// Ends the processes; a temporary folder stays, for people to look at.
    pub fn leave_folder(mut self) {
        self.folder.keep();
    }

    /// Leaves processes and folder as they are, for people to look at; how to, as commands to be pasted into a shell.
    #[must_use]
    pub fn let_go(mut self) -> Vec<String> {
        let list = ["transfer", "list"].map(OsStr::new);
        let mut hints = vec![self.federation.hint(&self.programs)];
        hints.extend(self.hospitals.values().map(|it| it.hint(&self.programs, &list)));
        hints.extend(self.wallet_hint());
        let mut hospitals = self.hospitals.values();
        hints.extend(hospitals.find_map(|it| it.verify_hint(&self.programs, self.folder.path())));
        let running = self.federation.pid().into_iter();
        let running = running.chain(self.hospitals.values().filter_map(Hospital::running));
        let pids: Vec<String> = running.map(|pid| pid.to_string()).collect();
        if !pids.is_empty() {
            hints.push(format!("kill {}", pids.join(" ")));
        }
        self.hospitals.values_mut().for_each(Hospital::let_go);
        self.federation.let_go();
        self.folder.keep();
        hints
    }

    /// What the first wallet knows.
    fn wallet_hint(&self) -> Option<String> {
        let wallets = std::fs::read_dir(self.folder.path().join("wallets")).ok()?;
        let wallets = wallets.filter_map(|it| Some(it.ok()?.path()));
        let wallet = wallets.filter(|it| it.extension().is_some_and(|ending| ending == "wallet")).min()?;
        let secret = self.folder.secret(wallet.file_stem()?.to_str()?).ok()?;
        let mut command = self.programs.command(&self.programs.patient);
        command.arg("--wallet").arg(&wallet).arg("--passphrase-file").arg(secret);
        Some(pasted(command.arg("show")))
    }
}

/// An address of this machine for one world alone, so that nobody else takes a port while a process of its is stopped.
/// On systems where not all of 127.0.0.0/8 is this machine, the usual one.
fn own_host() -> Ipv4Addr {
    if !cfg!(target_os = "linux") {
        return Ipv4Addr::LOCALHOST;
    }
    let [_, _, high, low] = process::id().to_be_bytes();
    let [.., number] = WORLDS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // From 64 on: what is below may be in use by name, as 127.0.0.1 is.
    Ipv4Addr::new(127, 64 | (number & 0x3f), high, low)
}

/// Whether a ledger entry makes a fee due.
#[must_use]
pub fn is_due(entry: &Value) -> bool {
    json::at(entry, "kind").as_str().is_some_and(|kind| POSTED.contains(&kind))
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread that prepared the world panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_identifiers() {
        assert_eq!(Place::named("lakeside").name, "Lakeside Hospital");
    }
}
