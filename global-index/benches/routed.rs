//! How many transfers an index routes and settles: hospitals bring it every artefact of many transfers at once, each of
//! which it verifies, keeps, books and passes on before it answers. On sled; on PostgreSQL, alone and as one of three over
//! a synchronous standby. Beside it, what checking the signatures alone takes, and what the disk takes for as many answers.
//!
//! `cargo bench --package handover-index --bench routed`; `-- --transfers N` for another number. Hospitals and index share
//! the machine's cores: how much of them the index had is in the table. It measures and prints; it never judges.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark may stop at the first fault"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::transfer::{Patient, Story};
use common::{Node, Realm};
use futures::future::join_all;
use handover_cluster::Cluster;
use handover_core::artefact::Signed;
use handover_core::artefact::transfer::Receipt;
use handover_seal::Ed25519;
use handover_store::{EngineName, Place, Settings, Store};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

const TRANSFERS: usize = 240;
/// Pairs of hospitals, and transfers that each has under way at once.
const PAIRS: u8 = 3;
const AT_ONCE: usize = 8;
/// Artefacts that a transfer brings.
const STEPS: usize = 8;
/// Linux counts a thread's time in these.
const TICKS_PER_SECOND: f64 = 100.0;
/// The names of its threads begin like that: the runtime's, and the store's own.
const OF_INDEX: [&str; 2] = ["index", "store-"];

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--transfers").skip(1);
    let transfers = arguments.next().and_then(|it| it.parse().ok()).unwrap_or(TRANSFERS);
    let folder = tempfile::tempdir().unwrap();
    println!(
        "| | transfers/s | answers/s | an answer: p50 | p99 | ms of work at the index for a transfer | cores of it |"
    );
    println!("|---|---|---|---|---|---|---|");
    run("sled", Settings::default(), 0, transfers);
    {
        let cluster = Cluster::start().unwrap();
        run("PostgreSQL, one process", on(&cluster, &cluster.url()), 0, transfers);
    }
    {
        let cluster = Cluster::start().unwrap();
        let standby = cluster.start_standby().unwrap();
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", cluster.port(), standby.port());
        let settings = on(&cluster, &cluster.url_at(&hosts));
        run("PostgreSQL with a synchronous standby, one of three", settings, 2, transfers);
    }
    baselines(transfers, &mut File::create(folder.path().join("baseline")).unwrap());
}

fn on(cluster: &Cluster, url: &str) -> Settings {
    let url_file = Some(cluster.file("url", url).unwrap());
    Settings { engine: EngineName::Postgres, url_file, ..Settings::default() }
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().thread_name(name).enable_all().build().unwrap()
}

fn run(engine: &str, settings: Settings, standbys: usize, transfers: usize) {
    let (of_index, of_hospitals) = (runtime("index"), runtime("hospital"));
    let mut realm = of_index.block_on(Realm::over(settings, Vec::new()));
    let standing: Vec<_> = (0..standbys).map(|_| of_index.spawn(stand_by(realm.place()))).collect();
    let pairs: Vec<(Node, Node)> = of_hospitals.block_on(async {
        let mut pairs = Vec::new();
        for pair in 0..PAIRS {
            let source = realm.hospital(&format!("source-{pair}"), 2 * pair + 1).await;
            let destination = realm.hospital(&format!("destination-{pair}"), 2 * pair + 2).await;
            pairs.push((source, destination));
        }
        pairs
    });
    let stories: Vec<Vec<Story>> = pairs
        .iter()
        .map(|(source, destination)| {
            let of_each = transfers / usize::from(PAIRS);
            (0..of_each).map(|_| Story::new(&Patient::new(), source, destination, 1_234, 1_234)).collect()
        })
        .collect();
    let told: usize = stories.iter().map(Vec::len).sum();
    let (begun, worked) = (Instant::now(), work());
    let mut answers = of_hospitals.block_on(async {
        let all = pairs
            .iter()
            .zip(stories)
            .map(|((source, destination), stories)| tell_all(&realm, source, destination, stories));
        join_all(all).await.concat()
    });
    let (time, worked) = (begun.elapsed().as_secs_f64(), work() - worked);
    answers.sort_unstable();
    let ms = |share: usize| answers[(answers.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    println!(
        "| {engine} | {:.1} | {:.0} | {:.1} ms | {:.1} ms | {:.1} | {:.2} |",
        told as f64 / time,
        answers.len() as f64 / time,
        ms(50),
        ms(99),
        worked * 1_000.0 / told as f64,
        worked / time
    );
    let check = of_index.block_on(realm.op(serde_json::json!({"op": "check"}))).unwrap();
    assert_eq!((&check["sound"], &check["entries"]), (&true.into(), &(2 * told).into()), "{check}");
    standing.iter().for_each(tokio::task::JoinHandle::abort);
    of_index.block_on(realm.stop());
}

/// What another process of the index does while one serves.
async fn stand_by(place: Place) {
    let (told, mut hears) = mpsc::unbounded_channel();
    tokio::spawn(async move { while hears.recv().await.is_some() {} });
    drop(Store::open_or_stand_by(&place, &Realm::keys().cell_key(), told).await);
}

/// So many transfers of one pair at once, until all are told. How long each answer took.
async fn tell_all(realm: &Realm, source: &Node, destination: &Node, stories: Vec<Story>) -> Vec<Duration> {
    let stories = Arc::new(std::sync::Mutex::new(stories));
    let one_after_another = || async {
        let mut answers = Vec::new();
        loop {
            let next = stories.lock().unwrap().pop();
            let Some(story) = next else { return answers };
            tell(realm, source, destination, &story, &mut answers).await;
        }
    };
    join_all((0..AT_ONCE).map(|_| one_after_another())).await.concat()
}

async fn tell(realm: &Realm, source: &Node, destination: &Node, story: &Story, answers: &mut Vec<Duration>) {
    for (content, is_sources) in story.steps() {
        let (from, to) = if is_sources { (source, destination) } else { (destination, source) };
        let asked = Instant::now();
        from.send(realm, Some(&to.id), content).await.unwrap();
        answers.push(asked.elapsed());
    }
}

/// Seconds that the index's threads have worked so far.
fn work() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let ticks = stats.filter_map(|stat| {
        let (before, after) = stat.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let is_its = OF_INDEX.iter().any(|begin| name.starts_with(begin));
        // User and system time are fields 14 and 15.
        is_its.then(|| {
            after.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<f64>().ok()).sum::<f64>()
        })
    });
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// The least that each answer takes: one signature checked, one durable write.
fn baselines(transfers: usize, file: &mut File) {
    let answers = transfers * STEPS;
    let realm_key = common::key(1);
    let receipt = Receipt {
        transfer: handover_core::TransferId::new(common::now(), [1; 10]),
        attempt: 1,
        header: handover_core::Digest::sha256(&[b"header"]),
        consent: handover_core::Digest::sha256(&[b"consent"]),
        record_root: handover_core::Digest::sha256(&[b"records"]),
        fee: common::transfer::dollars(1_234),
        issued: common::now(),
        extensions: handover_core::codec::Extensions::default(),
    };
    let envelope = handover_core::artefact::Verified::sign(receipt, &realm_key).envelope().to_vec();
    let begun = Instant::now();
    for _ in 0..answers {
        Signed::<Receipt>::read(&envelope).unwrap().verify(&realm_key.public(), &Ed25519).unwrap();
    }
    let checked = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    for _ in 0..answers {
        file.write_all(&[0x5a; 4_096]).and_then(|()| file.sync_data()).unwrap();
    }
    let written = begun.elapsed().as_secs_f64();
    println!(
        "\nbaselines, one after another: {:.0} signatures checked a second on one core ({:.2} ms of work for a transfer's {STEPS}), \
         {:.0} writes of 4 KiB with fdatasync a second",
        answers as f64 / checked,
        checked * 1_000.0 / transfers as f64,
        answers as f64 / written
    );
}
