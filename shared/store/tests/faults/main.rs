//! What becomes of a store that was killed, cut, altered, filled to the last block, or that lost what was not flushed:
//! it opens with everything that was acknowledged, or says that it is damaged. Never silently less.
//!
//! Seeded: `HANDOVER_FAULTS_SEED` gives another run, `HANDOVER_FAULTS_ROUNDS` a longer one (10 is ten times as long). Every store is
//! looked at by a process of its own, so that one that hangs or aborts is seen as such.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says so by failing"
)]

mod damage;
mod opening;
mod repairs;
mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use damage::Damage;
use handover_disk::{Disk, Op, Seeded, Survives};
use handover_store::{Store, StoreError};
use writer::{Acknowledged, Outcome, ROLE, WRITERS};

/// No store here takes this long to open.
const LOOK_LIMIT: Duration = Duration::from_secs(60);
const ENOUGH: u64 = 1 << 40;

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |value| value.parse().unwrap())
}

fn seed() -> u64 {
    setting("HANDOVER_FAULTS_SEED", 20_261_122)
}

fn rounds(short: u64) -> u64 {
    short * setting("HANDOVER_FAULTS_ROUNDS", 1)
}

/// This program again, as another process.
fn child(role: &str, folder: &Path, bytes: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_does_what_it_is_told", "--ignored", "--nocapture"]);
    command.env(ROLE, role).env("FOLDER", folder).env("BYTES", bytes.to_string());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other process of the tests below"]
async fn child_does_what_it_is_told() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let folder = PathBuf::from(std::env::var_os("FOLDER").unwrap());
    let bytes = setting("BYTES", 0) as usize;
    match role.as_str() {
        "fill" => fill(&folder, bytes).await,
        "write" => {
            let sessions = setting("SESSIONS", 1);
            for session in 1..=sessions {
                let store = Store::sled(&folder, &writer::cell_key()).unwrap();
                let each = setting("EACH", u64::MAX);
                match std::env::var_os("ACKS") {
                    Some(acks) => {
                        let acks = fs::OpenOptions::new().create(true).append(true).open(acks).unwrap();
                        let said = move |writer, number| {
                            writer::say(&mut &acks.try_clone().unwrap(), writer, number)
                        };
                        let said = std::sync::Arc::new(std::sync::Mutex::new(said));
                        let said = move |writer, number| (said.lock().unwrap())(writer, number);
                        writer::write(&store, each, bytes, said).await.unwrap();
                    }
                    None => writer::write(&store, each, bytes, writer::say_aloud).await.unwrap(),
                }
                if session < sessions || std::env::var_os("CLOSE").is_some() {
                    store.close().await;
                }
            }
            // As if killed: nothing is closed.
            std::process::exit(0);
        }
        "repair" => repairs::repair_and_be_killed(&folder),
        "glance" => {
            let outcome = writer::look(&folder, &acknowledged_here(), bytes).await;
            tell_outcome(&outcome);
        }
        _ => {
            let acknowledged = acknowledged_here();
            let outcome = writer::look(&folder, &acknowledged, bytes).await;
            // What was refused once stays refused: opening must not have made it look whole.
            let outcome = match outcome {
                Outcome::Refused(why) => match writer::look(&folder, &acknowledged, bytes).await {
                    Outcome::Refused(_) => match writer::repair(&folder, &acknowledged, bytes).await {
                        Ok(salvaged) => Outcome::Refused(format!("{salvaged} {why}")),
                        Err(wrong) => Outcome::Silent(format!("refused ({why}), {wrong}")),
                    },
                    other => Outcome::Silent(format!("refused ({why}), then {other:?}")),
                },
                other => other,
            };
            tell_outcome(&outcome);
        }
    }
}

/// What the parent says was acknowledged.
fn acknowledged_here() -> Acknowledged {
    let list = std::env::var("ACKNOWLEDGED").unwrap();
    let list: Vec<u64> = list.split(',').map(|n| n.parse().unwrap()).collect();
    list.try_into().unwrap()
}

fn tell_outcome(outcome: &Outcome) {
    writer::tell(&match outcome {
        Outcome::Whole => "whole".to_owned(),
        Outcome::Refused(why) => format!("refused {why}"),
        Outcome::Silent(what) => format!("silent {what}"),
    });
}

/// Writes until that is refused; reads; and writes again once it is told to.
async fn fill(folder: &Path, bytes: usize) {
    let store = Store::sled(folder, &writer::cell_key()).unwrap();
    let full = writer::write(&store, u64::MAX, bytes, writer::say_aloud).await.unwrap_err();
    let read: Result<_, StoreError> = store.read(|txn| txn.get(b"a")).await;
    let read = read.map_or_else(|fault| fault.code().as_str(), |_| "read");
    writer::tell(&format!("full {} {read} {full}", full.code()));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let again = writer::write(&store, 1, bytes, writer::say_aloud).await;
    writer::tell(&format!("again {}", again.map_or_else(|fault| fault.code().as_str(), |()| "written")));
    std::process::exit(0);
}

/// Looks at a store in a process of its own; one that is refused is looked at again and repaired.
async fn look(folder: &Path, acknowledged: &Acknowledged, bytes: usize) -> Outcome {
    look_as("look", folder, acknowledged, bytes).await
}

async fn look_as(role: &str, folder: &Path, acknowledged: &Acknowledged, bytes: usize) -> Outcome {
    let list: Vec<String> = acknowledged.iter().map(u64::to_string).collect();
    let mut command = tokio::process::Command::from(child(role, folder, bytes));
    command.env("ACKNOWLEDGED", list.join(",")).stderr(Stdio::null()).kill_on_drop(true);
    let Ok(ended) = tokio::time::timeout(LOOK_LIMIT, command.output()).await else {
        return Outcome::Silent("it hangs".to_owned());
    };
    let ended = ended.unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let outcome = said.lines().find_map(|line| match line.split_once(' ').unwrap_or((line, "")) {
        ("whole", _) => Some(Outcome::Whole),
        ("refused", why) => Some(Outcome::Refused(why.to_owned())),
        ("silent", what) => Some(Outcome::Silent(what.to_owned())),
        _ => None,
    });
    outcome.unwrap_or_else(|| Outcome::Silent(format!("its process ended with {}", ended.status)))
}

/// What came of all trials, by kind.
#[derive(Default)]
struct Tally {
    whole: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    silent: Vec<String>,
    words: BTreeMap<String, u64>,
    /// Cells that repairs salvaged, and those that were acknowledged.
    salvaged: BTreeMap<String, (u64, u64)>,
}

impl Tally {
    fn note(&mut self, kind: &str, what: &str, outcome: Outcome) {
        match outcome {
            Outcome::Whole => *self.whole.entry(kind.to_owned()).or_default() += 1,
            Outcome::Refused(why) => {
                *self.refused.entry(kind.to_owned()).or_default() += 1;
                let (salvaged, why) = why.split_once(' ').unwrap();
                let (salvaged, of) = salvaged.split_once('/').unwrap();
                let sum = self.salvaged.entry(kind.to_owned()).or_default();
                sum.0 += salvaged.parse::<u64>().unwrap();
                sum.1 += of.parse::<u64>().unwrap();
                let words: String = why.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
                *self.words.entry(words.replace("99", "9").chars().take(160).collect()).or_default() += 1;
            }
            Outcome::Silent(found) => self.silent.push(format!("{kind}: {what}: {found}")),
        }
    }

    fn settle(self, name: &str) {
        eprintln!("{name}: seed {}, opened whole {:?}, refused {:?}", seed(), self.whole, self.refused);
        eprintln!("  repairs salvaged, of values: {:?}", self.salvaged);
        for (words, count) in &self.words {
            eprintln!("  {count} times: {words}");
        }
        assert!(self.silent.is_empty(), "{name}: {} wrong:\n{}", self.silent.len(), self.silent.join("\n"));
    }
}

/// A store that was written by another process, and what that was answered.
fn written(folder: &Path, bytes: usize, each: u64, sessions: u64, is_closed: bool) -> Acknowledged {
    let mut command = child("write", folder, bytes);
    command.env("EACH", each.to_string()).env("SESSIONS", sessions.to_string()).stdout(Stdio::piped());
    if is_closed {
        command.env("CLOSE", "yes");
    }
    let mut child = command.spawn().unwrap();
    let mut acknowledged = [0; WRITERS as usize];
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        writer::hear(&line.unwrap(), &mut acknowledged);
    }
    assert!(child.wait().unwrap().success());
    acknowledged
}

/// The same, killed once it was answered so often.
fn killed(folder: &Path, bytes: usize, answers: u64, acknowledged: &mut Acknowledged) {
    let mut child = child("write", folder, bytes).stdout(Stdio::piped()).spawn().unwrap();
    let before: u64 = acknowledged.iter().sum();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        writer::hear(&line.unwrap(), acknowledged);
        if acknowledged.iter().sum::<u64>() >= before + answers {
            // A kill of one that is gone already is none.
            let _ = child.kill();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.iter().sum::<u64>() >= before + answers, "the writer ended by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_opens_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut seeded = Seeded(seed());
    let mut acknowledged = [0; WRITERS as usize];
    for round in 0..rounds(12) {
        killed(folder.path(), 3_000, 1 + seeded.below(150), &mut acknowledged);
        let outcome = look(folder.path(), &acknowledged, 3_000).await;
        assert_eq!(outcome, Outcome::Whole, "round {round}");
        // One that was written and not answered counts from here on.
        acknowledged = written(folder.path(), 3_000, 1, 1, true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_never_silently_less() {
    let folder = tempfile::tempdir().unwrap();
    let mut seeded = Seeded(seed());
    let mut tally = Tally::default();
    // Small and closed; small and killed; one of several segments, whose middle can be hit.
    let small = 2_000;
    let mut bases = Vec::new();
    for (name, each, sessions, is_closed, bytes) in
        [("closed", 60, 2, true, small), ("killed", 60, 2, false, small), ("large", 120, 2, false, 60_000)]
    {
        let base = folder.path().join(name);
        let acknowledged = written(&base, bytes, each, sessions, is_closed);
        bases.push((name, base, acknowledged, bytes));
    }
    for round in 0..rounds(8) {
        for damage in Damage::ALL {
            let (name, base, acknowledged, bytes) =
                &bases[if round % 5 == 4 { 2 } else { (round / 2) as usize % 2 }];
            let trial = folder.path().join("trial");
            damage::copy(base, &trial);
            let place = damage.strike(&trial, round, &mut seeded);
            let outcome = look(&trial, acknowledged, *bytes).await;
            tally.note(&format!("{name} {damage:?}"), &place, outcome);
            fs::remove_dir_all(&trial).unwrap();
        }
    }
    tally.settle("damage");
}

/// Power is lost at many moments of one run that is noted.
async fn lose_power(name: &str, bytes: usize, each: u64, trials: u64) {
    let disk = Disk::mount(ENOUGH, None).unwrap();
    let mut command = child("write", &disk.path().join("store"), bytes);
    command.env("EACH", each.to_string()).env("SESSIONS", "3").env("ACKS", disk.path().join("acks"));
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    let ops = std::mem::take(&mut disk.state().ops);
    let acks = ops.iter().find_map(|op| match op {
        Op::Name { name, is, .. } if name == "acks" => Some(*is),
        _ => None,
    });
    let is_ack = |op: &Op| matches!(op, Op::Write { file, .. } if Some(*file) == acks);
    let mut seeded = Seeded(seed());
    let mut tally = Tally::default();
    let folder = tempfile::tempdir().unwrap();
    for trial in 0..trials {
        // Where most is at stake: right behind an answer, or anywhere.
        let mut end = 1 + seeded.below(ops.len() as u64) as usize;
        if trial % 2 == 0 {
            end = ops.iter().skip(end).position(is_ack).map_or(ops.len(), |next| end + next + 1);
        }
        let before = &ops[..end];
        let mut acknowledged = [0; WRITERS as usize];
        for op in before.iter().filter(|op| is_ack(op)) {
            let Op::Write { bytes, .. } = op else { continue };
            writer::hear(std::str::from_utf8(bytes).unwrap(), &mut acknowledged);
        }
        let survives = match trial % 4 {
            0 => Survives::Nothing,
            1 => Survives::Everything,
            _ => Survives::Some(seeded.below(101)),
        };
        let nodes = handover_disk::left(before, survives, &mut seeded);
        let place = folder.path().join("disk");
        handover_disk::lay_out_all(&nodes, &place).unwrap();
        // A loss of power is no damage: nothing that was flushed is gone.
        let outcome = match look(&place.join("store"), &acknowledged, bytes).await {
            Outcome::Refused(why) => Outcome::Silent(format!("refused: {why}")),
            other => other,
        };
        let kind = match survives {
            Survives::Some(_) => "some".to_owned(),
            other => format!("{other:?}"),
        };
        tally.note(&kind, &format!("trial {trial}, {survives:?}, {end} of {}", ops.len()), outcome);
        fs::remove_dir_all(&place).unwrap();
    }
    tally.settle(name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_unflushed_writes_it_opens_whole() {
    lose_power("power lost, small", 1_000, 40, rounds(24)).await;
    // Segments are freed and used again.
    lose_power("power lost, segments", 100_000, 150, rounds(6)).await;
}

/// Fills a disk to its last block, then makes room. Returns what the store said when it was full, whether it could be
/// read, and what it said to the next write with room.
async fn fill_up(capacity: u64, told_free: Option<u64>, more: u64) -> (String, String, String) {
    let bytes = 20_000;
    let disk = Disk::mount(capacity, told_free).unwrap();
    let store = disk.path().join("store");
    let mut child =
        child("fill", &store, bytes).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut acknowledged = [0; WRITERS as usize];
    let (mut full, mut read, mut again) = (String::new(), String::new(), String::new());
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        writer::hear(&line, &mut acknowledged);
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["full", code, readable, ..] => {
                eprintln!("capacity {capacity}: {line}");
                (full, read) = ((*code).to_owned(), (*readable).to_owned());
                disk.resize(capacity + more);
                child.stdin.take().unwrap().write_all(b"go\n").unwrap();
            }
            ["again", code] => again = (*code).to_owned(),
            _ => {}
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.iter().all(|count| *count > 1), "{acknowledged:?}");
    assert_eq!(look(&store, &acknowledged, bytes).await, Outcome::Whole);
    (full, read, again)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_writes_and_loses_nothing() {
    const MIB: u64 = 1024 * 1024;
    let says = |(full, read, again): (String, String, String)| [full, read, again].join(" ");
    // A disk that says what is free: nothing is begun that could not be finished.
    let told = says(fill_up(100 * MIB, None, 200 * MIB).await);
    assert_eq!(told, "store-full read written");
    // One that says there is room (a quota, somebody who is faster): the last block is hit, wherever that is.
    let mut seeded = Seeded(seed());
    for _ in 0..rounds(4) {
        let capacity = 2 * MIB + seeded.below(40 * MIB);
        let struck = says(fill_up(capacity, Some(ENOUGH), 200 * MIB).await);
        assert_eq!(struck, "store-unavailable store-unavailable store-unavailable", "{capacity} bytes");
    }
}
