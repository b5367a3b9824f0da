//! A process that is killed while it books leaves every fee that it had answered, each once, and sound books.
//!
//! The test starts its own binary again as the process that books, reads what that acknowledges, and kills it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use handover_cluster::Cluster;
use handover_core::TransferId;
use handover_core::ledger::{EntryKind, Terms};
use handover_index::ledger::Ledger;
use handover_store::Store;

use crate::steps::{agreed, day, on, receipt, terms};
use crate::suite::is_sound;
use crate::{cell_key, in_database};

/// A folder, or a database's URL.
const PLACE: &str = "HANDOVER_BOOKS_KILLED_PLACE";
const ROUND: &str = "HANDOVER_BOOKS_KILLED_ROUND";
const ROUNDS: u8 = 3;
/// Acknowledged fees per round before the kill.
const ACKNOWLEDGED: usize = 60;
const TASKS: u8 = 6;

async fn open(place: &str) -> (Store, Ledger) {
    if place.starts_with("postgresql:") {
        return in_database(place, "killed").await;
    }
    let store = Store::sled(place.as_ref(), &cell_key()).unwrap();
    (store.clone(), Ledger::new(store))
}

fn fee(round: u8, task: u8, number: u16) -> Terms {
    let [high, low] = number.to_be_bytes();
    Terms { transfer: TransferId::new(day(0), [round, task, high, low, 1, 1, 1, 1, 1, 1]), ..terms(0) }
}

async fn book_until_killed(place: &str, round: u8) {
    let (_, ledger) = open(place).await;
    let tasks = (0..TASKS).map(|task| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            for number in 0..u16::MAX {
                let terms = fee(round, task, number);
                ledger.reserve(on(0, task), terms.clone(), day(40), agreed()).await.unwrap();
                ledger.post(on(1, task), terms, receipt()).await.unwrap();
                // Written past the test harness, which would hold it back.
                let mut out = std::io::stdout().lock();
                writeln!(out, "ack {task} {number}").unwrap();
                out.flush().unwrap();
            }
        })
    });
    futures::future::join_all(tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other process of the tests below"]
async fn booking_process() {
    if let (Ok(place), Ok(round)) = (std::env::var(PLACE), std::env::var(ROUND)) {
        book_until_killed(&place, round.parse().unwrap()).await;
    }
}

#[tokio::test]
async fn what_was_answered_stands_once_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    kill_and_look(folder.path().to_str().unwrap(), || {}).await;
}

/// The database is killed, too.
#[tokio::test]
async fn what_was_answered_stands_once_in_a_database_after_a_kill() {
    let mut cluster = Cluster::start().unwrap();
    kill_and_look(&cluster.url(), || {
        cluster.kill().unwrap();
        cluster.start_again().unwrap();
    })
    .await;
}

async fn kill_and_look(place: &str, mut and: impl FnMut()) {
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::booking_process", "--ignored", "--nocapture"])
            .env(PLACE, place)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = acknowledged.len() + ACKNOWLEDGED;
        for line in lines.by_ref() {
            acknowledged.extend(parse(round, &line.unwrap()));
            if acknowledged.len() == wanted {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= wanted, "round {round}: it ended by itself");
        and();
        let (store, ledger) = open(place).await;
        for (round, task, number) in &acknowledged {
            let terms = fee(*round, *task, *number);
            let listed = ledger.transfer(terms.transfer).await.unwrap();
            let kinds: Vec<_> = listed.iter().map(|listed| listed.entry.kind).collect();
            assert_eq!(kinds, [EntryKind::Reserve, EntryKind::Post]);
            // Asked again, it is the same answer.
            let again = ledger.post(on(2, 9), terms, receipt()).await.unwrap();
            assert!(again.is_repeated && again.entry == listed[1]);
        }
        is_sound(&ledger).await;
        drop(ledger);
        store.close().await;
    }
}

/// The last line may be cut off by the kill.
fn parse(round: u8, line: &str) -> Option<(u8, u8, u16)> {
    // The harness begins its own line before the first acknowledgement.
    let (_, numbers) = line.split_once("ack ")?;
    let (task, number) = numbers.split_once(' ')?;
    Some((round, task.parse().ok()?, number.parse().ok()?))
}
