//! What many patients in the locator take: disk, memory, the time until a question is answered, and until an index is
//! ready that starts with them, for it reads all that it has. Beside each, the same with few patients.
//!
//! `cargo bench --package handover-index --bench locator`; `-- --patients N` for another number. Every patient is linked
//! to one hospital. A process of its own fills the store, through the room that keeps links in a running index
//! (`locator::link`, which checks each one's signatures), many in a transaction. Then an index starts on it, and a
//! hospital brings it questions of random patients over the network, one after another. Files may be in the system's
//! cache, what the process itself keeps is not. It measures and prints; it never judges.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it is for")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark may stop at the first fault"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::transfer::Patient;
use common::{Node, Realm, key, now};
use futures::{FutureExt as _, StreamExt as _, stream};
use handover_cluster::Cluster;
use handover_core::artefact::Countersigned;
use handover_core::artefact::patient::{AskKind, Holders};
use handover_core::codec;
use handover_core::message::{HOLDERS_INFO, Verb};
use handover_core::trust::Federation;
use handover_core::{Digest, HospitalId, Random, Timestamp};
use handover_index::locator::{self, LocatorError};
use handover_seal::{Ed25519, OsRandom, hpke_open_padded};
use handover_store::{EngineName, Settings, Store};
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

const PATIENTS: u64 = 100_000;
const FEW: u64 = 1_000;
/// Links in a transaction.
const GROUP: u64 = 500;
/// Groups that are made at once.
const MAKERS: usize = 3;
/// After how many patients a line tells how far it is.
const TELL_EVERY: u64 = 250_000;
const QUESTIONS: usize = 1_000;
/// Whose patients all are.
const HOLDER: (&str, u8) = ("lakeside", 1);
/// When the patients made their keys: 2026-01-01.
const KEYS_MADE: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const PAGE_BYTES: u64 = 4_096;
const MIB: f64 = 1_048_576.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match all[..] {
        ["--row", engine, patients, ..] => row(engine, patients.parse().unwrap()),
        ["--fill", data, url_file, patients] => fill(Path::new(data), url_file, patients.parse().unwrap()),
        _ => {
            let given = all.iter().skip_while(|it| **it != "--patients").nth(1);
            let patients = given.map_or(PATIENTS, |it| it.parse().unwrap());
            println!(
                "| | patients | links/s | disk: MiB | bytes for each | ready after | memory: before it | ready | \
                 after {QUESTIONS} questions | an answer: p50 | p99 |"
            );
            println!("|---|---|---|---|---|---|---|---|---|---|---|");
            for engine in ["sled", "PostgreSQL"] {
                for patients in [FEW, patients] {
                    myself(&["--row", engine, &patients.to_string()]);
                }
            }
        }
    }
}

/// Another process, so that the memory of one thing is not counted with another's.
fn myself(arguments: &[&str]) {
    let done = Command::new(std::env::current_exe().unwrap()).args(arguments).status().unwrap();
    assert!(done.success(), "{arguments:?}");
}

/// Fills a store with so many patients, starts an index on it and asks it.
fn row(engine: &str, patients: u64) {
    let cluster = (engine == "PostgreSQL").then(|| Cluster::start().unwrap());
    let url_file = cluster.as_ref().map(|cluster| cluster.file("url", &cluster.url()).unwrap());
    Runtime::new().unwrap().block_on(async {
        let mut realm = Realm::over(settings(url_file.clone()), vec![]).await;
        let _holder = realm.hospital(HOLDER.0, HOLDER.1).await;
        let mut asker = realm.hospital("hilltop", 2).await;
        let federation = asker.directory_where(&realm, |it| it.members().count() == 2).await;
        std::fs::write(directory_file(&realm.config.data), codec::encode(&federation.whole())).unwrap();
        realm.stop().await;
        let stored = || match &cluster {
            Some(cluster) => {
                let size = cluster.sql("SELECT pg_database_size(current_database())").unwrap();
                size.trim().parse().unwrap()
            }
            None => bytes_below(&realm.config.data),
        };
        let (empty, begun) = (stored(), Instant::now());
        let url_file = url_file.as_deref().and_then(Path::to_str).unwrap_or_default();
        myself(&["--fill", realm.config.data.to_str().unwrap(), url_file, &patients.to_string()]);
        let (filling, stored) = (begun.elapsed(), stored() - empty);

        let (before, begun) = (resident(), Instant::now());
        realm.start().await;
        let (starting, ready) = (begun.elapsed(), resident());
        asker.net.connect(&realm.route()).await.unwrap();
        let answers = questions(&realm, &asker, patients).await;
        let ms = |share: usize| answers[(answers.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
        println!(
            "| {engine} | {patients} | {:.0} | {:.1} | {:.0} | {:.2} s | {:.0} MiB | {:.0} MiB | {:.0} MiB | {:.1} ms | \
             {:.1} ms |",
            patients as f64 / filling.as_secs_f64(),
            stored as f64 / MIB,
            stored as f64 / patients as f64,
            starting.as_secs_f64(),
            before / MIB,
            ready / MIB,
            resident() / MIB,
            ms(50),
            ms(99),
        );
        realm.stop().await;
    });
}

fn settings(url_file: Option<PathBuf>) -> Settings {
    let engine = if url_file.is_some() { EngineName::Postgres } else { EngineName::Sled };
    Settings { engine, url_file, ..Settings::default() }
}

fn directory_file(data: &Path) -> PathBuf {
    data.join("directory-in-force")
}

/// How long each answer took, in order of that.
async fn questions(realm: &Realm, asker: &Node, patients: u64) -> Vec<Duration> {
    let mut answers = Vec::new();
    for _ in 0..QUESTIONS {
        let patient = patient(u64::from_be_bytes(OsRandom.array()) % patients);
        let ask = patient.sign_ask(patient.ask(AskKind::Locate));
        let asked = Instant::now();
        let answer = asker.ask(realm, Verb::Locate, vec![ask.envelope().to_vec()]).await.unwrap();
        answers.push(asked.elapsed());
        let opened = hpke_open_padded(&patient.sealing, HOLDERS_INFO, ask.hash().as_bytes(), &answer[0]);
        let holders: Holders = codec::decode(&opened.unwrap(), 1 << 20).unwrap();
        assert_eq!(holders.hospitals.len(), 1);
        assert_eq!(holders.hospitals[0].hospital.as_str(), HOLDER.0);
    }
    answers.sort_unstable();
    answers
}

/// Keeps the links of so many patients in the store of an index that does not run.
fn fill(data: &Path, url_file: &str, patients: u64) {
    let url_file = (!url_file.is_empty()).then(|| url_file.into());
    let config = Realm::config(data, settings(url_file));
    let directory = codec::decode(&std::fs::read(directory_file(data)).unwrap(), 1 << 20).unwrap();
    let federation = Federation::verify(&directory, &config.root, now(), &Ed25519).unwrap();
    let federation = Arc::new(federation);
    Runtime::new().unwrap().block_on(async {
        let place = config.store_place(config.store.engine).unwrap();
        let store = Store::open(&place, &Realm::keys().cell_key()).await.unwrap();
        // Made and checked beside the one writer, which remembers what was checked.
        let make = |first: u64| {
            let federation = Arc::clone(&federation);
            let last = patients.min(first + GROUP);
            spawn_blocking(move || (first..last).map(|it| checked(link(it), &federation)).collect())
        };
        let firsts = (0..patients).step_by(GROUP as usize);
        let mut groups =
            stream::iter(firsts).map(|first| make(first).map(move |made| (first, made))).buffered(MAKERS);
        let begun = Instant::now();
        while let Some((first, links)) = groups.next().await {
            let links: Vec<Vec<u8>> = links.unwrap();
            let (keys, federation) = (store.keys(), Arc::clone(&federation));
            let holder: HospitalId = HOLDER.0.parse().unwrap();
            let kept = store.write::<_, LocatorError, _>(move |txn| {
                let mut each = links.iter();
                each.try_for_each(|it| locator::link(txn, &keys, it, &holder, &federation, now()).map(drop))
            });
            kept.await.unwrap();
            if (first + GROUP).is_multiple_of(TELL_EVERY) {
                eprintln!(
                    "{} patients are linked after {:.0} s",
                    first + GROUP,
                    begun.elapsed().as_secs_f64()
                );
            }
        }
        store.close().await;
    });
}

/// As the index does it before a link waits for the writer.
fn checked(link: Vec<u8>, federation: &Federation) -> Vec<u8> {
    locator::check(&link, &HOLDER.0.parse().unwrap(), federation).unwrap();
    link
}

/// A patient's link, with both signatures.
fn link(number: u64) -> Vec<u8> {
    let link = patient(number).link(&HOLDER.0.parse().unwrap());
    Countersigned::sign(&link, &key(HOLDER.1))
}

/// The same patient for the same number, in every process.
fn patient(number: u64) -> Patient {
    Patient::made(&mut Numbered { number, filled: 0 }, KEYS_MADE)
}

/// Bytes that follow from a number.
struct Numbered {
    number: u64,
    filled: u64,
}

impl Random for Numbered {
    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(32) {
            self.filled += 1;
            let made = Digest::sha256(&[&self.number.to_be_bytes(), &self.filled.to_be_bytes()]);
            piece.copy_from_slice(&made.as_bytes()[..piece.len()]);
        }
    }
}

/// What files below a folder take on the disk.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let bytes = entries.map(|path| match std::fs::symlink_metadata(&path).unwrap() {
        found if found.is_dir() => bytes_below(&path),
        found => found.blocks() * 512,
    });
    bytes.sum()
}

/// Bytes of memory that this process has.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    (pages * PAGE_BYTES) as f64
}
